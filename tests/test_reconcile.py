"""Bringing ledger and exchange together: what was seen, all of it or nothing, and never an order."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.conf import settings
from django.core.management import call_command
from pytest_django.fixtures import Settings

from permits.models import Hold
from positions.books import history, ledger
from positions.books.ledger import LedgerChanged
from positions.drift import incidents
from positions.judging import difference
from positions.models import Balance, Incident, LedgerEntry, SymbolLock
from positions.reconcile import reconcile
from positions.reconcile.reconcile import Line, Unreadable
from quantum import clock
from quantum.fault import FaultRaised
from quantum.models import AuditEvent
from quantum.redis import Client
from tests.drift_by_hand import STEP, Watched, balance, stranger

pytestmark = pytest.mark.usefixtures("db")

WHY = "compared with the exchange's own page"


def seen(exchange: str, *, symbol: str = "BTCUSDT", asked_ms: int | None = None) -> Line:
    """What a person has before him."""
    row = Balance.objects.filter(symbol=symbol).first()
    amount, ours, pct = Decimal(exchange), row.amount if row else None, Decimal(1)
    return Line(
        symbol=symbol,
        exchange=amount,
        asked_ms=asked_ms or clock.now_ms(),
        age_s=Decimal(0),
        ledger=ours,
        version=row.version if row else None,
        tolerance=difference.tolerance_of(amount, lot_step=STEP, tolerance_pct=pct),
        difference=difference.between(exchange=amount, ledger=ours, lot_step=STEP, tolerance_pct=pct),
        incidents=[],
        hold=None,
        locked_by="",
    )


def drifting(exchange: str = "0.062", ledger: str = "0.002") -> Line:
    balance(ledger)
    watched = Watched()
    watched.look(BTCUSDT=exchange)
    watched.look(BTCUSDT=exchange)
    assert incidents.standing().count() == 1
    return seen(exchange)


def amount(symbol: str = "BTCUSDT") -> Decimal:
    found: Decimal = Balance.objects.get(symbol=symbol).amount
    return found


def nothing_happened() -> None:
    assert amount() == Decimal("0.002")
    assert not LedgerEntry.objects.exists()
    assert incidents.standing().count() == Hold.objects.filter(lifted_at=None).count() == 1
    assert not AuditEvent.objects.filter(kind__in=("ledger_adopted", "incident_resolved")).exists()


def test_adopting_is_one_entry_with_who_and_why_and_frees_the_symbol() -> None:
    brought = reconcile.adopt([drifting()], by="nina", reason=WHY)
    entry = LedgerEntry.objects.get()
    assert (entry.kind, entry.delta, entry.balance) == ("adopted", Decimal("0.06"), Decimal("0.062"))
    assert (entry.actor, entry.reason) == ("nina", WHY)
    assert amount() == Decimal("0.062")
    incident = Incident.objects.get()
    assert (incident.state, incident.how, incident.resolved_by, incident.reason) == (
        "resolved", "adopted", "nina", WHY,
    )  # fmt: skip
    assert [hold.pk for hold in brought.lifted] == [incident.hold_id]
    assert not Hold.objects.filter(lifted_at=None).exists()
    event = AuditEvent.objects.get(kind="ledger_adopted")
    assert (event.actor, event.reason, event.data["before"], event.data["delta"]) == (
        "nina", WHY, "0.002", "0.06",
    )  # fmt: skip


def test_a_correction_writes_the_amount_a_person_names() -> None:
    reconcile.correct(drifting(), to=Decimal("0.0625"), by="nina", reason=WHY)
    entry = LedgerEntry.objects.get()
    assert (entry.kind, entry.delta, entry.balance) == ("correction", Decimal("0.0605"), Decimal("0.0625"))
    assert Incident.objects.get().how == "corrected"
    assert not Hold.objects.filter(lifted_at=None).exists()


@pytest.mark.parametrize("typed", ["-0.062", "0.62", "0"])
def test_an_amount_that_still_differs_ends_no_incident_and_lifts_no_hold(typed: str) -> None:
    """A sign or a digit typed wrong."""
    brought = reconcile.correct(drifting(), to=Decimal(typed), by="nina", reason=WHY)
    assert (brought.resolved, brought.lifted, amount()) == ([], [], Decimal(typed))
    assert incidents.standing().count() == Hold.objects.filter(lifted_at=None).count() == 1
    reconcile.adopt([seen("0.062")], by="nina", reason=WHY)
    assert not incidents.standing().exists()


def test_a_symbol_never_entered_is_entered_by_adopting_it(settings: Settings) -> None:
    settings.APPLY_MODE, settings.APPLY_ALLOWLIST = "testnet", ("BTCUSDT",)
    watched = Watched()
    for _ in range(2):
        watched.look(BTCUSDT="0.5")
    assert incidents.standing().get().cause == "never_entered"
    reconcile.adopt([seen("0.5")], by="nina", reason=WHY)
    assert amount() == Decimal("0.5")
    assert not incidents.standing().exists()
    watched.look(BTCUSDT="0.5")
    watched.look(BTCUSDT="0.5")
    assert not incidents.standing().exists()


def test_a_symbol_that_leaves_the_allow_list_unentered_is_told_so_and_not_that_it_agrees(
    settings: Settings,
) -> None:
    settings.APPLY_MODE, settings.APPLY_ALLOWLIST = "testnet", ("BTCUSDT",)
    watched = Watched()
    for _ in range(2):
        watched.look(BTCUSDT="0.5")
    settings.APPLY_ALLOWLIST = ("ETHUSDT",)
    for _ in range(2):
        watched.look(BTCUSDT="0.5")
    incident = Incident.objects.get(symbol="BTCUSDT")
    assert (incident.state, incident.reason) == ("resolved", incidents.GIVEN_UP)
    assert AuditEvent.objects.get(kind="incident_resolved").reason == incidents.GIVEN_UP


def test_a_page_that_is_stale_changes_nothing() -> None:
    """Two people had the same page; or a fill was booked since."""
    line = drifting()
    Balance.objects.update(version=7)
    with pytest.raises(LedgerChanged):
        reconcile.adopt([line], by="nina", reason=WHY)
    nothing_happened()


def test_an_amount_read_before_a_fill_that_is_booked_already_is_not_adopted() -> None:
    """Read, then an entry is booked, then shown: the version is the newest, the exchange's amount is not."""
    row = balance("1")
    entry = stranger(1, "0.5", client_order_id="entry-1")
    assert ledger.book([entry], kind=LedgerEntry.Kind.ENTRY, actor="feed") == 1
    with pytest.raises(LedgerChanged):
        reconcile.adopt([seen("1", asked_ms=entry.trade.time_ms - 1)], by="nina", reason=WHY)
    row.refresh_from_db()
    assert (row.amount, LedgerEntry.objects.count()) == (Decimal("1.5"), 1)
    reconcile.adopt([seen("1.25", asked_ms=entry.trade.time_ms)], by="nina", reason=WHY)
    assert amount() == Decimal("1.25")


