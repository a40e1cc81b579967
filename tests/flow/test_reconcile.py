"""Drift with real parts: it denies, it is shown, a person settles it, and exits flow again."""

from __future__ import annotations

import datetime as dt
import io
import json
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command

from permits.management.acting import ActCommand
from permits.models import Hold, Permit
from positions.books import agreed
from positions.drift import incidents, sweep
from positions.feed import feed
from positions.feed.feed import Feed
from positions.models import Balance, Fill, Incident, LedgerEntry, SymbolLock
from positions.reconcile import reconcile
from quantum import clock
from quantum.exchange import connect
from quantum.fault import FaultRaised
from quantum.plan import Action
from quantum.redis import Client
from tests.house import House, wait_for

WHY = "my own trade in the app, checked there"


def run(*words: str, **options: Any) -> tuple[int, dict[str, Any], str]:
    """Exit code, what --json says, and the talk."""
    out, talk = io.StringIO(), io.StringIO()
    code = 0
    try:
        call_command(*words, "--json", stdout=out, stderr=talk, **options)
    except SystemExit as end:
        code = int(str(end.code))
    return code, json.loads(out.getvalue() or "{}"), talk.getvalue()


def look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drift is an incident at the second look, and the second look follows the first: nothing else is on its way."""
    for module, name in ((sweep, "GRACE_S"), (sweep, "EVERY_S"), (feed, "GRACE_S")):
        monkeypatch.setattr(module, name, 0.2)


def trade_by_hand(house: House, symbol: str, amount: str) -> None:
    by_hand = house.entry_id().replace("entry", "web")
    house.paper.set_position(symbol=symbol, amount=amount, client_order_id=by_hand)
    wait_for(Fill.objects.filter(client_order_id=by_hand).exists, what="the trade to be seen")


def balance(symbol: str = "BTCUSDT") -> Decimal:
    found: Decimal = Balance.objects.get(symbol=symbol).amount
    return found


def incident_of(symbol: str = "BTCUSDT") -> Incident:
    found: Incident = wait_for(lambda: incidents.standing(symbol).first(), what="the incident")
    return found


def test_drift_denies_is_shown_is_adopted_with_a_reason_and_the_next_plan_executes(house: House) -> None:
    """0.062 at the exchange, 0.002 in the ledger."""
    house.paper.set_position(symbol="BTCUSDT", amount="0.002", client_order_id=House.entry_id())
    house.start()
    assert balance() == Decimal("0.002")

    trade_by_hand(house, "BTCUSDT", "0.062")
    row = house.exit("BTCUSDT", Action.FULL_CLOSE)
    assert (row.error, row.gate_reason) == ("permit_denied:p33_denied", "reconcile_required_qty_mismatch")
    permit = wait_for(
        lambda: Permit.objects.filter(plan_id=row.plan_id, gate="p33").first(), what="the permit's row"
    )
    said = json.loads(permit.raw, parse_float=Decimal)["context"]
    numbers = [said[name] for name in ("exchange_amt", "ledger_amt", "diff", "tolerance")]
    assert numbers == [Decimal("0.062"), Decimal("0.002"), Decimal("0.060"), Decimal("0.001")]

    incident = incident_of()
    assert (incident.kind, incident.cause) == ("quantity", "manual_trade")
    code, told, _ = run("reconcile", "BTCUSDT")
    assert code == 3
    [line] = told["symbols"]
    assert (line["exchange_amt"], line["ledger_amt"], line["diff"]) == ("0.062", "0.002", "0.06")
    assert (line["tolerance"], line["incidents"][0]["id"]) == ("0.001", incident.pk)
    assert line["hold"]["id"] == incident.hold_id
    orders = len(house.orders())

    code, told, talk = run("reconcile", "BTCUSDT", "--adopt", reason=WHY, by="nina")
    assert code == 0, talk
    assert "ledger 0.002 -> 0.062" in talk
    assert (told["resolved"], told["lifted"]) == ([incident.pk], [incident.hold_id])
    assert balance() == Decimal("0.062")
    entry = LedgerEntry.objects.filter(symbol="BTCUSDT").latest("id")
    assert (entry.actor, entry.reason, entry.delta) == ("nina", WHY, Decimal("0.06"))
    assert len(house.orders()) == orders, "reconciling never trades"

    row = house.exit("BTCUSDT", Action.FULL_CLOSE)
    assert row.state == "filled", (row.error, row.gate_reason)
    wait_for(lambda: balance() == 0, what="the ledger to be flat")
    assert run("reconcile", "BTCUSDT")[0] == 0


def test_a_drift_that_lasts_freezes_its_symbol_alone_and_ends_when_the_trade_is_undone(house: House) -> None:
    house.start()
    trade_by_hand(house, "BTCUSDT", "3.000")
    incident = incident_of()
    assert house.exit("BTCUSDT").gate_reason == "reconcile_hold_active"
    assert house.exit("SOLUSDT").state == "filled"
    trade_by_hand(house, "BTCUSDT", "1.000")
    wait_for(lambda: not incidents.standing().exists(), what="the incident to end")
    incident.refresh_from_db()
    assert incident.how == "ended"
    undone = Fill.objects.latest("recorded_at").recorded_at
    assert incident.resolved_at is not None
    assert undone < incident.resolved_at, "what undid it is told with it"
    assert not Hold.objects.filter(lifted_at=None).exists()
    wait_for(lambda: house.exit("BTCUSDT").state == "filled", what="exits to flow again")


def test_a_preview_and_every_mistake_change_nothing(house: House) -> None:
    house.start("p33")
    trade_by_hand(house, "BTCUSDT", "3.000")
    incident_of()
    for words, code, says in (
        (("BTCUSDT", "--adopt", "--dry-run", "--reason", WHY), 3, "ledger 1 -> 3"),
        (("BTCUSDT", "--adopt", "--reason", "oops"), 2, "at least 8 characters"),
        (("NOSUCHUSDT",), 2, "NOSUCHUSDT has no ledger"),
        (("BTCUSDT", "--apply", "--to", "1e3", "--reason", WHY), 2, "no plain amount"),
        (("BTCUSDT", "--apply", "--to", "nan", "--reason", WHY), 2, "no plain amount"),
        (("BTCUSDT", "--apply", "--reason", WHY), 2, "--to AMOUNT"),
        (("--apply", "--to", "1", "--reason", WHY), 2, "one symbol"),
        (("BTCUSDT", "--to", "1"), 2, "--to belongs to --apply"),
        (("ETHUSDT", "--adopt", "--reason", WHY), 0, "nothing to do"),
    ):
        found, _, talk = run("reconcile", *words)
        assert (found, says in talk) == (code, True), (words, found, talk)
    assert (balance(), balance("ETHUSDT")) == (Decimal(1), Decimal(-8))
    assert incidents.standing().count() == 1


def test_an_exchange_that_is_down_is_told_with_five_and_changes_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("positions.management.looking.WITHIN_S", 0.5)
    house.start("p33")
    trade_by_hand(house, "BTCUSDT", "3.000")
    incident_of()
    body = {"code": -1000, "msg": "x"}
    house.paper.push_scenario(
        {"next": "positionRisk", "do": "reply", "status": 500, "body": body, "times": 1000}
    )
    wait_for(lambda: run("reconcile")[0] == 5, what="the reads to fail")
    code, _, talk = run("reconcile", "BTCUSDT", "--adopt", reason=WHY)
    house.paper.clear_scenario()
    assert (code, "Nothing was changed" in talk, balance()) == (5, True, Decimal(1))


def test_a_correction_by_hand_and_what_the_other_commands_show(house: House) -> None:
    house.start("p33")
    trade_by_hand(house, "BTCUSDT", "3.000")
    incident = incident_of()
    code, told, _ = run("incident_ack", str(incident.pk), reason="I am looking at it", by="nina")
    assert (code, told["acked_by"]) == (0, "nina")
    assert run("incident_ack", "999999", reason="I am looking at it")[0] == 4
    code, told, talk = run("reconcile", "BTCUSDT", "--apply", "--to", "3", reason=WHY, by="omar")
    assert code == 0, talk
    assert balance() == Decimal(3)
    key = settings.KEYS.ledger("BTCUSDT")
    wait_for(lambda: house.redis.hget(key, "last_known_amt") == b"3", what="p33 to project the correction")
    code, told, _ = run("ledger_show", "BTCUSDT")
    assert (code, told["balance"], told["entries"][0]["kind"]) == (0, "3", "correction")
    assert run("ledger_show", "BTCUSDT", at="2020-01-01T00:00:00Z")[0] == 1
    assert run("ledger_show", "BTCUSDT", at="yesterday")[0] == 2
    code, told, _ = run("positions")
    assert code == 0
    [btc] = [each for each in told["positions"] if each["symbol"] == "BTCUSDT"]
    assert (btc["exchange_amt"], btc["ledger_amt"], btc["state"]) == ("3", "3", "match")


def test_an_exit_that_the_brain_granted_proves_that_both_agreed(house: House) -> None:
    house.start()
    adopted = agreed.last(["SOLUSDT"])["SOLUSDT"]
    plan_id = house.exit("SOLUSDT").plan_id
    rows = Permit.objects.filter(plan_id=plan_id, gate="p33")
    permit = wait_for(rows.first, what="the permit's row")
    wait_for(lambda: agreed.last(["SOLUSDT"])["SOLUSDT"] == permit.issued_at, what="the exit in the ledger")
    assert adopted < permit.issued_at
    rows.update(issuer="operator:nina@main")
    assert agreed.last(["SOLUSDT"])["SOLUSDT"] == adopted, "an operator signs where they differ"


def test_who_thought_for_long_about_what_was_shown_gets_it_read_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour at the prompt: what was shown is not what the exchange holds any more."""
    house.start("p33")
    trade_by_hand(house, "BTCUSDT", "3.000")
    incident_of()
    monkeypatch.setattr("positions.reconcile.reconcile.FRESH_S", -1)
    monkeypatch.setattr(ActCommand, "ask", lambda *_: trade_by_hand(house, "BTCUSDT", "5.000"))
    code, _, talk = run("reconcile", "BTCUSDT", "--adopt", reason=WHY)
    assert (code, balance()) == (4, Decimal(1)), talk
    assert "holds 5 now, 3 was shown" in talk
    monkeypatch.setattr(ActCommand, "ask", lambda *_: None)
    assert run("reconcile", "BTCUSDT", "--adopt", reason=WHY)[0] == 0
    assert balance() == Decimal(5)


