"""As much of Prometheus as the shipped rules use: their file, and whether a rule is true of two scrapes of /metrics."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]
Vector = Mapping[Labels, float]
Scrape = Mapping[str, Vector]

NAME = r"[a-z][a-z0-9_]*"
COMPARES: dict[str, Callable[[float, float], bool]] = {"==": operator.eq, ">": operator.gt, "<": operator.lt}


@dataclass(frozen=True)
class Rule:
    alert: str
    expr: str
    lasts: str
    severity: str
    summary: str
    action: str


def rules(path: Path) -> list[Rule]:
    """One field a line, always the same ones: there is no YAML here that would need more."""
    one = (
        r"      - alert: (\w+)\n        expr: (.+)\n        for: (\d+[sm])\n"
        r"        labels:\n          severity: (\w+)\n"
        r'        annotations:\n          summary: "(.+)"\n          action: "(.+)"\n'
    )
    text = path.read_text()
    found = [Rule(*match) for match in re.findall(one, text)]
    assert len(found) == text.count("- alert:"), "a rule has another shape than the others"
    return found


def scraped(text: str) -> Scrape:
    found: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def fires(expr: str, *, now: Scrape, before: Scrape) -> bool:
    return any(_one(part, now, before) for part in expr.split(" or "))


def _one(expr: str, now: Scrape, before: Scrape) -> bool:
    if match := re.fullmatch(rf"absent\(({NAME})\)", expr):
        return not now.get(match[1])
    match = re.fullmatch(r"(.+) (==|>|<) (\d+(?:\.\d+)?)", expr)
    assert match, f"this evaluator does not know {expr}"
    compare, bound = COMPARES[match[2]], float(match[3])
    return any(compare(value, bound) for value in _values(match[1], now, before).values())


def _values(term: str, now: Scrape, before: Scrape) -> Vector:
    if re.fullmatch(NAME, term):
        return now.get(term, {})
    if match := re.fullmatch(rf"increase\(({NAME})\[\d+m\]\)", term):
        then = before.get(match[1], {})  # a series that was not there has no increase
        return {key: value - then[key] for key, value in now.get(match[1], {}).items() if key in then}
    if match := re.fullmatch(rf"\(({NAME}) unless \1 offset \d+m\)", term):
        then = before.get(match[1], {})
        return {key: value for key, value in now.get(match[1], {}).items() if key not in then}
    if match := re.fullmatch(rf"({NAME}) - ({NAME})", term):
        other = now.get(match[2], {})
        return {key: value - other[key] for key, value in now.get(match[1], {}).items() if key in other}
    raise AssertionError(f"this evaluator does not know {term}")
