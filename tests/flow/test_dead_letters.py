"""Dead letters: what a person sees of them on the page and on the command line, and how one ends."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.test import Client as WebClient
from django.test import override_settings
from django.urls import reverse
from redis.exceptions import ConnectionError as RedisConnectionError

from quantum import dead_letters
from quantum.commands import Exit
from quantum.models import AuditEvent
from quantum.redis import Client
from tests.flow.test_admin import HOSTILE, NOWHERE, someone, text_of

LIST = reverse("admin:apply_dead_letters")
WHY = "the bot wrote nonsense"
STREAM = settings.KEYS.plan_stream
DEAD = settings.KEYS.dead_letters(STREAM)


@pytest.fixture
def web(redis: Client, transactional_db: None) -> WebClient:
    return someone("root", superuser=True)


def parked(redis: Client, *, stream: str = STREAM, **said: Any) -> str:
    entry = redis.xadd(stream, {"plan_id": "x"})
    fields = {"entry": entry, "group": "apply", "error": "no plan", "sample": "{}", "deliveries": 1, **said}
    return str(redis.xadd(settings.KEYS.dead_letters(stream), fields).decode())


def address(letter_id: str, what: str = "one", stream: str = "plan") -> str:
    return reverse(f"admin:apply_dead_letters_{what}", args=[stream, letter_id])


def ended(web: WebClient, letter_id: str, **said: str) -> str:
    return text_of(web.post(address(letter_id, "end"), {"reason": WHY, "way": "back", **said}, follow=True))


def test_home_leads_to_what_lies_parked_and_to_what_was_wrong(web: WebClient, redis: Client) -> None:
    letter = parked(redis, error="missing field symbol")
    other = parked(redis, stream=settings.KEYS.proposal_stream, error="no proposal")
    home = text_of(web.get(reverse("admin:index")))
    assert "2 dead letters" in home and f'href="{LIST}"' in home
    shown = text_of(web.get(LIST))
    assert address(letter) in shown and address(other, stream="proposal") in shown
    assert "missing field symbol" in shown and "no proposal" in shown
    one = text_of(web.get(address(letter)))
    for told in ("missing field symbol", DEAD, "apply", "Put back", "Discard"):
        assert told in one, told


def test_an_entry_is_put_back_once_and_who_and_why_is_kept(web: WebClient, redis: Client) -> None:
    letter = parked(redis)
    assert "PAPER main: Put back as entry" in ended(web, letter)
    assert (redis.xlen(STREAM), redis.xlen(DEAD)) == (2, 0)
    event = AuditEvent.objects.get(kind="dead_letter_put_back")
    assert (event.actor, event.reason) == ("root", WHY)
    assert event.data["letter_id"] == letter and event.data["error"] == "no plan"
    assert web.post(address(letter, "end"), {"reason": WHY, "way": "back"}).status_code == 404
    assert AuditEvent.objects.filter(kind__startswith="dead_letter").count() == 1


def test_what_is_discarded_stands_in_the_audit_and_nowhere_else(web: WebClient, redis: Client) -> None:
    letter = parked(redis, sample="{'plan_id': 'x'}")
    assert "Discarded" in ended(web, letter, way="discard")
    assert (redis.xlen(STREAM), redis.xlen(DEAD)) == (1, 0)
    assert AuditEvent.objects.get(kind="dead_letter_discarded").data["sample"] == "{'plan_id': 'x'}"


def test_what_cannot_be_put_back_stays_and_is_not_recorded_as_done(web: WebClient, redis: Client) -> None:
    letter = parked(redis)
    redis.xtrim(STREAM, maxlen=0, approximate=False)
    assert "no longer on the stream" in ended(web, letter)
    assert redis.xlen(DEAD) == 1
    assert not AuditEvent.objects.filter(kind__startswith="dead_letter").exists()


@pytest.mark.parametrize("said", [{"reason": "short"}, {"way": "burn"}, {"way": ""}])
def test_an_act_that_is_not_whole_changes_nothing(
    web: WebClient, redis: Client, said: dict[str, str]
) -> None:
    letter = parked(redis)
    assert "Nothing was changed" in ended(web, letter, **said)
    assert redis.xlen(DEAD) == 1


def test_in_live_the_account_is_typed(web: WebClient, redis: Client) -> None:
    letter = parked(redis)
    with override_settings(APPLY_MODE="live"):
        assert "Nothing was changed" in ended(web, letter)
        assert redis.xlen(DEAD) == 1
        assert "LIVE main: Put back" in ended(web, letter, confirm="main")


def test_who_may_look_and_who_may_act(web: WebClient, redis: Client) -> None:
    letter = parked(redis)
    vera, nobody = someone("vera", "view_plan"), someone("nobody")
    assert vera.get(LIST).status_code == vera.get(address(letter)).status_code == 200
    assert "Your groups do not let you end it" in text_of(vera.get(address(letter)))
    assert nobody.get(LIST).status_code == nobody.get(address(letter)).status_code == 403
    for person in (vera, nobody, someone("olga", "propose")):
        assert person.post(address(letter, "end"), {"reason": WHY, "way": "back"}).status_code == 403
    assert web.get(address(letter, "end")).status_code == 405
    assert redis.xlen(DEAD) == 1


def test_what_a_stranger_wrote_is_text_and_clipped(web: WebClient, redis: Client) -> None:
    long = HOSTILE + "x" * 5000
    letter = parked(redis, error=long, sample=long, group=HOSTILE, entry=HOSTILE, deliveries=HOSTILE)
    secret = parked(redis, error="\x1b[31m\u202e api_secret=abcdef")
    for shown in (text_of(web.get(LIST)), text_of(web.get(address(letter))), ended(web, letter)):
        assert "<script>alert" not in shown and "<img src=x" not in shown
        assert "x" * 400 not in shown
    assert "&lt;script&gt;" in text_of(web.get(address(letter)))
    assert not re.search("\x1b|\u202e|abcdef", text_of(web.get(address(secret))))


def test_what_is_no_letter_has_no_page(web: WebClient, redis: Client) -> None:
    parked(redis)
    for stream, letter in (("plan", "0-1"), ("plan", "-"), ("result", "1-0"), ("plan", "1-0+")):
        assert web.get(address(letter, stream=stream)).status_code == 404
    redis.xadd(DEAD, {"entry": "999999999999999999-0"}, id="999999999999999999-0")
    assert web.get(LIST).status_code == 200


def test_without_redis_the_page_says_that_nobody_knows(web: WebClient) -> None:
    with override_settings(REDIS_URL=NOWHERE):
        assert "Redis does not answer" in text_of(web.get(LIST))
        assert web.get(address("1-0")).status_code == 404


def test_an_answer_that_is_lost_is_told_and_its_question_is_kept(
    web: WebClient, redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object, **__: object) -> bytes:
        raise RedisConnectionError

    letter = parked(redis)
    monkeypatch.setattr(dead_letters, "_END", lost)
    assert "Look whether the letter is still there" in ended(web, letter)
    assert AuditEvent.objects.get(kind="dead_letter_put_back").reason == WHY
    assert command("plan", letter, "back", reason=WHY)[2] == Exit.DEPENDENCY_DOWN


# ---- the same on the command line


def command(*arguments: str, **options: Any) -> tuple[str, str, int]:
    out, talk, code = io.StringIO(), io.StringIO(), 0
    try:
        call_command("dead_letters", *arguments, stdout=out, stderr=talk, **options)
    except SystemExit as left:
        code = int(left.code or 0)
    return out.getvalue(), talk.getvalue(), code


def test_the_command_lists_and_ends_them_by_the_same_function(web: WebClient, redis: Client) -> None:
    assert "No dead letter" in command()[1]
    letter = parked(redis, error="\x1b[31mbad")
    table, talk, _ = command()
    assert letter in table and "\x1b" not in table and "1 of 1" in talk
    assert json.loads(command(json=True)[0])["letters"][0]["letter_id"] == letter
    assert command("plan", letter, "back")[2] == Exit.USAGE, "without a reason"
    assert command("plan", letter)[2] == Exit.USAGE
    assert command("plan", "0-9", "back", reason=WHY)[2] == Exit.USAGE
    assert "parked -> gone" in command("plan", letter, "discard", reason=WHY, dry_run=True)[1]
    assert redis.xlen(DEAD) == 1
    with override_settings(APPLY_MODE="live"):
        assert "--confirm main" in command("plan", letter, "back", reason=WHY)[1]
    made, _, code = command("plan", letter, "back", reason=WHY, by="omar")
    assert (code, redis.xlen(STREAM), redis.xlen(DEAD)) == (0, 2, 0)
    assert dead_letters.ID.fullmatch(made.strip())
    assert AuditEvent.objects.get(kind="dead_letter_put_back").actor == "omar"


def test_the_command_says_why_it_could_not(web: WebClient, redis: Client) -> None:
    letter = parked(redis)
    redis.xtrim(STREAM, maxlen=0, approximate=False)
    _, talk, code = command("plan", letter, "back", reason=WHY)
    assert code == Exit.BLOCKED and "Nothing was changed: its entry is no longer" in talk
    with override_settings(REDIS_URL=NOWHERE):
        assert command()[2] == Exit.DEPENDENCY_DOWN
