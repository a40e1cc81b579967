"""Audit events, the identity of this instance, and second factors of logins."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models

from quantum import clock


class AuditEvent(models.Model):
    """A fact, or an act of a person, written in the same transaction as what it records. Append-only."""

    at = models.DateTimeField(default=clock.now, db_index=True)
    kind = models.CharField(max_length=40)
    plan_id = models.CharField(max_length=16, blank=True, db_index=True)
    symbol = models.CharField(max_length=40, blank=True)
    actor = models.CharField(max_length=80)
    reason = models.CharField(max_length=400, blank=True)
    data = models.JSONField(default=dict)

    class Meta:
        ordering = ["-id"]
        permissions = [("export", "Can save whole lists as files; each is an event here")]
        # Of a symbol and of no plan: what people and the books did. The many events of plans are not in it.
        indexes = [
            models.Index(fields=["symbol", "id"], name="audit_of_symbol", condition=models.Q(plan_id=""))
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.plan_id or self.symbol}"


class Seal(models.Model):
    """A batch of audit events, chained to the seal before it, signed. docs/audit.md has its bytes. Append-only."""

    number = models.PositiveBigIntegerField(primary_key=True)
    format = models.PositiveSmallIntegerField()
    instance = models.CharField(max_length=36)
    events = models.PositiveIntegerField()
    total = models.PositiveBigIntegerField()
    """Events in all seals up to this one."""
    previous = models.CharField(max_length=64)
    root = models.CharField(max_length=64)
    head = models.CharField(max_length=64)
    at_us = models.BigIntegerField()
    """By the sealer's clock; nothing is ordered by it."""
    checkpointed = models.PositiveBigIntegerField()
    """The last seal whose copy outside the database had surely been written."""
    key = models.CharField(max_length=16)
    signature = models.CharField(max_length=86)

    class Meta:
        ordering = ["-number"]
        default_permissions = ()  # whoever may see events sees their seals

    def __str__(self) -> str:
        return f"seal {self.number}"


class SealedEvent(models.Model):
    """An event's place in the chain, in a table of its own: the event itself is never written again. No foreign keys:
    what is taken away must be missed, not take its traces with it. Append-only."""

    event_id = models.BigIntegerField(primary_key=True)
    seal = models.PositiveBigIntegerField()
    position = models.PositiveIntegerField()
    leaf = models.BinaryField(max_length=32)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["seal", "position"], name="sealed_event_place")]
        default_permissions = ()

    def __str__(self) -> str:
        return f"event {self.event_id} in seal {self.seal}"


class Verification(models.Model):
    """What `audit_verify` found, for the pages. It proves nothing: whoever doubts runs it again."""

    at = models.DateTimeField(default=clock.now)
    outcome = models.CharField(max_length=12)
    text = models.CharField(max_length=400)
    seals = models.PositiveBigIntegerField()
    events = models.PositiveBigIntegerField()
    head = models.CharField(max_length=64, blank=True)

    class Meta:
        ordering = ["-id"]
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.outcome} at {self.at}"


class ProofRun(models.Model):
    """What `proof` found, for the pages, which ask no exchange. It proves nothing: whoever doubts runs it again."""

    at = models.DateTimeField(default=clock.now)
    outcome = models.CharField(max_length=12)
    since = models.DateTimeField()
    until = models.DateTimeField()
    data = models.JSONField()

    class Meta:
        ordering = ["-id"]
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.outcome} at {self.at}"


class Promotion(models.Model):
    """That this code may run live: by a proof from the testnet, or because somebody said so."""

    class Way(models.TextChoices):
        PROOF = "proof"
        OVERRIDE = "override"

    at = models.DateTimeField(default=clock.now)
    version = models.CharField(max_length=16)
    way = models.CharField(max_length=8, choices=Way.choices)
    by = models.CharField(max_length=80)
    reason = models.CharField(max_length=400)
    proof = models.JSONField(default=dict)

    class Meta:
        ordering = ["-id"]
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.version} by {self.way}"


class Instance(models.Model):
    """One row, made at first start: a database belongs to one instance, account and mode (I15)."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    uuid = models.UUIDField(default=uuid.uuid4, editable=False)
    mode = models.CharField(max_length=8)
    account = models.CharField(max_length=32)
    created_at = models.DateTimeField(default=clock.now)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="instance_is_one_row")]

    def __str__(self) -> str:
        return f"{self.account} ({self.mode})"


class SecondFactor(models.Model):
    """What a person's authenticator shares with us. Read and changed by quantum.second_factor alone, and on no page of
    the admin."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="second_factor"
    )
    sealed = models.CharField(max_length=200)
    """The secret, encrypted with a key that the database does not hold."""
    offered_at = models.DateTimeField(default=clock.now)
    confirmed_at = models.DateTimeField(null=True, blank=True)
    """Empty: it was shown, and no code of it has come back yet. It asks for nothing until then."""
    last_step = models.BigIntegerField(default=0)
    """Of the newest code that was taken: none of that step or an older one is taken again."""

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"second factor of {self.user.get_username()}"


class RecoveryCode(models.Model):
    """For whoever has lost the authenticator. The row goes with its use."""

    factor = models.ForeignKey(SecondFactor, on_delete=models.CASCADE, related_name="recovery_codes")
    digest = models.CharField(max_length=64, unique=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"recovery code {self.pk}"
