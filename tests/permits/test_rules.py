"""Rules are read strictly: nonsense is refused, and the refusal says what would be right."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

import pytest

from permits.policy import rules
from permits.policy.rules import Nonsense

GOOD: dict[str, Any] = {
    "allowlist": ["BTCUSDT", "ETHUSDT"],
    "total": {"permits_per_5min": 10, "permits_per_hour": 60, "notional_per_day_usd": "50000"},
    "each": {"cooldown_s": "15", "failures_in_a_row": 5},
    "symbols": {"ETHUSDT": {"cooldown_s": None, "quantity_per_day": "12.5"}},
}


def test_good_rules_are_read_exactly() -> None:
    read = rules.read(GOOD)
    assert read.allowlist == {"BTCUSDT", "ETHUSDT"}
    assert read.limits.total.permits_per_5min == 10
    assert read.limits.of("BTCUSDT").cooldown_s == Decimal(15)
    own = read.limits.of("ETHUSDT")
    assert (own.cooldown_s, own.quantity_per_day, own.failures_in_a_row) == (None, Decimal("12.5"), 5)
    assert read.shadow is None


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"total": {"permits_per_5min": 0}}, "from 1 to 1000000; to stop exits, halt them"),
    ({"total": {"permits_per_5min": -1}}, "a whole number"),
    ({"total": {"permits_per_5min": "1.5"}}, "a whole number"),
    ({"total": {"permits_per_5min": True}}, "a whole number"),
    ({"total": {"permits_per_5min": 1.0}}, "a whole number"),
    ({"total": {"notional_per_day_usd": "NaN"}}, "a plain decimal number, as text"),
    ({"total": {"notional_per_day_usd": "Infinity"}}, "a plain decimal number"),
    ({"total": {"notional_per_day_usd": "1e5"}}, "a plain decimal number"),
    ({"total": {"notional_per_day_usd": 50000.5}}, "as text"),
    ({"total": {"notional_per_day_usd": "0"}}, "to stop exits, halt them"),
    ({"each": {"quantity_per_day": "0"}}, "to stop exits, halt them"),
    ({"each": {"cooldown_s": "-1"}}, "from 0 to 3600"),
    ({"each": {"circuit_open_s": None}}, "cannot be none"),
    ({"each": {"max_exits": 5}}, "unknown limit; known are permits_per_5min"),
    ({"total": {"quantity_per_day": "5"}}, "coins of different symbols do not add up"),
    ({"total": {"permits_per_5min": 61, "permits_per_hour": 60}}, "make it 61 or more"),
    ({"allowlist": []}, "must name at least one symbol"),
    ({"allowlist": ["btcusdt"]}, "is no symbol"),
    ({"allowlist": "BTCUSDT"}, "must be a list"),
    ({"symbols": {"BTC USDT": {}}}, "is no symbol"),
    ({"symbols": {"ETHUSDT": {"permits_per_5min": 5, "permits_per_hour": 4}}}, "ETHUSDT.permits_per_hour"),
    ({"symbols": []}, "must be an object"),
    ({"total": []}, "must be an object of limits"),
    ({"limits": {}}, "limits: unknown"),
    ({"shadow": {"total": {"permits_per_5min": 0}}}, "shadow.total.permits_per_5min"),
    ({"shadow": {"allowlist": []}}, "shadow."),
    ({"approval_symbols": ["?"]}, "is no symbol"),
]


@pytest.mark.parametrize(("wrong", "says"), WRONG, ids=lambda part: str(part)[:50])
def test_nonsense_is_refused_with_what_would_be_right(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(Nonsense) as refused:
        rules.read({**copy.deepcopy(GOOD), **wrong})
    assert says in str(refused.value)


@pytest.mark.parametrize("wrong", [None, [], "x", 5])
def test_what_is_no_object_is_refused(wrong: object) -> None:
    with pytest.raises(Nonsense):
        rules.read(wrong)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(Nonsense) as refused:
        rules.read({"allowlist": [], "total": {"permits_per_5min": 0, "x": 1}})
    assert len(refused.value.problems) == 3


def test_a_hole_between_each_and_one_symbol_is_found() -> None:
    """The symbol's hourly limit alone is fine; with the burst limit of each it is not."""
    with pytest.raises(Nonsense, match="permits_per_hour"):
        rules.read(
            {**GOOD, "each": {"permits_per_5min": 10}, "symbols": {"BTCUSDT": {"permits_per_hour": 5}}}
        )