def test_an_amount_from_the_future_is_not_adopted() -> None:
    """A host's clock was ahead: every entry until then would count as inside the amount."""
    line = drifting()
    ahead = seen("0.062", asked_ms=clock.now_ms() + 3_600_000)
    with pytest.raises(LedgerChanged):
        reconcile.adopt([ahead], by="nina", reason=WHY)
    nothing_happened()
    Balance.objects.update(moved_ms=clock.now_ms() + 3_600_000)
    reconcile.adopt([line], by="nina", reason=WHY)
    assert Balance.objects.get().moved_ms == line.asked_ms, "and what such a clock left is mended by it"


def test_a_symbol_entered_meanwhile_is_not_entered_again() -> None:
    line = seen("0.5")
    balance("0.002")
    with pytest.raises(LedgerChanged):
        reconcile.adopt([line], by="nina", reason=WHY)
    assert amount() == Decimal("0.002")


def test_no_correction_while_an_order_is_in_flight() -> None:
    line = drifting()
    SymbolLock.objects.create(account=settings.ACCOUNT, symbol="BTCUSDT", plan_id="0" * 16)
    with pytest.raises(LedgerChanged):
        reconcile.adopt([line], by="nina", reason=WHY)
    nothing_happened()


def test_of_many_symbols_one_that_changed_keeps_all_as_they_were() -> None:
    line = drifting()
    balance("1", symbol="ETHUSDT")
    other = seen("2", symbol="ETHUSDT")
    Balance.objects.filter(symbol="ETHUSDT").update(version=9)
    with pytest.raises(LedgerChanged):
        reconcile.adopt([line, other], by="nina", reason=WHY)
    nothing_happened()


@pytest.mark.parametrize("point", ["ledger_balance_corrected", "ledger_corrected", "incidents_resolved"])
def test_it_is_all_or_nothing_wherever_it_dies(point: str, settings: Settings) -> None:
    """A13. Afterwards the same page still counts, for nothing has moved."""
    line = drifting()
    settings.QUANTUM_FAULT = f"{point}:raise"
    with pytest.raises(FaultRaised):
        reconcile.adopt([line], by="nina", reason=WHY)
    nothing_happened()
    settings.QUANTUM_FAULT = ""
    reconcile.adopt([line], by="nina", reason=WHY)
    assert amount() == Decimal("0.062")


