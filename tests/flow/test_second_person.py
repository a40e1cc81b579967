"""Above a limit a correction waits for another person, and counts only for the numbers that it was asked for."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.conf import settings
from msgspec.structs import replace

from positions.models import CorrectionRequest, LedgerEntry
from positions.reconcile import reconcile, second
from positions.reconcile.reconcile import Line
from quantum import clock
from quantum.fault import FaultRaised
from quantum.models import AuditEvent
from tests.flow.test_admin import someone, text_of
from tests.flow.test_reconcile import WHY, balance, incident_of, look_at_once, run, trade_by_hand
from tests.flow.test_reconcile_page import act, mark_on, overview, page
from tests.house import House

YES = "saw the same trade in the app"


@pytest.fixture
def drifting(house: House, monkeypatch: pytest.MonkeyPatch) -> House:
    """2 coins of drift, far above the limit."""
    monkeypatch.setattr(settings, "RECONCILE_SECOND_PERSON_USD", Decimal(100))
    look_at_once(monkeypatch)
    house.start("p33")
    trade_by_hand(house, "BTCUSDT", "3.000")
    incident_of()
    return house


def asked(by: str = "nina") -> CorrectionRequest:
    code, told, talk = run("reconcile", "BTCUSDT", "--adopt", reason=WHY, by=by)
    assert (code, told["changed"]) == (4, False), talk
    assert f"another person than {by}" in talk
    return CorrectionRequest.objects.get(pk=told["request"]["id"])


def nothing_moved() -> None:
    assert balance() == 1
    assert incident_of().state == "open"


def line(house: House, symbol: str = "BTCUSDT") -> Line:
    [found] = reconcile.look(house.redis, names=[symbol], within_s=5)
    return found


def test_a_correction_above_the_limit_waits_and_another_persons_yes_carries_it_out(drifting: House) -> None:
    request = asked()
    nothing_moved()
    code, told, talk = run("reconcile", "BTCUSDT")
    assert (code, told["waiting"][0]["id"]) == (3, request.pk)
    assert f"Request {request.pk} of nina" in talk and "ledger 1 -> 3" in talk
    code, told, talk = run("reconcile", approve=request.pk, reason=YES, by="omar")
    assert code == 0, talk
    assert balance() == 3
    entry = LedgerEntry.objects.filter(symbol="BTCUSDT").latest("id")
    assert (entry.actor, entry.reason) == ("nina", f"{WHY}; approved by omar: {YES}")
    request.refresh_from_db()
    assert (request.state, request.decided_by, request.decided_reason) == ("approved", "omar", YES)
    kinds = AuditEvent.objects.filter(kind__startswith="correction_").order_by("id")
    assert [(event.kind, event.actor) for event in kinds] == [
        ("correction_asked", "nina"), ("correction_approved", "omar"),
    ]  # fmt: skip
    assert run("reconcile", approve=request.pk, reason=YES, by="omar")[0] == 4, "a second yes counts nothing"


@pytest.mark.parametrize("same", ["nina", " NINA "])
def test_who_asked_cannot_say_yes_however_the_name_is_spelled(drifting: House, same: str) -> None:
    request = asked()
    code, _, talk = run("reconcile", approve=request.pk, reason=YES, by=same)
    assert (code, "another person has to say yes" in talk) == (4, True)
    nothing_moved()


def test_a_yes_counts_for_the_numbers_that_were_asked_for_and_no_others(drifting: House) -> None:
    request = asked()
    trade_by_hand(drifting, "BTCUSDT", "4.000")
    code, _, talk = run("reconcile", approve=request.pk, reason=YES, by="omar")
    assert (code, "holds 4 now, 3 was shown" in talk) == (4, True), talk
    nothing_moved()
    trade_by_hand(drifting, "BTCUSDT", "3.000")
    shown = line(drifting)
    reconcile.correct(shown, to=Decimal("2.999"), by="nina", reason=WHY)
    code, _, talk = run("reconcile", approve=request.pk, reason=YES, by="omar")
    assert (code, "ledger moved meanwhile" in talk) == (4, True), talk
    assert balance() == Decimal("2.999")
    assert CorrectionRequest.objects.get().state == "waiting", "it ends by itself"


def test_a_request_that_nobody_answers_ends_after_an_hour(drifting: House) -> None:
    request = asked()
    CorrectionRequest.objects.update(expires_at=clock.now() - dt.timedelta(seconds=1))
    code, _, talk = run("reconcile", approve=request.pk, reason=YES, by="omar")
    assert (code, "is expired" in talk) == (4, True), talk
    assert second.waiting() == []
    assert AuditEvent.objects.filter(kind="correction_expired").count() == 1
    nothing_moved()


def test_the_limit_is_the_worth_of_all_symbols_and_no_price_is_above_it(drifting: House) -> None:
    shown = replace(line(drifting), mark_price=Decimal(30))
    assert not second.is_above_limit([shown], to=None), "2 coins of 30"
    assert second.is_above_limit([shown, shown], to=None)
    assert second.is_above_limit([shown], to=Decimal(-9))
    assert not second.is_above_limit([shown], to=Decimal(4))
    assert second.is_above_limit([replace(shown, mark_price=None)], to=None)
    assert not second.is_above_limit([replace(shown, mark_price=None)], to=shown.ledger)


def test_many_symbols_wait_together_and_one_that_moved_keeps_all_as_they_were(drifting: House) -> None:
    trade_by_hand(drifting, "ETHUSDT", "-9.000")
    incident_of("ETHUSDT")
    code, told, _ = run("reconcile", "--adopt", reason=WHY, by="nina")
    assert code == 4
    request = told["request"]
    assert [each["symbol"] for each in request["lines"]] == ["BTCUSDT", "ETHUSDT"]
    trade_by_hand(drifting, "ETHUSDT", "-9.500")
    assert run("reconcile", approve=request["id"], reason=YES, by="omar")[0] == 4
    assert (balance(), balance("ETHUSDT")) == (Decimal(1), Decimal(-8))
    trade_by_hand(drifting, "ETHUSDT", "-9.000")
    code, told, talk = run("reconcile", approve=request["id"], reason=YES, by="omar")
    assert code == 0, talk
    assert (balance(), balance("ETHUSDT")) == (Decimal(3), Decimal(-9))


def test_a_yes_that_dies_on_the_way_leaves_the_request_and_the_ledger(
    drifting: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = asked()
    monkeypatch.setattr(settings, "QUANTUM_FAULT", "ledger_corrected:raise")
    with pytest.raises(FaultRaised):
        second.approve(drifting.redis, request_id=request.pk, by="omar", reason=YES, within_s=5)
    monkeypatch.setattr(settings, "QUANTUM_FAULT", "")
    nothing_moved()
    assert second.waiting() == [request]


def test_mistakes_at_the_command_line_change_nothing(drifting: House) -> None:
    request = asked()
    for options, code in (
        ({"approve": request.pk, "by": "omar"}, 2),
        ({"approve": request.pk, "by": "omar", "reason": "yes"}, 2),
        ({"approve": request.pk + 1, "by": "omar", "reason": YES}, 4),
        ({"approve": 10**30, "by": "omar", "reason": YES}, 4),
        ({"approve": request.pk, "by": "omar", "reason": YES, "dry_run": True}, 2),
    ):
        found, _, talk = run("reconcile", **options)
        assert (found, "Traceback" in talk) == (code, False), (options, talk)
    nothing_moved()


def test_on_the_page_another_person_says_yes_and_who_asked_is_told_to_wait(drifting: House) -> None:
    nina, omar = someone("nina", superuser=True), someone("omar", superuser=True)
    olga = someone("olga", "view_incident", "view_balance")
    shown = text_of(act(nina, "adopt", mark_on(nina)))
    request = CorrectionRequest.objects.get()
    assert f"request {request.pk} waits for another person than nina" in shown
    assert "You asked for it" in shown and f"Approve request {request.pk}" not in shown
    nothing_moved()
    refused = text_of(act(nina, "approve", mark_on(nina), request=request.pk))
    assert "another person has to say yes" in refused
    assert act(olga, "approve", mark_on(nina), request=request.pk).status_code == 403
    assert "Nothing was changed" in text_of(act(omar, "approve", mark_on(omar), request=request.pk + 1))
    assert f"Approve request {request.pk}" in text_of(omar.get(page()))
    assert f"Request {request.pk}" in text_of(omar.get(overview()))
    assert "the ledger says 3 now" in text_of(act(omar, "approve", mark_on(omar), request=request.pk))
    assert balance() == 3


def test_without_the_setting_one_person_is_enough(drifting: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "RECONCILE_SECOND_PERSON_USD", None)
    assert run("reconcile", "BTCUSDT", "--adopt", reason=WHY, by="nina")[0] == 0
    assert balance() == 3
