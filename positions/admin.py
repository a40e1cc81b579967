"""What the ledger and the exchange told, to be read; and the pages where both sides are reconciled."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path

from positions.models import Balance, Fill, Funding, Incident, LedgerEntry, SymbolLock
from positions.pages import views
from quantum.facts import ReadOnlyAdmin


@admin.register(Fill)
class FillAdmin(ReadOnlyAdmin):
    list_display = ["at", "symbol", "side", "quantity", "price", "realized_pnl", "client_order_id", "booked"]
    list_filter = ["at", "symbol", "side", "booked"]
    search_fields = ["=trade_id", "=order_id", "=client_order_id"]
    empty_says = "The exchange has reported no fill yet. The first exit that is filled makes the first row."


@admin.register(Funding)
class FundingAdmin(ReadOnlyAdmin):
    list_display = ["at", "symbol", "amount", "asset", "account", "transaction_id"]
    list_filter = ["at", "symbol", "asset"]
    search_fields = ["=symbol", "=transaction_id"]
    empty_says = "No funding was booked yet. The exchange books it every few hours while a position is held."


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
    list_filter = ["opened_at", "state", "symbol", "kind", "cause"]
    search_fields = ["=symbol"]
    empty_says = (
        "No incident, which is normal: one opens when ledger and exchange disagree and no order of ours explains it. "
        "The page Reconcile and `manage.py reconcile` show both sides."
    )

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("reconcile/", wrap(self.room_view), name="positions_reconcile"),
            path("reconcile/<str:symbol>/", wrap(self.symbol_view), name="positions_reconcile_symbol"),
            path("reconcile/<str:symbol>/<str:act>/", wrap(self.act_view), name="positions_reconcile_act"),
        ]
        return [*own, *super().get_urls()]

    def room_view(self, request: HttpRequest) -> HttpResponse:
        return views.overview(request, context=self._context(request))

    def symbol_view(self, request: HttpRequest, symbol: str) -> HttpResponse:
        return views.symbol(request, symbol, context=self._context(request))

    def act_view(self, request: HttpRequest, symbol: str, act: str) -> HttpResponse:
        return views.act(request, symbol, act, context=self._context(request))

    def _context(self, request: HttpRequest) -> dict[str, Any]:
        return {**self.admin_site.each_context(request), "opts": self.opts}