def test_an_entry_from_before_the_adopted_read_is_not_counted_twice() -> None:
    """The exchange's amount that was adopted had it in it; the feed heard of it later."""
    line = drifting()
    early = stranger(1, "0.06", client_order_id="entry-1")
    reconcile.adopt([seen("0.062", asked_ms=early.trade.time_ms + 50)], by="nina", reason=WHY)
    assert ledger.book([early], kind=LedgerEntry.Kind.ENTRY, actor="feed") == 0
    assert amount() == line.exchange
    later = stranger(2, "0.01", client_order_id="entry-2")
    Balance.objects.update(moved_ms=0)
    LedgerEntry.objects.update(at=clock.from_ms(later.trade.time_ms - 1))
    assert ledger.book([later], kind=LedgerEntry.Kind.ENTRY, actor="feed") == 1
    assert amount() == Decimal("0.072")


def test_a_drift_that_a_person_settled_while_the_sweep_looked_at_it_is_no_incident() -> None:
    line = drifting()
    assert line.difference is not None
    reconcile.adopt([line], by="nina", reason=WHY)
    late = incidents.begin(
        symbol="BTCUSDT", found=line.difference, cause=difference.Cause.LIQUIDATION, evidence=[]
    )
    assert (late, incidents.standing().count(), Hold.objects.filter(lifted_at=None).count()) == (None, 0, 0)


def test_a_read_from_before_the_correction_starts_no_new_incident() -> None:
    line = drifting()
    reconcile.adopt([line], by="nina", reason=WHY)
    watched = Watched()
    watched.asked_ms = line.asked_ms - 10_000
    for _ in range(5):
        watched.look(BTCUSDT="0.002")
    assert not incidents.standing().exists()


def test_an_exchange_that_cannot_be_read_changes_nothing(redis: Client) -> None:
    """p33 is down, and an old snapshot still lies in Redis."""
    fields = {"position_amt": "0.5", "ts_epoch": "1", "seen_epoch": "1", "lot_step": "0.001"}
    redis.hset(settings.KEYS.snapshot("BTCUSDT"), mapping=fields)
    with pytest.raises(Unreadable):
        reconcile.look(redis, names=["BTCUSDT"], within_s=0.1)


@pytest.mark.parametrize("broken", ["nan", "1e3", "", "x", "\xff"])
def test_a_snapshot_that_is_no_number_is_no_snapshot(redis: Client, broken: str) -> None:
    ahead = str(clock.now_ms() // 1000 + 60)
    fields = {"position_amt": broken, "ts_epoch": ahead, "seen_epoch": ahead, "lot_step": "0.001"}
    redis.hset(settings.KEYS.snapshot("BTCUSDT"), mapping=fields)
    with pytest.raises(Unreadable):
        reconcile.look(redis, names=["BTCUSDT"], within_s=0.05)


def test_the_ledger_can_be_read_as_it_stood() -> None:
    balance("0")
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    for hour, said in enumerate(("1", "3", "2")):
        row = LedgerEntry(
            account=settings.ACCOUNT, symbol="BTCUSDT", kind="entry", delta=Decimal(0), balance=Decimal(said),
            actor="tests", at=start, recorded_at=start + dt.timedelta(hours=hour),
        )  # fmt: skip
        row.save()

    def at(hours: float) -> Decimal | None:
        found = history.entry_at("BTCUSDT", start + dt.timedelta(hours=hours))
        return found.balance if found else None

    assert [at(-1), at(0), at(1.5), at(9)] == [None, Decimal(1), Decimal(3), Decimal(2)]


def test_profit_and_commission_are_added_to_the_last_digit_and_kept_apart() -> None:
    for number in range(3):
        stranger(number, "0.1", client_order_id="entry-1")
    stranger(1, "0.1", client_order_id="entry-1")
    stranger(9, "0.1", client_order_id="entry-1", symbol="ETHUSDT")
    found = history.earned("BTCUSDT")
    assert (found.fills, found.realized_pnl) == (3, Decimal("3.75"))
    assert found.commission == {"USDT": Decimal("0.12")}


@pytest.mark.parametrize("typed", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "soon"])
def test_a_moment_that_no_calendar_has_is_typed_wrong(typed: str) -> None:
    with pytest.raises(SystemExit) as end:
        call_command("ledger_show", "BTCUSDT", at=typed)
    assert end.value.code == 2
