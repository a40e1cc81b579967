"""The resolver's patience: -2013 proves nothing until the exchange itself would refuse the request."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from apply.acting import settle
from apply.acting.cancels import Cancels
from apply.models import Inquiry, Order, Plan
from apply.proving import inquiries
from apply.proving.resolver import RECV_WINDOW_MS, Resolver
from positions.books import ledger
from positions.books.ledger import SeenTrade
from positions.models import Fill, SymbolLock
from quantum import clock
from quantum.exchange.reading import ReadFailed
from quantum.exchange.types import FateUnknown, OrderState, OrderStatus, SendOutcome, Trade
from quantum.models import AuditEvent
from quantum.redis import Client
from tests.orders_by_hand import answer_of, intended, trade

pytestmark = pytest.mark.usefixtures("db", "keys")


class Exchange:
    """Answers -2013 to everything until told otherwise; its clock is turned by hand."""

    def __init__(self) -> None:
        self.at_ms = clock.now_ms()
        self.known: OrderState | None = None
        self.trades: list[Trade] = []
        self.silent = False
        self.no_trades_of: int | None = None

    def now_ms(self) -> int:
        return self.at_ms

    def order(self, **_: Any) -> OrderState | None:
        if self.silent:
            raise ReadFailed("no answer")
        return self.known

    def order_by_id(self, *, symbol: str, order_id: int) -> OrderState | None:
        if order_id == self.no_trades_of:
            raise ReadFailed("no answer")
        return replace(answer_of(Order.objects.get()), order_id=order_id)

    def trades_since(self, **_: Any) -> list[Trade]:
        return self.trades

    def trades_of_order(self, *, order_id: int, **_: Any) -> list[Trade]:
        if order_id == self.no_trades_of:
            raise ReadFailed("no answer")
        return self.trades


class Case:
    """One order in flight, and time that a test turns."""

    def __init__(self, redis: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        self.boot_s = clock.boot_s()
        self.order = intended()
        Order.objects.update(intended_at=clock.now() - dt.timedelta(seconds=10))
        self.exchange = Exchange()
        self.exchange.at_ms = self.order.timestamp_ms
        self.resolver = Resolver(reader=self.exchange, client=redis)  # type: ignore[arg-type]
        monkeypatch.setattr(clock, "boot_s", lambda: self.boot_s)

    def ask(self, *, after_s: float = 1.0) -> str:
        self.boot_s += after_s
        self.exchange.at_ms += int(after_s * 1000)
        self.resolver.tick()
        return Plan.objects.get().state


@pytest.fixture
def case(redis: Client, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Case:
    settings.RESOLVER_MARGIN_SEC, settings.RESOLVER_GAP_SEC = Decimal(10), Decimal(5)
    return Case(redis, monkeypatch)


def test_not_found_before_the_margin_proves_nothing(case: Case) -> None:
    """recvWindow 3 s and a margin of 10 s: however often it is asked before, the symbol stays locked."""
    for _ in range(12):
        assert case.ask() == "unknown"
    assert SymbolLock.objects.exists()


def test_after_the_margin_it_takes_two_answers_five_seconds_apart(case: Case) -> None:
    assert case.ask(after_s=RECV_WINDOW_MS / 1000 + 10.1) == "unknown"
    assert case.ask(after_s=4.9) == "unknown"
    assert case.ask() == "not_at_exchange"
    assert not SymbolLock.objects.exists()


def test_a_trade_of_it_contradicts_every_not_found(case: Case) -> None:
    case.exchange.trades = [trade()]
    case.ask(after_s=20)
    assert case.ask(after_s=20) == "unknown"
    assert SymbolLock.objects.exists()


def test_an_exchange_that_cannot_be_asked_decides_nothing(case: Case) -> None:
    case.exchange.silent = True
    for _ in range(5):
        assert case.ask(after_s=20) == "intended"
    assert SymbolLock.objects.exists()


def test_an_order_that_turns_up_is_settled(case: Case) -> None:
    assert case.ask(after_s=20) == "unknown"
    case.exchange.known = answer_of(case.order)
    case.exchange.trades = [trade()]
    assert case.ask(after_s=20) == "filled"
    assert not SymbolLock.objects.exists()


def show_once(case: Case, way: str) -> None:
    """The exchange has shown the order once: in its answer to it, on its stream, or to a question."""
    if way == "answered":
        settle.record_reply(case.order, answer_of(case.order, status=OrderStatus.NEW, executed="0"))
    elif way == "streamed":
        ledger.store([SeenTrade(trade(), case.order.client_order_id)])
    else:
        case.exchange.known = answer_of(case.order, status=OrderStatus.NEW, executed="0")
        case.ask()
        case.exchange.known = None


@pytest.mark.parametrize("way", ["answered", "streamed", "asked"])
def test_an_order_that_was_shown_once_is_not_proved_absent_by_many_not_founds(case: Case, way: str) -> None:
    show_once(case, way)
    for _ in range(4):
        assert case.ask(after_s=20) == "unknown"
    assert SymbolLock.objects.exists()
    assert learnt().finding == "contradictory"
    assert "it was order 77" in learnt().text
    case.exchange.known, case.exchange.trades = answer_of(case.order), [trade()]
    assert case.ask() == "filled"


def test_the_trades_of_an_order_that_is_denied_are_kept_for_whoever_decides(case: Case) -> None:
    show_once(case, "answered")
    case.exchange.trades = [trade(quantity="0.1")]
    case.ask(after_s=20)
    case.ask(after_s=20)
    assert "add up to 0.1" in learnt().text
    assert Fill.objects.get().client_order_id == case.order.client_order_id


def test_a_filled_order_whose_trades_do_not_add_up_stays_locked(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "sleep_s", lambda _s: None)
    case.exchange.known = answer_of(case.order)
    case.exchange.trades = [trade(quantity="0.1")]
    assert case.ask(after_s=20) == "intended"
    assert SymbolLock.objects.exists()


# ---- what it learns is kept for whoever has to decide


def learnt() -> Inquiry:
    return Inquiry.objects.get()


def test_a_question_that_fails_is_kept_with_since_when(case: Case) -> None:
    case.exchange.silent = True
    case.ask()
    since = learnt().doubtful_since
    case.ask()
    assert (learnt().finding, learnt().asked, learnt().doubtful_since) == ("failing", 2, since)
    case.exchange.silent = False
    case.ask()
    assert (learnt().finding, learnt().doubtful_since) == ("absent", None)


def test_trades_of_an_order_that_is_not_found_are_a_contradiction_and_kept_unbooked(case: Case) -> None:
    case.exchange.trades = [trade()]
    case.ask(after_s=20)
    case.ask(after_s=20)
    assert learnt().finding == "contradictory"
    fill = Fill.objects.get()
    assert (fill.client_order_id, fill.booked) == (case.order.client_order_id, False)


def test_trades_that_do_not_add_up_are_a_contradiction_with_both_numbers(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "sleep_s", lambda _s: None)
    case.exchange.known = answer_of(case.order)
    case.exchange.trades = [trade(quantity="0.1")]
    case.ask()
    assert learnt().finding == "contradictory"
    assert "executed 0.25, its trades add up to 0.1" in learnt().text
    assert learnt().found["order_id"] == 77


def test_an_order_that_was_found_stays_found_when_its_trades_cannot_be_read(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order can be asked for, its trades cannot: that it was there is known, and nobody may say otherwise."""
    monkeypatch.setattr(clock, "sleep_s", lambda _s: None)
    case.exchange.known, case.exchange.no_trades_of = answer_of(case.order), 77
    assert case.ask() == "intended"
    assert (learnt().finding, learnt().found["status"]) == ("failing", "FILLED")
    assert "executed 0.25, its trades cannot be read: no answer" in learnt().text
    case.exchange.silent = True
    case.ask()
    assert (learnt().text, learnt().found["order_id"]) == ("no answer", 77)


