"""A permit as our desk writes it is read in one step, and to the same permit that the careful reader makes of it.

The careful reader is the measure: whatever the short way takes, it must take, and alike. What it alone takes may be
anything; that what our desk writes is not among that, is told by the first test and by the dry run's.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from permits.desk import payloads, straight
from permits.desk.payloads import GOVERNOR, P33, Malformed, Permit
from tests.permits.test_payloads import EXACT, answer
from tests.properties import given, st

SIGNATURE = "A-_z" * 21 + "Q0"
SEEN = Decimal("1764000000.1")


def sealed(body: bytes) -> bytes:
    return body[:-1] + f',"sig":"{SIGNATURE}"}}'.encode()


def written(gate: str, **more: Any) -> bytes:
    seen = SEEN if gate == P33 else None
    return sealed(payloads.body(answer(gate, **({"observed_at": seen, "ledger_amt": Decimal(-2)} | more))))


def with_care(raw: bytes, gate: str) -> tuple[Permit, str] | None:
    try:
        return payloads._with_care(raw, gate)
    except Malformed:
        return None


@pytest.mark.parametrize("verdict", [True, False])
@pytest.mark.parametrize("gate", [GOVERNOR, P33])
def test_what_our_desk_writes_is_read_in_one_step(gate: str, verdict: bool) -> None:
    raw = written(gate, verdict=verdict, reason="approved: [0.5] of #1, ~2")
    found = payloads._as_written(raw, gate)
    assert found is not None and found == with_care(raw, gate)
    assert found[0].verdict is verdict


def test_a_permit_that_calls_itself_consumed_is_one_both_ways() -> None:
    raw = written(GOVERNOR).replace(b'"consumed":false', b'"consumed":true')
    found = payloads._as_written(raw, GOVERNOR)
    assert found is not None and found == with_care(raw, GOVERNOR)
    assert found[0].consumed


@given(EXACT, EXACT, st.text(max_size=30), st.sampled_from([GOVERNOR, P33]))
def test_whatever_stands_in_its_places_is_the_same_permit_both_ways(
    quantity: Decimal, held: Decimal, text: str, gate: str
) -> None:
    raw = written(gate, quantity=quantity, notional=held, exchange_amt=-held, reason=text, symbol=text)
    found = payloads._as_written(raw, gate)
    assert found is None or found == with_care(raw, gate)


@given(st.data(), st.sampled_from([GOVERNOR, P33]))
def test_any_bytes_that_it_takes_are_the_same_permit_to_care(data: st.DataObject, gate: str) -> None:
    raw = data.draw(st.from_regex(straight._PATTERNS[gate], fullmatch=True))
    found = payloads._as_written(raw, gate)
    assert found is not None and found == with_care(raw, gate)


@given(st.data(), st.sampled_from([GOVERNOR, P33]))
def test_however_its_bytes_are_bent_the_short_way_takes_nothing_that_care_would_not(
    data: st.DataObject, gate: str
) -> None:
    raw = bytearray(written(gate))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from(
                [b"", b"0", b"00", b"1e5", b"-", b".", b'"', b"\\", b"\x00", b"\xff", b" ", b"\n", b","]
            )
        )
    found = payloads._as_written(bytes(raw), gate)
    assert found is None or found == with_care(bytes(raw), gate)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"safe_close_qty":0.25', '"safe_close_qty":00.25'),
        ('"safe_close_qty":0.25', '"safe_close_qty":.25'),
        ('"safe_close_qty":0.25', '"safe_close_qty":0.'),
        ('"safe_close_qty":0.25', '"safe_close_qty":25e-2'),
        ('"safe_close_qty":0.25', '"safe_close_qty":-0.25'),
        ('"safe_close_qty":0.25', f'"safe_close_qty":0.{"2" * 19}'),
        ('"exchange_position_amt":-1', f'"exchange_position_amt":-1{"0" * 15}1'),
        ('"exchange_position_amt":-1', '"exchange_position_amt":--1'),
        ('"ledger_amt":-2', '"ledger_amt":NaN'),
        ('"allow":true', '"allow":1'),
        ('"allow":true', '"allow":"true"'),
        ('"allow":true', '"allow":false,"allow":true'),
        ('"reason":"approved"', '"reason":"a","reason":"b"'),
        ('"reason":"approved"', '"reason":"\\u0000"'),
        ('"reason":"approved"', '"reason":"\\q"'),
        ('"reason":"approved"', '"reason":"\n"'),
        ('"reason":"approved"', f'"reason":"{"x" * 401}"'),
        ('"symbol":"BTCUSDT"', '"symbol":"BTC\x7fUSDT\x00"'),
        ('"v":1', '"v":NaN'),
        ('"}', '"}}'),
        ('"}', '"}\x00'),
        ('{"v"', '[{"v"'),
    ],
)
def test_what_care_finds_malformed_the_short_way_leaves_to_it(old: str, new: str) -> None:
    raw = written(P33)
    bent = raw.replace(old.encode(), new.encode())
    assert bent != raw
    assert payloads._as_written(bent, P33) is None
    assert with_care(bent, P33) is None


@pytest.mark.parametrize("gate", [GOVERNOR, P33])
def test_the_other_gates_permit_is_left_to_care(gate: str) -> None:
    other = P33 if gate == GOVERNOR else GOVERNOR
    assert payloads._as_written(written(gate), other) is None


@pytest.mark.parametrize("gate", [GOVERNOR, P33])
def test_the_longest_permit_of_the_short_way_is_one_for_care_too(gate: str) -> None:
    texts = dict.fromkeys(("plan_id", "symbol", "reason", "digest", "mode", "account", "issuer"), "x" * 400)
    most = Decimal("9" * 15 + "." + "9" * 18)
    held = {"exchange_amt": most.copy_negate(), "ledger_amt": most.copy_negate()}
    times = {"created_at": most, "expires_at": most, "observed_at": most if gate == P33 else None}
    raw = written(gate, quantity=most, notional=most, **texts, **held, **times)
    found = payloads._as_written(raw, gate)
    assert found is not None and found == with_care(raw, gate)
    assert len(raw) < payloads.BYTES_MAX


@pytest.mark.parametrize(("safe", "held"), [("50", "1"), ("1.001", "-1"), ("0", "1"), ("0.001", "0")])
def test_a_safe_quantity_that_contradicts_itself_is_malformed_on_the_short_way_too(
    safe: str, held: str
) -> None:
    raw = written(P33, quantity=Decimal(safe), exchange_amt=Decimal(held))
    assert payloads._as_written(raw, P33) is not None
    with pytest.raises(Malformed, match="safe_close_qty"):
        payloads.read(raw, gate=P33, all_fields=True)