def test_an_order_in_flight_is_no_drift_and_one_without_an_end_is_told(house: House) -> None:
    house.start("p33")
    lock = SymbolLock.objects.create(account=settings.ACCOUNT, symbol="BTCUSDT", plan_id="0" * 16)
    trade_by_hand(house, "BTCUSDT", "3.000")
    code, told, talk = run("reconcile", "BTCUSDT")
    assert (code, told["symbols"][0]["state"]) == (0, "in_flight"), talk
    assert "In flight, so not compared: BTCUSDT" in talk
    SymbolLock.objects.filter(pk=lock.pk).update(since=lock.since - dt.timedelta(minutes=10))
    code, told, talk = run("reconcile", "BTCUSDT")
    assert (code, "Locked for long: BTCUSDT 60" in talk) == (4, True), talk
    assert 600 <= int(told["symbols"][0]["locked_s"]) < 620
    [btc] = [each for each in run("positions")[1]["positions"] if each["symbol"] == "BTCUSDT"]
    assert 600 <= int(btc["locked_s"]) < 620
    lock.delete()
    assert run("reconcile", "BTCUSDT")[0] == 3


def test_bytes_that_are_no_text_are_typed_wrong(house: House) -> None:
    house.start("p33")
    for word in ("reason", "by"):
        said = {"reason": WHY, "by": "nina", word: "caf\udce9, and why not"}
        code, _, talk = run("reconcile", "BTCUSDT", "--adopt", **said)
        assert (code, f"--{word} is not readable" in talk) == (2, True), talk


