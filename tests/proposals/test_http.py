"""The HTTP way in: who may, what is refused and how, and that the same asked twice is one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import caches
from django.core.management import call_command
from django.db import OperationalError, connections
from django.test import Client as WebClient
from django_redis.exceptions import ConnectionInterrupted

from apply.models import ApiToken, Plan, Proposal
from apply.plans import publish
from apply.proposals import http, tokens
from apply.proposals.tokens import NoToken
from permits.policy.rules import Nonsense
from quantum import clock
from quantum.models import AuditEvent
from quantum.redis import Client, RedisError
from tests.house import House, wait_for
from tests.proposals.by_hand import said

pytestmark = pytest.mark.django_db
ADDRESS = "/api/proposals"
BOTH = ("propose", "read")


def token_of(name: str, *scopes: str, symbols: tuple[str, ...] = ("BTCUSDT",), per_minute: int = 60) -> str:
    return tokens.create(
        name=name,
        scopes=scopes or BOTH,
        symbols=symbols,
        per_minute=per_minute,
        by="nina",
        reason="a bot of ours",
    )


class Bot:
    def __init__(self, token: str) -> None:
        self.web = WebClient(enforce_csrf_checks=True)
        self.headers = {"Authorization": f"Bearer {token}"}

    def post(self, body: bytes | dict[str, Any], key: str = "", kind: str = "application/json") -> Any:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {**self.headers, **({"Idempotency-Key": key} if key else {})}
        return self.web.post(ADDRESS, raw, content_type=kind, headers=headers)

    def get(self, number: int) -> Any:
        return self.web.get(f"{ADDRESS}/{number}", headers=self.headers)


@pytest.fixture
def bot(redis: Client) -> Bot:
    return Bot(token_of("bot-1"))


def test_a_proposal_becomes_a_plan_and_its_outcome_can_be_asked(house: House) -> None:
    bot = Bot(token_of("bot-1"))
    house.start()
    answer = bot.post({**said(), "kill_score": 0.8125, "reason_codes": ["flip", "age"]})
    told = answer.json()
    assert (answer.status_code, told["came_to"], told["plan"]["state"]) == (201, "plan", "open")
    assert answer["Location"] == f"{ADDRESS}/{told['id']}"
    ended = wait_for(
        lambda: (got := bot.get(told["id"]).json())["plan"]["state"] == "filled" and got, what="the fill"
    )
    assert (ended["plan"]["executed_quantity"], ended["plan_id"]) == ("0.25", told["plan_id"])
    row = Proposal.objects.get()
    assert (row.kill_score, row.reason_codes, row.actor) == ("0.8125", "flip,age", "api:bot-1")


WRONG_BODIES = [
    (b" ", 400, "not_json"),
    (b'{"reason_codes": ["[[[[[[[["], "sybmol": 1}', 400, "unknown_field"),
    (b"{", 400, "not_json"),
    (b"\xff\xfe", 400, "not_json"),
    (b"null", 400, "wrong_type"),
    (b'["a"]', 400, "wrong_type"),
    (b"[" * 4000, 400, "too_deep"),
    (b'{"symbol": {"a": {"b": {"c": {"d": {}}}}}}', 400, "too_deep"),
    (b'{"symbol": {"a": 1}}', 400, "wrong_type"),
    (b'{"symbol": "BTCUSDT", "symbol": "ETHUSDT"}', 400, "duplicate_key"),
    (b'{"kill_score": NaN}', 400, "wrong_number"),
    (b'{"kill_score": -Infinity}', 400, "wrong_number"),
    (b'{"kill_score": 1e999}', 400, "wrong_number"),
    (b'{"kill_score": ' + b"9" * 400 + b"}", 400, "wrong_number"),
    (b'{"kill_score": true}', 400, "wrong_type"),
    (b'{"kill_score": [0.5]}', 400, "wrong_type"),
    (b'{"symbol": 7}', 400, "wrong_type"),
    (b'{"reason_codes": [1]}', 400, "wrong_type"),
    (b'{"sybmol": "BTCUSDT"}', 400, "unknown_field"),
    (b'{"source": "' + b"x" * 5000 + b'"}', 413, "too_large"),
    ({**said(symbol="")}, 422, "malformed_proposal"),
    ({**said(), "source": "\ud800"}, 422, "malformed_proposal"),
    ({**said(), "source": "\x00"}, 422, "malformed_proposal"),
    (said(harvest_action="UPDATE_SL"), 422, "missing_stop"),
    (said(harvest_action="BUY"), 422, "unknown_action"),
    (said(computed_at_utc=f"{clock.now_s() + 3600:.0f}"), 422, "future_proposal"),
    (said(computed_at_utc="1700000000"), 422, "stale_proposal"),
    (said(symbol="ETHUSDT"), 403, "symbol"),
]


@pytest.mark.parametrize(("body", "status", "error"), WRONG_BODIES, ids=lambda value: str(value)[:50])
def test_every_wrong_kind_of_body_has_its_answer_and_the_next_one_passes(
    bot: Bot, body: Any, status: int, error: str
) -> None:
    answer = bot.post(body)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.json()["text"]
    assert not Plan.objects.exists()
    assert Proposal.objects.count() == (1 if status == 422 else 0)
    assert bot.post(said()).status_code == 201


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_another_content_type_is_refused(bot: Bot, kind: str) -> None:
    answer = bot.post(json.dumps(said()).encode(), kind=kind)
    assert (answer.status_code, answer.json()["error"]) == (415, "content_type")


@pytest.mark.parametrize(
    "header",
    [None, "", "Basic eDp5", "Bearer ", "Bearer x", "bearer " + "a" * 43, "Bearer " + "a" * 43, "Bearer é"],
)
def test_without_a_valid_token_nothing_is_read(redis: Client, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = WebClient().post(ADDRESS, b"{", content_type="application/json", headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
    assert answer["WWW-Authenticate"] == "Bearer"


def test_a_revoked_token_opens_nothing_and_its_name_is_not_used_again(bot: Bot) -> None:
    tokens.revoke(name="bot-1", by="nina", reason="it was in a log")
    assert bot.post(said()).status_code == 401
    with pytest.raises(NoToken, match="never used again"):
        token_of("bot-1")


def test_a_session_of_the_admin_opens_nothing_here(redis: Client, admin_client: WebClient) -> None:
    assert admin_client.post(ADDRESS, said(), content_type="application/json").status_code == 401


def test_a_scope_opens_what_it_names_and_no_more(redis: Client) -> None:
    writer, reader = Bot(token_of("writer", "propose")), Bot(token_of("reader", "read"))
    number = writer.post(said()).json()["id"]
    assert writer.get(number).json()["error"] == "scope"
    assert reader.get(number).status_code == 200
    assert reader.post(said()).status_code == 403


def test_a_proposal_of_another_symbol_does_not_exist_for_a_stranger(redis: Client) -> None:
    number = Bot(token_of("bot-1")).post(said()).json()["id"]
    stranger, everyone = Bot(token_of("eth", symbols=("ETHUSDT",))), Bot(token_of("all", symbols=("*",)))
    assert (stranger.get(number).status_code, everyone.get(number).status_code) == (404, 200)
    assert stranger.get(2**70).status_code == stranger.get(number + 1).status_code == 404


def test_over_its_rate_a_client_waits_and_the_others_do_not(redis: Client, monkeypatch: Any) -> None:
    at_s = clock.now_s()
    monkeypatch.setattr(clock, "now_s", lambda: at_s)
    slow, other = Bot(token_of("slow", per_minute=2)), Bot(token_of("other"))
    assert [slow.post(b"{").status_code for _ in range(3)] == [400, 400, 429]
    limited = slow.post(said())
    assert limited.json()["error"] == "rate_limit" and 0 < int(limited["Retry-After"]) <= 60
    assert other.post(b"{").status_code == 400


def test_the_same_key_is_the_same_proposal_and_another_body_under_it_a_conflict(bot: Bot) -> None:
    body = said()
    first, again = bot.post(body, key="k1"), bot.post(body, key="k1")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert bot.post(said(), key="k1").json()["error"] == "idempotency_conflict"
    assert bot.post(body).json()["came_to"] == "known"
    refused = said(harvest_action="UPDATE_SL")
    assert [bot.post(refused, key="k2").status_code for _ in range(2)] == [422, 422]
    assert bot.post(said(), key="k2").status_code == 409
    assert bot.post(said(), key="x" * 81).json()["error"] == "idempotency_key"
    assert Plan.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_at_once_under_one_key_make_one_plan(redis: Client) -> None:
    token = token_of("bot-1")
    bodies, answers = [said(), said()], []
    start = threading.Barrier(2)

    def post(body: dict[str, str]) -> None:
        start.wait()
        answers.append(Bot(token).post(body, key="k1").status_code)
        connections.close_all()

    threads = [threading.Thread(target=post, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [201, 409]
    assert Plan.objects.count() == 1


def test_a_body_of_untold_length_is_not_guessed_at(bot: Bot) -> None:
    headers = {**bot.headers, "Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    assert bot.web.generic("POST", ADDRESS, headers=headers).json()["error"] == "length"


def test_an_address_takes_its_own_method_only(bot: Bot) -> None:
    assert bot.web.get(ADDRESS, headers=bot.headers).status_code == 405
    assert bot.web.delete(f"{ADDRESS}/1", headers=bot.headers).status_code == 405


def test_the_schema_is_served_and_names_every_field_that_is_read(bot: Bot) -> None:
    from apply.proposals.proposal import FIELDS
    from quantum.plan import Action

    served = bot.web.get(f"{ADDRESS}/schema").json()
    assert served == json.loads(http.SCHEMA.read_text())
    assert set(served["properties"]) == set(FIELDS)
    assert served["properties"]["harvest_action"]["enum"] == [action.value for action in Action]


def test_hold_asks_for_nothing(bot: Bot) -> None:
    assert bot.post(said(harvest_action="HOLD")).json()["came_to"] == "nothing"


def test_what_is_recorded_and_not_published_says_so(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bot.post(said()).json()["published"] is True
    monkeypatch.setattr(publish, "put_on_stream", fails(RedisError("gone")))
    told = bot.post(said(), key="k1").json()
    assert (told["came_to"], told["published"]) == ("plan", False) and "when Redis is back" in told["text"]


@pytest.mark.parametrize(
    ("failure", "error"),
    [(OperationalError("gone"), "database"), (Nonsense("no list"), "policy"), (RedisError("gone"), "redis")],
    ids=repr,
)
def test_what_cannot_be_used_is_named_and_asking_again_is_safe(
    bot: Bot, monkeypatch: pytest.MonkeyPatch, failure: Exception, error: str
) -> None:
    body = said()
    with monkeypatch.context() as ill:
        ill.setattr(http, "_came_to", fails(failure))  # as late as it can be: the plan stands already
        answer = bot.post(body, key="k1")
    assert (answer.status_code, answer.json()["error"]) == (503, error)
    assert "nothing was done" not in answer.json()["text"]
    assert bot.post(body, key="k1").status_code == 200 and Plan.objects.count() == 1


def test_a_rate_that_cannot_be_counted_lets_nothing_through(
    bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = type(caches["default"])
    monkeypatch.setattr(cache, "add", lambda *_, **__: False)  # thrown out just after
    assert bot.post(said()).json()["error"] == "rate_limit"
    monkeypatch.setattr(cache, "add", fails(ConnectionInterrupted(None)))
    assert bot.post(said()).json()["error"] == "redis"
    assert not Plan.objects.exists()


def test_a_refusal_under_a_key_that_another_body_took_at_this_moment_is_a_conflict(
    bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bot.post(said(), key="k1").status_code == 201
    looks = iter([None])
    before = http._before
    monkeypatch.setattr(http, "_before", lambda *who: next(looks, before(*who)))
    assert bot.post(said(harvest_action="UPDATE_SL"), key="k1").json()["error"] == "idempotency_conflict"


def fails(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


# ---- tokens


def test_a_token_is_shown_once_and_stands_nowhere(redis: Client, capsys: pytest.CaptureFixture[str]) -> None:
    said_why = {"reason": "a bot of ours", "symbols": "btcusdt,ETHUSDT", "scope": ["propose"]}
    call_command("api_token", "create", "bot-7", **said_why)
    told = capsys.readouterr()
    token = told.out.strip()
    assert Bot(token).post(said()).status_code == 201
    call_command("api_token", "list", json=True)
    shown = capsys.readouterr()
    stored = [*ApiToken.objects.values(), *AuditEvent.objects.values(), *Proposal.objects.values()]
    for place in (told.err, shown.out, shown.err, str(stored)):
        assert token not in place and token[3:20] not in place
    assert json.loads(shown.out)["tokens"][0]["symbols"] == "BTCUSDT,ETHUSDT"
    call_command("api_token", "revoke", "bot-7", reason="no longer used", yes=True)
    assert Bot(token).post(said()).status_code == 401
    assert set(AuditEvent.objects.values_list("kind", flat=True)) >= {
        "api_token_created",
        "api_token_revoked",
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "Bot 1"},
        {"scopes": ()},
        {"scopes": ("trade",)},
        {"symbols": ()},
        {"symbols": ("btc usdt",)},
        {"symbols": tuple(f"{number:040}" for number in range(25))},
        {"per_minute": 0},
    ],
    ids=str,
)
def test_a_token_for_nobody_or_nothing_is_not_made(wrong: dict[str, Any]) -> None:
    good = {"name": "bot-1", "scopes": ("read",), "symbols": ("*",), "per_minute": 5}
    with pytest.raises(NoToken):
        tokens.create(**{**good, **wrong, "by": "nina", "reason": "a bot of ours"})
    assert not ApiToken.objects.exists()
