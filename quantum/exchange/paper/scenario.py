"""Scripted faults, as data: a queue of items, each for the next request of a kind.

    {"next": "order", "do": "accept_then_cut"}
    {"next": "order", "do": "reply", "status": 503, "body": {...}, "headers": {...}}
    {"next": "order", "do": "late_accept", "after_ms": 300}
    {"next": "positionRisk", "do": "cut_before_accept", "times": 3}

`next` is an endpoint's name (see api.py; `order` is POST order). `accepted: true` on a
reply means: the order was taken all the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from quantum.exchange.paper.errors import TIMEOUT
from quantum.exchange.paper.venue import FillWay

FIELDS_BY_DO: Mapping[str, frozenset[str]] = {
    "accept_then_cut": frozenset(),
    "cut_before_accept": frozenset(),
    "reply": frozenset({"status", "body", "headers", "accepted"}),
    "html_200": frozenset({"accepted"}),
    "rate_limited": frozenset({"status", "retry_after_s"}),
    "late_accept": frozenset({"after_ms"}),
    "partial": frozenset({"percent", "pieces"}),
    "latency": frozenset({"ms"}),
}
HTML = "<html><head><title>Hello</title></head><body>Not the answer you wanted</body></html>"
TIMES_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Item:
    do: str
    times: int = 1
    status: int = 200
    body: object = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    accepted: bool = False
    after_ms: int = 0
    percent: int = 100
    ms: int = 0

    pieces: int = 1

    @property
    def way(self) -> FillWay:
        return FillWay(percent=self.percent, pieces=self.pieces)

    @property
    def answers_itself(self) -> bool:
        return self.do in ("reply", "html_200", "rate_limited", "late_accept")


class Scenario:
    def __init__(self) -> None:
        self._queues: dict[str, deque[Item]] = {}

    def push(self, rows: list[object]) -> None:
        """All rows or, where one is wrong, none."""
        parsed = [_item(row) for row in rows]
        for name, item in parsed:
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


def _item(row: object) -> tuple[str, Item]:
    values = dict(row) if isinstance(row, dict) else {}
    name, do = values.pop("next", None), values.get("do")
    if not isinstance(name, str) or not isinstance(do, str) or do not in FIELDS_BY_DO:
        raise ValueError(f'"next" names an endpoint and "do" one of {sorted(FIELDS_BY_DO)}')
    unknown = values.keys() - FIELDS_BY_DO[do] - {"do", "times"}
    if unknown:
        raise ValueError(f"{do!r} does not take {sorted(unknown)}")
    retry_after_s = values.pop("retry_after_s", 1)
    item = Item(**values)
    if not 1 <= item.times <= TIMES_MAX or not 0 <= item.percent <= 100 or not 1 <= item.pieces <= 100:
        raise ValueError("times, percent or pieces is out of range")
    return name, _spelled_out(item, retry_after_s)


def _spelled_out(item: Item, retry_after_s: int) -> Item:
    """The named faults as plain replies."""
    if item.do == "html_200":
        return replace(item, status=200, body=HTML)
    if item.do == "late_accept":
        return replace(item, status=408, body={"code": -1007, "msg": TIMEOUT})
    if item.do == "rate_limited":
        body = {"code": -1003, "msg": "Too many requests; current limit is 2400 requests per minute."}
        status = item.status if item.status in (418, 429) else 429
        return replace(item, status=status, body=body, headers={"Retry-After": str(retry_after_s)})
    return item
