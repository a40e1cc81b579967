"""The exit brain: one proposal per crossing, none without data, none lost to a halt, none twice after a restart."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import Executor, Future
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings

from apply.exits.brain import AGE_AGAIN_S, ExitBrain
from apply.exits.prices import ASK_EVERY_S, LIMIT, Prices
from apply.exits.proposing import codes_of, to_the_gates
from apply.exits.score import Crossing, NoScore, Score, View
from apply.models import Plan
from apply.proposals.proposal import Proposal
from permits.state import trading
from positions.models import LedgerEntry
from quantum import clock
from quantum.exchange.reading import ReadFailed
from quantum.exchange.types import Kline
from quantum.log import log
from quantum.plan import Action
from quantum.redis import Client, RedisError
from tests.exits.by_hand import MINUTE_MS, Says, a_score, klines

SYMBOL = "BTCUSDT"
pytestmark = pytest.mark.django_db
KILL = Crossing("kill_score")


class Market:
    """An exchange that answers at once, on this machine's clock moved by the test."""

    def __init__(self) -> None:
        self.ahead_ms = 0
        self.asked: list[str] = []
        self.wait_until_ms: int | None = None
        self.fails = False

    def now_ms(self) -> int:
        return clock.now_ms() + self.ahead_ms

    def sweeps_wait_until_ms(self) -> int | None:
        return self.wait_until_ms

    def klines(self, *, symbol: str, interval: str, limit: int) -> list[Kline]:
        assert (interval, limit) == ("1m", LIMIT)
        self.asked.append(symbol)
        if self.fails:
            raise ReadFailed("HTTP 503")
        begin_ms = (self.now_ms() // MINUTE_MS - LIMIT + 1) * MINUTE_MS
        return klines([100] * LIMIT, begin_ms=begin_ms)  # the newest still moves


class AtOnce(Executor):
    """Nobody waits in a test; what beside means is the other executor's business."""

    def submit(self, asked: Any, /, *args: Any, **said: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        try:
            answer.set_result(asked(*args, **said))
        except ReadFailed as failed:
            answer.set_exception(failed)
        return answer


class Bench:
    """A brain on a real Redis with one position, whose scorer says what the test wants."""

    def __init__(self, redis: Client) -> None:
        self.redis, self.market = redis, Market()
        self.said: list[Proposal] = []
        self.down = False
        self.score: Score | NoScore = a_score()
        self.scorer = Says(lambda _view: self.score)
        self.begin()
        self.hold("1", "100")
        redis.set(settings.KEYS.trading_state, b'{"state":"ACTIVE"}')

    def begin(self) -> None:
        """Anew, as after a restart of the warden."""
        prices = Prices(reader=self.market, interval="1m", executor=AtOnce())
        self.brain = ExitBrain(
            client=self.redis, prices=prices, scorer=self.scorer, propose=self._propose, risk_pct=Decimal(1)
        )

    def _propose(self, proposal: Proposal, _why: str) -> None:
        if self.down:
            raise RedisError("down")
        self.said.append(proposal)

    def hold(self, amount: str, entry: str, *, mark: str = "100", age_s: float = 0) -> None:
        fields = {"position_amt": amount, "entry_price": entry, "mark_price": mark}
        seen = f"{clock.now_s() - age_s:.3f}"
        self.redis.hset(settings.KEYS.snapshot(SYMBOL), mapping={**fields, "seen_epoch": seen})

    def turns(self, count: int = 2) -> list[tuple[str, Action]]:
        """What the brain proposed in so many turns."""
        before = len(self.said)
        for _ in range(count):
            self.brain._next_boot_s = 0.0
            self.brain.tick()
        return [(one.symbol, one.action) for one in self.said[before:]]


@pytest.fixture
def bench(redis: Client) -> Bench:
    made = Bench(redis)
    assert made.turns(2) == []  # the first turn asks for klines, the second has them
    assert made.scorer.seen
    return made


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(
        log, "info", lambda line, **more: lines.append(" ".join([line, *map(str, more.values())]))
    )
    return lines


# ---- once per crossing


def test_a_crossing_is_proposed_once_and_again_after_it_was_armed_again(bench: Bench) -> None:
    bench.score = a_score(Action.FULL_CLOSE, KILL)
    assert bench.turns(3) == [(SYMBOL, Action.FULL_CLOSE)]
    bench.score = a_score(standing=frozenset({"kill_score"}))  # below the line, not below the lower one
    assert bench.turns() == []
    bench.score = a_score(Action.FULL_CLOSE, KILL)
    assert bench.turns() == []
    bench.score = a_score()
    bench.turns()
    bench.score = a_score(Action.FULL_CLOSE, KILL)
    assert bench.turns() == [(SYMBOL, Action.FULL_CLOSE)]


def test_each_higher_step_is_taken_once_and_a_new_position_begins_anew(bench: Bench) -> None:
    def at(level: int) -> list[tuple[str, Action]]:
        bench.score = a_score(Action.PARTIAL_25, Crossing("profit_r", level))
        return bench.turns()

    assert [len(at(level)) for level in (2, 2, 4, 2, 4, 6)] == [1, 0, 1, 0, 0, 1]
    bench.hold("0.5", "100")  # a part was closed: the same position
    assert at(6) == []
    bench.hold("0.5", "101")
    assert len(at(2)) == 1
    bench.hold("-0.5", "101")
    assert len(at(2)) == 1


def test_the_stop_that_was_locked_is_shown_to_the_scorer_and_left_with_the_position(bench: Bench) -> None:
    bench.score = a_score(stop_proposed=Decimal("101.5"))
    bench.turns(2)
    assert bench.scorer.seen[-1].stop_locked == Decimal("101.5")
    bench.hold("1", "90")
    bench.turns(1)
    assert bench.scorer.seen[-1].stop_locked is None


def test_what_could_not_be_said_is_said_at_the_next_look(bench: Bench) -> None:
    bench.score, bench.down = a_score(Action.FULL_CLOSE, KILL), True
    with pytest.raises(RedisError):
        bench.turns(1)
    bench.down = False
    assert bench.turns() == [(SYMBOL, Action.FULL_CLOSE)]


@pytest.mark.parametrize("stopped_by", ["halt", "not armed", "hold"])
def test_what_is_crossed_while_nothing_may_leave_is_proposed_when_that_is_over(
    bench: Bench, stopped_by: str
) -> None:
    keys = settings.KEYS
    if stopped_by == "hold":
        bench.redis.set(keys.hold(SYMBOL), b"{}")
    elif stopped_by == "halt":
        bench.redis.set(keys.trading_state, trading.current().raw)
    else:
        bench.redis.delete(keys.trading_state)
    bench.score = a_score(Action.FULL_CLOSE, KILL)
    assert bench.turns() == []
    bench.redis.delete(keys.hold(SYMBOL))
    bench.redis.set(keys.trading_state, b'{"state":"ACTIVE"}')
    assert bench.turns() == [(SYMBOL, Action.FULL_CLOSE)]


def test_a_brain_that_starts_again_takes_no_profit_twice(bench: Bench, redis: Client) -> None:
    opened = LedgerEntry.Kind.ENTRY
    for delta, balance in (("-1", "-1"), ("2", "1"), ("0.5", "1.5")):  # the second one turned it into a long
        LedgerEntry.objects.create(
            account=settings.ACCOUNT, symbol=SYMBOL, kind=opened, delta=Decimal(delta), balance=Decimal(balance),
            actor="tests", at=clock.now() - dt.timedelta(seconds=90 - 30 * float(balance)),
        )  # fmt: skip
    bench.brain._propose = to_the_gates(redis)
    bench.hold("1.5", "100")
    bench.score = a_score(Action.PARTIAL_50, Crossing("profit_r", 4), r_net=Decimal("4.2"))
    bench.turns()
    [plan] = Plan.objects.all()
    assert plan.reason_codes == "profit_r4,R_net=4.2,k_regime_flip=0.7"
    assert (plan.source, plan.kill_score) == ("exit-brain:says", "0.7")
    bench.begin()
    assert bench.turns(3) == []
    assert 55 < (bench.scorer.seen[-1].age_s or 0) < 75  # since the side it has, not since its last entry
    bench.score = a_score(Action.PARTIAL_75, Crossing("profit_r", 6))
    assert bench.turns() == [(SYMBOL, Action.PARTIAL_75)]
    Plan.objects.update(state=Plan.State.BLOCKED)
    bench.begin()
    bench.score = a_score(Action.PARTIAL_50, Crossing("profit_r", 4))
    assert bench.turns() == [(SYMBOL, Action.PARTIAL_50)]  # nothing came of it the first time


def test_a_position_that_the_books_learn_of_later_gets_its_age_then(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opened by hand: the snapshot shows it first, and a reconciliation enters it minutes after."""
    at = clock.now() - dt.timedelta(minutes=5)
    LedgerEntry.objects.create(
        account=settings.ACCOUNT, symbol=SYMBOL, kind=LedgerEntry.Kind.CORRECTION, delta=Decimal(1),
        balance=Decimal(1), actor="tests", at=at,
    )  # fmt: skip
    bench.turns(1)
    later_s = clock.boot_s() + AGE_AGAIN_S
    monkeypatch.setattr(clock, "boot_s", lambda: later_s)
    bench.turns(1)
    *_, soon_s, then_s = [view.age_s or 0 for view in bench.scorer.seen]
    assert soon_s == 0  # unknown: not a question to the database at every look
    assert 299 < then_s < 320


# ---- no data, no proposal


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"position_amt": "NaN"}, "no snapshot of its position"),
        ({"position_amt": b"\xff"}, "no snapshot of its position"),
        ({"seen_epoch": ""}, "no snapshot of its position"),
        ({"mark_price": ""}, "its entry or mark price is not known"),
        ({"mark_price": "0"}, "its entry or mark price is not known"),
        ({"entry_price": "Infinity"}, "its entry or mark price is not known"),
        ({"seen_epoch": "1767225600"}, "the position was not seen lately"),
        ({"seen_epoch": "9767225600"}, "the position was not seen lately"),
    ],
)
def test_a_snapshot_that_says_too_little_proposes_nothing_and_says_why_once(
    bench: Bench, told: list[str], fields: dict[str, Any], why: str
) -> None:
    bench.score = a_score(Action.FULL_CLOSE, KILL)
    bench.redis.hset(settings.KEYS.snapshot(SYMBOL), mapping=fields)
    assert bench.turns(3) == []
    assert [line for line in told if SYMBOL in line] == [f"{SYMBOL}: no exit is proposed: {why}"]
    bench.hold("1", "100")
    assert bench.turns() == [(SYMBOL, Action.FULL_CLOSE)]


def test_klines_that_stay_away_grow_old_and_then_nothing_is_proposed(bench: Bench, told: list[str]) -> None:
    bench.market.fails = True
    bench.market.ahead_ms += 4 * MINUTE_MS
    bench.score = a_score(Action.FULL_CLOSE, KILL)
    assert bench.turns() == []
    assert any("klines that are not of now" in line for line in told)


def test_a_flat_symbol_is_not_asked_about(bench: Bench) -> None:
    before = len(bench.scorer.seen)
    bench.hold("0", "0", mark="")
    assert bench.turns() == []
    assert len(bench.scorer.seen) == before


class OwnFault(Exception):
    """Of a kind that nobody here knows."""


def own_fault(_view: View) -> Score:
    raise OwnFault


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda _view: 1 / 0, "the scorer says failed with ZeroDivisionError"),
        (
            lambda _view: a_score(value=Decimal(2)),
            "the scorer says: its value or a contribution is no Decimal",
        ),
        (own_fault, "the scorer says failed with OwnFault"),
        (lambda _view: NoScore("it would rather not"), "it would rather not"),
        (lambda _view: a_score(contributions=[]), "the scorer says failed with AttributeError"),
        (lambda _view: a_score(reason=None), "the scorer says failed with TypeError"),
    ],
)
def test_a_plug_in_that_fails_costs_its_proposals_and_nothing_else(
    bench: Bench, told: list[str], answer: Any, why: str
) -> None:
    bench.scorer.answer = answer
    assert bench.turns(2) == []
    assert len([line for line in told if why in line]) == 1


def test_numbers_of_any_length_fit_a_plan(bench: Bench, redis: Client) -> None:
    third = Decimal(1) / 3
    bench.brain._propose = to_the_gates(redis)
    bench.score = a_score(
        Action.PARTIAL_25,
        KILL,
        value=third,
        contributions={"k_ts_drop": third},
        r_net=third,
        stop_proposed=100 + third,
    )
    bench.turns(1)
    [plan] = Plan.objects.all()
    assert (plan.kill_score, plan.reason_codes) == ("0.3333", "kill_score,R_net=0.3333,k_ts_drop=0.3333")


def test_reason_codes_are_cut_between_two_of_them() -> None:
    many = {f"k_{'x' * 30}_{at}": Decimal("0.1234") for at in range(20)}
    codes = codes_of(a_score(Action.FULL_CLOSE, KILL, contributions=many))
    assert len(codes) <= 400
    assert codes.startswith("kill_score,k_x")
    assert all(code.endswith("=0.1234") for code in codes.split(",")[1:])


# ---- klines within the budget


def test_klines_are_asked_for_when_a_new_one_must_have_closed_and_once_a_minute_at_most(
    redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot_s = [1000.0]
    monkeypatch.setattr(clock, "boot_s", lambda: boot_s[0])
    market = Market()
    prices = Prices(reader=market, interval="1m", executor=AtOnce())

    def asked(*, later_s: float) -> int:
        boot_s[0] += later_s
        market.ahead_ms += int(later_s * 1000)
        before = len(market.asked)
        prices.of(SYMBOL)
        prices.of(SYMBOL)
        return len(market.asked) - before

    assert asked(later_s=0) == 1
    assert len(prices.of(SYMBOL)) == LIMIT - 1  # the one that moves is left out
    assert asked(later_s=5) == 0
    market.fails = True
    assert asked(later_s=2 * ASK_EVERY_S) == 1
    market.fails = False
    assert asked(later_s=5) == 0  # not oftener after a failure either
    assert asked(later_s=ASK_EVERY_S) == 1
    market.wait_until_ms = 1
    assert asked(later_s=2 * ASK_EVERY_S) == 0  # what is left of the weight is for others
    market.wait_until_ms = None
    assert asked(later_s=1) == 1
