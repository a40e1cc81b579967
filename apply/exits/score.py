"""What a scorer sees and what it says: the plug-in's whole contract. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Protocol, runtime_checkable

from msgspec import Struct, field

from apply.exits.market import Market
from quantum import amounts
from quantum.exchange.types import Kline
from quantum.plan import STEPS, Action

REASON_CHARS_MAX = 300
CODES_MAX, CODE_CHARS_MAX = 8, 40
LEVEL_MAX = 1000
_CROSSING = re.compile(r"[a-z_]{1,36}")
"""A digit at its end would be read back from a plan as a level: the same crossing would be told twice."""


class View(Struct, frozen=True):
    """One position and its market at one moment. Everything a scorer may know; it asks nobody."""

    symbol: str
    amount: Decimal
    """Signed: long is positive, short negative; never zero."""
    entry_price: Decimal
    mark_price: Decimal
    klines: Sequence[Kline]
    """Closed ones, oldest first, without a gap."""
    at_ms: int
    age_s: Decimal | None
    """Of the position. None: nobody knows since when it is held."""
    market: Market
    risk: Decimal | None
    """One R: the price distance at which this position would have been given up. None: not known."""
    stop_locked: Decimal | None = None
    """The stop that was proposed last for this position."""

    @property
    def side(self) -> int:
        return 1 if self.amount > 0 else -1


class Crossing(Struct, frozen=True):
    """The line that was crossed, and which one of several: what keeps one reason from being told twice."""

    name: str
    level: int = 1

    @property
    def code(self) -> str:
        return self.name if self.level == 1 else f"{self.name}{self.level}"


class Score(Struct, frozen=True):
    value: Decimal
    """0: nothing speaks for leaving; 1: everything does."""
    contributions: Mapping[str, Decimal]
    """By name, each 0..1, before its weight."""
    action: Action
    reason: str
    """One sentence, with the numbers that decided."""
    reason_codes: tuple[str, ...] = ()
    crossing: Crossing | None = None
    """Of an action that closes; the brain proposes each crossing once."""
    standing: frozenset[str] = field(default_factory=frozenset)
    """Names of crossings that are not to be told anew yet; one that is missing here is armed again."""
    stop_proposed: Decimal | None = None
    r_net: Decimal | None = None
    """Profit in R after fees. None where R is not known."""


class NoScore(Struct, frozen=True):
    """Nothing can be said, and why. Never the same as a score of 0."""

    why: str


@runtime_checkable
class Scorer(Protocol):
    """Pure: the same view gives the same score, and nothing is asked of clock, network or memory."""

    @property
    def name(self) -> str: ...

    def score(self, view: View) -> Score | NoScore: ...


def fault_of(score: object) -> str:
    """What is wrong with what a plug-in answered; nothing where it keeps the contract."""
    if not isinstance(score, Score):
        return "it answered no Score"
    numbers: tuple[object, ...] = (score.value, *score.contributions.values())
    if not all(isinstance(one, Decimal) and one.is_finite() and 0 <= one <= 1 for one in numbers):
        return "its value or a contribution is no Decimal from 0 to 1"
    optional: tuple[object, ...] = (score.stop_proposed, score.r_net)
    if not all(one is None or _is_amount(one) for one in optional):
        return "its stop or its profit in R is no Decimal of sane size"
    if score.action not in tuple(Action) or (score.action in STEPS and score.crossing is None):
        return "its action is none of ours, or closes without naming what was crossed"
    if score.crossing is not None and not _is_crossing(score.crossing):
        return f"its crossing is not named by a-z and _ alone, at a level from 1 to {LEVEL_MAX}"
    standing: object = score.standing
    if not isinstance(standing, frozenset):
        return "its standing crossings are no frozenset"
    if not 0 < len(score.reason) <= REASON_CHARS_MAX or not score.reason.isprintable():
        return f"its reason is not one line of at most {REASON_CHARS_MAX} characters"
    codes = (*score.reason_codes, *([score.crossing.code] if score.crossing else []))
    if len(codes) > CODES_MAX or not all(_is_code(code) for code in codes):
        return f"its reason codes are not at most {CODES_MAX} words of a-z 0-9 _"
    return ""


def _is_amount(value: object) -> bool:
    return isinstance(value, Decimal) and value.is_finite() and abs(value) <= amounts.LARGEST


def _is_crossing(crossing: object) -> bool:
    return (
        isinstance(crossing, Crossing)
        and _CROSSING.fullmatch(crossing.name) is not None
        and type(crossing.level) is int
        and 1 <= crossing.level <= LEVEL_MAX
    )


def _is_code(text: str) -> bool:
    return (
        0 < len(text) <= CODE_CHARS_MAX
        and text.isascii()
        and text.replace("_", "").isalnum()
        and text.islower()
    )
