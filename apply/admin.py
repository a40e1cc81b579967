"""Proposals, plans with their timeline, orders and API clients, to be read; and the page that proposes."""

from __future__ import annotations

import re
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path

from apply.models import ApiToken, BreakGlass, Order, Plan, Proposal
from apply.pages import glass, plan_list, propose
from apply.pages import views as pages
from quantum.facts import ReadOnlyAdmin, chip

_PLAN_ID = re.compile(r"[0-9a-f]{16}")


@admin.register(Plan)
class PlanAdmin(ReadOnlyAdmin):
    page_template = "apply/plan.html"
    empty_says = (
        "No plan yet, which is normal until a bot proposes an exit. "
        "To make one: python manage.py propose BTCUSDT PARTIAL_25"
    )

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Plan | None:
        """By the plan's id, which every floor knows; the number of its row works too."""
        if _PLAN_ID.fullmatch(object_id):
            return Plan.objects.filter(plan_id=object_id).first()
        return Plan.objects.filter(pk=object_id).first() if object_id.isdecimal() else None

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Our own: Django's counts rows, and pages by skipping over them."""
        if request.method not in ("GET", "HEAD") or not self.has_view_permission(request):
            raise PermissionDenied
        context = {**self.admin_site.each_context(request), "title": "Plans", "empty_says": self.empty_says}
        return plan_list.page(request, context={**context, **(extra_context or {})})

    def page_context(self, row: Plan) -> dict[str, Any]:
        return pages.plan(row.plan_id)


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
    list_filter = ["intended_at", "status", "symbol", "side"]
    search_fields = ["=plan_id", "=client_order_id", "=order_id"]
    hidden = ("token",)
    empty_says = "No order was ever sent. The first plan with both permits makes the first row."


@admin.register(Proposal)
class ProposalAdmin(ReadOnlyAdmin):
    list_display = [
        "at",
        "symbol",
        "action",
        "kill_score",
        "came_to",
        "plan_id",
        "way",
        "said",
    ]
    list_filter = ["at", "way", "symbol", "action", "refusal"]
    search_fields = ["=plan_id", "=symbol", "actor"]
    change_list_template = "apply/proposals.html"
    empty_says = (
        "Nobody has proposed an exit yet, which is normal until a brain runs. "
        "To propose one: python manage.py propose BTCUSDT PARTIAL_25"
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Proposal]:
        """With what became of the plan: no foreign key leads there, a plan of a stranger has no proposal."""
        state = Plan.objects.filter(plan_id=OuterRef("plan_id")).values("state")[:1]
        return Proposal.objects.annotate(plan_state=Subquery(state))

    @admin.display(description="came to")
    def came_to(self, row: Proposal) -> str:
        if row.refusal:
            return chip(row.refusal, tone="bad")
        return chip(getattr(row, "plan_state", None) or "plan", tone="calm")

    @admin.display(description="why")
    def said(self, row: Proposal) -> str:
        """The sentence; of a proposal that came without one, its codes."""
        return row.why or row.reason_codes

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.propose_view)
        return [path("propose/", view, name="apply_proposal_propose"), *super().get_urls()]

    def propose_view(self, request: HttpRequest) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "title": "Propose an exit", "opts": self.opts}
        return propose.page(request, context=context)


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnlyAdmin):
    list_display = ["name", "standing", "scopes", "symbols", "per_minute", "created_at", "created_by"]
    search_fields = ["name"]
    hidden = ("digest",)
    empty_says = (
        "No program may use the HTTP interface. To let one in: "
        "python manage.py api_token create NAME --scope propose --symbols BTCUSDT --reason '...'"
    )

    @admin.display(description="state")
    def standing(self, row: ApiToken) -> str:
        return chip("revoked", tone="bad") if row.revoked_at else chip("valid", tone="good")


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
    list_filter = ["asked_at", "state", "symbol", "gates"]
    search_fields = ["=plan_id", "=symbol", "=asked_by"]
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
