"""What the house assumes of the exchange, held against a real account: the assumptions as data, and their judge.

The probe places orders of its own, beside the two gates: it is a tool for an account that is being
got to know, run by hand. It touches a symbol only while it is flat, with the smallest size, and asks before each order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from msgspec import Struct

ASSUMPTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "time_offset": "The exchange's clock is within a second of ours",
        "weight_header": "Answers tell the request weight used in this minute",
        "recv_window": "A timestamp 4 s back is refused with -1021",
        "unknown_order": "A client id nobody used is -2013",
        "one_way_mode": "The account is in one-way mode (hedge mode refuses reduceOnly with -1106)",
        "flat_absent": "A flat symbol is absent from positionRisk v3",
        "reduce_only_flat": "A reduce-only order on a flat position is refused with -2022",
        "result_executed": "RESULT tells the executed quantity of a MARKET order",
        "trades_repeat_fill": "userTrades repeats the fill, with its commission",
        "stream_order": "The user stream tells the fill with its transaction time and realised profit",
        "stream_account": "The user stream tells the position that the fill left",
        "duplicate_open": "A second order with an open one's client id is refused with -4116",
        "duplicate_filled": "A second order with a filled one's client id is refused with -4116",
        "reduce_only_shrinks": "A reduce-only order above the position shrinks to it",
    }
)
READ_ONLY: Final = (
    "time_offset",
    "weight_header",
    "recv_window",
    "unknown_order",
    "one_way_mode",
    "flat_absent",
)


class Verdict(StrEnum):
    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    NOT_DECIDED = "not decided"
    """The documentation leaves it open and the exchange did the other thing: nothing of ours may lean on it."""
    NOT_TESTED = "not tested"


class Finding(Struct, frozen=True):
    name: str
    verdict: Verdict
    seen: str
    """What the exchange did, or why nothing was asked of it."""

    def as_data(self) -> dict[str, str]:
        return {"name": self.name, "assumption": ASSUMPTIONS[self.name], "verdict": self.verdict.value,
                "seen": self.seen}  # fmt: skip


VERDICTS: Final = MappingProxyType(
    {True: Verdict.HOLDS, False: Verdict.DOES_NOT_HOLD, None: Verdict.NOT_DECIDED}
)


class NotTested(Exception):
    """The question could not be put. Says why."""


class Findings:
    def __init__(self) -> None:
        self._by_name: dict[str, Finding] = {}

    def judge(self, name: str, look: Callable[[], tuple[bool | None, str]]) -> None:
        """None: it does something else there, and no document says that it must not."""
        try:
            holds, seen = look()
        except NotTested as why:
            self._by_name[name] = Finding(name, Verdict.NOT_TESTED, str(why))
        else:
            verdict = VERDICTS[holds]
            self._by_name[name] = Finding(name, verdict, seen)

    def all(self, *, unasked: str) -> list[Finding]:
        missing = {name: Finding(name, Verdict.NOT_TESTED, unasked) for name in ASSUMPTIONS}
        return [self._by_name.get(name, missing[name]) for name in ASSUMPTIONS]


def counted(found: Iterable[Finding]) -> dict[str, int]:
    """By verdict, nothing left out: what was not tested is told with the same weight as what holds."""
    verdicts = [one.verdict for one in found]
    return {each.value: verdicts.count(each) for each in Verdict}
