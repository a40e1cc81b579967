"""The trading state: halts only ever add, forged bytes fall, and Redis never knows better than the database."""

from __future__ import annotations

import datetime as dt
import threading
from typing import Any

import pytest
from django.db import Error as DatabaseError
from django.db import connection

from permits.models import TradingState
from permits.state import trading
from permits.state.trading import Scope, State, StateChanged
from quantum import clock
from quantum.models import AuditEvent

pytestmark = pytest.mark.usefixtures("db")

MINUTE = dt.timedelta(minutes=1)


def activate() -> TradingState:
    return trading.change(state=State.ACTIVE, by="nina", reason="all is well")


def halt(**more: Any) -> TradingState:
    return trading.halt(**{"cause": "person", "by": "omar", "reason": "looks odd", **more})


def standing() -> tuple[int, str, str, dt.datetime | None]:
    row = trading.newest()
    assert row is not None
    return row.version, row.state, row.scope, row.until


def events(kind: str) -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(kind=kind).order_by("id"))


# ---- first start


@pytest.mark.parametrize(
    ("mode", "first"),
    [("paper", "ACTIVE"), ("dry_run", "ACTIVE"), ("testnet", "ACTIVE"), ("live", "HALTED")],
)
def test_the_first_start_is_active_but_in_live(settings: Any, mode: str, first: str) -> None:
    settings.APPLY_MODE = mode
    trading.ensure_first_state()
    trading.ensure_first_state()
    assert standing()[:3] == (1, first, "everything")


def test_a_first_start_never_undoes_a_halt() -> None:
    halt()
    trading.ensure_first_state()
    assert not trading.current().active


# ---- one call to halt


def test_a_halt_is_a_version_with_its_cause_and_an_event() -> None:
    activate()
    row = halt(cause="tampering", by="apply", reason="strange bytes")
    assert (row.version, row.state, row.scope, row.cause) == (2, "HALTED", "automatic", "tampering")
    assert events("trading_halted")[0].data == {"version": 2, "scope": "automatic", "cause": "tampering"}


def test_halting_where_no_state_was_ever_set_works() -> None:
    assert halt().version == 1


def test_a_second_cause_is_an_event_and_no_new_version() -> None:
    activate()
    halt(cause="tampering", by="apply")
    row = halt(cause="rejected_account", by="apply", reason="key refused")
    halt(cause="rejected_account", by="apply", reason="key refused")
    assert (row.version, row.cause) == (2, "tampering")
    assert [event.data["cause"] for event in events("halt_repeated")] == ["rejected_account"]


def test_the_same_cause_again_is_nothing_new() -> None:
    activate()
    for _ in range(3):
        halt(cause="tampering", by="apply")
    assert standing()[0] == 2
    assert not events("halt_repeated")


def test_every_word_of_a_person_is_recorded() -> None:
    activate()
    for _ in range(3):
        halt(cause="person", by="omar")
    assert standing()[0] == 2
    assert [event.actor for event in events("halt_repeated")] == ["omar", "omar"]


def test_an_automatic_halt_never_narrows_a_persons() -> None:
    activate()
    halt(scope=Scope.EVERYTHING, by="omar")
    halt(cause="tampering", by="apply", scope=Scope.AUTOMATIC)
    assert standing()[:3] == (2, "HALTED", "everything")


def test_a_person_widens_an_automatic_halt() -> None:
    activate()
    halt(cause="tampering", by="apply", scope=Scope.AUTOMATIC)
    halt(scope=Scope.EVERYTHING, by="omar")
    assert standing()[:3] == (3, "HALTED", "everything")


def test_an_old_row_of_unknown_scope_is_never_narrowed() -> None:
    TradingState.objects.create(version=1, state="HALTED", scope="old word", by="x", reason="y")
    assert trading.current().lets_pass(by_operator=True) is False
    halt(scope=Scope.AUTOMATIC)
    assert standing()[:3] == (1, "HALTED", "old word")


@pytest.mark.parametrize(
    ("first_min", "second_min", "end_min"), [(5, 60, 60), (60, 5, 60), (5, None, None), (None, 5, None)]
)
def test_a_second_halt_moves_the_end_only_further_away(
    first_min: int | None, second_min: int | None, end_min: int | None
) -> None:
    """Or a halt that was made for ever could be left by halting for a minute."""
    now = clock.now()
    first, second, end = (
        None if each is None else now + each * MINUTE for each in (first_min, second_min, end_min)
    )
    activate()
    halt(until=first)
    halt(until=second)
    assert standing()[3] == end


def test_two_people_halting_at_once_make_one_halt_of_both(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    activate()
    gun, errors = threading.Barrier(2), []

    def person(scope: TradingState.Scope) -> None:
        gun.wait(5)
        try:
            halt(scope=scope, by=scope.value)
        except DatabaseError as error:
            errors.append(error)
        connection.close()

    threads = [threading.Thread(target=person, args=(scope,)) for scope in Scope]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not errors
    assert standing()[1:3] == ("HALTED", "everything")


def test_a_halt_wins_against_a_change_that_was_made_on_what_it_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Omar halts while Nina's resume, decided on version 1, is on its way: she is told to look again."""
    activate()
    halt()
    with pytest.raises(StateChanged):
        trading.change(state=State.ACTIVE, by="nina", reason="all is well", on=1)
    assert standing()[:2] == (2, "HALTED")


def test_a_halt_that_meets_a_resume_halts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was going to add nothing to the halt that stood; that halt is left in the same moment."""
    activate()
    halt()
    told_again = trading._told_again
    left: list[TradingState] = []

    def leaves(row: TradingState, **more: str) -> bool:
        if not left:
            left.append(activate())
        return told_again(row, **more)

    monkeypatch.setattr(trading, "_told_again", leaves)
    halt(cause="rejected_account", by="apply")
    assert standing()[:2] == (4, "HALTED")


def test_a_change_that_lost_the_race_for_its_version_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    activate()
    halt()
    create = TradingState.objects.create

    def slow(**fields: Any) -> TradingState:
        return create(**{**fields, "version": 2})

    monkeypatch.setattr(TradingState.objects, "create", slow)
    with pytest.raises(StateChanged):
        activate()
