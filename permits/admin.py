"""Permits with a page per plan, where they are granted and revoked; the trading state, holds, the policy with what
is charged to it, and approvals, to be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse

from permits.models import Approval, Hold, Permit, PolicyVersion, TradingState, Usage
from permits.pages import acts, pages, permit_list, policy_page, policy_pages
from permits.pages.acts import Answer
from permits.pages.forms import ActForm, GrantForm, RevokeForm
from permits.pages.pages import PLAN_ID
from quantum.facts import NOTHING, ReadOnlyAdmin, chip, plan_link


def permits_url(plan_id: str) -> str:
    return reverse("admin:permits_permit_change", args=[plan_id])


@admin.register(Permit)
class PermitAdmin(ReadOnlyAdmin):
    page_template = "permits/plan.html"
    empty_says = (
        "No gate has answered yet. Each published plan gets one permit of each gate, within milliseconds."
    )

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Our own: Django's counts rows, and pages by skipping over them."""
        if request.method not in ("GET", "HEAD") or not self.has_view_permission(request):
            raise PermissionDenied
        context = {**self.admin_site.each_context(request), "title": "Permits", "empty_says": self.empty_says}
        return permit_list.page(request, context={**context, **(extra_context or {})})

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Permit | None:
        """By the plan's id; the number of a row leads to the same page. A plan without any row has a page too:
        no gate has answered, or somebody wrote into Redis himself, and that is when one looks."""
        if not PLAN_ID.fullmatch(object_id):
            return Permit.objects.filter(pk=object_id).first() if object_id.isdecimal() else None
        return Permit.objects.filter(plan_id=object_id).first() or Permit(plan_id=object_id)

    def page_context(self, row: Permit) -> dict[str, Any]:
        return pages.plan(row.plan_id)

    # ---- acts: POST only, each with a permission of its own, never on what the page did not show

    def get_urls(self) -> list[URLPattern]:
        own = [
            path(f"<str:plan_id>/{name}/", self.admin_site.admin_view(view), name=f"permits_permit_{name}")
            for name, view in (("revoke", self.revoke_view), ("grant", self.grant_view))
        ]
        return [*own, *super().get_urls()]

    def revoke_view(self, request: HttpRequest, plan_id: str) -> HttpResponse:
        return self._act(request, plan_id, "revoke_permit", RevokeForm, acts.revoke)

    def grant_view(self, request: HttpRequest, plan_id: str) -> HttpResponse:
        return self._act(request, plan_id, "issue_permit", GrantForm, acts.grant)

    def _act(
        self,
        request: HttpRequest,
        plan_id: str,
        permission: str,
        form_class: type[ActForm],
        act: Callable[..., Answer],
    ) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not (request.user.has_perm(f"permits.{permission}") and self.has_view_permission(request)):
            raise PermissionDenied
        if not PLAN_ID.fullmatch(plan_id):
            raise PermissionDenied
        form = form_class(request.POST)
        if form.is_valid():
            answer = act(plan_id=plan_id, by=request.user.get_username(), form=form)
        else:
            answer = Answer(done=False, text=f"Nothing was changed. {form.problems}")
        messages.add_message(request, messages.SUCCESS if answer.done else messages.ERROR, answer.text)
        return HttpResponseRedirect(permits_url(plan_id))


@admin.register(TradingState)
class TradingStateAdmin(ReadOnlyAdmin):
    list_display = ["since", "version", "standing", "stops", "cause", "by", "reason", "until"]
    list_filter = ["state", "scope"]
    search_fields = ["by", "reason"]
    empty_says = "No state was ever set, which is HALTED. The first start writes one."

    @admin.display(description="state", ordering="state")
    def standing(self, row: TradingState) -> str:
        return chip(row.state, tone="good" if row.state == TradingState.State.ACTIVE else "bad")

    @admin.display(description="stops")
    def stops(self, row: TradingState) -> str:
        """ACTIVE has a scope too, and it means nothing there."""
        return row.get_scope_display() if row.state == TradingState.State.HALTED else NOTHING


class OpenFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("frozen", "frozen"), ("lifted", "lifted")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Hold]) -> QuerySet[Hold]:
        chosen = {"frozen": True, "lifted": False}.get(self.value() or "")
        return queryset if chosen is None else queryset.filter(lifted_at__isnull=chosen)


@admin.register(Hold)
class HoldAdmin(ReadOnlyAdmin):
    list_display = ["symbol", "standing", "since", "by", "reason", "lifted_at", "lifted_by"]
    list_filter = [OpenFilter, "symbol"]
    search_fields = ["=symbol", "reason"]
    empty_says = "No symbol was ever frozen, which is normal."

    @admin.display(description="state")
    def standing(self, hold: Hold) -> str:
        return chip("lifted", tone="calm") if hold.lifted_at else chip("frozen", tone="bad")


@admin.register(PolicyVersion)
class PolicyVersionAdmin(ReadOnlyAdmin):
    page_template = "permits/policy.html"
    empty_says = (
        "No version yet: the limits of the settings hold. The first start writes version 1; "
        "to change a limit: python manage.py policy_set permits_per_5min=20 --reason '...'"
    )

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Our own: limits with their use, a draft, and the versions with what each changed."""
        if request.method not in ("GET", "HEAD") or not self.has_view_permission(request):
            raise PermissionDenied
        context = {**self.admin_site.each_context(request), "empty_says": self.empty_says}
        return policy_page.page(request, context={**context, **(extra_context or {})})

    def page_context(self, row: PolicyVersion) -> dict[str, Any]:
        return policy_pages.version(row)


@admin.register(Usage)
class UsageAdmin(ReadOnlyAdmin):
    list_display = ["at", "symbol", "came_to", "quantity", "notional", "plan_id"]
    list_filter = ["at", "kind", "symbol"]
    search_fields = ["=plan_id", "=symbol"]
    empty_says = "Nothing was charged to a limit yet. Each exit whose permits were spent makes one row here."

    @admin.display(description="came to", ordering="kind")
    def came_to(self, row: Usage) -> str:
        return chip(row.kind, tone="calm" if row.kind == Usage.Kind.EXECUTED else "warn")


@admin.register(Approval)
class ApprovalAdmin(ReadOnlyAdmin):
    list_display = ["id", "asked_at", "symbol", "standing", "rule", "new_plan", "left"]
    list_filter = ["state", "symbol"]
    search_fields = ["=asked_plan_id", "=plan_id", "=symbol"]
    page_template = "permits/approval.html"
    empty_says = (
        "No exit ever waited for a person, which is normal: a question is asked only for the symbols and sizes "
        "that policy names (approval_symbols, approval_above_usd)."
    )

    @admin.display(description="state", ordering="state")
    def standing(self, row: Approval) -> str:
        return policy_pages.standing(row)

    @admin.display(description="new plan")
    def new_plan(self, row: Approval) -> str:
        return plan_link(row.plan_id)

    @admin.display(description="left")
    def left(self, row: Approval) -> str:
        return policy_pages.left(row)

    def page_context(self, row: Approval) -> dict[str, Any]:
        return policy_pages.approval(row)
