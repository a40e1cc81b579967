"""ExitPlan: the frozen wire contract of a plan, read strictly from whatever a stranger wrote. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from functools import cache
from typing import TypeVar

from msgspec import Struct

from quantum import amounts, texts

E = TypeVar("E", bound=StrEnum)

ENTRY_BYTES_MAX = 4096
FIELDS_MAX = 24
FUTURE_TOLERANCE_S = Decimal(5)
_PLAN_ID = re.compile(r"[0-9a-f]{16}")
_ORDER_ID = re.compile(r"q-([0-9a-f]{16})-[0-9]{1,3}")
_EARLIEST, _LATEST = Decimal(1_500_000_000), Decimal(10_000_000_000)


class MalformedPlan(Exception):
    """A plan entry that is none. Carries a text that is safe to show."""


class Action(StrEnum):
    FULL_CLOSE = "FULL_CLOSE_PROPOSED"
    PARTIAL_75 = "PARTIAL_75"
    PARTIAL_50 = "PARTIAL_50"
    PARTIAL_25 = "PARTIAL_25"
    UPDATE_SL = "UPDATE_SL"
    HOLD = "HOLD"
    NONE = "NONE"


class Decision(StrEnum):
    EXECUTE = "EXECUTE"
    SKIP = "SKIP"
    BLOCKED = "BLOCKED"
    ERROR = "ERROR"


class Step(Struct, frozen=True):
    name: str
    percent: int


STEPS = {
    Action.FULL_CLOSE: Step("CLOSE_FULL", 100),
    Action.PARTIAL_75: Step("CLOSE_PARTIAL_75", 75),
    Action.PARTIAL_50: Step("CLOSE_PARTIAL_50", 50),
    Action.PARTIAL_25: Step("CLOSE_PARTIAL_25", 25),
}
"""A plan has exactly one step; the actions that are not here close nothing."""


@cache
def canonical_steps(action: Action) -> str:
    step = STEPS.get(action)
    steps = [{"percent": step.percent, "step": step.name}] if step else []
    return json.dumps(steps, sort_keys=True, separators=(",", ":"))


class ExitPlan(Struct, frozen=True):
    plan_id: str
    symbol: str
    action: Action
    decision: Decision
    kill_score_text: str
    timestamp_text: str
    expires_at: Decimal | None
    mode: str
    source: str
    reason_codes: str
    digest: str

    @property
    def timestamp(self) -> Decimal:
        return Decimal(self.timestamp_text)

    @property
    def step(self) -> Step | None:
        return STEPS.get(self.action)

    def expiry_s(self, *, ttl_s: Decimal) -> Decimal:
        """expires_at may only shorten the life that the timestamp gives."""
        usual = self.timestamp + ttl_s
        return usual if self.expires_at is None else min(usual, self.expires_at)

    def is_from_the_future(self, *, now_s: float) -> bool:
        return self.timestamp > Decimal(now_s) + FUTURE_TOLERANCE_S

    def fields(self) -> dict[str, str]:
        """What goes onto the stream."""
        fields = {
            "plan_id": self.plan_id,
            "symbol": self.symbol,
            "action": self.action.value,
            "kill_score": self.kill_score_text,
            "decision": self.decision.value,
            "timestamp": self.timestamp_text,
            "steps": canonical_steps(self.action),
            "reason_codes": self.reason_codes,
            "mode": self.mode,
            "source": self.source,
            "v": "1",
        }
        if self.expires_at is not None:
            fields["expires_at"] = amounts.plain(self.expires_at)
        return fields


def make(
    *,
    symbol: str,
    action: Action,
    kill_score_text: str,
    timestamp_text: str,
    mode: str,
    source: str,
    stop_proposed: str = "",
    reason_codes: str = "",
    attempt: int = 1,
) -> ExitPlan:
    """A plan of our own; its id is derived from what it says, so saying it twice is one plan."""
    identity = (symbol, action.value, kill_score_text, stop_proposed, timestamp_text, str(attempt))
    plan_id = hashlib.sha256(_length_prefixed(*identity)).hexdigest()[:16]
    decision = Decision.EXECUTE if action in STEPS else Decision.SKIP
    fields = {
        "plan_id": plan_id,
        "symbol": symbol,
        "action": action.value,
        "kill_score": kill_score_text,
        "decision": decision.value,
        "timestamp": timestamp_text,
        "mode": mode,
        "source": source,
        "reason_codes": reason_codes,
    }
    return parse({name.encode(): value.encode() for name, value in fields.items()})


def parse(raw: Mapping[bytes, bytes]) -> ExitPlan:
    """Read one stream entry, strictly. Every failure is MalformedPlan, whatever the bytes were."""
    if len(raw) > FIELDS_MAX or sum(len(name) + len(value) for name, value in raw.items()) > ENTRY_BYTES_MAX:
        raise MalformedPlan(f"entry is larger than {ENTRY_BYTES_MAX} bytes or has over {FIELDS_MAX} fields")
    fields = {_text(name, "a field name"): _text(value, "a value") for name, value in raw.items()}
    action = _one_of(Action, _required(fields, "action"), "action")
    if "steps" in fields:
        _check_steps(fields["steps"], action)
    plan_id = _plan_id(_required(fields, "plan_id"))
    symbol = _symbol(_required(fields, "symbol"))
    decision = _one_of(Decision, _required(fields, "decision"), "decision")
    score = _number(_required(fields, "kill_score"), "kill_score", Decimal(-1000), Decimal(1000))
    timestamp = _number(_required(fields, "timestamp"), "timestamp", _EARLIEST, _LATEST)
    expires = fields.get("expires_at")
    if expires is not None:
        _number(expires, "expires_at", _EARLIEST, _LATEST)
    return ExitPlan(
        plan_id=plan_id,
        symbol=symbol,
        action=action,
        decision=decision,
        kill_score_text=score,
        timestamp_text=timestamp,
        expires_at=Decimal(expires) if expires is not None else None,
        mode=fields.get("mode", ""),
        source=fields.get("source", ""),
        reason_codes=fields.get("reason_codes", ""),
        digest=digest(plan_id, symbol, action, score, decision, timestamp),
    )


def digest(plan_id: str, symbol: str, action: Action, score: str, decision: Decision, timestamp: str) -> str:
    """Over the raw texts as they came: two spellings of one number are two plans."""
    parts = (plan_id, symbol, action.value, score, decision.value, timestamp, canonical_steps(action))
    return hashlib.sha256(_length_prefixed(*parts)).hexdigest()


def plan_of_order(client_order_id: str) -> str | None:
    """The plan whose step an order of ours is; None for ids that we would not have made."""
    found = _ORDER_ID.fullmatch(client_order_id)
    return found[1] if found else None


def _length_prefixed(*parts: str) -> bytes:
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def _text(raw: bytes, what: str) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedPlan(f"{what} is not UTF-8 text") from None
    if not texts.storable(text):
        raise MalformedPlan(f"{what} contains a NUL")
    return text


def _required(fields: Mapping[str, str], name: str) -> str:
    try:
        return fields[name]
    except KeyError:
        raise MalformedPlan(f"field {name} is missing") from None


def _plan_id(text: str) -> str:
    if not _PLAN_ID.fullmatch(text):
        raise MalformedPlan("plan_id is not 16 lower-case hexadecimal digits")
    return text


def _symbol(text: str) -> str:
    """Any printable name of sane length: whether it is a symbol of ours the allow-list decides."""
    if not 1 <= len(text) <= 40 or not text.isprintable():
        raise MalformedPlan("symbol is not a printable name of 1 to 40 characters")
    return text


def _number(text: str, name: str, least: Decimal, most: Decimal) -> str:
    value = amounts.parse(text)
    if value is None or not least <= value <= most:
        raise MalformedPlan(f"{name} is not a plain decimal number from {least} to {most}")
    return text


def _one_of(kind: type[E], text: str, name: str) -> E:
    try:
        return kind(text)
    except ValueError:
        raise MalformedPlan(f"{name} is not one of {', '.join(kind)}") from None


def _check_steps(text: str, action: Action) -> None:
    """steps may be given, but they follow from the action and say nothing else."""
    if text == canonical_steps(action):
        return
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        raise MalformedPlan("steps is not JSON") from None
    if given != json.loads(canonical_steps(action)):
        raise MalformedPlan(f"steps do not follow from action {action}; leave them out or give its one step")
