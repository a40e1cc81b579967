"""The orders: the list with its filters in the address, one order with all that is known of it, and the act by which
a person says what became of one that nobody can prove."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.db import Error as DatabaseError
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from msgspec import Struct

from apply.acting import settle
from apply.models import Inquiry, Order, Plan
from apply.pages import orders_forms as forms
from apply.pages.views import standing
from apply.proving import deciding, inquiries
from apply.proving.deciding import CannotDecide, Evidence
from quantum import amounts, clock, facts, lists
from quantum.exports import download
from quantum.exports.declared import Export
from quantum.finding import LEAVES
from quantum.lists import Asked
from quantum.models import AuditEvent
from quantum.redis import command_client

IN_FLIGHT_SHOWN = 50
IN_FLIGHT_READ = 500
EVENTS_SHOWN = 50
CHANGED = "Nothing was changed: this page is too old, or of another account or mode. Look again, then decide."
NO_DATABASE = "The database refuses, so nothing may be changed. Ask again when it is back."
STATES = {"": "all", "flight": "in flight", "failed": "ended with an error"}
Finding = Inquiry.Finding
FINDINGS = {
    Finding.FAILING: ("cannot be asked", "warn"),
    Finding.OPEN: ("open", "calm"),
    Finding.ABSENT: ("not known there", "calm"),
    Finding.CONTRADICTORY: ("does not fit together", "warn"),
}
"""In short; the page of the order says it in full."""


# ---- the list


class Row(Struct, frozen=True):
    order: Order
    plan: Plan | None
    inquiry: Inquiry | None

    @property
    def standing(self) -> SafeString | str:
        return standing(self.plan) if self.plan else facts.NOTHING

    @property
    def quantity(self) -> str:
        return amounts.plain(self.order.quantity)

    @property
    def executed(self) -> str:
        return _plain(self.order.executed_quantity)

    @property
    def price(self) -> str:
        return _plain(self.order.average_price)

    @property
    def profit(self) -> str:
        return _plain(self.order.realized_pnl)

    @property
    def at(self) -> SafeString:
        return facts.moment(self.order.intended_at)

    @property
    def age(self) -> str:
        return facts.age(self.order.intended_at)

    @property
    def finding(self) -> SafeString:
        return _finding(self.inquiry)

    @property
    def late(self) -> bool:
        return inquiries.age_s(self.order, self.inquiry) >= inquiries.ALERT_AFTER_S


def page(request: HttpRequest, *, context: dict[str, Any]) -> HttpResponse:
    asked = _said(request.GET)
    flying = _in_flight()
    wanted = _asked(asked, flying)
    shown = wanted.leaf()
    told = {
        "title": "Orders",
        "asked": asked,
        "problem": wanted.problem,
        "states": STATES,
        "leaf": shown,
        "rows": _rows(shown.rows),
        "flying": _rows(Order.objects.filter(plan_id__in=flying[:IN_FLIGHT_SHOWN]).order_by("id")),
        "more": max(0, len(flying) - IN_FLIGHT_SHOWN),
        "narrowed": any(asked.values()),
        "exports": download.links(request, EXPORT, wanted.said),
    }
    return TemplateResponse(request, "apply/orders.html", {**context, **told})


FILTERS = ("symbol", "state", "q")


def _said(address: Mapping[str, str]) -> dict[str, str]:
    return {name: address.get(name, "").strip()[:40] for name in (*FILTERS, *LEAVES)}


def _asked(asked: Mapping[str, str], flying: Collection[str]) -> Asked[Order]:
    full = asked["state"] == "flight" and len(flying) == IN_FLIGHT_READ
    return Asked(
        found=_wanted(asked, flying),
        book=lists.Book(model=Order, when="intended_at", looked_through=None),
        window=lists.window_of(asked),
        said={name: asked[name] for name in FILTERS if asked[name]},
        problem="" if asked["state"] in STATES else f"State is one of {', '.join(filter(None, STATES))}.",
        not_all=f"More than {IN_FLIGHT_READ} orders are in flight." if full else "",
    )


def _states(orders: Sequence[Order]) -> dict[int, dict[str, Any]]:
    plans = Plan.objects.filter(plan_id__in=[order.plan_id for order in orders])
    known = dict(plans.values_list("plan_id", "state"))
    return {order.pk: {"state": known.get(order.plan_id)} for order in orders}


EXPORT = Export(
    name="orders",
    sees="apply.view_order",
    asked=lambda address: _asked(_said(address), _in_flight()),
    filters=(*FILTERS, *LEAVES),
    columns=(
        "id", "plan_id", "client_order_id", "intended_at", "symbol", "side", "step", "quantity", "state", "status",
        "order_id", "executed_quantity", "average_price", "realized_pnl", "commission", "consumed_at", "sent_at",
        "answered_at", "settled_at", "timestamp_ms", "error", "error_code", "error_text",
    ),
    beside=_states,
)  # fmt: skip
"""Without the attempt's token, and without the permits: they are a list of their own."""


