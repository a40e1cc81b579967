"""Permit JSON: written once with exact decimal text, read strictly. No clock, no Redis, no database."""

from __future__ import annotations

import json
from decimal import Decimal
from functools import cache, lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any

from msgspec import Struct

from permits.desk import straight
from quantum import amounts, texts

BYTES_MAX = 4096
DEPTH_MAX = 5
READ_MAX = 256
VERSION = 1

GOVERNOR, P33 = "governor", "p33"
OPERATOR = "operator"
"""Not a gate: a third issuer, who may sign for a gate's place where the policy says so."""
SIGNED_FIELDS = (
    "v",
    "plan_id",
    "gate",
    "symbol",
    "digest",
    "mode",
    "account",
    "issuer",
    "created_at",
    "expires_at",
)
"""With signatures required a permit that lacks one of these is malformed."""


class Malformed(Exception):
    """Permit bytes that are not a permit. The text is safe to show."""


class Answer(Struct, frozen=True):
    """What a gate decided, before it is written and signed."""

    gate: str
    plan_id: str
    symbol: str
    digest: str
    mode: str
    account: str
    issuer: str
    verdict: bool
    reason: str
    created_at: Decimal
    expires_at: Decimal
    quantity: Decimal = Decimal(0)
    notional: Decimal = Decimal(0)
    exchange_amt: Decimal = Decimal(0)
    ledger_amt: Decimal = Decimal(0)
    observed_at: Decimal | None = None
    context: dict[str, Decimal | str] | None = None
    hold_id: int | None = None
    """Of an operator's grant: the one hold it may pass."""


class Permit(Struct, frozen=True):
    """A permit as read. None means the field was left out (only with signatures optional)."""

    gate: str
    verdict: bool
    reason: str
    plan_id: str | None
    symbol: str | None
    digest: str | None
    mode: str | None
    account: str | None
    issuer: str | None
    created_at: Decimal | None
    expires_at: Decimal | None
    consumed: bool
    quantity: Decimal | None
    notional: Decimal | None
    exchange_amt: Decimal | None
    raw: bytes
    hold_id: int | None = None
    by_operator: bool = False
    """Never read from the bytes: the judge sets it, once the operator's signature has been verified."""


def named_hold(*permits: Permit) -> int | None:
    """The hold that an operator's permits name. Two that name different ones name none."""
    named = {permit.hold_id for permit in permits if permit.by_operator and permit.hold_id is not None}
    return named.pop() if len(named) == 1 else None


def claims_operator(permit: Permit) -> bool:
    """`operator`, `operator@account`, `operator:nina`. A claim: only the operator's key makes it true."""
    return permit.issuer is not None and permit.issuer.partition("@")[0].partition(":")[0] == OPERATOR


def body(answer: Answer) -> bytes:
    """The JSON of a permit without its signature; quantities stand in their exact decimal text."""
    members: dict[str, Any] = {"v": VERSION, "gate": answer.gate, "plan_id": answer.plan_id}
    if answer.gate == GOVERNOR:
        members |= {
            "granted": answer.verdict,
            "symbol": answer.symbol,
            "decision": "EXECUTE" if answer.verdict else "BLOCKED",
            "computed_qty": answer.quantity,
            "computed_notional": answer.notional,
            "consumed": False,
        }
    else:
        members |= {
            "allow": answer.verdict,
            "symbol": answer.symbol,
            "safe_close_qty": answer.quantity,
            "exchange_position_amt": answer.exchange_amt,
            "ledger_amt": answer.ledger_amt,
        }
        if answer.observed_at is not None:
            members["observed_at"] = answer.observed_at
    if answer.context:
        members["context"] = answer.context
    if answer.hold_id is not None:
        members["hold_id"] = answer.hold_id
    members |= {
        "reason": answer.reason,
        "digest": answer.digest,
        "mode": answer.mode,
        "account": answer.account,
        "issuer": answer.issuer,
        "created_at": answer.created_at,
        "expires_at": answer.expires_at,
    }
    return _written(members).encode()


def _written(value: object) -> str:
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    if isinstance(value, dict):
        return "{" + ",".join([f"{_name(name)}:{_written(item)}" for name, item in value.items()]) + "}"
    if isinstance(value, Decimal):
        return amounts.plain(value)
    return json.dumps(value)


_name = lru_cache(READ_MAX)(encode_basestring_ascii)
"""Of members: the same few each time."""


def read(raw: bytes, *, gate: str, all_fields: bool) -> Permit:
    """Raises Malformed, and nothing else, whatever the bytes are."""
    permit, missing = _read(raw, gate)
    if all_fields and missing:
        raise Malformed(f"field {missing} is missing")
    return permit


@lru_cache(READ_MAX)
def _read(raw: bytes, gate: str) -> tuple[Permit, str]:
    """The permit, and the first signed field that it lacks. The same bytes are judged, spent and recorded."""
    permit, missing = _as_written(raw, gate) or _with_care(raw, gate)
    if gate == P33 and permit.verdict:
        _check_safe_quantity(permit)
    return permit, missing


