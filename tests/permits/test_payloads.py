"""Permit JSON: exact when written, strict when read, and no bytes can do more than be malformed."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from permits.desk import payloads
from permits.desk.payloads import BYTES_MAX, GOVERNOR, P33, Answer, Malformed, Permit
from tests.properties import given, st

EXACT = st.decimals(
    min_value=0, max_value=10**14, places=18, allow_nan=False, allow_infinity=False
) | st.decimals(min_value=0, max_value=10**6, places=3, allow_nan=False, allow_infinity=False)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)

MEMBERS = [
    "granted",
    "allow",
    "gate",
    "symbol",
    "safe_close_qty",
    "exchange_position_amt",
    "expires_at",
    "consumed",
    "reason",
]


def answer(gate: str, **more: Any) -> Answer:
    said: dict[str, Any] = {
        "plan_id": "67e6da21fa9fe506",
        "symbol": "BTCUSDT",
        "digest": "d" * 64,
        "mode": "paper",
        "account": "main",
        "issuer": "tests",
        "verdict": True,
        "reason": "approved",
        "created_at": Decimal("1764000000.123"),
        "expires_at": Decimal("1764000060.123"),
        "quantity": Decimal("0.25"),
        "exchange_amt": Decimal(-1),
        "ledger_amt": Decimal(-1),
    }
    return Answer(gate=gate, **(said | more))


def bent(gate: str = P33, /, **members: Any) -> bytes:
    whole = json.loads(payloads.body(answer(gate))) | members
    return json.dumps({name: value for name, value in whole.items() if value is not ...}).encode()


def read(raw: bytes, gate: str = P33, *, all_fields: bool = True) -> Permit:
    return payloads.read(raw, gate=gate, all_fields=all_fields)


def only_malformed(raw: bytes, gate: str) -> Permit | None:
    try:
        return read(raw, gate, all_fields=False)
    except Malformed as malformed:
        said = str(malformed)
    assert said.isprintable()
    return None


@given(st.binary(max_size=200), st.sampled_from([GOVERNOR, P33]))
def test_any_bytes_are_a_permit_or_malformed_and_nothing_else(raw: bytes, gate: str) -> None:
    only_malformed(raw, gate)


@given(st.dictionaries(st.sampled_from(MEMBERS), JUNK), st.sampled_from([GOVERNOR, P33]))
def test_any_json_is_a_permit_or_malformed_and_nothing_else(members: dict[str, Any], gate: str) -> None:
    permit = only_malformed(bent(gate, **members), gate)
    if permit is not None:
        assert isinstance(permit.verdict, bool)
        assert permit.quantity is None or permit.quantity >= 0
        if gate == P33 and permit.verdict:
            assert permit.quantity is not None and permit.exchange_amt is not None
            assert 0 < permit.quantity <= abs(permit.exchange_amt)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"yes",
        b"null",
        b"true",
        b"[]",
        b"[" * 4000,
        pytest.param(
            b'{"a":' * 600 + b"1" + b"}" * 600,
            id="600_levels",
        ),
        b'{"granted":true,"a":' + b"[" * 6 + b"]" * 6 + b"}",
        b'{"granted":NaN}',
        b'{"granted":true,"computed_qty":Infinity}',
        b'{"granted":true,"computed_qty":-Infinity}',
        b'{"granted":true,"computed_qty":1e5}',
        b'{"granted":true,"computed_qty":' + b"9" * 4000 + b"}",
        b'{"granted":true,"computed_qty":-1}',
        b'{"granted":true,"computed_qty":true}',
        b'{"granted":true,"computed_qty":[1]}',
        b'{"granted":true,"computed_qty":null}',
        b'{"granted":true,"symbol":null}',
        b'{"granted":true,"symbol":7}',
        b'{"granted":true,"reason":"' + b"x" * 401 + b'"}',
        b'\xef\xbb\xbf{"granted":true}',
        b'{"granted":true}\x00',
        b'{"granted":true}{}',
        b'{"granted":true,"symbol":"\xff"}',
    ],
)
def test_what_is_no_permit_is_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed):
        read(raw, GOVERNOR, all_fields=False)


def test_a_permit_over_4_kb_is_malformed() -> None:
    raw = b'{"granted":true}'
    assert read(raw + b" " * (BYTES_MAX - len(raw)), GOVERNOR, all_fields=False).verdict
    with pytest.raises(Malformed, match="larger"):
        read(raw + b" " * (BYTES_MAX - len(raw) + 1), GOVERNOR, all_fields=False)


def test_a_member_given_twice_is_malformed() -> None:
    """Parsers differ in which of the two they believe; here nobody is asked to."""
    with pytest.raises(Malformed):
        read(b'{"granted":false,"granted":true}', GOVERNOR, all_fields=False)
    with pytest.raises(Malformed):
        read(b'{"granted":true,"context":{"a":1,"a":2}}', GOVERNOR, all_fields=False)


@pytest.mark.parametrize("value", ["true", "True", 1, 1.0, None, [], {}, [True], "yes"])
@pytest.mark.parametrize(("gate", "member"), [(GOVERNOR, "granted"), (P33, "allow")])
def test_only_json_true_grants(gate: str, member: str, value: object) -> None:
    with pytest.raises(Malformed, match=member):
        read(bent(gate, **{member: value}), gate)


@pytest.mark.parametrize(("gate", "member"), [(GOVERNOR, "granted"), (P33, "allow")])
def test_a_permit_without_a_verdict_is_malformed(gate: str, member: str) -> None:
    with pytest.raises(Malformed, match=member):
        read(bent(gate, **{member: ...}), gate)


@pytest.mark.parametrize("gate", [GOVERNOR, P33])
def test_the_other_gates_permit_is_malformed(gate: str) -> None:
    other = P33 if gate == GOVERNOR else GOVERNOR
    with pytest.raises(Malformed, match="other gate"):
        read(bent(gate, gate=other), gate)


@pytest.mark.parametrize("name", payloads.SIGNED_FIELDS)
@pytest.mark.parametrize("gate", [GOVERNOR, P33])
def test_a_field_left_out_is_malformed_where_signatures_are_required(gate: str, name: str) -> None:
    raw = bent(gate, **{name: ...})
    with pytest.raises(Malformed, match=name):
        read(raw, gate)
    assert read(raw, gate, all_fields=False).verdict


# ---- the safe quantity


@pytest.mark.parametrize("safe", [0, "0", "0.000", ...])
def test_a_grant_without_a_safe_quantity_above_zero_is_malformed(safe: object) -> None:
    with pytest.raises(Malformed, match="safe_close_qty"):
        read(bent(safe_close_qty=safe))


@pytest.mark.parametrize(("safe", "position"), [("50", "1"), ("1.001", "-1"), ("0.001", "0")])
def test_a_safe_quantity_above_the_position_it_names_is_malformed(safe: str, position: str) -> None:
    with pytest.raises(Malformed, match="safe_close_qty"):
        read(bent(safe_close_qty=safe, exchange_position_amt=position))


def test_a_grant_that_names_no_position_is_malformed() -> None:
    with pytest.raises(Malformed, match="safe_close_qty"):
        read(bent(exchange_position_amt=...))


def test_all_of_a_short_may_be_closed() -> None:
    permit = read(bent(safe_close_qty="8", exchange_position_amt="-8"))
    assert (permit.quantity, permit.exchange_amt) == (Decimal(8), Decimal(-8))


def test_a_denial_needs_no_quantity() -> None:
    assert not read(bent(allow=False, safe_close_qty=0, exchange_position_amt=0)).verdict


# ---- exact both ways


@given(quantity=EXACT, position=EXACT, at=st.decimals(min_value=10**9, max_value=10**10, places=3))
def test_what_is_written_is_read_to_the_last_digit(quantity: Decimal, position: Decimal, at: Decimal) -> None:
    said = answer(P33, verdict=False, quantity=quantity, exchange_amt=-position, created_at=at, expires_at=at)
    permit = read(payloads.body(said))
    assert (permit.quantity, permit.exchange_amt) == (quantity, -position)
    assert (permit.created_at, permit.expires_at) == (at, at)


@given(EXACT)
def test_quantities_stand_in_plain_decimal_text(quantity: Decimal) -> None:
    raw = payloads.body(answer(GOVERNOR, quantity=quantity)).decode()
    written = raw.split('"computed_qty":')[1].split(",")[0]
    assert set(written) <= set("0123456789.")
    assert Decimal(written) == quantity


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=60))
def test_no_text_can_add_a_member(reason: str) -> None:
    said = answer(GOVERNOR, verdict=False, reason=reason, context={reason: reason})
    permit = read(payloads.body(said), GOVERNOR)
    assert (permit.reason, permit.verdict) == (reason, False)


@pytest.mark.parametrize("reason", ["\\ud800", "\\u0000"])
def test_a_text_that_no_database_can_store_is_malformed(reason: str) -> None:
    raw = f'{{"granted":false,"reason":"{reason}"}}'.encode()
    with pytest.raises(Malformed):
        read(raw, GOVERNOR, all_fields=False)


def test_a_permit_that_was_read_leniently_still_lacks_what_it_lacked() -> None:
    """The same bytes are read once, by whoever is first."""
    raw = bent(account=...)
    assert read(raw, all_fields=False).account is None
    with pytest.raises(Malformed, match="account is missing"):
        read(raw)
