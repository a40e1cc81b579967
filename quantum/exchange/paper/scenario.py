"""Scripted faults, as data: a list of items. A scenario file is such a list, as JSON.

For the next request of a kind (`next` is an endpoint's name, see api.py; `order` is POST order):

    {"next": "order", "do": "accept_then_cut"}
    {"next": "order", "do": "cut_before_accept", "times": 3}
    {"next": "order", "do": "reply", "status": 503, "body": {...}, "headers": {...}}
    {"next": "order", "do": "refuse", "code": -1008}       one of the exchange's errors, by its code
    {"next": "order", "do": "unavailable"} / "unknown_503"  the two documented texts of 503
    {"next": "order", "do": "html", "status": 502}          "html_200" is the same with 200
    {"next": "order", "do": "rate_limited", "retry_after_s": 7}
    {"next": "order", "do": "banned", "for_s": 120}         418, with the time in its text
    {"next": "order", "do": "late_accept", "after_ms": 300} -1007 now, taken later
    {"next": "order", "do": "partial", "percent": 50, "pieces": 2}
    {"next": "order", "do": "rest", "after_ms": 5000}       stays NEW, fills later; 0: not by itself
    {"next": "order", "do": "move_first", "amount": "0"}    the user's hand was faster
    {"next": "positionRisk", "do": "edit", "leave_out": ["ETHUSDT"], "set": {"positionAmt": "?"}}
    {"next": "order", "do": "latency", "ms": 300}

`accepted: true` on a reply, html, unavailable or unknown_503: the order was taken all the same.

At once, or some time after: anything the control plane does (control.py), by its name.

    {"now": "position", "symbol": "BTCUSDT", "amount": "0", "client_order_id": "web_1"}
    {"now": "stream", "do": "freeze", "after_ms": 2000}
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation

from msgspec import Struct, field
from msgspec.structs import replace

from quantum.exchange.paper.errors import ERRORS, SERVICE_UNAVAILABLE, TIMEOUT, UNKNOWN_ERROR, ApiError
from quantum.exchange.paper.venue import FillWay

FIELDS_BY_DO: Mapping[str, frozenset[str]] = {
    "accept_then_cut": frozenset(),
    "cut_before_accept": frozenset(),
    "reply": frozenset({"status", "body", "headers", "accepted"}),
    "refuse": frozenset({"code"}),
    "unavailable": frozenset({"accepted"}),
    "unknown_503": frozenset({"accepted"}),
    "html": frozenset({"status", "accepted"}),
    "html_200": frozenset({"accepted"}),
    "rate_limited": frozenset({"status", "retry_after_s"}),
    "banned": frozenset({"for_s"}),
    "late_accept": frozenset({"after_ms"}),
    "partial": frozenset({"percent", "pieces"}),
    "rest": frozenset({"after_ms"}),
    "move_first": frozenset({"amount"}),
    "edit": frozenset({"leave_out", "set"}),
    "latency": frozenset({"ms"}),
}
ANSWERS_ITSELF = frozenset(
    {
        "reply",
        "refuse",
        "unavailable",
        "unknown_503",
        "html",
        "html_200",
        "rate_limited",
        "banned",
        "late_accept",
    }
)
HTML = "<html><head><title>Hello</title></head><body>Not the answer you wanted</body></html>"
TIMES_MAX = 100_000
RANGES: Mapping[str, tuple[int, int]] = {
    "times": (1, TIMES_MAX),
    "percent": (0, 100),
    "pieces": (1, 100),
    "status": (200, 599),
    "after_ms": (0, 600_000),
    "ms": (0, 600_000),
    "for_s": (1, 259_200),
}


class Item(Struct, frozen=True):
    do: str
    times: int = 1
    status: int = 200
    body: object = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    accepted: bool = False
    after_ms: int = 0
    percent: int = 100
    pieces: int = 1
    ms: int = 0
    code: int = 0
    for_s: int = 120
    amount: str = "0"
    leave_out: Sequence[str] = ()
    set: Mapping[str, object] = field(default_factory=dict)

    @property
    def way(self) -> FillWay:
        return FillWay(percent=self.percent, pieces=self.pieces, rests=self.do == "rest")

    @property
    def answers_itself(self) -> bool:
        return self.do in ANSWERS_ITSELF

    def edited(self, answer: object) -> object:
        """Rows left out and fields overwritten, in a list of rows or in the list an answer holds."""
        if isinstance(answer, dict) and isinstance(answer.get("symbols"), list):
            return {**answer, "symbols": self.edited(answer["symbols"])}
        if isinstance(answer, dict):
            return {**answer, **self.set}
        if not isinstance(answer, list):
            return answer
        return [{**row, **self.set} for row in answer if row.get("symbol") not in self.leave_out]


class Scenario:
    def __init__(self) -> None:
        self._queues: dict[str, deque[Item]] = {}

    def push(self, rows: Sequence[tuple[str, Item]]) -> None:
        for name, item in rows:
            self._queues.setdefault(name, deque()).append(item)

    def clear(self) -> None:
        self._queues.clear()

    def take(self, name: str) -> Item | None:
        queue = self._queues.get(name)
        if not queue:
            return None
        item = queue.popleft()
        if item.times > 1:
            queue.appendleft(replace(item, times=item.times - 1))
        return item

    def waiting(self) -> int:
        return sum(item.times for queue in self._queues.values() for item in queue)


def item_from(row: object) -> tuple[str, Item]:
    """The endpoint it is for, and the item. ValueError says what is wrong with it."""
    values = dict(row) if isinstance(row, dict) else {}
    name, do = values.pop("next", None), values.get("do")
    if not isinstance(name, str) or not isinstance(do, str) or do not in FIELDS_BY_DO:
        raise ValueError(f'"next" names an endpoint and "do" one of {sorted(FIELDS_BY_DO)}')
    unknown = values.keys() - FIELDS_BY_DO[do] - {"do", "times"}
    if unknown:
        raise ValueError(f"{do!r} does not take {sorted(unknown)}")
    retry_after_s = values.pop("retry_after_s", 1)
    item = Item(**values)
    for number, (least, most) in RANGES.items():
        value = getattr(item, number)
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"{number} is out of range: {least} to {most}")
    try:
        Decimal(item.amount)
    except (InvalidOperation, TypeError):
        raise ValueError("amount is a number as text") from None
    if do == "refuse" and item.code not in ERRORS:
        raise ValueError(f"code is one of {sorted(ERRORS)}")
    return name, _spelled_out(item, retry_after_s)


def _spelled_out(item: Item, retry_after_s: int) -> Item:
    """The named faults as plain replies."""
    match item.do:
        case "html_200":
            return replace(item, status=200, body=HTML)
        case "html":
            return replace(item, body=HTML)
        case "late_accept":
            return replace(item, status=408, body={"code": -1007, "msg": TIMEOUT})
        case "unavailable":
            return replace(item, status=503, body={"code": -1000, "msg": SERVICE_UNAVAILABLE})
        case "unknown_503":
            return replace(item, status=503, body={"code": -1000, "msg": UNKNOWN_ERROR})
        case "refuse":
            error = ApiError(item.code, "300", "TEN_SECONDS")
            return replace(item, status=error.status, body={"code": error.code, "msg": error.msg})
        case "rate_limited":
            body = {"code": -1003, "msg": "Too many requests; current limit is 2400 requests per minute."}
            status = item.status if item.status in (418, 429) else 429
            return replace(item, status=status, body=body, headers={"Retry-After": str(retry_after_s)})
    return item
