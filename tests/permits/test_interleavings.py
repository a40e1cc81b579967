"""Interleavings of the gate, the state and a revocation that a reviewer found: each was wrong once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, cast

import pytest
from django.conf import settings as django_settings
from django.db import OperationalError, connection
from pytest_django.fixtures import Settings
from redis.exceptions import TimeoutError as RedisTimeoutError

from apply.acting.mirror import MirrorEnded, StateMirror
from permits.gate.attempt import Attempt
from permits.gate.gate import Gate
from permits.gate.judge import Judge
from permits.gate.outcome import Blocked, SpentPair
from permits.gate.spending import Hint, Spending
from permits.models import TradingState
from permits.policy import operator_rules
from permits.policy.operator_rules import Operators
from permits.state import holds, resuming, trading
from permits.state.resuming import Refused
from permits.state.trading import State
from quantum import clock
from quantum.redis import Client
from quantum.signing import Verifier
from tests.house import House
from tests.permits.conftest import ACTIVE, outcome_of
from tests.permits.conftest import State as Database
from tests.permits_by_hand import GOVERNOR, P33, lay_both, permit

# ---- a halt while a resume is confirmed


@pytest.mark.django_db(transaction=True)
def test_a_halt_told_again_while_a_resume_is_confirmed_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resume has looked and found no other halt, the halt has looked and found no resume: both say done."""
    trading.change(state=State.ACTIVE, by="nina", reason="all is well")
    trading.halt(cause="person", by="omar", reason="looks odd")
    monkeypatch.setattr(resuming, "DELAY_S", 0.0)
    resuming.request(by="nina", reason="it was a false alarm")
    change = trading.change

    def halts() -> None:
        trading.halt(cause="person", by="omar", reason="and now it is worse")
        connection.close()

    omar = threading.Thread(target=halts)

    def slowly(*, state: TradingState.State, **said: Any) -> Any:
        if state == State.ACTIVE:
            omar.start()
            omar.join(0.4)
        return change(state=state, **said)

    monkeypatch.setattr(trading, "change", slowly)
    resuming.confirm(by="nina", reason="it was a false alarm", account=django_settings.ACCOUNT)
    omar.join(5)
    assert not omar.is_alive()
    assert not trading.current().active, "omar was told that trading is halted"


@pytest.mark.django_db
def test_a_halt_told_again_before_the_confirmation_still_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "DELAY_S", 0.0)
    trading.halt(cause="person", by="omar", reason="looks odd")
    resuming.request(by="nina", reason="it was a false alarm")
    trading.halt(cause="person", by="omar", reason="and now it is worse")
    answer = resuming.confirm(by="nina", reason="a false alarm", account=django_settings.ACCOUNT)
    assert isinstance(answer, Refused)


# ---- a database that was down while a wait read it