def _wanted(asked: Mapping[str, str], flying: Collection[str]) -> QuerySet[Order]:
    rows = Order.objects.all()
    if asked["symbol"]:
        rows = rows.filter(symbol=asked["symbol"].upper())
    if asked["state"] == "flight":
        rows = rows.filter(plan_id__in=flying)
    elif asked["state"] == "failed":
        rows = rows.exclude(error="")
    if asked["q"]:  # each part of it has an index of its own
        rows = rows.filter(Q(plan_id=asked["q"]) | Q(client_order_id=asked["q"]))
    return rows


def _in_flight() -> list[str]:
    """Of plans without a result, for which there is an index that is empty when all is well."""
    rows = Plan.objects.filter(result_id="", state__in=settle.IN_FLIGHT).order_by("created_at")
    return list(rows.values_list("plan_id", flat=True)[:IN_FLIGHT_READ])


def _rows(orders: Collection[Order]) -> list[Row]:
    """Three questions, however many orders."""
    ids = [order.plan_id for order in orders]
    plans = {plan.plan_id: plan for plan in Plan.objects.filter(plan_id__in=ids)}
    asked = {each.plan_id: each for each in Inquiry.objects.filter(plan_id__in=ids)}
    return [Row(order, plans.get(order.plan_id), asked.get(order.plan_id)) for order in orders]


# ---- one order


def order(request: HttpRequest, *, context: dict[str, Any], plan_id: str) -> HttpResponse:
    known = deciding.evidence(plan_id, client=command_client())
    if known is None:
        raise Http404("there is no order of that plan")
    return TemplateResponse(request, "apply/order.html", {**context, **shown(known)})


def shown(known: Evidence) -> dict[str, Any]:
    flying = known.plan.state in settle.IN_FLIGHT
    return {
        "title": f"Order {known.order.client_order_id}",
        "order": known.order,
        "quantity": amounts.plain(known.order.quantity),
        "plan_link": facts.plan_link(known.order.plan_id),
        "standing": standing(known.plan),
        "flying": flying,
        "age": facts.age(known.order.intended_at),
        "looked_at": facts.moment(clock.now()),
        "finding": _finding(known.inquiry),
        "exchange_rows": _exchange(known) if known.inquiry else [],
        "order_rows": facts.rows(
            known.order, skip=SKIPPED if known.order.commission else (*SKIPPED, "commission"), blank=False
        ),
        "trades": known.as_data()["trades"],
        "position": _position(known),
        "choices": [_choice(known, fate) for fate in deciding.FATES] if flying else [],
        "events": [{"row": event, "at": facts.moment(event.at)} for event in _events(known.order.plan_id)],
    }


SKIPPED = ("plan_id", "symbol", "side", "token", "governor_permit", "p33_permit")


