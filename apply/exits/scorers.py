"""Which scorer EXIT_BRAIN names: one of ours, an entry point of the group, or a dotted path."""

from __future__ import annotations

import re
from importlib import import_module, metadata

from apply.exits.baselines import FixedStop, HoldToTheEnd
from apply.exits.rules import RuleScorer
from apply.exits.score import Scorer

GROUP = "quantum.scorers"
OURS: dict[str, type[Scorer]] = {"rules": RuleScorer, "stop": FixedStop, "hold": HoldToTheEnd}
FAULTS = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What loading a stranger's module may end in. The warden refuses to start with it, and the system check says why."""


_NAME = re.compile(r"[A-Za-z0-9._-]{1,40}")


class NoSuchScorer(Exception):
    """The name leads to no scorer. The text says what would."""


def find(name: str) -> Scorer:
    found: object
    try:
        found = OURS[name] if name in OURS else _elsewhere(name)
        scorer = found() if isinstance(found, type) else found
    except FAULTS as fault:
        raise NoSuchScorer(f"{name} cannot be loaded: {type(fault).__name__}: {fault}") from fault
    if not isinstance(scorer, Scorer):
        raise NoSuchScorer(f"{name} is no scorer: it needs a name and score(view)")
    # It goes into the source of plans, into logs and into tables.
    if not _NAME.fullmatch(str(scorer.name)):
        raise NoSuchScorer(f"{name} calls itself by no name of 1 to 40 of A-Z a-z 0-9 . _ -")
    return scorer


def names() -> tuple[str, ...]:
    return (*OURS, *sorted(point.name for point in metadata.entry_points(group=GROUP)))


def _elsewhere(name: str) -> object:
    points = metadata.entry_points(group=GROUP, name=name)
    if points:
        return next(iter(points)).load()
    module, _, attribute = name.replace(":", ".").rpartition(".")
    if not module:
        raise NoSuchScorer(f"{name} is no scorer; there are {', '.join(names())}, and dotted paths")
    return getattr(import_module(module), attribute)
