"""Permits, the trading state and holds, to be read."""

from __future__ import annotations

from django.contrib import admin

from permits.models import Hold, Permit, TradingState
from quantum.facts import ReadOnlyAdmin, chip


@admin.register(Permit)
class PermitAdmin(ReadOnlyAdmin):
    list_display = ["issued_at", "gate", "answer", "reason", "symbol", "quantity", "plan_id", "fate"]
    list_filter = ["gate", "verdict", "reason", "fate"]
    search_fields = ["=plan_id", "=symbol"]
    date_hierarchy = "issued_at"
    empty_says = (
        "No gate has answered yet. Each published plan gets one permit of each gate, within milliseconds."
    )

    @admin.display(description="answer", ordering="verdict")
    def answer(self, permit: Permit) -> str:
        return chip("granted", tone="good") if permit.verdict else chip("denied", tone="bad")


@admin.register(TradingState)
class TradingStateAdmin(ReadOnlyAdmin):
    list_display = ["since", "version", "standing", "scope", "by", "reason", "until"]
    list_filter = ["state", "scope"]
    search_fields = ["by", "reason"]
    empty_says = "No state was ever set, which is HALTED. The first start writes one."

    @admin.display(description="state", ordering="state")
    def standing(self, row: TradingState) -> str:
        return chip(row.state, tone="good" if row.state == TradingState.State.ACTIVE else "bad")


@admin.register(Hold)
class HoldAdmin(ReadOnlyAdmin):
    list_display = ["since", "symbol", "standing", "by", "reason", "lifted_at", "lifted_by"]
    list_filter = [("lifted_at", admin.EmptyFieldListFilter), "symbol"]
    search_fields = ["=symbol", "reason"]
    empty_says = "No symbol was ever frozen, which is normal."

    @admin.display(description="state")
    def standing(self, hold: Hold) -> str:
        return chip("lifted", tone="calm") if hold.lifted_at else chip("frozen", tone="bad")
