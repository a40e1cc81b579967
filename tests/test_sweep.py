"""A difference that lasts becomes one incident with a hold; a fill on its way becomes none."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.conf import settings
from django.db import IntegrityError, transaction
from pytest_django.fixtures import Settings

from permits.models import Hold
from permits.state import freezing, holds
from permits.state.freezing import freeze
from positions.books import ledger
from positions.drift import incidents
from positions.models import Balance, Incident, SymbolLock
from quantum import clock
from quantum.models import AuditEvent
from quantum.redis import Client
from tests.drift_by_hand import Watched, balance, stranger

pytestmark = pytest.mark.usefixtures("db")


def opened() -> list[tuple[str, str, str]]:
    return [(row.symbol, row.kind, row.cause) for row in incidents.standing()]


def held() -> list[str]:
    return list(Hold.objects.filter(lifted_at=None).values_list("symbol", flat=True))


def drifting(exchange: str = "0.062", ledger: str = "0.002") -> Watched:
    """Seen at two reads, and so an incident."""
    balance(ledger)
    watched = Watched()
    watched.look(BTCUSDT=exchange)
    assert opened() == []
    watched.look(BTCUSDT=exchange)
    return watched


def test_a_difference_that_outlasts_a_further_read_is_an_incident_with_a_hold() -> None:
    drifting()
    incident = incidents.standing().get()
    assert (incident.kind, incident.cause) == ("quantity", "unexplained")
    numbers = incident.exchange_amt, incident.ledger_amt, incident.diff, incident.tolerance
    assert numbers == (Decimal("0.062"), Decimal("0.002"), Decimal("0.06"), Decimal("0.001"))
    hold = Hold.objects.get(lifted_at=None)
    assert (hold.pk, hold.by) == (incident.hold_id, "p33")
    for number in ("0.062", "0.002", "0.001", f"incident {incident.pk}"):
        assert number in hold.reason
    event = AuditEvent.objects.get(kind="incident_opened")
    assert (event.data["diff"], event.data["hold"]) == ("0.06", hold.pk)


def test_the_same_drift_is_told_once_however_often_it_is_seen() -> None:
    watched = drifting()
    for _ in range(70):
        watched.look(BTCUSDT="0.062")
    watched.restart()
    for _ in range(5):
        watched.look(BTCUSDT="0.062")
    assert len(opened()) == 1
    assert AuditEvent.objects.filter(kind="incident_opened").count() == 1
    assert Hold.objects.count() == 1


def test_one_read_that_is_looked_at_twice_proves_nothing() -> None:
    balance("0.002")
    watched = Watched()
    watched.look(BTCUSDT="0.062")
    watched.look(BTCUSDT="0.062", again=True)
    assert opened() == []


def test_a_fill_on_its_way_is_no_incident() -> None:
    row = balance("1")
    watched = Watched()
    watched.look(BTCUSDT="1.5")
    Balance.objects.filter(pk=row.pk).update(amount=Decimal("1.5"))
    watched.look(BTCUSDT="1.5")
    watched.look(BTCUSDT="2")
    assert (opened(), watched.sweep.suspects) == ([], True)


def test_a_bot_that_trades_at_every_read_is_no_incident_while_its_fills_arrive() -> None:
    """Each read is one entry ahead of the ledger, each time by another amount."""
    row = balance("1")
    watched = Watched()
    for number in range(1, 8):
        watched.look(BTCUSDT=str(1 + number * number))
        Balance.objects.filter(pk=row.pk).update(amount=Decimal(1 + number * number))
    assert opened() == []


def test_a_drift_that_changes_at_every_read_is_one_after_half_a_minute() -> None:
    balance("1")
    watched = Watched()
    for number in range(32):
        watched.look(BTCUSDT=str(2 + number))
    assert len(opened()) == 1


def test_no_incident_opens_while_an_order_of_ours_is_in_flight() -> None:
    lock = SymbolLock.objects.create(account=settings.ACCOUNT, symbol="BTCUSDT", plan_id="0" * 16)
    balance("1")
    watched = Watched()
    for _ in range(40):
        watched.look(BTCUSDT="0.5")
    assert opened() == []
    lock.delete()
    watched.look(BTCUSDT="0.5")
    assert opened() == [], "the grace begins when the order is over"
    watched.look(BTCUSDT="0.5")
    assert len(opened()) == 1


def test_a_read_from_before_the_ledger_moved_is_not_compared() -> None:
    watched = Watched()
    balance("1", moved_ms=watched.asked_ms + 30_000)
    for _ in range(5):
        watched.look(BTCUSDT="0.5")
    assert opened() == []


def test_a_movement_stamped_by_a_clock_that_was_set_back_hides_no_drift() -> None:
    watched = Watched()
    balance("1", moved_ms=watched.asked_ms + 3_600_000)
    for _ in range(2):
        watched.look(BTCUSDT="0.5")
    assert len(opened()) == 1


def test_a_difference_that_ends_by_itself_resolves_its_incident_and_lifts_its_hold_once() -> None:
    watched = drifting()
    incident = incidents.standing().get()
    Balance.objects.update(amount=Decimal("0.062"))
    watched.look(BTCUSDT="0.062")
    watched.look(BTCUSDT="0.062")
    incident.refresh_from_db()
    assert (incident.state, incident.how, incident.resolved_by) == ("resolved", "ended", "p33")
    assert held() == []
    assert AuditEvent.objects.filter(kind="incident_resolved").count() == 1
    assert AuditEvent.objects.filter(kind="hold_lifted").count() == 1


def test_an_incident_does_not_end_by_a_read_from_before_the_ledger_moved() -> None:
    watched = drifting()
    Balance.objects.update(amount=Decimal("0.062"), moved_ms=watched.asked_ms + 30_000)
    watched.look(BTCUSDT="0.062")
    assert len(opened()) == 1


def test_a_persons_hold_is_neither_overwritten_nor_lifted() -> None:
    with transaction.atomic():
        freeze(symbol="BTCUSDT", by="nina", reason="I am looking at it")
    watched = drifting()
    incident = incidents.standing().get()
    assert incident.hold_id is None
    Balance.objects.update(amount=Decimal("0.062"))
    watched.look(BTCUSDT="0.062")
    assert opened() == []
    assert Hold.objects.get(lifted_at=None).by == "nina"


def test_a_hold_that_a_person_placed_in_the_incidents_place_stays() -> None:
    watched = drifting()
    Hold.objects.update(lifted_at="2026-01-01T00:00:00Z", lifted_by="nina")
    with transaction.atomic():
        freeze(symbol="BTCUSDT", by="nina", reason="I am looking at it")
    Balance.objects.update(amount=Decimal("0.062"))
    watched.look(BTCUSDT="0.062")
    assert (opened(), held()) == ([], ["BTCUSDT"])


def test_a_person_who_freezes_what_drift_froze_takes_the_hold_over(redis: Client) -> None:
    watched = drifting()
    automatic = incidents.standing().get().hold_id
    mine = holds.place(redis, symbol="BTCUSDT", by="nina", reason="I am looking at it")
    assert (mine.by, Hold.objects.get(pk=automatic or 0).lifted_by) == ("nina", "nina")
    assert holds.place(redis, symbol="BTCUSDT", by="omar", reason="so am I, too").pk == mine.pk
    Balance.objects.update(amount=Decimal("0.062"))
    watched.look(BTCUSDT="0.062")
    assert (opened(), Hold.objects.get(lifted_at=None).pk) == ([], mine.pk)
    assert redis.get(settings.KEYS.hold("BTCUSDT")) == freezing.written(mine)


@pytest.mark.parametrize(
    ("client_order_id", "cause"),
    [
        ("web_1", "manual_trade"),
        ("autoclose-1", "liquidation"),
        ("adl_autoclose", "adl"),
        ("q-0123456789abcdef-75", "foreign_prefix"),
    ],
)
def test_the_fills_that_moved_the_position_alone_name_the_cause(client_order_id: str, cause: str) -> None:
    stranger(7, "0.06", client_order_id=client_order_id)
    drifting()
    incident = incidents.standing().get()
    assert incident.cause == cause
    assert [fill["client_order_id"] for fill in incident.evidence] == [client_order_id]


def test_a_liquidation_after_a_manual_trade_is_a_second_cause_with_the_same_hold() -> None:
    stranger(7, "0.06", client_order_id="web_1")
    watched = drifting()
    stranger(8, "-0.03", client_order_id="autoclose-8")
    for _ in range(32):
        watched.look(BTCUSDT="0.032")
    assert sorted(row.cause for row in incidents.standing()) == ["liquidation", "manual_trade"]
    assert {row.hold_id for row in incidents.standing()} == {Hold.objects.get(lifted_at=None).pk}
    Balance.objects.update(amount=Decimal("0.032"))
    watched.look(BTCUSDT="0.032")
    assert (opened(), held()) == ([], [])


def test_what_explained_the_last_drift_does_not_explain_the_next() -> None:
    stranger(7, "0.06", client_order_id="web_1")
    watched = drifting()
    Balance.objects.update(amount=Decimal("0.062"))
    watched.look(BTCUSDT="0.062")
    watched.look(BTCUSDT="0.5")
    watched.look(BTCUSDT="0.5")
    assert opened() == [("BTCUSDT", "quantity", "unexplained")]


def test_outside_paper_mode_a_symbol_never_entered_is_held_until_a_person_adopts_it(
    settings: Settings,
) -> None:
    settings.APPLY_MODE, settings.APPLY_ALLOWLIST = "testnet", ("BTCUSDT", "ETHUSDT")
    balance("0", symbol="ETHUSDT")
    watched = Watched()
    for _ in range(3):
        watched.look(BTCUSDT="0.5")
    assert opened() == [("BTCUSDT", "missing_ledger", "never_entered")]
    assert held() == ["BTCUSDT"]


def test_in_paper_mode_it_is_the_feed_that_adopts() -> None:
    watched = Watched()
    for _ in range(3):
        watched.look(BTCUSDT="0.5")
    assert opened() == []


def test_the_database_itself_keeps_a_second_open_one_of_a_cause_away() -> None:
    drifting()
    incident = incidents.standing().get()
    incident.pk = None
    with pytest.raises(IntegrityError), transaction.atomic():
        incident.save(force_insert=True)


def test_two_sweeps_at_once_open_one_incident() -> None:
    """A lease that changed hands: both have seen the drift at two reads."""
    balance("0.002")
    watched, other = Watched(), Watched()
    for each in (watched, other, watched, other):
        each.look(BTCUSDT="0.062")
    assert Incident.objects.count() == Hold.objects.count() == 1


def test_acknowledging_is_recorded_once_with_who_and_why() -> None:
    drifting()
    incident = incidents.standing().get()
    for name in ("nina", "omar"):
        taken = incidents.ack(incident_id=incident.pk, by=name, reason="I am looking at it")
        assert taken is not None
        assert taken.acked_by == "nina"
    assert incidents.ack(incident_id=incident.pk + 1, by="nina", reason="no such incident") is None
    assert AuditEvent.objects.filter(kind="incident_acked", actor="nina").count() == 1


@pytest.mark.parametrize(
    ("ahead_ms", "since_s"), [(3_600_000, None), (1_000, Decimal(0)), (-2_000, Decimal(2))]
)
def test_an_exit_stamped_by_a_clock_that_was_set_back_does_not_cool_down_for_ever(
    ahead_ms: int, since_s: Decimal | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ms = clock.now_ms()
    monkeypatch.setattr(clock, "now_ms", lambda: now_ms)
    balance("1")
    Balance.objects.update(exit_ms=now_ms + ahead_ms)
    assert ledger.view("BTCUSDT").since_exit_s == since_s
