"""The recovery tables of the design, row by row: what apply does with an entry, by what the database and the receipt
say. Here each row is played on its own; with real deaths and real parts the same rows are in:

    intended: dead before the send     tests/faults/test_deaths.py  test_a8_...
    intended: dead after the answer    tests/faults/test_deaths.py  test_a10_...
    final: dead before its result      tests/faults/test_booking_deaths.py  test_a12_...
    open: dead while waiting           tests/faults/test_deaths.py  test_a6_...
    open: dead after the consume       tests/faults/test_deaths.py  test_a7_...
    janitor: unpublished plans         tests/faults/test_deaths.py  test_a1_..., test_a2_...

and the resolver's table is in tests/test_resolver.py:

    found, terminal                    test_an_order_that_turns_up_is_settled
    found, its trades do not add up    test_a_filled_order_whose_trades_do_not_add_up_stays_locked
    found, NEW or PARTIAL              test_an_order_that_is_open_is_no_unknown_one_and_is_to_be_cancelled_in_time;
                                       sent and asked again: tests/faults/test_left_open.py
    -2013 before the margin            test_not_found_before_the_margin_proves_nothing
    -2013 twice after it               test_after_the_margin_it_takes_two_answers_five_seconds_apart
    -2013, and a trade of it           test_a_trade_of_it_contradicts_every_not_found
    -2013, and it was shown before     test_an_order_that_was_shown_once_is_not_proved_absent_by_many_not_founds
    the query fails                    test_an_exchange_that_cannot_be_asked_decides_nothing; a person decides:
                                       tests/test_order_resolve.py
    the query of its trades fails      test_an_order_that_was_found_stays_found_when_its_trades_cannot_be_read
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings

from apply.acting import late
from apply.acting.executor import Executor
from apply.models import Order, Plan
from permits.gate.outcome import Blocked, SpentPair
from positions.models import Balance, SymbolLock
from quantum import clock
from quantum.exchange.types import FateUnknown, OrderRequest, SymbolRules
from quantum.plan import ExitPlan
from quantum.reasons import GateReason
from quantum.redis import Client
from quantum.stream import Entry
from tests.house import House
from tests.orders_by_hand import activate, pair_for, reborn, recorded

pytestmark = pytest.mark.usefixtures("db", "keys")

RULES = SymbolRules(
    symbol="BTCUSDT",
    lot_step=Decimal("0.001"),
    lot_min=Decimal("0.001"),
    lot_max=Decimal(1000),
    market_step=Decimal("0.001"),
    market_min=Decimal("0.001"),
    market_max=Decimal(1000),
    price_tick=Decimal("0.1"),
    min_notional=Decimal(5),
)


class Apply:
    """The executor with a gate whose answer the test chooses, and an exchange that never answers."""

    def __init__(self, redis: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer: Callable[[ExitPlan], SpentPair | Blocked | None] = lambda _plan: None
        self.waited, self.acked = 0, list[str]()
        self.sent: list[OrderRequest] = []
        self.executor = Executor(
            gate=self,  # type: ignore[arg-type]
            desk=self,  # type: ignore[arg-type]
            rules={"BTCUSDT": RULES},
            client=redis,
            stopping=lambda: False,
        )
        self.executor.ack = lambda *ids: self.acked.extend(ids)
        monkeypatch.setattr(self.executor._lanes, "put", self._at_once)
        monkeypatch.setattr(self.executor._cancels, "due", lambda: False)

    @staticmethod
    def _at_once(_symbol: str, wait: Callable[[], Any], *, done: Callable[[], None]) -> None:
        after = wait()
        if after is not None:
            after()
        done()

    # the gate's and the desk's parts

    def wait_and_consume(self, plan: ExitPlan, **_: Any) -> SpentPair | Blocked | None:
        self.waited += 1
        return self.answer(plan)

    @property
    def sender(self) -> Apply:
        return self

    @property
    def reader(self) -> Apply:
        return self

    @staticmethod
    def now_ms() -> int:
        return clock.now_ms()

    def send(self, request: OrderRequest) -> FateUnknown:
        self.sent.append(request)
        return FateUnknown("no answer")

    def sees(self, plan: ExitPlan) -> str:
        """The plan's state after its entry was seen; and that it was acknowledged, or left pending."""
        entry_id = f"{clock.now_ms()}-1"
        fields = {name.encode(): value.encode() for name, value in plan.fields().items()}
        if self.executor.handle(Entry(entry_id=entry_id, fields=fields)):
            self.acked.append(entry_id)
        self.executor.idle()
        kept = "acked" if self.acked == [entry_id] else "pending"
        self.acked.clear()
        return f"{Plan.objects.get(plan_id=plan.plan_id).state}, {kept}"


