"""Small pictures as numbers for an SVG: stacked columns, gains and losses, where a value lies in its band. Pure.

A picture is drawn by the server from the figures that stand beside it, and `says` tells it in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from msgspec import Struct

WIDTH, HEIGHT, GROUND = 320, 96, 76
GAP_SHARE = 5
LABELS_MAX = 12


class Bar(Struct, frozen=True):
    x: str
    y: str
    width: str
    height: str
    tone: str


class Label(Struct, frozen=True):
    x: str
    text: str


class Chart(Struct, frozen=True):
    says: str
    bars: Sequence[Bar]
    labels: Sequence[Label]
    limit_x: str = ""
    limit: str = ""
    width: int = WIDTH
    height: int = HEIGHT
    ground: int = GROUND

    @property
    def shapes(self) -> dict[str, str]:
        """Tone -> one path through all its bars: a picture of an hour is three elements, not three hundred numbers."""
        found: dict[str, str] = {}
        for bar in self.bars:
            shape = f"M{bar.x} {bar.y}h{bar.width}v{bar.height}h-{bar.width}z"
            found[bar.tone] = found.get(bar.tone, "") + shape
        return found


def columns(
    stacks: Sequence[Sequence[tuple[str, int]]],
    *,
    labels: Sequence[str],
    says: str,
    limit_after: int | None = None,
    limit: str = "",
) -> Chart:
    """One column per stack of (tone, number), from the ground up; the highest fills the picture. `limit` is a line
    after that many columns. A number that is there is never so small that it cannot be seen."""
    step = WIDTH / max(1, len(stacks))
    most = max([sum(number for _, number in stack) for stack in stacks], default=0) or 1
    bars, marks = [], []
    for place, (stack, label) in enumerate(zip(stacks, labels, strict=True)):
        top = float(GROUND)
        for tone, number in stack:
            if number:
                height = max(2.0, (GROUND - 14) * number / most)
                top -= height
                bars.append(Bar(_n(place * step), _n(top), _n(step - step / GAP_SHARE), _n(height), tone))
        if label:
            marks.append(Label(_n(place * step + (step - step / GAP_SHARE) / 2), label))
    line = "" if limit_after is None else _n(limit_after * step - step / GAP_SHARE / 2)
    return Chart(says=says, bars=bars, labels=marks, limit_x=line, limit=limit)


def signed(values: Sequence[Decimal], *, labels: Sequence[str], says: str) -> Chart:
    """One column per value, up from the ground where something was gained and down where something was lost."""
    step, room = WIDTH / max(1, len(values)), GROUND - 4
    highest, lowest = max([*values, Decimal(0)]), min([*values, Decimal(0)])
    span = float(highest - lowest) or 1.0
    ground = round(4 + room * float(highest) / span) if highest or lowest else GROUND
    bars, marks = [], []
    for place, (value, label) in enumerate(zip(values, labels, strict=True)):
        if value:
            height = max(2.0, room * abs(float(value)) / span)
            top = ground - height if value > 0 else float(ground)
            tone = "good" if value > 0 else "bad"
            bars.append(Bar(_n(place * step), _n(top), _n(step - step / GAP_SHARE), _n(height), tone))
        if label:
            marks.append(Label(_n(place * step + (step - step / GAP_SHARE) / 2), label))
    return Chart(says=says, bars=bars, labels=marks, ground=ground)


def in_band(value: Decimal, *, tolerance: Decimal) -> tuple[str, bool]:
    """Where a difference lies, in percent of a band whose middle half is the tolerance; and whether it is beyond."""
    beyond = abs(value) > tolerance
    share = value / tolerance if tolerance else Decimal(3 if value > 0 else -3 if value < 0 else 0)
    return _n(max(3.0, min(97.0, 50 + 25 * float(share)))), beyond


def _n(number: float) -> str:
    return f"{number:.1f}"
