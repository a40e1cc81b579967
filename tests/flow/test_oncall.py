"""On call: what is in the way, and acts that are bound to what was shown, by a person with a reason."""

from __future__ import annotations

import datetime as dt
import html
import re
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.core import signing
from django.db import OperationalError
from django.test import Client as WebClient
from django.test import override_settings
from django.urls import reverse

from apply.pages import oncall_acts
from permits.models import Hold, TradingState
from permits.state import holds, resuming, trading
from permits.state.trading import StateChanged
from positions.models import Incident
from positions.pages.acts import CHANGED, NO_DATABASE
from quantum import clock
from quantum.models import AuditEvent
from quantum.redis import Client
from tests.flow.test_admin import HOSTILE, someone, text_of
from tests.unguarded import unguarded

WHY = "strange prices on both books"
VIEWS = ("view_tradingstate", "view_hold", "view_incident")


@pytest.fixture
def web(redis: Client, transactional_db: None) -> WebClient:
    trading.change(state=TradingState.State.ACTIVE, by="omar", reason="all is well")
    return someone("nina", superuser=True)


def page() -> str:
    return reverse("admin:apply_oncall")


def preview(act: str, *about: object) -> str:
    return reverse(f"admin:apply_oncall_{act}", args=about)


def mark_on(web: WebClient, act: str, *about: object) -> str:
    shown = text_of(web.get(preview(act, *about)))
    found = re.search(r'name="mark" value="([^"]+)"', shown)
    assert found is not None, shown
    return html.unescape(found[1])


def press(web: WebClient, act: str, *about: object, mark: str = "", **said: Any) -> str:
    sent = {"mark": mark or mark_on(web, act, *about), "reason": WHY, **said}
    answer = web.post(reverse(f"admin:apply_oncall_{act}_act", args=about), sent, follow=True)
    assert answer.status_code == 200
    return html.unescape(text_of(answer))


def incident(symbol: str = "SOLUSDT", **more: Any) -> Incident:
    return Incident.objects.create(
        **{
            "account": "main", "symbol": symbol, "kind": "quantity", "cause": "manual_trade",
            "exchange_amt": Decimal(1), "ledger_amt": Decimal(2), "diff": Decimal(1), "tolerance": Decimal("0.1"),
            **more,
        }
    )  # fmt: skip


def made_older(kind: str, *, s: float) -> None:
    with unguarded():
        AuditEvent.objects.filter(kind=kind).update(at=clock.now() - dt.timedelta(seconds=s))


# ---- what is in the way


def test_it_says_first_what_stops_exits_and_offers_the_act_that_ends_it(
    web: WebClient, redis: Client
) -> None:
    trading.change(state=TradingState.State.HALTED, by="omar", reason="out of hours")
    hold = holds.place(redis, symbol="ETHUSDT", by="omar", reason="drift of an hour")
    drift = incident()
    shown = text_of(web.get(page()))
    for told in (
        "No exit can leave",
        "out of hours",
        "ETHUSDT is frozen",
        "SOLUSDT: exchange and ledger differ",
    ):
        assert told in shown, told
    for address in (preview("resume"), preview("lift", hold.pk), preview("ack", drift.pk),
                    reverse("admin:apply_break_glass")):  # fmt: skip
        assert f'href="{address}"' in shown, address
    assert preview("halt", "everything") not in shown, "it is halted already"
    assert 'data-go="c"' in shown and ">On call</a>" in shown


def test_who_may_not_act_is_offered_nothing_and_refused_by_address(web: WebClient, redis: Client) -> None:
    hold = holds.place(redis, symbol="ETHUSDT", by="omar", reason="drift of an hour")
    drift = incident()
    viewer = someone("vera", *VIEWS)
    shown = text_of(viewer.get(page()))
    assert "ETHUSDT is frozen" in shown
    assert not re.search(r'href="/admin/oncall/\w+/', shown)
    for act, about in (("halt", ["everything"]), ("resume", []), ("lift", [hold.pk]), ("ack", [drift.pk])):
        assert viewer.get(preview(act, *about)).status_code == 403
        address = reverse(f"admin:apply_oncall_{act}_act", args=about)
        assert viewer.post(address, {"reason": WHY}).status_code == 403
        assert web.get(address).status_code == 405
    assert text_of(someone("gast", "view_tradingstate").get(page())).count("ETHUSDT") == 0


