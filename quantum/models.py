"""Audit events and the identity of this instance."""

from __future__ import annotations

import uuid

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
        # Of a symbol and of no plan: what people and the books did. The many events of plans are not in it.
        indexes = [
            models.Index(fields=["symbol", "id"], name="audit_of_symbol", condition=models.Q(plan_id=""))
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.plan_id or self.symbol}"


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
