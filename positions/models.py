"""The ledger: append-only entries moved by fills and reconciliations, and what the exchange did to us."""

from __future__ import annotations

from django.db import models

from quantum import clock
from quantum.fields import AmountField


class Fill(models.Model):
    """One execution with its own trade id, as the exchange reports it. Seen twice, stored once (I11)."""

    account = models.CharField(max_length=32)
    symbol = models.CharField(max_length=40)
    trade_id = models.BigIntegerField()
    order_id = models.BigIntegerField()
    client_order_id = models.CharField(max_length=40, blank=True)
    side = models.CharField(max_length=4)
    quantity = AmountField()
    price = AmountField()
    realized_pnl = AmountField()
    commission = AmountField()
    commission_asset = models.CharField(max_length=12)
    at = models.DateTimeField(db_index=True)
    booked = models.BooleanField(default=False)
    recorded_at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["account", "symbol", "trade_id"], name="fill_stored_once")
        ]

    def __str__(self) -> str:
        return f"{self.side} {self.quantity} {self.symbol} ({self.trade_id})"


class LedgerEntry(models.Model):
    """One movement of our own record of a position. Never changed; corrections are new entries."""

    class Kind(models.TextChoices):
        ADOPTED = "adopted"
        EXIT = "exit"
        ENTRY = "entry"

    account = models.CharField(max_length=32)
    symbol = models.CharField(max_length=40, db_index=True)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    delta = AmountField()
    balance = AmountField()
    fill = models.OneToOneField(Fill, null=True, on_delete=models.PROTECT)
    plan_id = models.CharField(max_length=16, blank=True, db_index=True)
    actor = models.CharField(max_length=80)
    reason = models.CharField(max_length=400, blank=True)
    at = models.DateTimeField(help_text="When it happened at the exchange.")
    recorded_at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "ledger entries"

    def __str__(self) -> str:
        return f"{self.symbol} {self.delta:+f} = {self.balance:f}"


class Balance(models.Model):
    """The running sum of one symbol's entries: what writers lock and the Brain reads in one row."""

    account = models.CharField(max_length=32)
    symbol = models.CharField(max_length=40)
    amount = AmountField()
    version = models.PositiveIntegerField(default=1)
    moved_ms = models.BigIntegerField(help_text="Exchange time of the newest movement.")
    trades_from_ms = models.BigIntegerField(
        help_text="The feed has seen every trade before this exchange time."
    )
    exit_ms = models.BigIntegerField(null=True, help_text="When an exit of ours last moved it.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "symbol"], name="one_balance_per_symbol")]

    def __str__(self) -> str:
        return f"{self.symbol} {self.amount:f}"


class SymbolLock(models.Model):
    """The durable lock of a symbol while an order of ours is in flight or of unknown fate (I5)."""

    account = models.CharField(max_length=32)
    symbol = models.CharField(max_length=40)
    plan_id = models.CharField(max_length=16)
    since = models.DateTimeField(default=clock.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "symbol"], name="one_lock_per_symbol")]

    def __str__(self) -> str:
        return f"{self.symbol} locked by {self.plan_id}"
