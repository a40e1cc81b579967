"""Leaving a halt takes more than entering it: a confirmation, a delay, a second person, or three clocks."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import Permission

from permits.models import TradingState
from permits.state import resuming, trading
from permits.state.resuming import EndOfHalt, Refused
from permits.state.trading import Scope, State
from quantum import clock
from quantum.models import AuditEvent
from quantum.redis import Client
from tests.unguarded import unguarded

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture(autouse=True)
def halted(db: None) -> TradingState:
    trading.change(state=State.ACTIVE, by="nina", reason="all is well")
    return trading.halt(cause="person", by="omar", reason="looks odd", scope=Scope.EVERYTHING)


def request(by: str = "nina", *, s_ago: float = 10) -> None:
    assert isinstance(resuming.request(by=by, reason="it was a false alarm"), TradingState)
    asked = AuditEvent.objects.filter(kind="resume_requested").latest("id")
    with unguarded():
        AuditEvent.objects.filter(pk=asked.pk).update(at=clock.now() - dt.timedelta(seconds=s_ago))


def confirm(by: str = "nina", *, account: str | None = None) -> TradingState | Refused:
    account = django_settings.ACCOUNT if account is None else account
    return resuming.confirm(by=by, reason="it was a false alarm", account=account)


def why_not(answer: TradingState | Refused) -> str:
    assert isinstance(answer, Refused)
    assert not trading.current().active
    return answer.text


def test_one_person_asks_and_confirms_after_the_delay() -> None:
    request()
    made = confirm()
    assert isinstance(made, TradingState)
    assert (made.version, made.state, made.by) == (3, "ACTIVE", "nina")


def test_a_confirmation_within_the_delay_is_refused() -> None:
    request(s_ago=resuming.DELAY_S - 0.5)
    assert "ask first" in why_not(confirm())


def test_nobody_resumes_without_asking() -> None:
    assert "ask first" in why_not(confirm())


def test_a_request_is_forgotten_after_a_quarter_of_an_hour() -> None:
    request(s_ago=901)
    assert "ask first" in why_not(confirm())


@pytest.mark.parametrize("typed", ["", "MAIN ", "other"])
def test_the_account_must_be_typed(typed: str) -> None:
    request()
    assert django_settings.ACCOUNT in why_not(confirm(account=typed))


def test_a_request_is_for_the_version_it_saw() -> None:
    """A halt was left and a new one came: the old request does not leave that."""
    request()
    trading.change(state=State.ACTIVE, by="nina", reason="all is well")
    trading.halt(cause="person", by="omar", reason="now really")
    assert "ask first" in why_not(confirm())


def test_another_cause_after_the_request_must_be_looked_at() -> None:
    request()
    trading.halt(cause="tampering", by="apply", reason="strange bytes", scope=Scope.AUTOMATIC)
    assert "another cause" in why_not(confirm())


def test_another_cause_told_by_a_host_whose_clock_is_behind_must_be_looked_at() -> None:
    """nina asks by her host's clock; apply, half a minute behind, finds strange bytes after that."""
    request()
    trading.halt(cause="tampering", by="apply", reason="strange bytes", scope=Scope.AUTOMATIC)
    with unguarded():
        AuditEvent.objects.filter(kind="halt_repeated").update(at=clock.now() - dt.timedelta(seconds=30))
    assert "another cause" in why_not(confirm())


def test_a_cause_that_was_there_before_the_request_was_looked_at() -> None:
    trading.halt(cause="tampering", by="apply", reason="strange bytes", scope=Scope.AUTOMATIC)
    with unguarded():
        AuditEvent.objects.filter(kind="halt_repeated").update(at=clock.now() - dt.timedelta(seconds=60))
    request()
    assert isinstance(confirm(), TradingState)


def test_a_cause_told_by_a_host_whose_clock_is_ahead_is_not_another_one_for_an_hour() -> None:
    """It was there before nina asked, and she was shown it."""
    trading.halt(cause="tampering", by="apply", reason="strange bytes", scope=Scope.AUTOMATIC)
    with unguarded():
        AuditEvent.objects.filter(kind="halt_repeated").update(at=clock.now() + dt.timedelta(hours=1))
    request()
    assert isinstance(confirm(), TradingState)


def test_what_is_not_halted_cannot_be_resumed() -> None:
    trading.change(state=State.ACTIVE, by="nina", reason="all is well")
    assert isinstance(resuming.request(by="nina", reason="once more"), Refused)
    answer = confirm()
    assert isinstance(answer, Refused)
    assert trading.current().version == 3