def test_a_trade_that_was_seen_is_kept_when_the_next_question_fails(case: Case) -> None:
    case.exchange.trades = [trade(1), trade(2, order_id=78)]
    case.exchange.no_trades_of = 78
    case.ask(after_s=20)
    case.ask(after_s=20)
    assert learnt().finding == "failing"
    assert Fill.objects.get().order_id == 77


def test_an_order_intended_by_a_clock_that_was_ahead_is_asked_for_all_the_same(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    """apply's host was an hour ahead, or was set back since: by the wall the order is not born yet."""
    Order.objects.update(intended_at=clock.now() + dt.timedelta(hours=1))
    case.exchange.silent = True
    case.ask()
    case.ask(after_s=2.9)
    assert not Inquiry.objects.exists(), "it is apply's for three seconds"
    case.ask()
    assert (learnt().finding, learnt().asked) == ("failing", 1)
    Inquiry.objects.update(since=clock.now() - dt.timedelta(seconds=31))
    case.ask()
    assert "[ORDER_UNKNOWN]" in capsys.readouterr().err
    assert 31 <= gauges()["quantum_order_unknown_seconds"] < 60
    case.exchange.silent = False
    case.exchange.known = answer_of(case.order, status=OrderStatus.NEW, executed="0")
    case.ask()
    assert learnt().cancels == 1, "and what is left open is cancelled in time"


def test_what_the_resolver_remembers_of_an_order_ends_with_it(case: Case) -> None:
    case.exchange.known, case.exchange.trades = answer_of(case.order), [trade()]
    assert case.ask() == "filled"
    case.ask()
    assert case.resolver._first_seen_boot_s == {}


def test_a_fate_that_stays_unknown_for_half_a_minute_alerts_once_a_minute(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    case.exchange.silent = True
    case.ask()
    assert gauges() == {"quantum_orders_unknown": 0, "quantum_order_unknown_seconds": 0}
    Order.objects.update(intended_at=clock.now() - dt.timedelta(seconds=31))
    for _ in range(3):
        case.ask()
    told = [line for line in capsys.readouterr().err.splitlines() if "[ORDER_UNKNOWN]" in line]
    assert len(told) == 1
    assert f"order_resolve {case.order.plan_id}" in told[0]
    assert gauges()["quantum_orders_unknown"] == 1
    assert 31 <= gauges()["quantum_order_unknown_seconds"] < 60
    case.ask(after_s=60)
    assert "[ORDER_UNKNOWN]" in capsys.readouterr().err


def gauges() -> dict[str, float]:
    return {metric.name: metric.samples[0].value for metric in inquiries.read()}


def test_an_order_that_is_open_is_no_unknown_one_and_is_to_be_cancelled_in_time(
    case: Case, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.ORDER_CANCEL_AFTER_SEC = Decimal(60)
    case.exchange.known = replace(answer_of(case.order), status=OrderStatus.NEW, executed_quantity=Decimal(0))
    Order.objects.update(intended_at=clock.now() - dt.timedelta(seconds=45))
    case.ask()
    assert (learnt().finding, learnt().cancel_asked_at) == ("open", None)
    assert "[ORDER_UNKNOWN]" not in capsys.readouterr().err
    assert gauges()["quantum_orders_unknown"] == 0
    settings.ORDER_CANCEL_AFTER_SEC = Decimal(40)
    case.ask()
    case.ask()
    assert learnt().cancels == 1, "asked for again only after a pause"
    event = AuditEvent.objects.get(kind="cancel_asked")
    assert (event.actor, event.data["times"]) == ("resolver", 1)


def test_a_cancel_asked_for_by_a_clock_that_is_ahead_is_sent_once() -> None:
    order, sent = intended(), list[str]()
    ahead = clock.now() + dt.timedelta(minutes=1)
    Inquiry.objects.create(plan_id=order.plan_id, finding="open", cancel_asked_at=ahead, cancels=1)

    def cancel(asked: Order) -> SendOutcome:
        sent.append(asked.client_order_id)
        return FateUnknown("no answer")

    sender = Cancels(cancel=cancel, actor="apply")
    sender.send_all()
    sender.send_all()
    assert sent == [order.client_order_id]