def test_the_living_part_is_shared_by_who_may_do_the_same_and_nobody_else(web: WebClient) -> None:
    address = reverse("admin:apply_oncall_part")
    assert "Halt everything" in text_of(web.get(address))
    assert "Halt everything" not in text_of(someone("vera", *VIEWS).get(address))


def test_a_page_opened_after_an_act_is_not_the_one_of_a_second_ago(web: WebClient) -> None:
    assert "Halt everything" in text_of(web.get(reverse("admin:apply_oncall_part")))
    assert "<b>HALTED for everything</b>" in press(web, "halt", "everything")


# ---- any act


@pytest.mark.parametrize("reason", ["", "short", " " * 20])
def test_an_act_without_a_reason_changes_nothing_and_shows_the_act_again(web: WebClient, reason: str) -> None:
    shown = press(web, "halt", "everything", reason=reason)
    assert "Nothing was changed. reason:" in shown
    assert "Halt everything</button>" in shown
    assert trading.current().active


def test_a_database_that_refuses_is_said(web: WebClient, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = mark_on(web, "halt", "everything")

    def refuse(**_: object) -> None:
        raise OperationalError

    monkeypatch.setattr(trading, "halt", refuse)
    assert "The database refuses" in press(web, "halt", "everything", mark=mark)


# ---- F18: nobody acts on what he did not see


def test_f18_an_act_on_a_page_that_is_not_true_any_more_is_refused(web: WebClient) -> None:
    mark = mark_on(web, "halt", "everything")
    trading.change(state=TradingState.State.ACTIVE, by="omar", reason="changed meanwhile")
    told = press(web, "halt", "everything", mark=mark)
    assert (
        f"{CHANGED} It showed: ACTIVE by omar: all is well (v1). It is: ACTIVE by omar: changed meanwhile (v2)."
        in told
    )
    assert trading.current().active


def test_f18_a_hold_is_not_lifted_over_other_numbers_than_were_shown(web: WebClient, redis: Client) -> None:
    hold = holds.place(redis, symbol="SOLUSDT", by="omar", reason="drift of an hour")
    drift = incident()
    mark = mark_on(web, "lift", hold.pk)
    Incident.objects.filter(pk=drift.pk).update(exchange_amt=Decimal(7))
    told = press(web, "lift", hold.pk, mark=mark)
    assert CHANGED in told
    for numbers in ("exchange 1, ledger 2. It is:", "exchange 7, ledger 2."):
        assert numbers in told, numbers
    assert Hold.objects.get(pk=hold.pk).lifted_at is None


def test_f18_a_mark_counts_for_one_act_one_account_and_a_quarter_of_an_hour(
    web: WebClient, redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = mark_on(web, "halt", "automatic")
    assert CHANGED in press(web, "halt", "everything", mark=narrow)
    first, second = incident("ETHUSDT"), incident("SOLUSDT")
    mark = mark_on(web, "ack", first.pk)
    assert CHANGED in press(web, "ack", second.pk, mark=mark)
    assert CHANGED in press(web, "ack", first.pk, mark=signing.dumps(["main"]))
    wide = mark_on(web, "halt", "everything")
    with override_settings(ACCOUNT="desk-7"):
        assert CHANGED in press(web, "halt", "everything", mark=wide)
    monkeypatch.setattr(oncall_acts, "LIFE_S", -1)
    assert CHANGED in press(web, "halt", "everything", mark=wide)
    assert trading.current().active
    assert not Incident.objects.exclude(acked_at=None).exists()


# ---- resume


@pytest.fixture
def halted(web: WebClient) -> WebClient:
    trading.halt(cause="person", by="omar", reason="looks odd", scope=TradingState.Scope.EVERYTHING)
    return web


def test_one_person_asks_waits_and_confirms_by_typing_the_account(halted: WebClient) -> None:
    assert settings.APPROVERS_REQUIRED == 1
    shown = press(halted, "resume")
    assert "Asked. Nothing was changed yet" in shown
    assert "Resume now</button>" in shown
    assert "ask first, then confirm after 3 s" in press(halted, "resume", confirm="main")
    made_older(resuming.REQUESTED, s=10)
    assert "This is not the account's name" in press(halted, "resume", confirm="other")
    assert "confirm: This field is required" in press(halted, "resume")
    assert not trading.current().active
    assert "ACTIVE by nina" in press(halted, "resume", confirm="main")
    assert trading.current().active


def test_where_two_are_required_another_person_confirms(halted: WebClient, settings: Any) -> None:
    settings.APPROVERS_REQUIRED = 2
    press(halted, "resume")
    shown = html.unescape(text_of(halted.get(preview("resume"))))
    assert "another person has to confirm" in shown
    assert '<button type="submit" class="button' not in shown
    omar = someone("omar", "resume", *VIEWS)
    shown = html.unescape(text_of(omar.get(preview("resume"))))
    assert f"Asked by nina, 0 s ago: {WHY}" in shown
    assert not trading.current().active
    assert "ACTIVE by omar" in press(omar, "resume", confirm="main")


def test_who_asked_cannot_confirm_his_own_request_with_a_form_made_by_hand(
    halted: WebClient, settings: Any
) -> None:
    settings.APPROVERS_REQUIRED = 2
    mark = mark_on(halted, "resume")
    press(halted, "resume", mark=mark)
    made_older(resuming.REQUESTED, s=10)
    assert CHANGED in press(halted, "resume", mark=mark, confirm="main")
    assert not trading.current().active


def test_a_cause_that_came_since_the_page_was_opened_must_be_looked_at_first(halted: WebClient) -> None:
    press(halted, "resume")
    made_older(resuming.REQUESTED, s=10)
    mark = mark_on(halted, "resume")
    trading.halt(cause="person", by="vera", reason="the other book too")
    assert CHANGED in press(halted, "resume", mark=mark, confirm="main")
    assert "Told again by vera" in text_of(halted.get(preview("resume")))
    assert not trading.current().active


def test_a_cause_told_by_a_host_whose_clock_is_behind_is_shown_to_who_resumes(halted: WebClient) -> None:
    trading.halt(cause="tampering", by="apply", reason="strange bytes")
    made_older("halt_repeated", s=30)
    assert "Told again by apply" in text_of(halted.get(preview("resume")))


@pytest.mark.parametrize("wrong", [OperationalError("gone"), StateChanged()], ids=repr)
def test_a_resume_that_is_recorded_is_told_so_though_the_database_goes_right_after(
    halted: WebClient, monkeypatch: pytest.MonkeyPatch, wrong: Exception
) -> None:
    """ACTIVE is committed when the holds are read to arm the gate: apply arms it seconds later."""
    press(halted, "resume")
    made_older(resuming.REQUESTED, s=10)

    def goes(*_: object) -> None:
        raise wrong

    monkeypatch.setattr(holds, "project", goes)
    shown = press(halted, "resume", confirm="main")
    assert trading.current().active
    assert "ACTIVE by nina" in shown and oncall_acts.LATE_GATE in shown
    assert CHANGED not in shown and NO_DATABASE not in shown


def test_what_is_not_halted_cannot_be_resumed(web: WebClient) -> None:
    answer = web.get(preview("resume"), follow=True)
    assert "Nothing to do: trading is ACTIVE" in text_of(answer)


# ---- holds and incidents


def test_a_hold_is_lifted_and_says_which_incident_stays(web: WebClient, redis: Client) -> None:
    hold = holds.place(redis, symbol="SOLUSDT", by="omar", reason="drift of an hour")
    drift = incident()
    shown = html.unescape(text_of(web.get(preview("lift", hold.pk))))
    assert f"Incident {drift.pk} stays open (exchange 1, ledger 2)" in shown
    assert "SOLUSDT frozen by omar: drift of an hour" in shown
    assert f"Hold {hold.pk} of SOLUSDT is lifted." in press(web, "lift", hold.pk)
    hold.refresh_from_db()
    assert (hold.lifted_by, hold.lifted_reason) == ("nina", WHY)
    assert redis.get(settings.KEYS.hold("SOLUSDT")) is None
    assert "was lifted 0 s ago by nina" in text_of(web.get(preview("lift", hold.pk), follow=True))


def test_the_hold_that_was_shown_is_lifted_and_none_that_was_placed_since(
    web: WebClient, redis: Client
) -> None:
    first = holds.place(redis, symbol="SOLUSDT", by="omar", reason="drift of an hour")
    mark = mark_on(web, "lift", first.pk)
    holds.lift(redis, symbol="SOLUSDT", by="omar", reason="a mistake of mine")
    second = holds.place(redis, symbol="SOLUSDT", by="omar", reason="now really")
    assert "was lifted" in press(web, "lift", first.pk, mark=mark)
    assert CHANGED in press(web, "lift", second.pk, mark=mark)
    assert Hold.objects.get(lifted_at=None) == second


def test_an_incident_that_opened_since_is_looked_at_before_the_hold_is_lifted(
    web: WebClient, redis: Client
) -> None:
    hold = holds.place(redis, symbol="SOLUSDT", by="omar", reason="drift of an hour")
    mark = mark_on(web, "lift", hold.pk)
    incident()
    assert CHANGED in press(web, "lift", hold.pk, mark=mark)
    assert Hold.objects.filter(lifted_at=None).exists()


def test_in_live_lifting_a_hold_takes_the_accounts_name(web: WebClient, redis: Client) -> None:
    hold = holds.place(redis, symbol="SOLUSDT", by="omar", reason="drift of an hour")
    with override_settings(APPLY_MODE="live"):
        assert "confirm: This field is required" in press(web, "lift", hold.pk)
        assert "is lifted" in press(web, "lift", hold.pk, confirm="main")


def test_an_incident_is_taken_once_and_stays_open(web: WebClient) -> None:
    drift = incident()
    mark = mark_on(web, "ack", drift.pk)
    assert "is taken by nina; it stays open" in press(web, "ack", drift.pk)
    drift.refresh_from_db()
    assert (drift.state, drift.acked_by, drift.acked_reason) == ("open", "nina", WHY)
    omar = someone("omar", superuser=True)
    assert "was taken 0 s ago by nina" in press(omar, "ack", drift.pk, mark=mark)
    shown = text_of(omar.get(page()))
    assert "taken by nina" in shown
    assert preview("ack", drift.pk) not in shown


# ---- F8: rows of others


@pytest.mark.parametrize("act", ["lift", "ack"])
@pytest.mark.parametrize("number", [77, 0, 10**30])
def test_f8_what_was_never_there_or_is_another_accounts_is_not_found(
    web: WebClient, act: str, number: int
) -> None:
    assert web.get(preview(act, number)).status_code == 404
    address = reverse(f"admin:apply_oncall_{act}_act", args=[number])
    assert "Nothing was changed" in text_of(web.post(address, {"reason": WHY}, follow=True))


def test_f8_an_incident_of_another_account_can_be_neither_seen_nor_taken(web: WebClient) -> None:
    theirs = incident(account="desk-7")
    assert "SOLUSDT" not in text_of(web.get(page()))
    assert web.get(preview("ack", theirs.pk)).status_code == 404
    assert "Nothing was changed" in press(web, "ack", theirs.pk, mark="x")
    theirs.refresh_from_db()
    assert theirs.acked_at is None


def test_a_scope_that_does_not_exist_has_no_page(web: WebClient) -> None:
    assert web.get(preview("halt", "nothing")).status_code == 404


# ---- read-only, and what strangers wrote


def test_read_only_shows_everything_and_offers_no_form(web: WebClient) -> None:
    mark = mark_on(web, "halt", "everything")
    with override_settings(WEB_READ_ONLY="on"):
        assert "HALTED for everything" in text_of(web.get(preview("halt", "everything")))
        assert "Halt everything</button>" not in text_of(web.get(preview("halt", "everything")))
        sent = {"mark": mark, "reason": WHY}
        answer = web.post(reverse("admin:apply_oncall_halt_act", args=["everything"]), sent)
    assert answer.status_code == 403
    assert trading.current().active


def test_what_strangers_wrote_becomes_no_markup(web: WebClient, redis: Client) -> None:
    hold = holds.place(redis, symbol=HOSTILE[:40], by=HOSTILE[:60], reason=HOSTILE)
    drift = incident(HOSTILE[:40])
    press(web, "halt", "automatic", reason=HOSTILE)
    trading.halt(cause="person", by=HOSTILE[:60], reason=HOSTILE)
    acts = (("lift", hold.pk), ("ack", drift.pk), ("resume",), ("halt", "everything"))
    for address in (page(), reverse("admin:index"), *(preview(*each) for each in acts)):
        shown = text_of(web.get(address))
        assert "<script>alert" not in shown and "<img src=x" not in shown, address
        assert "&lt;script&gt;" in shown
