"""The user stream's messages: each kind becomes one typed value, anything else one refusal in words."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from quantum.exchange.answers import Malformed, parsed
from quantum.exchange.events import (
    IGNORED,
    READERS,
    AccountUpdate,
    AlgoUpdate,
    Event,
    ExchangeClose,
    Execution,
    IgnoredEvent,
    ListenKeyExpired,
    MarginCall,
    OrderUpdate,
    PositionSide,
    UnknownEvent,
    closed_by_exchange,
    read_event,
)
from quantum.exchange.types import OrderStatus, Side, Trade
from tests.exchange import samples
from tests.properties import given, st

AT_MS = samples.AT_MS


def read(body: object) -> Event:
    return read_event(json.dumps(body))


def order(**fields: Any) -> OrderUpdate:
    found = read(samples.order_update(**fields))
    assert isinstance(found, OrderUpdate)
    return found


def test_an_execution_carries_every_number_the_ledger_needs() -> None:
    assert order() == OrderUpdate(
        event_ms=AT_MS,
        transaction_ms=AT_MS - 4,
        symbol="SOLUSDT",
        client_order_id="q-67e6da21fa9fe506-1",
        order_id=770001,
        side=Side.SELL,
        position_side=PositionSide.BOTH,
        order_type="MARKET",
        execution=Execution.TRADE,
        status=OrderStatus.PARTIALLY_FILLED,
        quantity=Decimal("12.5"),
        last_quantity=Decimal("4.5"),
        cumulative_quantity=Decimal("4.5"),
        last_price=Decimal("151.0200"),
        average_price=Decimal("151.0200"),
        reduce_only=True,
        trade_id=9100017,
        realized_pnl=Decimal("-3.15000000"),
        commission=Decimal("0.33979500"),
        commission_asset="USDT",
    )
    trade = order().trade
    assert trade == Trade(
        9100017, 770001, "SOLUSDT", Side.SELL, Decimal("4.5"), Decimal("151.0200"), Decimal("-3.15"),
        Decimal("0.339795"), "USDT", AT_MS - 4,
    )  # fmt: skip
    assert trade.signed_quantity == Decimal("-4.5")


@pytest.mark.parametrize("field", ["n", "N", "rp"])
@pytest.mark.parametrize("how", ["left out", "null"])
def test_an_execution_without_its_commission_or_profit_is_known_as_one_but_is_no_trade_yet(
    field: str, how: str
) -> None:
    body = samples.order_update(**{field: None})
    if how == "left out":
        del body["o"][field]
    found = read(body)
    assert isinstance(found, OrderUpdate)
    assert found.is_execution
    assert found.trade is None


def test_a_new_order_is_no_execution() -> None:
    new = order(x="NEW", X="NEW", l="0", z="0", L="0", t=0, rp="0", n=None, N=None, AP=None, cr=None, sp=None)
    assert not new.is_execution
    assert new.trade is None


def test_an_account_update_tells_absolute_amounts_of_what_changed() -> None:
    found = read(samples.account_update())
    assert isinstance(found, AccountUpdate)
    [position] = found.positions
    assert (position.symbol, position.amount, found.reason) == ("SOLUSDT", Decimal("-8.0"), "ORDER")
    funded = read(samples.funding())
    assert isinstance(funded, AccountUpdate)
    assert funded.positions == ()
    assert funded.balances[0].change == Decimal("-0.53015")


def test_the_other_kinds_have_their_own_types() -> None:
    algo = read(samples.algo_update())
    assert isinstance(algo, AlgoUpdate)
    assert (algo.status, algo.order_id, algo.reduce_only) == ("TRIGGERED", 770009, True)
    resting = read(samples.algo_update(ai="", X="NEW"))
    assert isinstance(resting, AlgoUpdate)
    assert resting.order_id is None
    call = read(samples.margin_call())
    assert isinstance(call, MarginCall)
    assert call.symbols == ("SOLUSDT",)
    for body in (samples.trade_lite(), *samples.ignored()):
        assert read(body) == IgnoredEvent(AT_MS, body["e"])


def test_an_expired_key_is_told_and_the_key_itself_is_not_kept() -> None:
    expired = read(samples.listen_key_expired())
    assert expired == ListenKeyExpired(AT_MS)
    assert "abcdef" not in repr(expired)


def test_a_kind_nobody_told_us_of_is_named_not_guessed() -> None:
    assert read({"e": "MOON_UPDATE", "E": 7, "o": samples.ORDER_ROW}) == UnknownEvent(7, "MOON_UPDATE")
    assert read({"e": "MOON_UPDATE"}) == UnknownEvent(0, "MOON_UPDATE")


@pytest.mark.parametrize("body", samples.every_kind(), ids=lambda body: body["e"])
def test_a_message_means_the_same_wrapped_as_bytes_or_as_text(body: dict[str, Any]) -> None:
    wrapped = {"stream": "a-key", "data": body}
    assert read(wrapped) == read(body) == read_event(json.dumps(body).encode())


def test_the_samples_of_this_project_show_every_kind_that_is_read_or_ignored() -> None:
    shown = {body["e"] for body in samples.every_kind()}
    assert shown == (set(READERS) | IGNORED) - {"forceOrder"}  # the market's, not ours: recorded only


@pytest.mark.parametrize(
    ("client_id", "close"),
    [
        ("autoclose-1795000000000000001", ExchangeClose.LIQUIDATION),
        ("adl_autoclose", ExchangeClose.ADL),
        ("settlement_autoclose-1", ExchangeClose.SETTLEMENT),
        ("delivery_autoclose-1", ExchangeClose.DELIVERY),
        ("autoclosed-by-me", None),
        ("q-67e6da21fa9fe506-1", None),
    ],
)
def test_the_exchanges_own_orders_are_told_by_their_client_id(
    client_id: str, close: ExchangeClose | None
) -> None:
    assert closed_by_exchange(client_id) is close


def test_a_symbol_may_be_written_in_any_script() -> None:
    assert order(s="币安人生USDT").symbol == "币安人生USDT"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("q", "NaN"), ("q", "Infinity"), ("q", "-1"), ("q", ""), ("q", " 1"), ("q", "1_000"), ("q", "\u0661"),
        ("q", None), ("q", True), ("q", []), ("q", {}), ("q", "1e999"), ("q", "1e9999999"), ("q", "9" * 50),
        ("q", "1e-99"), ("q", "0x10"), ("rp", "NaN"), ("n", []), ("n", "free"), ("N", 5), ("l", "-0.001"),
        ("t", "9100017"), ("t", -1), ("t", 1.5), ("t", True), ("t", 2**63), ("i", None), ("T", None),
        ("s", ""), ("s", None), ("s", "SOL\nUSDT"), ("s", "\ud800"), ("s", "S" * 201), ("c", 5), ("S", "HOLD"),
        ("x", "GUESS"), ("X", "MAYBE"), ("ps", "NONE"), ("R", "true"), ("R", 1), ("R", None), ("o", None),
    ],
)  # fmt: skip
def test_one_senseless_field_refuses_the_whole_message(field: str, value: object) -> None:
    with pytest.raises(Malformed, match=rf"^{field} "):
        order(**{field: value})


@pytest.mark.parametrize(
    "field", ["s", "c", "S", "o", "q", "ap", "x", "X", "i", "l", "z", "L", "T", "t", "ps", "R"]
)
def test_an_order_update_without_a_needed_field_is_refused(field: str) -> None:
    body = samples.order_update()
    del body["o"][field]
    with pytest.raises(Malformed, match=rf"^{field} "):
        read(body)


@pytest.mark.parametrize(
    "message",
    [
        b"", b" ", b"null", b"[]", b"[1]", b"1", b'"e"', b"<html>Bad Gateway</html>", b"{", b'{"e":1}', b"{}",
        b'{"e":"ORDER_TRADE_UPDATE"}', b'{"e":"ORDER_TRADE_UPDATE","E":1,"o":[]}', b'{"stream":"x","data":[]}',
        b'{"e":"ACCOUNT_UPDATE","E":1,"T":1,"a":{"m":"ORDER","P":{}}}', b'{"e":"MARGIN_CALL","E":1,"p":[[]]}',
        b'{"e":NaN}', b"\xff\xfe\x00", b'{"e":1e99999999999999999999}', b"[" * 100_000, b"9" * 100_000,
        json.dumps({"e": "x" * 1_000_001}).encode(),
        json.dumps({"e": "MARGIN_CALL", "E": 1, "p": [{"s": "A"}] * 2001}).encode(),
    ],
    ids=lambda message: repr(message[:40]),
)  # fmt: skip
def test_what_is_no_message_is_one_refusal_with_words(message: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        read_event(message)
    assert 0 < len(str(refused.value)) < 100


ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["NaN", "1e9"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(body=ANY_JSON)
def test_arbitrary_json_never_raises_anything_but_the_refusal(body: object) -> None:
    _read_or_refuse(json.dumps(body))


@given(kind=st.sampled_from(samples.every_kind()), path=st.integers(0, 60), value=ANY_JSON)
def test_any_one_value_of_any_kind_may_be_anything(kind: dict[str, Any], path: int, value: object) -> None:
    body = json.loads(json.dumps(kind))
    rows = [row for row in _objects(body) if row]
    row = rows[path % len(rows)]
    row[sorted(row)[path % len(row)]] = value
    _read_or_refuse(json.dumps(body))


@given(message=st.binary(max_size=60))
def test_arbitrary_bytes_never_raise_anything_but_the_refusal(message: bytes) -> None:
    _read_or_refuse(message)


def _read_or_refuse(message: str | bytes) -> None:
    try:
        found = read_event(message)
    except Malformed:
        return
    if isinstance(found, OrderUpdate):
        for number in (found.quantity, found.last_quantity, found.cumulative_quantity, found.realized_pnl):
            assert number is None or number.is_finite()
            assert number is None or len(format(number, "f")) < 60


def _objects(value: object) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return [found for one in value for found in _objects(one)]
    if not isinstance(value, dict):
        return []
    return [value, *(found for one in value.values() for found in _objects(one))]


def test_a_number_too_big_for_decimal_is_not_json_to_us() -> None:
    with pytest.raises(Malformed):
        parsed(b"1e99999999999999999999")