@pytest.mark.parametrize("field", ["ts_epoch", "seen_epoch"])
@pytest.mark.parametrize("moment", ["-999999999999999", "999999999999999"])
def test_a_moment_that_no_calendar_has_is_no_snapshot(house: House, field: str, moment: str) -> None:
    """Anybody who reaches Redis may have written it."""
    key = settings.KEYS.snapshot("BTCUSDT")
    said = {"position_amt": "1", "ts_epoch": "1700000000", "seen_epoch": "1700000000", "lot_step": "1"}
    house.redis.hset(key, mapping=said)
    assert reconcile.stand(house.redis, names=["BTCUSDT"])["BTCUSDT"] is not None
    house.redis.hset(key, mapping={**said, field: moment})
    assert reconcile.stand(house.redis, names=["BTCUSDT"]) == {"BTCUSDT": None}


def test_a_fill_between_the_looks_at_both_sides_is_no_drift(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exchange is read first: the ledger may then be ahead of it, which is told as unknown, never behind."""
    mine = {"account": "main", "symbol": "BTCUSDT"}
    Balance.objects.create(**mine, amount=Decimal(1), moved_ms=1, trades_from_ms=1)
    key, read = settings.KEYS.snapshot("BTCUSDT"), reconcile._snapshots

    def after_a_fill(client: Client, names: list[str]) -> Any:
        Balance.objects.filter(**mine).update(amount=Decimal("0.5"))
        said = {
            "position_amt": "0.5",
            "ts_epoch": clock.now_s(),
            "seen_epoch": clock.now_s(),
            "lot_step": "0.001",
        }
        house.redis.hset(key, mapping=said)
        return read(client, names)

    monkeypatch.setattr(reconcile, "_snapshots", after_a_fill)
    line = reconcile.stand(house.redis, names=["BTCUSDT"])["BTCUSDT"]
    [(_, recorded)] = reconcile.stand_recorded(house.redis, names=["BTCUSDT"])
    assert line is not None and line.state is reconcile.State.MATCH
    assert recorded is not None and recorded.state is reconcile.State.MATCH


def test_a_fill_whose_booking_dies_is_booked_by_the_next_read(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A11: stored and not booked is one transaction, so it is neither; the trade is found again."""
    house.start("p33")
    monkeypatch.setattr(settings, "QUANTUM_FAULT", "entry_stored:raise")
    house.stop("p33")
    house.paper.set_position(symbol="BTCUSDT", amount="2.500", client_order_id=House.entry_id())
    with pytest.raises(FaultRaised):
        Feed(reader=connect.reader(), stopping=lambda: True)._beat()
    assert balance() == Decimal(1)
    monkeypatch.setattr(settings, "QUANTUM_FAULT", "")
    house.start("p33")
    wait_for(lambda: balance() == Decimal("2.5"), what="the entry to be booked")
    assert not Incident.objects.exists()
