"""A person says what became of an order, where the exchange cannot prove it (I5). For the command and for pages.

Allowed only after the resolver has asked for half a minute and got no answer, or answers that do not fit together.
Nothing is sent and no trade is made up: the rules, and what follows for the ledger, are in decision 026.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from django.conf import settings
from msgspec import Struct

from apply.acting import settle
from apply.acting.settle import Word
from apply.models import Inquiry, Order, Plan
from apply.proving import inquiries, resolver
from positions.books.ledger import SeenTrade
from positions.models import Balance, SymbolLock
from quantum import amounts, clock
from quantum.redis import Client, RedisError

FILLED, NOT_AT_EXCHANGE = "filled", "not_at_exchange"
FATES = (FILLED, NOT_AT_EXCHANGE)
DOUBT_S_MIN = 30.0
ASKED_S_MAX = 60.0
SNAPSHOT = ("position_amt", "ts_epoch")

MEANS = {
    FILLED: "filled by a person's word; the ledger moves by the trades listed above and by no others. What "
    "else was executed shows as drift: settle it with `manage.py reconcile`",
    NOT_AT_EXCHANGE: "never at the exchange by a person's word; the ledger stays. If it was executed after "
    "all, that shows as drift and stops the symbol",
}

Finding = Inquiry.Finding


class CannotDecide(Exception):
    """Nothing was changed. The text says why, and what to do."""


class Evidence(Struct, frozen=True):
    """All that is known of one order in flight, from the database and the newest snapshot."""

    plan: Plan
    order: Order
    inquiry: Inquiry | None
    trades: list[SeenTrade]
    locked: bool
    ledger: str
    snapshot: dict[str, str]

    @property
    def age_s(self) -> float:
        return inquiries.age_s(self.order, self.inquiry)

    @property
    def mark(self) -> str:
        """Of all that a decision stands on: another one where any of it has changed."""
        asked = self.inquiry
        trades = [each.trade.trade_id for each in self.trades]
        answered = (self.order.order_id, self.order.status)
        found = asked and (asked.finding, asked.found)
        stood = [self.plan.state, answered, found, trades, self.locked, self.ledger]
        return hashlib.sha256(json.dumps(stood, sort_keys=True).encode()).hexdigest()[:16]

    def as_data(self) -> dict[str, Any]:
        order, asked = self.order, self.inquiry
        return {
            "plan": {"plan_id": order.plan_id, "state": self.plan.state, "symbol": order.symbol},
            "order": {
                "client_order_id": order.client_order_id,
                "side": order.side,
                "quantity": amounts.plain(order.quantity),
                "intended_at": order.intended_at,
                "sent_at": order.sent_at,
                "answered_at": order.answered_at,
                "age_s": round(self.age_s, 1),
                "told": order.error_text,
                "order_id": order.order_id,
                "status": order.status,
            },
            "exchange": {
                "finding": asked.finding if asked else "not asked yet",
                "text": asked.text if asked else "",
                "order": asked.found if asked else {},
                "asked": asked.asked if asked else 0,
                "asked_at": asked.asked_at if asked else None,
                "doubtful_since": asked.doubtful_since if asked else None,
                "cancel": asked.cancel_text if asked else "",
            },
            "trades": [
                {
                    "trade_id": each.trade.trade_id,
                    "quantity": amounts.plain(each.trade.quantity),
                    "price": amounts.plain(each.trade.price),
                }
                for each in self.trades
            ],
            "position": {"locked": self.locked, "ledger": self.ledger, "snapshot": self.snapshot},
        }


def evidence(plan_id: str, *, client: Client | None = None) -> Evidence | None:
    """None: there is no order of that plan."""
    order = Order.objects.filter(plan_id=plan_id).first()
    if order is None:
        return None
    book = {"account": settings.ACCOUNT, "symbol": order.symbol}
    balance = Balance.objects.filter(**book).first()
    return Evidence(
        plan=Plan.objects.get(plan_id=plan_id),
        order=order,
        inquiry=Inquiry.objects.filter(plan_id=plan_id).first(),
        trades=settle.seen_trades(order),
        locked=SymbolLock.objects.filter(**book, plan_id=plan_id).exists(),
        ledger=amounts.plain(balance.amount) if balance else "missing",
        snapshot=_snapshot(client, order.symbol) if client else {},
    )


def _snapshot(client: Client, symbol: str) -> dict[str, str]:
    try:
        found = client.hmget(settings.KEYS.snapshot(symbol), *SNAPSHOT)
    except RedisError:
        return {"unreadable": "Redis does not answer"}
    return {
        name: value.decode(errors="replace") for name, value in zip(SNAPSHOT, found, strict=True) if value
    }


def refusal(known: Evidence, fate: str) -> str:
    """Why nobody may decide this now; empty where a person may."""
    asked = known.inquiry
    if known.plan.state not in settle.IN_FLIGHT:
        return f"It has ended already: {known.plan.state}."
    if asked is None or (clock.now() - asked.asked_at).total_seconds() > ASKED_S_MAX:
        return "The resolver has not asked the exchange within the last minute. Does the warden run (doctor)?"
    if asked.finding == Finding.OPEN:
        return (
            "The exchange has the order, and it is open. It is cancelled by rule; what it executed is booked."
        )
    if asked.finding == Finding.ABSENT or asked.doubtful_since is None:
        return "The exchange answers that it does not know it: the resolver proves that by itself. Wait."
    doubt_s = (clock.now() - asked.doubtful_since).total_seconds()
    if doubt_s < DOUBT_S_MIN:
        return (
            f"The resolver has been without proof for {doubt_s:.0f} s only. Decide after {DOUBT_S_MIN:.0f} s."
        )
    return _contradicted(known, asked) if fate == NOT_AT_EXCHANGE else ""


def _contradicted(known: Evidence, asked: Inquiry) -> str:
    """That it never arrived is not to be said against evidence, nor while it still might."""
    if known.order.order_id is not None:
        had = f"order {known.order.order_id}, {known.order.status}"
        return f'The exchange answered it as {had}: it was there. Only "filled" can be said of it.'
    if known.trades or asked.found:
        return 'The exchange has shown it, or a trade of it: it was there. Only "filled" can be said of it.'
    margin_s = resolver.RECV_WINDOW_MS / 1000 + float(settings.RESOLVER_MARGIN_SEC)
    if known.age_s < margin_s:
        return f"It may still arrive. Decide after {margin_s:.0f} s."
    return ""


def decide(plan_id: str, fate: str, *, by: str, reason: str, seen: str = "") -> Evidence:
    """The evidence as it was then. Raises CannotDecide. The janitor tells the result.
    seen: the mark of the evidence that a person had before him on a page that may have stood open for long."""
    known = evidence(plan_id)
    if known is None:
        raise CannotDecide("There is no order of that plan.")
    if seen and seen != known.mark:
        raise CannotDecide("The evidence is not any more what was shown. Look again, then decide.")
    why_not = refusal(known, fate)
    if why_not:
        raise CannotDecide(why_not)
    told = known.as_data()
    shown = {name: told[name] for name in ("order", "exchange", "trades", "position")}
    word = Word(filled=fate == FILLED, by=by, reason=reason, evidence={"evidence": _plain(shown)})
    if not settle.decide(known.order, word):
        raise CannotDecide("It was settled meanwhile, or the exchange's answer came in. Look again.")
    return known


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.isoformat() if hasattr(value, "isoformat") else value
