"""Fills, the ledger, balances, locks and incidents, to be read."""

from __future__ import annotations

from django.contrib import admin

from positions.models import Balance, Fill, Incident, LedgerEntry, SymbolLock
from quantum.facts import ReadOnlyAdmin


@admin.register(Fill)
class FillAdmin(ReadOnlyAdmin):
    list_display = ["at", "symbol", "side", "quantity", "price", "realized_pnl", "client_order_id", "booked"]
    list_filter = ["symbol", "side", "booked"]
    search_fields = ["=trade_id", "=order_id", "client_order_id"]
    date_hierarchy = "at"
    empty_says = "The exchange has reported no fill yet. The first exit that is filled makes the first row."


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ReadOnlyAdmin):
    list_display = ["at", "symbol", "kind", "delta", "balance", "plan_id", "actor", "reason"]
    list_filter = ["symbol", "kind"]
    search_fields = ["=plan_id", "=symbol"]
    empty_says = (
        "The ledger is empty. At its first start Quantum adopts the positions that the exchange reports."
    )


@admin.register(Balance)
class BalanceAdmin(ReadOnlyAdmin):
    list_display = ["symbol", "amount", "account", "version", "moved_ms"]
    search_fields = ["=symbol"]
    ordering = ["symbol"]
    empty_says = "No symbol has a ledger yet. The first start adopts what the exchange reports."


@admin.register(SymbolLock)
class SymbolLockAdmin(ReadOnlyAdmin):
    list_display = ["since", "symbol", "account", "plan_id"]
    search_fields = ["=symbol", "=plan_id"]
    ordering = ["since"]
    empty_says = (
        "No symbol is locked, which is normal: a lock lasts only while an order of ours is in flight."
    )


@admin.register(Incident)
class IncidentAdmin(ReadOnlyAdmin):
    list_display = [
        "opened_at",
        "symbol",
        "kind",
        "cause",
        "state",
        "exchange_amt",
        "ledger_amt",
        "diff",
        "acked_by",
        "how",
    ]
    list_filter = ["state", "symbol", "kind", "cause"]
    search_fields = ["=symbol"]
    date_hierarchy = "opened_at"
    empty_says = (
        "No incident, which is normal: one opens when ledger and exchange disagree and no order of ours explains it. "
        "`manage.py reconcile` shows both sides."
    )
