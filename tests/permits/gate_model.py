"""What a server should hold and what the database says, as simply as it can be told; no Redis, no clock."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from permits.state.trading import Projection
from quantum.plan import ExitPlan
from tests.permits_by_hand import GOVERNOR, P33


@dataclass(frozen=True)
class Laid:
    """Permit bytes under a key, and what is wrong with them ('' for a good grant)."""

    raw: bytes
    wrong: str


@dataclass
class Memory:
    """What the server holds; a loss takes all of it, a bad restart brings an older one back."""

    laid: dict[tuple[str, str], Laid] = field(default_factory=dict)
    pairs: set[str] = field(default_factory=set)
    revoked: set[str] = field(default_factory=set)
    receipts: dict[str, str] = field(default_factory=dict)
    slots: dict[str, str] = field(default_factory=dict)
    state: Projection | None = None
    holds: set[str] = field(default_factory=set)

    def copied(self) -> Memory:
        return copy.deepcopy(self)

    def spent(self, plan: ExitPlan, token: str) -> None:
        for gate in (GOVERNOR, P33):
            del self.laid[plan.plan_id, gate]
        self.receipts[plan.plan_id] = token
        self.slots[plan.symbol] = token


@dataclass
class Database:
    """What no loss of Redis touches: the state, the holds, and one intent a plan (a unique row)."""

    version: int = 1
    active: bool = True
    holds: set[str] = field(default_factory=set)
    intents: dict[str, str] = field(default_factory=dict)

    @property
    def projection(self) -> Projection:
        state = "ACTIVE" if self.active else "HALTED"
        raw = f'{{"state":"{state}","version":{self.version}}}'.encode()
        return Projection(raw=raw, version=self.version, active=self.active)

    def intend(self, plan: ExitPlan, token: str) -> bool:
        """As apply.intent does in one transaction: the state and the hold are read again, the row is unique."""
        if not self.active or plan.symbol in self.holds or plan.plan_id in self.intents:
            return False
        self.intents[plan.plan_id] = token
        return True


def script_says(
    memory: Memory, plan: ExitPlan, *, token: str, pair: tuple[bytes, bytes], state: bytes
) -> bool:
    """Whether the spending call must answer 1. Times are far away in these sequences, but for what is laid old."""
    holder = memory.receipts.get(plan.plan_id)
    if holder is not None:
        return holder == token
    if memory.state is None or memory.state.raw != state or plan.symbol in memory.holds:
        return False
    laid = [memory.laid.get((plan.plan_id, gate)) for gate in (GOVERNOR, P33)]
    if any(each is None or each.raw != raw for each, raw in zip(laid, pair, strict=True)):
        return False
    if any(each is not None and each.wrong == "expired_permit" for each in laid):
        return False
    return memory.slots.get(plan.symbol) in (None, token)


def attempt_says(memory: Memory, database: Database, plan: ExitPlan, *, known: Projection) -> str:
    """What a new attempt must answer while nothing else happens: 'spent', a reason, or '' for go on waiting."""
    script = _look(memory, plan, known.raw)
    if script == "state_differs":
        if memory.state is None or not memory.state.active or not database.active:
            return "halted"
        known = database.projection  # read anew, once
        script = _look(memory, plan, known.raw)
        if script == "state_differs":
            return "not_armed"
    if script != "already_consumed" and not known.active:
        return "halted"
    laid = [memory.laid.get((plan.plan_id, gate)) for gate in (GOVERNOR, P33)]
    wrong = [each.wrong for each in laid if each is not None and each.wrong not in ("", "expired_permit")]
    if wrong or script:
        return (wrong or [script])[0]
    if None in laid:
        return ""
    if any(each is not None and each.wrong for each in laid):
        return "expired_permit"
    return "" if plan.symbol in memory.slots else "spent"


def _look(memory: Memory, plan: ExitPlan, known: bytes) -> str:
    """The script's refusal before it comes to the permits; '' for none."""
    if plan.plan_id in memory.receipts:
        return "already_consumed"
    if memory.state is None:
        return "not_armed"
    if memory.state.raw != known:
        return "state_differs"
    return "hold" if plan.symbol in memory.holds else ""
