"""Targets of alerts in every mood, targets by apprise, `alert_test` and the page."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from contextlib import suppress
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import call_command
from django.urls import reverse
from pytest_django.fixtures import Settings

from apply.alerts import asking, by_apprise, courier, duties, targets
from apply.checks import apprise_is_there_where_it_is_set
from apply.models import Notice
from quantum.redis import Client
from tests.alerts_by_hand import Calm, aim, halt, resume
from tests.flow.test_admin import someone, text_of
from tests.receiver import DRIPS, HANGS, Receiver, listening

ALERT = ("alert", "halted")


# ---- targets in a bad mood


@pytest.mark.parametrize(
    ("mood", "words"), [(HANGS, "TimeoutError"), (DRIPS, "no answer"), (500, "answered 500")]
)
def test_a_target_that_hangs_drips_or_fails_gets_it_later_and_only_once(
    calm: Calm, receiver: Receiver, mood: int, words: str
) -> None:
    receiver.answer = mood
    halt()
    started_s = time.monotonic()
    calm.after(5)
    assert time.monotonic() - started_s < 3
    notice = Notice.objects.get()
    assert words in notice.answer
    assert (notice.told_at, notice.given_up_at, notice.attempts) == (None, None, 1)
    receiver.answer = 204
    calm.after(6)
    calm.after(60)
    assert [each.said["id"] for each in receiver.got] == [notice.mark] * 2, (
        "the same id: it can tell what it knows"
    )
    assert Notice.objects.get().told_at is not None


def test_a_target_that_drips_its_part_of_the_tls_handshake_comes_to_an_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before a byte of ours is on its way: the step's own time would be asked for anew with each of its bytes."""
    monkeypatch.setattr(asking, "STEP_S", 1.0)
    monkeypatch.setattr(asking, "WHOLE_S", 0.3)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            line, _ = server.accept()
            with line, suppress(OSError):
                line.sendall(b"\x16\x03\x03\x3f\xff")  # a record of 16 KB begins
                while not over.wait(0.02):
                    line.sendall(b"x")

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        closing = threading.Timer(5, over.set)
        closing.start()
        started_s = time.monotonic()
        with pytest.raises(OSError, match=r"timed out|SSL|record"):
            asking.ask("POST", f"https://127.0.0.1:{server.getsockname()[1]}/hook", body=b"{}", headers={})
        took_s = time.monotonic() - started_s
        over.set()
        closing.cancel()
        thread.join(5)
    assert took_s < 3


def test_a_target_that_is_not_there_is_tried_ever_less_often_and_given_up_when_it_is_over(
    calm: Calm, receiver: Receiver, settings: Settings
) -> None:
    settings.ALERT_WEBHOOK_URL = "http://127.0.0.1:9/hook"
    calm.warden()
    halt()
    for _ in range(courier.ATTEMPTS_MAX + 5):
        calm.after(courier.LONGEST_WAIT_S + 1)
    notice = Notice.objects.get()
    assert "ConnectionRefusedError" in notice.answer
    assert notice.attempts > courier.ATTEMPTS_MAX
    assert notice.given_up_at is None, "it still stands: somebody has to hear of it, however late"
    resume()
    for _ in range(3):
        calm.after(courier.LONGEST_WAIT_S + 1)
    notice.refresh_from_db()
    assert notice.given_up_at is not None


def test_a_target_that_was_away_for_hours_is_told_what_still_stands(
    calm: Calm, receiver: Receiver, settings: Settings
) -> None:
    there, settings.ALERT_WEBHOOK_URL = settings.ALERT_WEBHOOK_URL, "http://127.0.0.1:9/hook"
    calm.warden()
    halt()
    for _ in range(courier.ATTEMPTS_MAX + 5):
        calm.after(courier.LONGEST_WAIT_S + 1)
    settings.ALERT_WEBHOOK_URL = there
    calm.warden()
    calm.after(courier.LONGEST_WAIT_S + 1)
    assert receiver.events == [("alert", "halted")]


def test_a_redirect_is_not_followed_and_no_to_a_notice_is_a_no(calm: Calm, receiver: Receiver) -> None:
    with listening() as elsewhere:
        receiver.answer, receiver.location = 307, elsewhere.url
        halt()
        for _ in range(3):
            calm.after(60)
        assert elsewhere.got == []
    assert len(receiver.got) == 1
    notice = Notice.objects.get()
    assert "redirect" in notice.answer
    assert notice.given_up_at is not None


