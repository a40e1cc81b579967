"""`manage.py doctor`: what is wrong here, and how to mend it. It reads; it changes nothing.

Checks are registered by name, upper floors add theirs from AppConfig.ready(). Doctor holds no
exchange key: what the exchange says it knows from the snapshots that p33 left in Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum

from django.db import Error as DatabaseError
from msgspec import Struct

from quantum.commands import Exit
from quantum.redis import RedisError

__all__ = [
    "Check",
    "Finding",
    "Finished",
    "Needs",
    "State",
    "examine",
    "exit_code",
    "fail",
    "ok",
    "register",
    "warn",
]


class State(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Needs(StrEnum):
    """What a check cannot work without. The check of that very name says whether it is there."""

    REDIS = "redis"
    DATABASE = "database"


class Finding(Struct, frozen=True):
    """One line: its state, what was found, and for anything but ok the remedy."""

    state: State
    what: str
    remedy: str = ""
    dependency: bool = False
    """A service that does not answer, rather than something wrong with us."""

    def __post_init__(self) -> None:
        if self.state is not State.OK and not self.remedy:
            raise ValueError("a finding that is not ok names its remedy")


def ok(what: str) -> Finding:
    return Finding(State.OK, what)


def warn(what: str, *, remedy: str) -> Finding:
    return Finding(State.WARN, what, remedy)


def fail(what: str, *, remedy: str, dependency: bool = False) -> Finding:
    return Finding(State.FAIL, what, remedy, dependency)


Check = Callable[[], Iterable[Finding]]
Finished = tuple[str, Finding]
_checks: dict[str, tuple[Check, frozenset[Needs]]] = {}


def register(name: str, check: Check, *needs: Needs) -> None:
    """From AppConfig.ready(). Checks run after the kernel's, in the order of registration."""
    if name in _checks:
        raise ValueError(f"two checks are called {name}")
    _checks[name] = (check, frozenset(needs))


def examine() -> Iterator[Finished]:
    """Every check once. What needs a thing that is down is not tried: one cause, one remedy."""
    from quantum.doctor.kernel import CHECKS  # it needs models, which ready() may come before

    down: set[str] = set()
    for name, (check, needs) in (*CHECKS.items(), *_checks.items()):
        if missing := sorted(needs & down):
            yield (
                name,
                warn(f"not looked at, {missing[0]} does not answer", remedy=f"mend {missing[0]} first"),
            )
            continue
        for finding in _tried(check):
            if finding.state is State.FAIL and finding.dependency:
                down.add(name)
            yield name, finding


def _tried(check: Check) -> list[Finding]:
    try:
        return list(check())
    except (RedisError, DatabaseError) as failure:
        # It answered a moment ago: gone since, or it refuses this user's command.
        return [
            fail(
                f"cannot look: {type(failure).__name__}: {str(failure)[:200]}",
                remedy="run doctor again; if it stays, look at the rights of this user and the server's log",
                dependency=True,
            )
        ]


def exit_code(findings: Iterable[Finding]) -> Exit:
    failed = [finding for finding in findings if finding.state is State.FAIL]
    if any(finding.dependency for finding in failed):
        return Exit.DEPENDENCY_DOWN
    return Exit.ERROR if failed else Exit.OK
