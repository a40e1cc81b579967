"""Who looks after the chain is told how it stands: on the page, by doctor, by the gauges."""

from __future__ import annotations

import datetime as dt
import html
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client as WebClient
from django.urls import reverse
from pytest_django.fixtures import Settings

from apply import warden
from quantum import clock
from quantum.chain import standing
from quantum.chain.sealer import Sealer
from quantum.doctor import State
from quantum.doctor import chain as doctor
from quantum.models import AuditEvent, Seal
from quantum.redis import Client, command_client
from tests.chain.hand import Chain, command, lines
from tests.flow.test_admin import someone, text_of


@pytest.fixture
def web(chain: Chain, redis: Client) -> WebClient:
    return someone("vera", "view_auditevent")


def shown(web: WebClient, **asked: str) -> str:
    return html.unescape(text_of(web.get(reverse("admin:quantum_audit"), asked)))


def told() -> tuple[set[State], str]:
    findings = list(doctor.sealed())
    return {finding.state for finding in findings}, " ".join(finding.what for finding in findings)


def later(monkeypatch: pytest.MonkeyPatch, s: float) -> None:
    then = clock.now() + dt.timedelta(seconds=s)
    monkeypatch.setattr(clock, "now", lambda: then)
    monkeypatch.setattr(clock, "now_s", then.timestamp)


# ---- the page


def test_the_page_shows_the_head_that_stands_in_the_last_checkpoint(chain: Chain, web: WebClient) -> None:
    assert "none yet" in shown(web)
    chain.seal(2, 1)
    page = shown(web)
    assert lines()[-1][:64].decode() in page
    assert "never" in page
    chain.tell()
    assert "oldest" in shown(web)


def test_the_page_says_in_which_seal_an_event_lies(chain: Chain, web: WebClient) -> None:
    chain.seal(1)
    chain.tell(kind="not_yet")
    page = shown(web)
    assert 'data-label="seal">1<' in page and 'data-label="seal"><span' in page


def test_the_page_finds_by_what_stands_in_its_address(chain: Chain, web: WebClient) -> None:
    chain.tell(kind="hold_placed", actor="omar", plan_id="", symbol="ETHUSDT", reason="drift of an hour")
    chain.tell(kind="plan_filled", actor="apply", reason="by the way", plan_id="67e6da21fa9fe506")
    for asked in ({"kind": "hold_placed"}, {"actor": "omar"}, {"symbol": "ethusdt"}, {"q": "ETHUSDT"}):
        page = shown(web, **asked)
        assert ("drift of an hour" in page, "by the way" in page) == (True, False), asked
    page = shown(web, q="da21fa")
    assert ("drift of an hour" in page, "by the way" in page) == (False, True)
    assert "No row matches" in shown(web, kind="nothing")
    assert "At least" in shown(web, q="da")


def test_a_broken_chain_stands_on_top_of_the_page_with_its_row(chain: Chain, web: WebClient) -> None:
    chain.seal(3)
    assert command()[0] == 0
    assert "chip good" in shown(web)
    event = AuditEvent.objects.latest("id").pk
    chain.by_hand("UPDATE quantum_auditevent SET actor = 'nobody' WHERE id = %s", event)
    assert command()[0] == 6
    page = shown(web)
    assert "The chain is broken." in page
    assert f"event {event} was changed after seal 1" in page


def test_who_may_not_see_events_does_not_see_the_page(chain: Chain, redis: Client) -> None:
    assert someone("nobody").get(reverse("admin:quantum_audit")).status_code == 403
    assert someone("vera", "view_auditevent").post(reverse("admin:quantum_audit")).status_code == 405


# ---- doctor and gauges


def test_doctor_is_content_with_a_chain_that_is_kept_up(chain: Chain) -> None:
    assert told() == ({State.OK}, "nothing is sealed yet")
    chain.seal(2)
    assert told()[0] == {State.OK}


def test_doctor_warns_when_the_sealer_is_behind(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    chain.tell()
    assert told()[0] == {State.OK}
    later(monkeypatch, standing.BEHIND_S + 1)
    assert told() == ({State.WARN}, "1 audit events lie in no seal, the oldest for 31 s")


def test_doctor_warns_when_the_checkpoints_end_before_the_chain(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path
) -> None:
    chain.seal(1)
    settings.AUDIT_CHECKPOINTS = tmp_path / "another"
    assert told()[0] == {State.OK}
    later(monkeypatch, 100)
    state, what = told()
    assert (state, "does not end with the last seal, 1" in what) == ({State.WARN}, True)
    settings.AUDIT_CHECKPOINTS = tmp_path
    assert "cannot be read" in told()[1]


def test_doctor_fails_where_the_chain_was_found_broken(chain: Chain) -> None:
    chain.seal(2)
    chain.by_hand("UPDATE quantum_auditevent SET actor = 'nobody'")
    command()
    state, what = told()
    assert (state, "was changed after seal 1 (and 1 more)" in what) == ({State.FAIL}, True)


def test_the_gauges_tell_what_an_alarm_needs(chain: Chain) -> None:
    chain.seal(1)
    chain.tell()
    assert values()["quantum_audit_unsealed"] == 1
    assert 0 <= values()["quantum_audit_unsealed_oldest_seconds"] < 60
    assert values()["quantum_audit_broken"] == 0
    chain.by_hand("UPDATE quantum_auditevent SET actor = 'nobody'")
    command()
    assert values()["quantum_audit_broken"] == 1


def values() -> dict[str, float]:
    return {sample.name: sample.value for metric in standing.gauges() for sample in metric.samples}


# ---- where it runs


def test_the_warden_seals(place: Path, redis: Client) -> None:
    assert any(
        getattr(duty, "__self__", None).__class__ is Sealer for duty in warden.duties_of(command_client())
    )


def test_at_rest_it_asks_the_database_once_and_redis_never(
    chain: Chain, redis: Client, django_assert_num_queries: object
) -> None:
    chain.seal(3)
    chain.tick()
    before = redis.info("stats")["total_commands_processed"]
    with django_assert_num_queries(1):  # type: ignore[operator]
        chain.sealer.tick()
    assert redis.info("stats")["total_commands_processed"] == before + 1, "the question itself"
    assert Seal.objects.count() == 1
    assert settings.AUDIT_CHECKPOINTS.is_file()
