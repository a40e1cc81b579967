from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.urls import URLPattern
from prometheus_client import Metric

from quantum import exports, gauges, pages, roles, routes

if TYPE_CHECKING:
    from permits.governor.reservations import InFlight
    from quantum.exports.declared import Export


def _apply(watch: roles.Watch) -> None:
    from apply.acting import role
    from quantum import instance

    instance.ensure_here("apply")
    role.run(watch)


def _warden(watch: roles.Watch) -> None:
    from apply import warden
    from quantum import instance

    instance.ensure_here("warden")
    warden.run(watch)


def _gauges() -> Iterable[Metric]:
    from apply.alerts import book
    from apply.plans import blocked
    from apply.proving import inquiries

    yield from blocked.read()
    yield from inquiries.read()
    yield from book.read()


def _in_flight() -> Iterable[InFlight]:
    from apply.acting.settle import IN_FLIGHT
    from apply.models import Order, Plan
    from permits.governor.reservations import InFlight

    ids = Plan.objects.filter(result_id="", state__in=IN_FLIGHT).values_list("plan_id", flat=True)
    columns = ("plan_id", "symbol", "quantity", "governor_permit")
    return [InFlight(*row) for row in Order.objects.filter(plan_id__in=list(ids)).values_list(*columns)]


def _ended(plan_ids: Collection[str]) -> Collection[str]:
    from apply.models import PENDING_STATES, Plan

    known = Plan.objects.filter(plan_id__in=plan_ids)
    return set(known.exclude(state__in=PENDING_STATES).values_list("plan_id", flat=True))


def _api() -> list[URLPattern]:
    from django.urls import path

    from apply.proposals import http

    return [
        path("api/proposals", http.propose, name="api_propose"),
        path("api/proposals/schema", http.schema, name="api_proposal_schema"),
        path("api/proposals/<int:number>", http.outcome, name="api_proposal"),
    ]


def _pages() -> list[pages.Page]:
    from apply.pages import bundles, dead_letters, home, orders, profit, proof, raw, retrying

    plans = pages.Page(
        name="apply_plan_changelist",
        words="Plans",
        place=10,
        key="p",
        needs=("apply.view_plan",),
        finds=True,
    )
    sees = ("apply.view_order",)
    of_orders = [
        pages.Page(
            name="apply_orders",
            words="Orders",
            place=30,
            key="o",
            path="orders/",
            view=orders.page,
            needs=sees,
        ),
        pages.Page(name="apply_orders_one", path="orders/<str:plan_id>/", view=orders.order, needs=sees),
        pages.Page(
            name="apply_orders_decide",
            path="orders/<str:plan_id>/decide/",
            view=orders.decide,
            needs=("apply.resolve_order", *sees),
            act=True,
        ),
    ]
    glass = pages.Page(
        name="apply_break_glass", words="Break glass", place=80, key="b", needs=("apply.break_glass",)
    )
    part = pages.Page(name="home_part", path="home/part/", view=home.fragment)
    of_plan = [
        pages.Page(
            name="apply_plan_raw", path="plans/<str:plan_id>/raw/", view=raw.page, needs=("apply.view_plan",)
        ),
        pages.Page(
            name="apply_plan_bundle",
            path="plans/<str:plan_id>/bundle.json",
            view=bundles.document,
            needs=bundles.NEEDS,
        ),
        pages.Page(
            name="apply_plan_bundle_read",
            path="plans/<str:plan_id>/bundle.html",
            view=bundles.readable,
            needs=bundles.NEEDS,
        ),
        pages.Page(
            name="apply_plan_retry",
            path="plans/<str:plan_id>/retry/",
            view=retrying.act,
            needs=("apply.propose", "apply.view_plan"),
            act=True,
        ),
    ]
    letter = "dead-letters/<str:stream>/<str:letter_id>/"
    letters = [
        pages.Page(
            name="apply_dead_letters",
            path="dead-letters/",
            view=dead_letters.page,
            needs=("apply.view_plan",),
        ),
        pages.Page(
            name="apply_dead_letters_one", path=letter, view=dead_letters.one, needs=("apply.view_plan",)
        ),
        pages.Page(
            name="apply_dead_letters_end",
            path=f"{letter}end/",
            view=dead_letters.act,
            needs=(dead_letters.PERMISSION, "apply.view_plan"),
            act=True,
        ),
    ]
    earned = pages.Page(
        name="apply_profit",
        words="Profit",
        place=55,
        key="f",
        path="profit/",
        view=profit.page,
        needs=("positions.view_fill", "positions.view_funding", *sees),
    )
    proved = pages.Page(
        name="apply_proof",
        words="Proof",
        place=75,
        key="v",
        path="proof/",
        view=proof.page,
        needs=("apply.view_plan", *sees),
    )
    return [plans, *of_orders, earned, proved, glass, part, *of_plan, *letters]


def _oncall() -> list[pages.Page]:
    from apply.pages import alerts, oncall

    return [*oncall.declared(), *alerts.declared()]


def _exports() -> list[Export]:
    from apply.pages import orders, plan_list

    return [plan_list.EXPORT, orders.EXPORT]


class ApplyConfig(AppConfig):
    name = "apply"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apply import checks  # noqa: F401  registers the system checks
        from apply.operators.approved import Approved
        from apply.operators.closing import ThroughHold
        from apply.plans import triggers
        from permits.desk import approvals
        from permits.governor import reservations
        from positions.reconcile import closing

        reservations.register_plans(reservations.Plans(in_flight=_in_flight, ended=_ended))
        roles.register(roles.Role(name="apply", metrics_index=0, run=_apply))
        roles.register(roles.Role(name="warden", metrics_index=3, run=_warden))
        approvals.register(Approved())
        closing.register(ThroughHold())
        gauges.register("exits", _gauges)
        routes.register(_api)
        pages.register(_pages)
        exports.register(_exports)
        pages.register(_oncall)
        post_migrate.connect(triggers.install, sender=self)
