"""Plans with their timeline, and orders, to be read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path

from apply.models import BreakGlass, Order, Plan
from apply.pages import glass
from apply.pages import views as pages
from quantum.facts import NOTHING, ReadOnlyAdmin, plan_url

_PLAN_ID = re.compile(r"[0-9a-f]{16}")


class PlanList(ChangeList):
    """Addresses that name the plan: they can be found in a log and pasted into a message."""

    def url_for_result(self, result: Model) -> str:
        if TYPE_CHECKING:
            assert isinstance(result, Plan)
        return plan_url(result.plan_id)


@admin.register(Plan)
class PlanAdmin(ReadOnlyAdmin):
    list_display = ["plan_id", "standing", "why", "symbol", "action", "wait_ms", "created_at"]
    list_filter = ["state", "symbol", "action"]
    search_fields = ["^plan_id", "=symbol", "error"]
    date_hierarchy = "created_at"
    page_template = "apply/plan.html"
    empty_says = (
        "No plan yet, which is normal until a bot proposes an exit. "
        "To make one: python manage.py publish_plan BTCUSDT PARTIAL_25"
    )

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Plan | None:
        """By the plan's id, which every floor knows; the number of its row works too."""
        if _PLAN_ID.fullmatch(object_id):
            return Plan.objects.filter(plan_id=object_id).first()
        return Plan.objects.filter(pk=object_id).first() if object_id.isdecimal() else None

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return PlanList

    def page_context(self, row: Plan) -> dict[str, Any]:
        return pages.plan(row.plan_id)

    @admin.display(description="state", ordering="state")
    def standing(self, plan: Plan) -> str:
        return pages.standing(plan)

    @admin.display(description="why")
    def why(self, plan: Plan) -> str:
        """The gate's own reason says more than that a gate said no."""
        return plan.gate_reason or plan.error or NOTHING


@admin.register(Order)
class OrderAdmin(ReadOnlyAdmin):
    list_display = [
        "intended_at",
        "symbol",
        "side",
        "quantity",
        "status",
        "executed_quantity",
        "average_price",
        "realized_pnl",
        "error",
        "plan_id",
    ]
    list_filter = ["status", "symbol", "side"]
    search_fields = ["=plan_id", "=client_order_id", "=order_id"]
    date_hierarchy = "intended_at"
    hidden = ("token",)
    empty_says = "No order was ever sent. The first plan with both permits makes the first row."


@admin.register(BreakGlass)
class BreakGlassAdmin(ReadOnlyAdmin):
    list_display = [
        "asked_at",
        "symbol",
        "action",
        "gates",
        "quantity",
        "state",
        "asked_by",
        "decided_by",
        "plan_id",
    ]
    list_filter = ["state", "symbol", "gates"]
    search_fields = ["=plan_id", "=symbol", "=asked_by"]
    date_hierarchy = "asked_at"
    empty_says = (
        "Nobody has ever broken the glass, which is normal. "
        "The page Break glass does it where a gate stands in an exit's way."
    )

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("open/", wrap(self.room_view), name="apply_break_glass"),
            path("open/act/", wrap(glass.act), name="apply_break_glass_act"),
            path("open/<int:number>/approve/", wrap(glass.approve), name="apply_break_glass_approve"),
            path("open/<int:number>/refuse/", wrap(glass.refuse), name="apply_break_glass_refuse"),
        ]
        return [*own, *super().get_urls()]

    def room_view(self, request: HttpRequest) -> HttpResponse:
        return glass.page(request, context={**self.admin_site.each_context(request), "opts": self.opts})
