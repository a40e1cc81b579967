"""The picture of the exchange: reads and the stream's word put together, and what neither can say."""

from __future__ import annotations

from decimal import Decimal

import pytest

from positions.feed.picture import Heard, Picture
from quantum import clock
from quantum.exchange.events import AccountUpdate, ChangedPosition, PositionSide
from tests.drift_by_hand import reading
from tests.properties import given, st

T0 = 1_764_000_000_000


def update(at_ms: int, amount: str, *, symbol: str = "BTCUSDT", side: str = "BOTH") -> AccountUpdate:
    row = ChangedPosition(symbol, PositionSide(side), Decimal(amount), Decimal(99), Decimal(0))
    return AccountUpdate(at_ms, at_ms, "ORDER", (), (row,))


def amount(picture: Picture, symbol: str = "BTCUSDT") -> Decimal | None:
    known = picture.of(symbol)
    return known.amount if known else None


@pytest.fixture
def picture() -> Picture:
    """Read once: BTCUSDT 1, and nothing else is held."""
    picture = Picture()
    picture.take(reading(asked_ms=T0, BTCUSDT="1"), asked_boot_s=0)
    return picture


def test_before_the_first_read_nothing_is_known_whatever_the_stream_tells() -> None:
    picture = Picture()
    assert picture.hear(update(T0, "2")) == Heard()
    assert (amount(picture), amount(picture, "ETHUSDT")) == (None, None)


def test_a_newer_word_of_the_stream_counts_until_a_read_that_was_asked_for_later(picture: Picture) -> None:
    assert picture.hear(update(T0 + 5, "2")).changed == {"BTCUSDT"}
    known = picture.of("BTCUSDT")
    assert known is not None
    assert (known.amount, known.as_of_ms, known.source) == (Decimal(2), T0 + 5, "stream")
    picture.take(reading(asked_ms=T0 + 4, BTCUSDT="1"), asked_boot_s=0)
    assert amount(picture) == 2, "that read was asked for before it moved"
    picture.take(reading(asked_ms=T0 + 5, BTCUSDT="3"), asked_boot_s=0)
    assert amount(picture) == 3


def test_what_came_late_out_of_order_or_twice_does_not_turn_it_back(picture: Picture) -> None:
    for at_ms, told in ((T0 + 20, "3"), (T0 + 20, "3"), (T0 + 10, "2")):
        picture.hear(update(at_ms, told))
    assert amount(picture) == 3


def test_two_of_one_millisecond_count_in_the_order_in_which_they_come(picture: Picture) -> None:
    for told in ("3", "2"):
        picture.hear(update(T0 + 20, told))
    assert amount(picture) == 2


def test_a_word_of_about_the_moment_of_the_read_asks_for_another(picture: Picture) -> None:
    assert picture.hear(update(T0 - 3, "2")).doubtful
    assert amount(picture) == 1, "nobody guesses"
    assert not picture.hear(update(T0 - 3, "1")).doubtful, "it says the same"
    assert not picture.hear(update(T0 - 2001, "2")).doubtful, "that was certainly before"


def test_a_symbol_that_is_not_in_the_read_is_flat_and_one_the_stream_opens_is_not(picture: Picture) -> None:
    assert amount(picture, "ETHUSDT") == 0
    heard = picture.hear(update(T0 + 5, "-4", symbol="ETHUSDT"))
    assert heard == Heard(frozenset({"ETHUSDT"}), doubtful=True), "its mark price must be read"
    known = picture.of("ETHUSDT")
    assert known is not None
    assert known.position is not None
    assert known.position.mark_price == 99, "until then, what it was opened at"
    picture.take(reading(asked_ms=T0 + 9, BTCUSDT="1"), asked_boot_s=0)
    assert amount(picture, "ETHUSDT") == 0


def test_hedge_mode_is_seen_by_any_row_and_changes_nothing(picture: Picture) -> None:
    assert picture.hear(update(T0 + 5, "2", side="LONG")) == Heard(hedged=True)
    assert amount(picture) == 1