# ---- single changes


def test_words_change_one_limit_and_leave_the_rest() -> None:
    after = rules.changed(GOOD, ["permits_per_5min=20", "each.cooldown_s=none"])
    assert rules.difference(GOOD, after) == {
        "total.permits_per_5min": [10, "20"],
        "each.cooldown_s": ["15", None],
    }
    assert GOOD["total"]["permits_per_5min"] == 10


def test_a_symbol_gets_a_limit_of_its_own_and_loses_it_again() -> None:
    after = rules.changed(GOOD, ["quantity_per_day=3"], symbol="BTCUSDT")
    assert rules.read(after).limits.of("BTCUSDT").quantity_per_day == 3
    back = rules.changed(after, ["quantity_per_day=default"], symbol="BTCUSDT")
    assert rules.read(back).limits.of("BTCUSDT").quantity_per_day is None


def test_a_shadow_rule_stands_beside_the_limits() -> None:
    read = rules.read(rules.changed(GOOD, ["permits_per_5min=2"], shadow=True))
    assert read.limits.total.permits_per_5min == 10
    assert read.shadow is not None
    assert read.shadow.total.permits_per_5min == 2


def test_the_allow_list_is_given_whole() -> None:
    assert rules.changed(GOOD, ["allowlist=SOLUSDT, BTCUSDT"])["allowlist"] == ["BTCUSDT", "SOLUSDT"]


def test_who_adds_a_symbol_to_the_allow_list_forgets_no_other_by_it() -> None:
    assert rules.changed(GOOD, ["allowlist=+SOLUSDT"])["allowlist"] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    assert rules.changed(GOOD, ["allowlist=+SOLUSDT, -BTCUSDT"])["allowlist"] == ["ETHUSDT", "SOLUSDT"]


@pytest.mark.parametrize(
    ("words", "more"),
    [
        (["permits_per_5min"], {}),
        (["=5"], {}),
        (["quantity_per_day=5"], {}),
        (["permits_per_5min=61"], {}),
        (["permits_per_5min=nan"], {}),
        (["allowlist=none"], {}),
        (["allowlist=+SOLUSDT,BTCUSDT"], {}),
        (["allowlist=-SOLUSDT"], {}),
        (["allowlist=-BTCUSDT,-ETHUSDT"], {}),
        (["allowlist=BTCUSDT"], {"symbol": "BTCUSDT"}),
        (["allowlist=BTCUSDT"], {"shadow": True}),
        (["cooldown_s=5"], {"symbol": "btc"}),
        (["each.nothing=5"], {}),
    ],
)
def test_words_that_make_nonsense_are_refused(words: list[str], more: dict[str, Any]) -> None:
    with pytest.raises(Nonsense):
        rules.changed(GOOD, words, **more)


# ---- what is left to operators


def test_what_is_left_to_operators_is_said_word_by_word_and_taken_back() -> None:
    after = rules.changed(GOOD, ["operator.gates=governor, p33", "operator.max_notional=50000"])
    after = rules.changed(after, ["operator.max_quantity=1.5"], symbol="BTCUSDT")
    assert after["operator"] == {
        "gates": ["governor", "p33"],
        "max_notional": "50000",
        "max_quantity": {"BTCUSDT": "1.5"},
    }
    after = rules.changed(after, ["operator.gates=none", "operator.max_notional=none"])
    assert after["operator"] == {"max_quantity": {"BTCUSDT": "1.5"}}


@pytest.mark.parametrize(
    ("word", "symbol"),
    [
        ("operator.gates=apply", ""),
        ("operator.max_notional=-1", ""),
        ("operator.max_notional=5", "BTCUSDT"),
        ("operator.max_quantity=5", ""),
        ("operator.max_quantity=lots", "BTCUSDT"),
        ("operator.everything=1", ""),
    ],
)
def test_nonsense_about_operators_is_refused(word: str, symbol: str) -> None:
    with pytest.raises(Nonsense, match="operator"):
        rules.changed(GOOD, [word], symbol=symbol)


def test_the_governor_reads_rules_that_leave_something_to_operators() -> None:
    assert rules.read({**GOOD, "operator": {"gates": ["p33"]}}).allowlist == {"BTCUSDT", "ETHUSDT"}
