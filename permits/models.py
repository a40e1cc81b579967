"""Permits as facts, the trading state, holds."""

from __future__ import annotations

from django.db import models

from quantum import clock
from quantum.fields import AmountField


class Permit(models.Model):
    """One signed answer of one gate for one plan. The raw bytes are the fact; the rest is for reading."""

    class Fate(models.TextChoices):
        LIVE = "live"
        SPENT = "spent"
        EXPIRED = "expired"
        REVOKED = "revoked"
        SUPERSEDED = "superseded"

    plan_id = models.CharField(max_length=16, db_index=True)
    gate = models.CharField(max_length=8)
    verdict = models.BooleanField(help_text="True is a grant, False a denial.")
    reason = models.CharField(max_length=60)
    symbol = models.CharField(max_length=40)
    quantity = AmountField(null=True)
    digest = models.CharField(max_length=64)
    mode = models.CharField(max_length=8)
    account = models.CharField(max_length=32)
    issuer = models.CharField(max_length=80)
    raw = models.TextField()
    issued_at = models.DateTimeField(db_index=True)
    expires_at = models.DateTimeField()
    fate = models.CharField(max_length=10, choices=Fate.choices, default=Fate.LIVE)
    fate_at = models.DateTimeField(null=True)
    fate_by = models.CharField(max_length=80, blank=True)
    fate_reason = models.CharField(max_length=400, blank=True)
    recorded_at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["plan_id", "gate", "issued_at"], name="permit_recorded_once")
        ]
        # The sweep and `permit_list --live` look at the few that are live, however many there have been.
        indexes = [
            models.Index(fields=["expires_at"], condition=models.Q(fate="live"), name="permit_live_by_expiry")
        ]
        permissions = [
            ("issue_permit", "Can grant or deny a plan as an operator"),
            ("revoke_permit", "Can revoke a permit"),
        ]

    def __str__(self) -> str:
        return f"{self.gate} {'grants' if self.verdict else 'denies'} {self.plan_id}"


class TradingState(models.Model):
    """Every change is a new row; the newest version is what holds. Redis carries a leased copy."""

    class State(models.TextChoices):
        ACTIVE = "ACTIVE"
        HALTED = "HALTED"

    class Scope(models.TextChoices):
        """What HALTED stops. A plan that carries an operator's signed permit passes the first, not the second."""

        AUTOMATIC = "automatic", "automatic plans"
        EVERYTHING = "everything"

    version = models.PositiveIntegerField(primary_key=True)
    state = models.CharField(max_length=8, choices=State.choices)
    scope = models.CharField(max_length=16, choices=Scope.choices, default=Scope.EVERYTHING)
    cause = models.CharField(max_length=24, default="person", help_text="person, or what halted by itself.")
    since = models.DateTimeField(default=clock.now)
    until = models.DateTimeField(null=True)
    by = models.CharField(max_length=80)
    reason = models.CharField(max_length=400)

    class Meta:
        ordering = ["-version"]
        permissions = [("halt", "Can halt trading"), ("resume", "Can leave a halt")]

    def __str__(self) -> str:
        return f"{self.state} v{self.version}"


class Hold(models.Model):
    """A symbol frozen with a reason. A lifted hold stays as history."""

    symbol = models.CharField(max_length=40)
    reason = models.CharField(max_length=400)
    by = models.CharField(max_length=80)
    since = models.DateTimeField(default=clock.now)
    lifted_at = models.DateTimeField(null=True)
    lifted_by = models.CharField(max_length=80, blank=True)
    lifted_reason = models.CharField(max_length=400, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["symbol"], condition=models.Q(lifted_at=None), name="one_open_hold_per_symbol"
            )
        ]
        permissions = [("place", "Can freeze a symbol"), ("lift", "Can lift a hold")]

    def __str__(self) -> str:
        return f"{self.symbol}: {self.reason}"


class PolicyVersion(models.Model):
    """The Governor's limits. Every change is a new row; the newest version is what holds."""

    version = models.PositiveIntegerField(primary_key=True)
    rules = models.JSONField()
    at = models.DateTimeField(default=clock.now)
    by = models.CharField(max_length=80)
    reason = models.CharField(max_length=400)

    class Meta:
        ordering = ["-version"]
        permissions = [("set_policy", "Can change the limits")]

    def __str__(self) -> str:
        return f"policy v{self.version}"


class Usage(models.Model):
    """What a spent Governor permit came to: charged on what was filled, written with the settlement."""

    class Kind(models.TextChoices):
        EXECUTED = "executed"
        FAILED = "failed"

    plan_id = models.CharField(max_length=16, unique=True)
    symbol = models.CharField(max_length=40)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    quantity = AmountField()
    notional = AmountField()
    at = models.DateTimeField(default=clock.now, db_index=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.symbol} {self.kind} {self.quantity}"


class Judgement(models.Model):
    """One decision of the Governor with what it saw: so that another policy can be tried on it. Beside it, what the
    shadow rules would have denied of what was granted."""

    plan_id = models.CharField(max_length=16, unique=True)
    symbol = models.CharField(max_length=40)
    at = models.DateTimeField()
    policy_version = models.PositiveIntegerField()
    reason = models.CharField(max_length=60)
    inputs = models.JSONField()
    shadow = models.CharField(max_length=60, blank=True, help_text="Empty: nothing would have been denied.")
    shadow_rule = models.JSONField(default=dict)

    class Meta:
        ordering = ["-id"]
        default_permissions = ()
        indexes = [models.Index(fields=["id"], name="judgement_shadowed", condition=~models.Q(shadow=""))]

    def __str__(self) -> str:
        return f"{self.plan_id} {self.reason}"


class Approval(models.Model):
    """A proposal that policy wants a person to see first. Its plan is kept in full; a yes makes a new plan."""

    class State(models.TextChoices):
        WAITING = "waiting"
        APPROVED = "approved"
        REFUSED = "refused"
        EXPIRED = "expired"

    asked_plan_id = models.CharField(max_length=16, unique=True)
    symbol = models.CharField(max_length=40)
    fields = models.JSONField(help_text="The plan as it was published.")
    rule = models.CharField(max_length=60)
    compared = models.JSONField(default=dict)
    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    asked_at = models.DateTimeField(default=clock.now)
    expires_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True)
    plan_id = models.CharField(max_length=16, blank=True, db_index=True, help_text="The new plan a yes made.")
    plan_digest = models.CharField(max_length=64, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(
                fields=["expires_at"], condition=models.Q(state="waiting"), name="approval_that_waits"
            )
        ]
        permissions = [("approve", "Can answer for an exit that waits for a person")]

    def __str__(self) -> str:
        return f"{self.symbol} {self.asked_plan_id} {self.state}"


class ApprovalVote(models.Model):
    """One person's answer. Nobody is asked twice; APPROVERS_REQUIRED different people make a yes."""

    approval = models.ForeignKey(Approval, on_delete=models.PROTECT, related_name="votes")
    by = models.CharField(max_length=80)
    yes = models.BooleanField()
    reason = models.CharField(max_length=400)
    at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["approval", "by"], name="one_vote_per_person")]

    def __str__(self) -> str:
        return f"{self.by}: {'yes' if self.yes else 'no'}"