def test_what_only_a_read_showed_is_held_against_the_stream_once(picture: Picture) -> None:
    picture.take(reading(asked_ms=T0 + 4000, BTCUSDT="2"), asked_boot_s=0)
    assert picture.untold_since_ms(now_ms=T0 + 5000) is None, "it may be on its way"
    assert picture.untold_since_ms(now_ms=T0 + 6001) == T0, "it moved after the read before"
    assert picture.untold_since_ms(now_ms=T0 + 9000) is None


def test_a_position_that_a_read_no_longer_shows_is_held_against_it_too(picture: Picture) -> None:
    picture.take(reading(asked_ms=T0 + 4000), asked_boot_s=0)
    assert picture.untold_since_ms(now_ms=T0 + 6001) == T0


@pytest.mark.parametrize("at_ms", [T0 - 3, T0 + 3, T0 + 3999])
def test_what_the_stream_told_is_not_held_against_it(picture: Picture, at_ms: int) -> None:
    """Before the read that shows it, as new or as doubtful."""
    picture.hear(update(at_ms, "2"))
    picture.take(reading(asked_ms=T0 + 4000, BTCUSDT="2"), asked_boot_s=0)
    assert picture.untold_since_ms(now_ms=T0 + 9000) is None


def test_nor_what_it_tells_after_the_read_nor_what_it_had_no_chance_to_tell(picture: Picture) -> None:
    picture.take(reading(asked_ms=T0 + 4000, BTCUSDT="2"), asked_boot_s=0)
    picture.hear(update(T0 + 3990, "2"))
    assert picture.untold_since_ms(now_ms=T0 + 9000) is None
    picture.missed()
    picture.take(reading(asked_ms=T0 + 9000, BTCUSDT="5"), asked_boot_s=0)
    assert picture.untold_since_ms(now_ms=T0 + 19000) is None
    picture.take(reading(asked_ms=T0 + 19000, BTCUSDT="6"), asked_boot_s=0)
    assert picture.untold_since_ms(now_ms=T0 + 29000) == T0 + 9000


@given(st.permutations(range(6)), st.lists(st.integers(0, 5), max_size=6))
def test_each_word_told_once_or_twice_in_any_order_ends_with_the_newest(
    order: list[int], again: list[int]
) -> None:
    picture = Picture()
    picture.take(reading(asked_ms=T0, BTCUSDT="1"), asked_boot_s=0)
    for number in [*order, *again]:
        picture.hear(update(T0 + 1 + number, str(number)))
    assert amount(picture) == 5


def test_while_it_cannot_be_told_whether_a_read_has_it_the_amount_is_of_the_moment_before(
    picture: Picture,
) -> None:
    """In either order: the word before the read's answer, or after it. Only a later read settles it."""
    picture.hear(update(T0, "2"))
    known = picture.of("BTCUSDT")
    assert known is not None
    assert (known.amount, known.as_of_ms, known.again_ms) == (Decimal(1), T0 - 1, T0 + 1)
    picture.take(reading(asked_ms=T0 + 1, BTCUSDT="2"), asked_boot_s=0)
    known = picture.of("BTCUSDT")
    assert known is not None
    assert (known.amount, known.as_of_ms, known.again_ms) == (Decimal(2), T0 + 1, 0)

    picture.hear(update(T0 + 5, "3"))
    picture.take(reading(asked_ms=T0 + 5, BTCUSDT="2"), asked_boot_s=0)
    known = picture.of("BTCUSDT")
    assert known is not None
    assert (known.amount, known.as_of_ms, known.again_ms) == (Decimal(2), T0 + 4, T0 + 6)
    assert picture.untold_since_ms(now_ms=T0 + 9000) is None
    picture.hear(update(T0 + 6, "3"))
    known = picture.of("BTCUSDT")
    assert known is not None
    assert (known.amount, known.again_ms) == (Decimal(3), 0), "a newer word settles it too"


def test_what_the_read_shows_as_well_or_was_heard_before_it_was_asked_for_is_no_doubt(
    picture: Picture,
) -> None:
    picture.hear(update(T0 + 5, "2"))
    picture.take(reading(asked_ms=T0 + 5, BTCUSDT="2"), asked_boot_s=0)
    assert not picture.doubtful
    picture.hear(update(T0 + 9, "3"))
    picture.take(reading(asked_ms=T0 + 9, BTCUSDT="2"), asked_boot_s=clock.boot_s() + 1)
    assert not picture.doubtful
