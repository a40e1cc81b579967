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
    recorded_at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["plan_id", "gate", "issued_at"], name="permit_recorded_once")
        ]

    def __str__(self) -> str:
        return f"{self.gate} {'grants' if self.verdict else 'denies'} {self.plan_id}"


class TradingState(models.Model):
    """Every change is a new row; the newest version is what holds. Redis carries a leased copy."""

    class State(models.TextChoices):
        ACTIVE = "ACTIVE"
        HALTED = "HALTED"

    version = models.PositiveIntegerField(primary_key=True)
    state = models.CharField(max_length=8, choices=State.choices)
    scope = models.CharField(max_length=16, default="person")
    since = models.DateTimeField(default=clock.now)
    until = models.DateTimeField(null=True)
    by = models.CharField(max_length=80)
    reason = models.CharField(max_length=400)

    class Meta:
        ordering = ["-version"]

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

    def __str__(self) -> str:
        return f"{self.symbol}: {self.reason}"