@pytest.fixture
def apply(redis: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[Apply]:
    activate()
    Balance.objects.create(account="main", symbol="BTCUSDT", amount=Decimal(1), moved_ms=1, trades_from_ms=1)
    made = Apply(redis, monkeypatch)
    yield made
    made.executor.drain()


def in_state(state: str, **more: Any) -> ExitPlan:
    plan = recorded()
    reborn(plan.plan_id, state=state, **more)
    return plan


def receipt(redis: Client, plan: ExitPlan, *, s_ago: float) -> None:
    at = clock.now_ms() - int(s_ago * 1000)
    redis.hset(settings.KEYS.receipt(plan.plan_id), mapping={"token": "a stranger's", "at": at})


FINAL = [state.value for state in Plan.State if state not in ("open", "intended", "unknown")]


@pytest.mark.parametrize("state", FINAL)
def test_final_is_told_if_it_was_not_and_acknowledged(apply: Apply, redis: Client, state: str) -> None:
    plan = in_state(state)
    assert apply.sees(plan) == apply.sees(plan) == f"{state}, acked"
    assert redis.xlen(settings.KEYS.result_stream) == 1
    assert (apply.waited, apply.sent) == (0, [])


@pytest.mark.parametrize("state", ["intended", "unknown"])
def test_in_flight_is_the_resolvers_and_acknowledged(apply: Apply, redis: Client, state: str) -> None:
    plan = in_state(state)
    assert apply.sees(plan) == f"{state}, acked"
    assert (apply.waited, apply.sent, redis.xlen(settings.KEYS.result_stream)) == (0, [], 0)


def test_other_content_under_the_same_id_is_acknowledged_and_nothing_else(apply: Apply) -> None:
    plan = recorded()
    Plan.objects.update(digest="0" * 64)
    assert apply.sees(plan) == "open, acked"
    assert apply.waited == 0


@pytest.mark.parametrize(("spent", "end"), [(False, "expired"), (True, "spent_unsent")])
def test_open_and_past_its_life_ends_by_its_receipt(
    apply: Apply, redis: Client, spent: bool, end: str
) -> None:
    plan = recorded(House.make(timestamp_text=f"{clock.now_s() - 60:.3f}"))
    if spent:
        receipt(redis, plan, s_ago=55)
    assert apply.sees(plan) == f"{end}, acked"
    assert (apply.waited, redis.xlen(settings.KEYS.result_stream)) == (0, 1)


def test_open_in_time_without_a_receipt_is_waited_for(apply: Apply) -> None:
    plan = recorded()
    assert apply.sees(plan) == "open, pending", "told to stop while waiting"
    apply.answer = lambda _plan: Blocked(GateReason.MISSING_P33, 50, -2, timed_out=True)
    assert apply.sees(plan) == "blocked, acked"
    assert apply.waited == 2


def test_open_in_time_with_the_own_token_goes_on_within_two_seconds(apply: Apply) -> None:
    plan = recorded()
    apply.answer = pair_for
    assert apply.sees(plan) == "unknown, acked"
    assert [request.client_order_id for request in apply.sent] == [f"q-{plan.plan_id}-25"]
    assert SymbolLock.objects.get().plan_id == plan.plan_id


def test_open_in_time_with_the_own_token_after_two_seconds_sends_nothing(apply: Apply) -> None:
    apply.answer = lambda plan: pair_for(plan, consumed_s_ago=2.1)
    assert apply.sees(recorded()) == "spent_unsent, acked"
    assert (apply.sent, Order.objects.count(), SymbolLock.objects.count()) == ([], 0, 0)


@pytest.mark.parametrize(
    ("s_ago", "end"), [(4.5, "open, pending"), (5.1, "spent_unsent, acked")], ids=["young", "abandoned"]
)
def test_open_in_time_with_a_strangers_token_is_looked_at_again_until_it_is_abandoned(
    apply: Apply, redis: Client, s_ago: float, end: str
) -> None:
    plan = recorded()
    receipt(redis, plan, s_ago=s_ago)
    apply.answer = lambda _plan: Blocked(GateReason.ALREADY_CONSUMED, -2, -2)
    assert apply.sees(plan) == end
    assert apply.sent == []


def test_a_stranger_who_wrote_his_intent_meanwhile_keeps_it(apply: Apply, redis: Client) -> None:
    """The last row's 0 rows: compare-and-set, then read again."""
    plan = recorded()
    receipt(redis, plan, s_ago=6)

    def just_intended(_plan: ExitPlan) -> Blocked:
        Plan.objects.update(state="intended")
        return Blocked(GateReason.ALREADY_CONSUMED, -2, -2)

    apply.answer = just_intended
    assert apply.sees(plan) == "intended, acked"
    assert redis.xlen(settings.KEYS.result_stream) == 0


def test_the_janitor_ends_what_nobody_read_by_the_same_rule(redis: Client) -> None:
    untouched, spent = recorded(), recorded()
    receipt(redis, spent, s_ago=6)
    flying = in_state("intended")
    ids = [untouched.plan_id, spent.plan_id, flying.plan_id]
    assert late.end(redis, ids, actor="janitor") == 2
    states = dict(Plan.objects.values_list("plan_id", "state"))
    assert [states[each] for each in ids] == ["expired", "spent_unsent", "intended"]