def _as_written(raw: bytes, gate: str) -> tuple[Permit, str] | None:
    """What our desk wrote. The tests hold it against the careful reader, for whatever it takes."""
    found = straight.texts_of(raw, gate)
    if found is None:
        return None
    notional: Decimal | None = None
    exchange_amt: Decimal | None = None
    if gate == GOVERNOR:
        plan_id, verdict, symbol, size, size_usdt, consumed, *rest = found
        notional = Decimal(size_usdt)
    else:
        plan_id, verdict, symbol, size, held, *rest = found
        exchange_amt, consumed = Decimal(held), "false"
    reason, digest, mode, account, issuer, created_at, expires_at = rest
    permit = Permit(
        gate=gate,
        verdict=verdict == "true",
        reason=reason,
        plan_id=plan_id,
        symbol=symbol,
        digest=digest,
        mode=mode,
        account=account,
        issuer=issuer,
        created_at=Decimal(created_at),
        expires_at=Decimal(expires_at),
        consumed=consumed == "true",
        quantity=Decimal(size),
        notional=notional,
        exchange_amt=exchange_amt,
        raw=raw,
    )
    return permit, ""


def _with_care(raw: bytes, gate: str) -> tuple[Permit, str]:
    """Whatever the bytes are."""
    members = _object(raw)
    missing = next((name for name in SIGNED_FIELDS if name not in members), "")
    if members.get("gate", gate) != gate:
        raise Malformed("the permit of the other gate")
    verdict = _boolean(members, "granted" if gate == GOVERNOR else "allow")
    permit = Permit(
        gate=gate,
        verdict=verdict,
        reason=_text(members, "reason") or "",
        plan_id=_text(members, "plan_id"),
        symbol=_text(members, "symbol"),
        digest=_text(members, "digest"),
        mode=_text(members, "mode"),
        account=_text(members, "account"),
        issuer=_text(members, "issuer"),
        created_at=_amount(members, "created_at"),
        expires_at=_amount(members, "expires_at"),
        consumed="consumed" in members and _boolean(members, "consumed"),
        quantity=_amount(members, "computed_qty" if gate == GOVERNOR else "safe_close_qty"),
        notional=_amount(members, "computed_notional") if gate == GOVERNOR else None,
        exchange_amt=_amount(members, "exchange_position_amt", signed=True) if gate == P33 else None,
        raw=raw,
        hold_id=_row_id(members, "hold_id"),
    )
    return permit, missing


def _check_safe_quantity(permit: Permit) -> None:
    """A grant that contradicts itself is refused before anything is spent, not clamped in silence."""
    if permit.quantity is None or permit.quantity <= 0:
        raise Malformed("safe_close_qty is not above zero")
    if permit.exchange_amt is None or permit.quantity > abs(permit.exchange_amt):
        raise Malformed("safe_close_qty is larger than exchange_position_amt")


def _object(raw: bytes) -> dict[str, Any]:
    if len(raw) > BYTES_MAX:
        raise Malformed(f"larger than {BYTES_MAX} bytes")
    try:
        found = _reader().decode(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Malformed("not valid JSON") from None
    if not isinstance(found, dict) or _depth(found) > DEPTH_MAX:
        raise Malformed(f"not an object of at most {DEPTH_MAX} levels")
    return found


@cache
def _reader() -> json.JSONDecoder:
    """Made once: json.loads makes one for each text."""
    return json.JSONDecoder(
        parse_float=_number,
        parse_int=_number,
        parse_constant=_refuse_constant,
        object_pairs_hook=_unique_members,
    )


def _number(text: str) -> Decimal:
    value = amounts.parse(text)
    if value is None:
        raise ValueError("not a plain number of sane size")
    return value


def _refuse_constant(_text: str) -> Decimal:
    raise ValueError("NaN and infinity are not numbers")


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is given twice")
    return members


def _depth(value: object, *, seen: int = 0) -> int:
    """Levels of nesting; counts no further than one too many, so that no depth can exhaust the stack."""
    if seen > DEPTH_MAX or not isinstance(value, (dict, list)):
        return seen
    items = value.values() if isinstance(value, dict) else value
    inner = [item for item in items if isinstance(item, (dict, list))]
    return max((_depth(item, seen=seen + 1) for item in inner), default=seen + 1)


def _boolean(members: dict[str, Any], name: str) -> bool:
    value = members.get(name)
    if not isinstance(value, bool):
        raise Malformed(f"{name} is not true or false")
    return value


def _text(members: dict[str, Any], name: str) -> str | None:
    if name not in members:
        return None
    value = members[name]
    if not isinstance(value, str) or len(value) > 400 or not texts.storable(value):
        raise Malformed(f"{name} is not a text of sane length")
    return value


def _row_id(members: dict[str, Any], name: str) -> int | None:
    if name not in members:
        return None
    value = members[name]
    if not isinstance(value, Decimal) or value != value.to_integral_value() or not 0 < value < 2**63:
        raise Malformed(f"{name} is not the number of a row")
    return int(value)


def _amount(members: dict[str, Any], name: str, *, signed: bool = False) -> Decimal | None:
    if name not in members:
        return None
    value = members[name]
    if isinstance(value, str):
        value = amounts.parse(value)
    if not isinstance(value, Decimal) or (value < 0 and not signed):
        raise Malformed(f"{name} is not a plain number")
    return value