def test_a_halt_that_comes_while_a_resume_is_confirmed_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    request()
    may_confirm = resuming._may_confirm

    def halted_meanwhile(asked: AuditEvent, by: str) -> bool:
        TradingState.objects.create(version=3, state=State.HALTED, by="omar", reason="wider")
        return may_confirm(asked, by)

    monkeypatch.setattr(resuming, "_may_confirm", halted_meanwhile)
    assert "changed meanwhile" in why_not(confirm())


@pytest.mark.parametrize("same", ["nina", "Nina", " NINA "])
def test_where_two_are_required_nobody_confirms_his_own_request(settings: Any, same: str) -> None:
    settings.APPROVERS_REQUIRED = 2
    request("nina")
    assert "another person" in why_not(confirm(same))


def test_where_two_are_required_the_second_confirms_at_once(settings: Any) -> None:
    settings.APPROVERS_REQUIRED = 2
    request("nina", s_ago=0)
    request("omar", s_ago=0)
    assert isinstance(confirm("omar"), TradingState)


def test_halting_and_resuming_are_permissions_of_their_own() -> None:
    found = set(
        Permission.objects.filter(content_type__app_label="permits").values_list("codename", flat=True)
    )
    assert {"halt", "resume", "place", "lift"} <= found


# ---- a halt that was given an end


class Clocks:
    """This host's wall clock, the time since boot, and Redis' clock, each moved alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall_s, self.boot_s, self.server_s = 1_000_000.0, 5_000.0, 1_000_000.0
        monkeypatch.setattr(clock, "now", lambda: dt.datetime.fromtimestamp(self.wall_s, dt.UTC))
        monkeypatch.setattr(clock, "boot_s", lambda: self.boot_s)

    def pass_s(self, seconds: float) -> None:
        self.wall_s += seconds
        self.boot_s += seconds
        self.server_s += seconds

    def time(self) -> tuple[int, int]:
        """As Redis answers TIME."""
        return int(self.server_s), 0


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


@pytest.fixture
def duty(clocks: Clocks) -> EndOfHalt:
    """At work since before the halt for an hour, which is the newest version."""
    duty = EndOfHalt(client=clocks)
    trading.change(state=State.ACTIVE, by="nina", reason="all is well")
    until = clock.now() + dt.timedelta(hours=1)
    trading.halt(cause="person", by="omar", reason="lunch", scope=Scope.EVERYTHING, until=until)
    duty.tick()
    return duty


def test_a_halt_ends_as_it_said_by_a_version_of_its_own(duty: EndOfHalt, clocks: Clocks) -> None:
    clocks.pass_s(3599)
    duty.tick()
    assert not trading.current().active
    clocks.pass_s(2)
    assert not trading.current().active, "a clock alone arms nothing"
    duty.tick()
    row = trading.newest()
    assert row is not None
    assert (row.version, row.state, row.by, row.cause) == (5, "ACTIVE", "until", "until")


@pytest.mark.parametrize("which", ["wall_s", "boot_s", "server_s"])
def test_a_jump_of_one_clock_ends_no_halt(duty: EndOfHalt, clocks: Clocks, which: str) -> None:
    clocks.pass_s(10)
    setattr(clocks, which, getattr(clocks, which) + 100_000)
    duty.tick()
    assert not trading.current().active


@pytest.mark.parametrize("which", ["wall_s", "boot_s", "server_s"])
def test_a_clock_that_is_behind_keeps_the_halt(duty: EndOfHalt, clocks: Clocks, which: str) -> None:
    clocks.pass_s(3700)
    setattr(clocks, which, getattr(clocks, which) - 1000)
    duty.tick()
    assert not trading.current().active


def test_a_jump_of_both_wall_clocks_ends_no_halt(duty: EndOfHalt, clocks: Clocks) -> None:
    """Redis on the same host: the time since boot is what is left."""
    clocks.wall_s += 100_000
    clocks.server_s += 100_000
    duty.tick()
    assert not trading.current().active


def test_a_halt_without_an_end_is_never_ended(duty: EndOfHalt, clocks: Clocks) -> None:
    trading.halt(cause="person", by="omar", reason="longer", scope=Scope.EVERYTHING)
    duty.tick()
    clocks.pass_s(1_000_000)
    duty.tick()
    assert not trading.current().active


def test_a_person_who_halts_in_the_last_moment_wins(
    duty: EndOfHalt, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks.pass_s(3700)
    time = clocks.time

    def halted_meanwhile() -> tuple[int, int]:
        trading.halt(cause="person", by="nina", reason="not yet", scope=Scope.EVERYTHING)
        return time()

    monkeypatch.setattr(clocks, "time", halted_meanwhile)
    duty.tick()
    assert not trading.current().active


def test_what_is_active_is_left_alone(redis: Client) -> None:
    trading.change(state=State.ACTIVE, by="nina", reason="all is well")
    EndOfHalt(client=redis).tick()
    assert trading.current().version == 3
