"""Close what is left at the exchange while the symbol is frozen. This floor neither makes plans nor signs: apply
registers who does, as it does for approvals. The close passes both gates like any other exit (I16)."""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

from msgspec import Struct

from positions.reconcile.reconcile import Line, State
from quantum.redis import Client


class CannotClose(Exception):
    """Nothing was signed and nothing published. One line for a person, with what to do."""


class Wanted(Struct, frozen=True):
    """All of what the exchange was seen to hold, and when, past exactly the hold that was shown."""

    symbol: str
    quantity: Decimal
    hold_id: int
    seen_s: Decimal
    by: str
    reason: str


class Closed(Struct, frozen=True):
    """What was asked for stands: the permit is signed, and the plan is recorded or may be."""

    plan_id: str
    published: bool
    """False: Redis did not say so. It may be on its way, or goes out when Redis is back, if it is fresh then."""
    recorded: bool
    """False: the database did not say so."""

    @property
    def not_heard(self) -> str:
        begins, silent = ("Recorded", "Redis") if self.recorded else ("Perhaps recorded", "the database")
        return (
            f"{begins} as plan {self.plan_id}, and {silent} gave no answer: the close may be on its way, or "
            f"is published when {silent} is back, if it is fresh then. "
            "Do not close by hand before plan_show tells its end."
        )


class Closer(Protocol):
    def close(self, client: Client, wanted: Wanted) -> Closed:
        """Raises CannotClose, RedisError, DatabaseError; each of them before a plan was to be recorded."""


_closers: list[Closer] = []


def register(closer: Closer) -> None:
    """From AppConfig.ready()."""
    if _closers:
        raise ValueError("somebody already closes what is left")
    _closers.append(closer)


def close(client: Client, line: Line, *, by: str, reason: str) -> Closed:
    """line: freshly read. Raises what Closer.close does."""
    why_not = refusal(line)
    if why_not or line.hold is None:
        raise CannotClose(why_not)
    if not _closers:
        raise CannotClose("nobody here makes plans; ask where apply is installed")
    wanted = Wanted(
        symbol=line.symbol,
        quantity=abs(line.exchange),
        hold_id=line.hold.pk,
        seen_s=line.seen_s,
        by=by,
        reason=reason,
    )
    return _closers[0].close(client, wanted)


def refusal(line: Line) -> str:
    """Empty: it may be asked for."""
    if line.exchange == 0:
        return f"{line.symbol}: the exchange holds nothing, so there is nothing to close."
    if line.state in (State.STALE, State.IN_FLIGHT):
        return f"{line.symbol}: {line.state.value.replace('_', ' ')}. Wait, and look again."
    if line.hold is None:
        return f"{line.symbol} is not frozen: an ordinary FULL_CLOSE passes the gates by itself (propose)."
    return ""
