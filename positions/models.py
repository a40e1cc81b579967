"""The ledger: append-only entries moved by fills and reconciliations, and what the exchange did to us."""

from __future__ import annotations

from enum import StrEnum

from django.db import models

from positions.judging import difference
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
        indexes = [models.Index(fields=["client_order_id"], name="fill_of_order")]
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
        CORRECTION = "correction"

    account = models.CharField(max_length=32)
    symbol = models.CharField(max_length=40)
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
        indexes = [
            models.Index(fields=["account", "symbol", "recorded_at"], name="ledger_by_moment"),
            models.Index(fields=["symbol", "id"], name="ledger_by_symbol"),
            # Few of all entries, and what nobody traded: the pages ask for them again and again.
            models.Index(
                fields=["symbol", "recorded_at"],
                name="ledger_by_people",
                condition=models.Q(kind__in=["adopted", "correction"]),
            ),
        ]

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


class Funding(models.Model):
    """One payment between longs and shorts, as the exchange booked it: neither profit nor commission.

    Transaction ids are unique within one kind of booking, and this is one kind.
    """

    account = models.CharField(max_length=32)
    symbol = models.CharField(max_length=200, blank=True, help_text="Nothing: of the account as a whole.")
    amount = AmountField(help_text="Signed: what came into the wallet.")
    asset = models.CharField(max_length=200)
    transaction_id = models.CharField(max_length=200)
    at = models.DateTimeField(db_index=True)
    recorded_at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "funding"
        indexes = [models.Index(fields=["account", "symbol", "at"], name="funding_by_moment")]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "symbol", "asset", "transaction_id"], name="funding_stored_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.symbol} {self.amount:+f} {self.asset}"


class BookingsRead(models.Model):
    """Until when the account's bookings were read. It stays before the first trade that is still to be found."""

    account = models.CharField(max_length=32, unique=True)
    until_ms = models.BigIntegerField(help_text="By the exchange's clock.")

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.account} until {self.until_ms}"


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


def _choices(names: type[StrEnum]) -> list[tuple[str, str]]:
    return [(each.value, each.value.replace("_", " ")) for each in names]


class Incident(models.Model):
    """Ledger and exchange disagree and no order of ours explains it. At most one open per symbol and cause."""

    class State(models.TextChoices):
        OPEN = "open"
        RESOLVED = "resolved"

    class How(models.TextChoices):
        ENDED = "ended", "ended by itself"
        ADOPTED = "adopted", "the exchange's amount was adopted"
        CORRECTED = "corrected", "the ledger was corrected"

    account = models.CharField(max_length=32)
    symbol = models.CharField(max_length=40)
    kind = models.CharField(max_length=20, choices=_choices(difference.Kind))
    cause = models.CharField(max_length=20, choices=_choices(difference.Cause), help_text="The probable one.")
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    opened_at = models.DateTimeField(default=clock.now)
    exchange_amt = AmountField(help_text="What the exchange held when this was opened.")
    ledger_amt = AmountField(null=True, help_text="What our ledger said; nothing: never entered.")
    diff = AmountField()
    tolerance = AmountField()
    evidence = models.JSONField(default=list, help_text="Fills that moved the position and not the ledger.")
    hold_id = models.BigIntegerField(
        null=True, help_text="The hold that it placed; nothing: a person's hold stood already."
    )
    acked_at = models.DateTimeField(null=True)
    acked_by = models.CharField(max_length=80, blank=True)
    acked_reason = models.CharField(max_length=400, blank=True)
    resolved_at = models.DateTimeField(null=True)
    resolved_by = models.CharField(max_length=80, blank=True)
    how = models.CharField(max_length=10, choices=How.choices, blank=True)
    reason = models.CharField(max_length=400, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "symbol", "cause"],
                condition=models.Q(state="open"),
                name="one_open_incident_per_cause",
            )
        ]
        indexes = [models.Index(fields=["account", "symbol", "resolved_at"], name="incident_by_end")]
        permissions = [("reconcile", "Can adopt, correct and acknowledge")]

    def __str__(self) -> str:
        return f"{self.symbol} {self.kind}: {self.cause}"


class CorrectionRequest(models.Model):
    """A correction above the limit, with the numbers it stands on; another person's yes carries it out."""

    class State(models.TextChoices):
        WAITING = "waiting"
        APPROVED = "approved"
        EXPIRED = "expired"

    account = models.CharField(max_length=32)
    mode = models.CharField(max_length=8)
    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    typed = models.BooleanField(help_text="A person's own amount; else the exchange's is adopted.")
    lines = models.JSONField(help_text="Per symbol what was shown, before and after, and what it is worth.")
    asked_by = models.CharField(max_length=80)
    reason = models.CharField(max_length=400)
    asked_at = models.DateTimeField(default=clock.now)
    expires_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True)
    decided_by = models.CharField(max_length=80, blank=True)
    decided_reason = models.CharField(max_length=400, blank=True)

    class Meta:
        ordering = ["-id"]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"request {self.pk} of {self.asked_by}: {self.state}"
