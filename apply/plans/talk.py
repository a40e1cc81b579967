"""What was said between us and the exchange about one order, from the rows: the request as its intent fixed it, each
answer as it was recorded. Key and signature were never written down; they are shown as what they are, masked."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from apply.models import Inquiry, Order
from quantum import amounts

MASKED = "•••"
RECV_WINDOW_MS = 3000
"""The adapter's, which may be imported by the desk alone."""


class Said(Struct, frozen=True):
    """One request, with what came back."""

    what: str
    request: dict[str, str]
    sent_at: dt.datetime | None
    answered_at: dt.datetime | None
    answer: dict[str, str]
    times: int = 1
    """How often it was asked; the last answer is kept."""

    @property
    def took_ms(self) -> float | None:
        if self.sent_at is None or self.answered_at is None or self.times > 1:
            return None
        return round((self.answered_at - self.sent_at).total_seconds() * 1000, 1)


def of(order: Order | None, inquiry: Inquiry | None) -> list[Said]:
    """In the order of time. Empty: nothing was ever asked for this plan."""
    return list(_said(order, inquiry)) if order is not None else []


def _said(order: Order, inquiry: Inquiry | None) -> Iterator[Said]:
    if order.sent_at is not None or order.answered_at is not None:
        yield Said("POST /fapi/v1/order", _order(order), order.sent_at, order.answered_at, _answer(order))
    if inquiry is None:
        return
    named = {"symbol": order.symbol, "origClientOrderId": order.client_order_id, **_secrets()}
    found = {name: _text(value) for name, value in inquiry.found.items()}
    answer = {"finding": inquiry.get_finding_display(), "text": inquiry.text, **found}
    yield Said(
        "GET /fapi/v1/order", named, inquiry.since, inquiry.asked_at, _filled(answer), times=inquiry.asked
    )
    if inquiry.cancel_asked_at is not None:
        answer = _filled({"text": inquiry.cancel_text})
        yield Said(
            "DELETE /fapi/v1/order",
            named,
            inquiry.cancel_sent_at,
            None,  # when its answer came is not kept; what it was, is
            answer,
            times=max(1, inquiry.cancels),
        )


def _order(order: Order) -> dict[str, str]:
    """As the adapter sends it; a test holds the two together."""
    return {
        "symbol": order.symbol,
        "side": order.side,
        "type": "MARKET",
        "quantity": amounts.plain(order.quantity),
        "reduceOnly": "true",
        "newClientOrderId": order.client_order_id,
        "newOrderRespType": "RESULT",
        "timestamp": str(order.timestamp_ms),
        **_secrets(),
    }


def _secrets() -> dict[str, str]:
    return {"recvWindow": str(RECV_WINDOW_MS), "signature": MASKED, "X-MBX-APIKEY": MASKED}


def _answer(order: Order) -> dict[str, str]:
    names = ("order_id", "status", "executed_quantity", "average_price", "error", "error_code", "error_text")
    return _filled({name: _text(getattr(order, name)) for name in names})


def _filled(answer: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in answer.items() if text}


def _text(value: object) -> str:
    return "" if value is None else str(value)


def as_data(said: Said) -> dict[str, Any]:
    return {
        "what": said.what,
        "request": said.request,
        "sent_at": said.sent_at.isoformat() if said.sent_at else None,
        "answered_at": said.answered_at.isoformat() if said.answered_at else None,
        "answer": said.answer,
        "times": said.times,
    }