def test_an_alert_target_that_hangs_costs_neither_the_warden_nor_another_target_anything(
    calm: Calm, receiver: Receiver, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the threads that the warden gives them."""
    monkeypatch.setattr(asking, "STEP_S", 5.0)
    monkeypatch.setattr(asking, "WHOLE_S", 5.0)
    receiver.answer = HANGS
    with listening() as other:
        settings.ALERT_ESCALATION_URL = other.url
        monkeypatch.setattr(targets, "ESCALATION", "another")  # so that it hears of everything
        monkeypatch.setattr(courier, "LOOKS_EVERY_S", 0.0)
        monkeypatch.setattr(duties, "TURN_S", 0.0)
        found = targets.configured()
        for target in found:
            object.__setattr__(target, "escalations_only", False)
        monkeypatch.setattr(targets, "configured", lambda: found)
        halt()
        round_of = duties.of(calm.redis)
        end_s = time.monotonic() + 10
        while not other.got and time.monotonic() < end_s:
            started_s = time.monotonic()
            for duty in round_of:
                duty()
            assert time.monotonic() - started_s < 2, "a duty waited for the target"
            time.sleep(0.01)
        assert other.events == [ALERT]
        receiver.over.set()


# ---- targets by apprise


def test_apprise_is_asked_for_where_it_is_set_and_not_installed(
    settings: Settings, secrets_given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ALERT_APPRISE_SCHEMES = ("tgram",)
    secrets_given["ALERT_APPRISE_URLS"] = "tgram://private/1"
    monkeypatch.setattr(by_apprise, "installed", lambda: False)
    (wrong,) = apprise_is_there_where_it_is_set()
    assert "pip install" in str(wrong.hint)
    code, told = alert_test()
    assert code == 5
    assert "pip install" in told
    assert "private" not in told


def test_apprise_is_given_what_people_read_and_its_failures_are_answers(
    settings: Settings, secrets_given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[dict[str, Any]] = []

    class Apprise:
        def add(self, address: str) -> bool:
            self.address = address
            return not address.startswith("odd")

        def notify(self, **what: Any) -> bool:
            if self.address.startswith("raises"):
                raise RuntimeError("private")
            said.append(what)
            return not self.address.startswith("refuses")

    monkeypatch.setitem(sys.modules, "apprise", SimpleNamespace(Apprise=Apprise))
    monkeypatch.setattr(by_apprise, "installed", lambda: True)
    settings.ALERT_APPRISE_SCHEMES = ("mail", "refuses", "raises", "odd")
    secrets_given["ALERT_APPRISE_URLS"] = "mail://private refuses://private raises://private odd://private"
    code, told = alert_test("--json")
    answers = [(each["target"], each["told"], each["answer"]) for each in json.loads(told)["targets"]]
    assert (code, answers) == (5, [
        ("apprise-1 (mail)", True, "taken by the service"),
        ("apprise-2 (refuses)", False, "the service did not take it"),
        ("apprise-3 (raises)", False, "apprise failed (RuntimeError)"),
        ("apprise-4 (odd)", False, "apprise does not know this address: correct ALERT_APPRISE_URLS"),
    ])  # fmt: skip
    assert said[0]["title"] == "[PAPER main] test: A test: all is well"
    assert said[0]["notify_type"] == "success"


def test_the_real_apprise_takes_an_alert_to_its_service_and_says_when_that_refuses(
    receiver: Receiver, settings: Settings, secrets_given: dict[str, str]
) -> None:
    settings.ALERT_APPRISE_SCHEMES = ("json", "nosuchservice")
    address = receiver.url.replace("http://", "json://")
    secrets_given["ALERT_APPRISE_URLS"] = f"{address} nosuchservice://private"
    code, told = alert_test("--json")
    answers = [(each["told"], each["answer"]) for each in json.loads(told)["targets"]]
    unknown = (False, "apprise does not know this address: correct ALERT_APPRISE_URLS")
    assert (code, answers) == (5, [(True, "taken by the service"), unknown])
    [taken] = [each.said for each in receiver.got]
    assert (taken["title"], taken["type"]) == ("[PAPER main] test: A test: all is well", "success")
    receiver.answer = 500
    code, told = alert_test("--json")
    refused = (False, "the service did not take it")
    assert [(each["told"], each["answer"]) for each in json.loads(told)["targets"]] == [refused, unknown]


# ---- the command and the page


def alert_test(*words: str) -> tuple[int, str]:
    out, err, code = StringIO(), StringIO(), 0
    try:
        call_command("alert_test", *words, stdout=out, stderr=err)
    except SystemExit as left:
        code = int(str(left.code))
    return code, out.getvalue() + err.getvalue()


def test_alert_test_says_what_each_target_answered(
    receiver: Receiver, settings: Settings, secrets_given: dict[str, str]
) -> None:
    code, told = alert_test()
    assert (code, "ALERT_WEBHOOK_URL" in told) == (2, True)
    aim(settings, receiver)
    code, told = alert_test()
    assert (code, told.split()) == (0, ["webhook", "told:", "answered", "204"])
    assert receiver.got[0].said["event"] == "test"
    receiver.answer = 401
    code, told = alert_test()
    assert (code, "NOT TOLD: answered 401" in told) == (5, True)
    assert "very-private" not in told


def test_the_page_shows_what_is_open_what_is_over_and_the_health_of_each_target(
    calm: Calm, receiver: Receiver
) -> None:
    web = someone("root", superuser=True)
    page = reverse("admin:apply_alerts")
    assert "never told anything" in text_of(web.get(page))
    halt()
    calm.after(5)
    shown = text_of(web.get(page))
    assert "HALTED for everything" in shown
    assert "takes it" in shown
    assert reverse("admin:apply_oncall") in shown
    assert "very-private" not in shown
    receiver.answer = 500
    resume()
    calm.after(5)
    calm.after(61)
    shown = text_of(web.get(page))
    assert "Over, newest first" in shown
    assert "does not take it" in shown


def test_the_page_without_a_target_says_how_to_set_one(redis: Client, transactional_db: None) -> None:
    shown = text_of(someone("root", superuser=True).get(reverse("admin:apply_alerts")))
    assert "ALERT_WEBHOOK_URL" in shown