def _exchange(known: Evidence) -> list[tuple[str, object]]:
    asked = known.inquiry
    if asked is None:
        return []
    rows: list[tuple[str, object]] = [
        ("In full", asked.get_finding_display()),
        ("It said", asked.text or facts.NOTHING),
        ("Asked", f"{asked.asked} times, last {facts.age(asked.asked_at)}"),
        (
            "Without proof since",
            facts.moment(asked.doubtful_since) if asked.doubtful_since else facts.NOTHING,
        ),
        *((name.replace("_", " ").capitalize(), value) for name, value in asked.found.items()),
    ]
    return [*rows, ("Cancel", asked.cancel_text)] if asked.cancel_text else rows


def _position(known: Evidence) -> list[tuple[str, object]]:
    snapshot = known.snapshot
    return [
        (
            "Symbol",
            f"{known.order.symbol} is locked by this order" if known.locked else "not locked by this order",
        ),
        ("Ledger", known.ledger),
        ("Exchange, as last read", snapshot.get("position_amt") or snapshot.get("unreadable") or "unknown"),
    ]


def _choice(known: Evidence, fate: str) -> dict[str, Any]:
    """What a person may say, with what follows; or why nobody may say it now."""
    why_not = deciding.refusal(known, fate)
    said = {"fate": fate, "mark": forms.made(known)}
    return {
        "fate": fate,
        "words": WORDS[fate],
        "means": FOLLOWS[fate],
        "after": fate.replace("_", " "),
        "why_not": why_not,
        "form": None if why_not else forms.DecideForm(initial=said, name=fate),
    }


WORDS = {deciding.FILLED: "It was filled", deciding.NOT_AT_EXCHANGE: "It was never at the exchange"}
FOLLOWS = {
    deciding.FILLED: "The ledger moves by the trades listed above and by no others; the limits are charged in full. "
    "What else was executed shows as drift, to be reconciled.",
    deciding.NOT_AT_EXCHANGE: "The ledger stays as it is. If it was executed after all, that shows as drift and stops "
    "the symbol.",
}


def _finding(asked: Inquiry | None) -> SafeString:
    if asked is None:
        return facts.chip("not asked yet", tone="calm")
    words, tone = FINDINGS[Finding(asked.finding)]
    return facts.chip(words, tone=tone)


def _events(plan_id: str) -> QuerySet[AuditEvent]:
    return AuditEvent.objects.filter(plan_id=plan_id).order_by("-id")[:EVENTS_SHOWN]


def _plain(value: Any) -> str:
    return facts.NOTHING if value is None else amounts.plain(value)


# ---- the act


def decide(request: HttpRequest, *, plan_id: str, **_: object) -> HttpResponse:
    form = forms.DecideForm(request.POST)
    done, text = _decided(form, plan_id=plan_id, by=request.user.get_username()[:60])
    messages.add_message(request, messages.SUCCESS if done else messages.ERROR, text)
    return HttpResponseRedirect(reverse("admin:apply_orders_one", args=[plan_id]))


def _decided(form: forms.DecideForm, *, plan_id: str, by: str) -> tuple[bool, str]:
    if not form.is_valid():
        return False, f"Nothing was changed. {form.problems}"
    said = form.cleaned_data
    seen = forms.read(said["mark"], plan_id=plan_id)
    if seen is None:
        return False, CHANGED
    try:
        known = deciding.decide(plan_id, said["fate"], by=by, reason=said["reason"], seen=seen)
    except CannotDecide as refused:
        return False, f"Nothing was changed. {refused}"
    except DatabaseError:
        return False, NO_DATABASE
    where = f"{settings.APPLY_MODE.upper()} {settings.ACCOUNT} {known.order.symbol}"
    return (
        True,
        f"{where}: {known.plan.state} → {said['fate'].replace('_', ' ')}, by {by}. The symbol is free again.",
    )
