"""A proof as a value: parts with figures, and what is wrong with names. Every figure says of how many records it is,
and is left out, and says so, where there are too few."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from msgspec import Struct

from apply.glance.hour import Spread

NAMED_MOST = 200
"""Findings of one part that are named; the others are counted."""
BEYOND = 5
"""A percentile is told where so many records lie beyond it: the p99 of ten plans is only the slowest of ten."""
SHARE_LEAST = 100
HISTOGRAM = " histogram ms"
STEPS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
PERCENTILES = (50, 95, 99)


class Outcome(StrEnum):
    CLEAN = "clean"
    WRONG = "wrong"
    CANNOT_TELL = "cannot tell"


class Span(Struct, frozen=True):
    since: dt.datetime
    until: dt.datetime

    @property
    def both(self) -> tuple[dt.datetime, dt.datetime]:
        return self.since, self.until


class Figure(Struct, frozen=True):
    name: str
    value: int | str | Mapping[str, int] | None
    of: int
    """Records that it is computed from."""
    needs: int = 0
    """So many would be needed; set where the value is left out."""

    @property
    def told(self) -> str:
        if self.value is None:
            return f"too few: {self.of} of the {self.needs} it needs"
        if isinstance(self.value, Mapping):
            return ", ".join(f"{name}: {n}" for name, n in self.value.items()) or "none"
        return str(self.value)


class Finding(Struct, frozen=True):
    wrong: str
    text: str
    plan_id: str = ""
    symbol: str = ""


@dataclass(slots=True)
class Part:
    name: str
    title: str
    figures: list[Figure] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    more_findings: int = 0
    plans: set[str] = field(default_factory=set)
    """Of all findings, those that are not named too."""
    doubts: list[str] = field(default_factory=list)
    """Why this part, or some of it, cannot be told."""

    def figure(self, name: str, value: int | str | Mapping[str, int], *, of: int) -> None:
        self.figures.append(Figure(name, value, of))

    def share(self, name: str, part: int, *, of: int) -> None:
        few = of < SHARE_LEAST
        self.figures.append(Figure(name, None if few else f"{100 * part / of:.1f} %", of, SHARE_LEAST))

    def spread(self, name: str, spread: Spread) -> None:
        """Percentiles in milliseconds, and how often each span of them came."""
        for percent in PERCENTILES:
            least = BEYOND * 100 // (100 - percent)
            few = spread.n < least
            value = None if few else spread.percentile(percent)
            self.figures.append(Figure(f"{name} p{percent} ms", value, spread.n, least))
        self.figure(f"{name}{HISTOGRAM}", histogram(spread), of=spread.n)

    def wrong(self, wrong: str, text: str, *, plan_id: str = "", symbol: str = "") -> None:
        self.plans |= {plan_id} - {""}
        if len(self.findings) < NAMED_MOST:
            self.findings.append(Finding(wrong, text, plan_id, symbol))
        else:
            self.more_findings += 1

    @property
    def wrongs(self) -> int:
        return len(self.findings) + self.more_findings

    @property
    def outcome(self) -> Outcome:
        if self.findings:
            return Outcome.WRONG
        return Outcome.CANNOT_TELL if self.doubts else Outcome.CLEAN


def histogram(spread: Spread) -> dict[str, int]:
    """Only the spans that came."""
    found: dict[str, int] = {}
    for value in sorted(spread.counts):
        name = step_name(next((step for step in STEPS_MS if value <= step), None))
        found[name] = found.get(name, 0) + spread.counts[value]
    return found


def step_name(step: int | None) -> str:
    return f"> {STEPS_MS[-1]}" if step is None else f"<= {step}"


class Report(Struct, frozen=True):
    made_at: dt.datetime
    span: Span
    account: str
    mode: str
    instance: str
    version: str
    parts: list[Part]
    took_s: float

    @property
    def outcome(self) -> Outcome:
        """What is wrong weighs more than what cannot be told."""
        found = {part.outcome for part in self.parts}
        return next(each for each in (Outcome.WRONG, Outcome.CANNOT_TELL, Outcome.CLEAN) if each in found)

    @property
    def wrongs(self) -> int:
        return sum(part.wrongs for part in self.parts)

    def findings(self) -> Iterator[Finding]:
        for part in self.parts:
            yield from part.findings

    def doubts(self) -> Iterator[str]:
        for part in self.parts:
            yield from part.doubts

    @property
    def signatures(self) -> int | None:
        """How many were verified; None: none was, for nobody had asked for it."""
        found = [part for part in self.parts if part.name == "signatures"]
        return int(str(found[0].figures[0].value)) if found else None

    def part(self, name: str) -> Part:
        return next(part for part in self.parts if part.name == name)


def as_data(report: Report) -> dict[str, Any]:
    return {
        "outcome": report.outcome.value,
        "made_at": report.made_at.isoformat(),
        "since": report.span.since.isoformat(),
        "until": report.span.until.isoformat(),
        "account": report.account,
        "mode": report.mode,
        "instance": report.instance,
        "version": report.version,
        "took_s": report.took_s,
        "wrongs": report.wrongs,
        "signatures_verified": report.signatures,
        "parts": {part.name: _part(part) for part in report.parts},
    }


def _part(part: Part) -> dict[str, Any]:
    return {
        "title": part.title,
        "outcome": part.outcome.value,
        "figures": {
            figure.name: {"value": figure.value, "of": figure.of}
            | ({"needs": figure.needs} if figure.value is None else {})
            for figure in part.figures
        },
        "findings": [
            {"wrong": each.wrong, "text": each.text, "plan_id": each.plan_id, "symbol": each.symbol}
            for each in part.findings
        ],
        "more_findings": part.more_findings,
        "doubts": part.doubts,
    }