@pytest.mark.django_db
@pytest.mark.parametrize("what", ["state", "hold", "rule"])
def test_a_waiter_whose_database_failed_keeps_no_broken_connection(
    redis: Client, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Its thread serves later plans: with a connection kept that broke, each of them would fail too."""

    def down(**_: Any) -> Any:
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(trading, "current", down)
    monkeypatch.setattr(holds, "allowed", down)
    monkeypatch.setattr(operator_rules, "current", down)
    mirror = StateMirror(stopping=lambda: True)
    asked: dict[str, Callable[[], Any]] = {
        "state": lambda: mirror.state(fresh=True),
        "hold": lambda: mirror.hold(hold_id=1, symbol="BTCUSDT"),
        "rule": mirror.operator_rule,
    }
    closed: list[bool] = []
    monkeypatch.setattr(connection, "close", lambda: closed.append(True))
    with pytest.raises(OperationalError):
        asked[what]()
    assert closed


# ---- a mirror that ended


def test_a_mirror_that_ended_by_itself_ends_its_role(redis: Client) -> None:
    """Without it the lease lapses and nothing passes again, while the role reads, blocks and looks well."""
    stopping = threading.Event()
    stopping.set()
    mirror = StateMirror(stopping=stopping.is_set)
    mirror.start()
    mirror.join(5)
    mirror.check()
    stopping.clear()
    with pytest.raises(MirrorEnded):
        mirror.check()


def test_apply_looks_after_its_mirror(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = threading.Event()
    monkeypatch.setattr(StateMirror, "check", lambda _: looked.set())
    house.start("apply")
    assert looked.wait(5)


# ---- an answer that was lost


class Line:
    """A server whose first spend is answered to nobody, and is run later than the second one is refused."""

    def __init__(self, governor: bytes, p33: bytes) -> None:
        self.pair = (governor, p33)
        self.spends = 0

    def wake(self, _plan: object, *, within_ms: float) -> Hint | None:
        return Hint(clock.now_ms(), *self.pair)

    def consume(self, _plan: object, *, pair: tuple[bytes, bytes], **_: Any) -> list[Any]:
        if pair == (b"", b""):
            return [0, b"unverified", 50, 50, *self.pair, clock.now_ms(), ACTIVE.raw]
        self.spends += 1
        if self.spends == 1:
            raise RedisTimeoutError("no answer")
        if self.spends == 2:
            return [0, b"symbol_busy", 50, 50, *self.pair, clock.now_ms(), ACTIVE.raw]
        return [1, clock.now_ms(), *self.pair]


def test_a_receipt_of_a_call_whose_answer_was_lost_is_as_old_as_that_call(
    keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost, overtaken by a call that was refused, then run: frozen before the third call we would think it fresh."""
    boot_s = [1000.0]
    monkeypatch.setattr(clock, "boot_s", lambda: boot_s[0])
    plan = House.make()
    line = cast("Spending", Line(permit(plan, GOVERNOR), permit(plan, P33)))
    judge = Judge(
        Verifier(directory=django_settings.PERMIT_KEYS_DIR),
        operators=Operators(client=None, read=lambda: None),
    )
    attempt = Attempt(plan, spending=line, judge=judge, state=Database(), hold=holds.allowed)
    assert attempt.turn(10) is None
    assert attempt.turn(10) is None
    boot_s[0] += 60
    spent = attempt.turn(10)
    assert isinstance(spent, SpentPair)
    assert spent.consumed_boot_s <= 1000.0, "a spend of a minute ago passes for one of now"


class LateLine(Line):
    """A server that stands still over the deadline: its answers come, and tell its time of then."""

    def __init__(self, governor: bytes, p33: bytes, *, late: str) -> None:
        super().__init__(governor, p33)
        self._late = late

    def wake(self, plan: object, *, within_ms: float) -> Hint | None:
        if self._late != "wake-up":
            return None
        time.sleep(0.15)
        return super().wake(plan, within_ms=within_ms)

    def consume(self, _plan: object, *, pair: tuple[bytes, bytes], **_: Any) -> list[Any]:
        if pair == (b"", b""):
            time.sleep(0.15 if self._late == "look" else 0)
            return [0, b"unverified", 50, 50, *self.pair, clock.now_ms(), ACTIVE.raw]
        self.spends += 1
        return [1, clock.now_ms()]


@pytest.mark.parametrize(("late", "reason"), [("look", "redis_unavailable"), ("wake-up", "expired_permit")])
def test_a_pair_that_is_told_after_the_deadline_is_not_spent(
    keys: None, settings: Settings, late: str, reason: str
) -> None:
    settings.APPLY_PERMIT_WAIT_MS = 100
    plan = House.make()
    line = LateLine(permit(plan, GOVERNOR), permit(plan, P33), late=late)
    judge = Judge(
        Verifier(directory=django_settings.PERMIT_KEYS_DIR),
        operators=Operators(client=None, read=lambda: None),
    )
    spending = cast("Spending", line)
    attempt = Attempt(plan, spending=spending, judge=judge, state=Database(), hold=holds.allowed)
    outcome = attempt.turn(10)
    assert isinstance(outcome, Blocked)
    assert (line.spends, outcome.reason) == (0, reason)


# ---- keys of a stranger's making


def test_a_wake_up_of_another_type_costs_no_exit(gate: Gate, redis: Client, settings: Settings) -> None:
    settings.APPLY_PERMIT_WAIT_MS = 1200
    plan = House.make()
    redis.set(django_settings.KEYS.wake(plan.plan_id), "strange")
    redis.set(django_settings.KEYS.governor_permit(plan.plan_id), permit(plan, GOVERNOR), px=60_000)
    redis.set(django_settings.KEYS.p33_permit(plan.plan_id), permit(plan, P33), px=60_000)
    spent = outcome_of(gate, plan)
    assert isinstance(spent, SpentPair)
    assert spent.wait_ms < 600, "only the last look of the wait found them"
    assert not redis.exists(django_settings.KEYS.wake(plan.plan_id))


@pytest.mark.parametrize("kind", ["text", "hash"])
def test_a_slot_without_an_end_costs_no_exit(gate: Gate, redis: Client, kind: str) -> None:
    """Ours end by themselves; one that was restored or written without an end kept its symbol busy for good."""
    slot = django_settings.KEYS.slot("BTCUSDT")
    if kind == "text":
        redis.set(slot, "somebody")
    else:
        redis.hset(slot, "a", "b")
    plan = House.make()
    lay_both(redis, plan)
    assert isinstance(outcome_of(gate, plan), SpentPair)
    assert 0 < redis.pttl(slot) <= 5000
