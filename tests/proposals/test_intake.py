"""Proposals on their way in, in a running house: by the stream, by hashes, by commands, all at once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import OperationalError

from apply.models import Order, Plan, Proposal
from apply.proposals import intake
from positions.models import Balance
from quantum import clock, rows
from quantum.keys import INTAKE_GROUP
from quantum.models import AuditEvent
from quantum.redis import Client
from quantum.stream import Entry, group_lag
from quantum.tracking import NotOffered
from tests.house import MARGIN_S, SHIPPED_LOOK_S, House, wait_for
from tests.proposals.by_hand import raw

KEYS = settings.KEYS


def of_score(score: str) -> Plan | None:
    return Plan.objects.filter(kill_score=score).exclude(state="open").exclude(result_id="").first()


def becomes(score: str) -> Plan:
    found: Plan = wait_for(lambda: of_score(score), what=f"the end of the plan with score {score}")
    return found


def test_a_proposal_on_the_stream_becomes_an_order_and_the_wrong_ones_before_it_do_not(house: House) -> None:
    house.start()
    redis = house.redis
    redis.xadd(KEYS.proposal_stream, {b"\xff": b"\xfe"})
    redis.xadd(KEYS.proposal_stream, raw(kill_score="NaN"))
    fields = raw(kill_score="0.4711")
    for _ in range(2):
        redis.xadd(KEYS.proposal_stream, fields)
    plan = becomes("0.4711")
    assert plan.state == "filled"
    wait_for(
        lambda: group_lag(redis, stream=KEYS.proposal_stream, group=INTAKE_GROUP) == 0,
        what="every entry to be acknowledged",
    )
    assert Plan.objects.count() == Order.objects.count() == 1
    assert sorted(Proposal.objects.values_list("refusal", flat=True)) == ["", *["malformed_proposal"] * 2]


def test_a_hash_is_heard_when_it_is_written_and_one_that_was_written_before_is_found(house: House) -> None:
    house.start("p33", "governor", "apply")
    house.redis.hset(KEYS.proposal("ETHUSDT"), mapping=raw(symbol="", kill_score="0.31"))
    house.redis.set(KEYS.proposal("SOLUSDT"), "no hash at all")
    house.start("warden")
    assert (becomes("0.31").symbol, becomes("0.31").state) == ("ETHUSDT", "filled")
    wait_for(Proposal.objects.filter(symbol="SOLUSDT").exists, what="the refusal of what is no hash")
    fields = raw(symbol="", kill_score="0.32")
    for stamp in (b"1", b"2"):  # the same word, stamped anew
        house.redis.hset(KEYS.proposal("BTCUSDT"), mapping={**fields, b"last_update_epoch": stamp})
    plan = becomes("0.32")
    assert (plan.symbol, plan.state) == ("BTCUSDT", "filled")
    heard_ms = (plan.created_at.timestamp() - float(plan.timestamp)) * 1000
    assert heard_ms < 500, "polling, not hearing"
    house.redis.hset(KEYS.proposal("DOGEUSDT"), mapping=raw(symbol=""))
    assert Plan.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_a_hash_says_a_new_thing_after_an_old_one(redis: Client) -> None:
    hashes, at = intake.Hashes(redis), f"{clock.now_s():.3f}"
    for score in ("0.1", "0.1", "0.2"):
        redis.hset(KEYS.proposal("BTCUSDT"), mapping=raw(symbol="", kill_score=score, computed_at_utc=at))
        hashes.look_at_all()
    assert sorted(Plan.objects.values_list("kill_score", flat=True)) == ["0.1", "0.2"]


@pytest.mark.django_db(transaction=True)
def test_what_a_database_that_was_down_could_not_take_is_due_again(
    redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis.hset(KEYS.proposal("BTCUSDT"), mapping=raw(symbol=""))
    hashes = intake.Hashes(redis)
    with monkeypatch.context() as down:
        down.setattr(rows, "insert", refuses_to_write)
        with pytest.raises(OperationalError):
            hashes.look_at_all()
    hashes.look_at_all()
    assert Plan.objects.count() == 1


def refuses_to_write(*_: object, **__: object) -> int:
    raise OperationalError("disk is full")


@pytest.fixture
def deaf_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(**_: Any) -> None:
        raise NotOffered("unknown subcommand")

    monkeypatch.setattr(intake, "Changes", refuses)


def test_where_the_server_tracks_no_keys_a_hash_is_found_within_a_second(
    house: House, deaf_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the pace it ships with, which a house otherwise quickens."""
    assert SHIPPED_LOOK_S <= 1
    monkeypatch.setattr(intake, "LOOK_EVERY_S", SHIPPED_LOOK_S)
    house.start("warden")
    house.redis.hset(KEYS.proposal("BTCUSDT"), mapping=raw(symbol="", kill_score="0.33"))
    wait_for(Plan.objects.filter(kill_score="0.33").exists, what="the plan", within_s=1 + MARGIN_S)


def test_a_line_that_is_cut_is_made_anew_and_what_was_said_meanwhile_is_found(house: House) -> None:
    house.start("warden")
    wait_for(lambda: tracking(house.redis), what="the warden to listen")
    house.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    house.redis.hset(KEYS.proposal("BTCUSDT"), mapping=raw(symbol="", kill_score="0.34"))
    wait_for(Plan.objects.filter(kill_score="0.34").exists, what="the plan", within_s=4)
    assert house.all_alive


def tracking(redis: Client) -> bool:
    return any("t" in client["flags"] for client in redis.client_list())


def test_a_stop_ends_the_threads_of_the_intake(house: House) -> None:
    house.start("warden")
    began = clock.monotonic_s()
    house.stop("warden")  # by name: nobody helps it out of its reads
    assert clock.monotonic_s() - began < 3
    house.redis.xadd(KEYS.proposal_stream, raw())
    assert not Proposal.objects.exists()


@pytest.mark.slow
@pytest.mark.parametrize("point", ["plan_committed", "plan_streamed"])
def test_a_warden_that_dies_while_it_takes_a_proposal_neither_loses_nor_doubles_it(
    house: House, point: str
) -> None:
    """Delivered again to the next one, the same words are the same plan."""
    house.start("p33", "governor", "apply")
    dying = house.spawn_role("warden", fault=f"{point}:kill")
    house.redis.xadd(KEYS.proposal_stream, raw(kill_score="0.35"))
    assert dying.wait(10) == -9
    house.redis.delete(KEYS.lease("warden"))  # its three seconds are over
    house.spawn_role("warden")
    plan = becomes("0.35")
    assert plan.state == "filled"
    wait_for(
        lambda: group_lag(house.redis, stream=KEYS.proposal_stream, group=INTAKE_GROUP) == 0,
        what="the entry to be acknowledged",
    )
    sent = [order for order in house.orders() if plan.plan_id in order["client_id"]]
    assert Plan.objects.count() == Proposal.objects.count() == len(sent) == 1
    assert house.redis.xlen(KEYS.plan_stream) == 1


@pytest.mark.django_db(transaction=True)
def test_a_backlog_of_dead_words_is_refused_in_bulk_with_a_count(redis: Client) -> None:
    """5000 rows took 25 s here, in which what is fresh behind them grows stale too."""
    reader, old_ms = intake.StreamReader(redis), clock.now_ms() - 60_000
    began = clock.monotonic_s()
    for number in range(5000):
        assert reader.handle(Entry(entry_id=f"{old_ms}-{number}", fields=raw()))
    with pytest.MonkeyPatch.context() as down:
        down.setattr(rows, "insert", refuses_to_write)
        reader.pause()  # told later: a database that is down neither ends the thread nor loses the count
    reader.pause()
    reader.pause()
    assert clock.monotonic_s() - began < 2
    event = AuditEvent.objects.get(kind="proposals_refused")
    assert (event.reason, event.data["count"]) == ("stale_proposal", 5000)
    assert (event.data["first"], event.data["last"]) == (f"{old_ms}-0", f"{old_ms}-4999")
    reader.handle(Entry(entry_id=f"{clock.now_ms()}-0", fields=raw()))
    assert Proposal.objects.count() == Plan.objects.count() == 1


def test_a_hash_that_never_rests_makes_a_plan_now_and_then_and_its_last_word_counts(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "PAUSE_S", 0.4)
    house.start("warden")
    wait_for(lambda: tracking(house.redis), what="the warden to listen")
    began, storm = clock.monotonic_s(), 0
    while clock.monotonic_s() < began + 1:
        storm += 1
        house.redis.hset(KEYS.proposal("BTCUSDT"), mapping=raw(symbol="", kill_score=f"0.5{storm:04}1"))
        clock.sleep_s(0.01)
    wait_for(Plan.objects.filter(kill_score=f"0.5{storm:04}1").exists, what="the last word's plan")
    looks_max = (clock.monotonic_s() - began) / intake.PAUSE_S + 2
    at_once = Plan.objects.order_by("id").values_list("kill_score", flat=True)[0]
    assert (
        at_once < "0.500201"
    )  # its first word, or one a fifth of a second later on a busy machine; no pause later
    assert 2 <= Plan.objects.count() <= looks_max < storm


# ---- by command


def said_by(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = 0
    try:
        call_command(*words, "--json")
    except SystemExit as left:
        code = int(left.code or 0)
    out = capsys.readouterr().out
    return code, json.loads(out) if out else {}


def test_an_operator_proposes_retries_and_flattens(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    house.start("p33", "apply", "warden")
    code, told = said_by(capsys, "propose", "BTCUSDT", "PARTIAL_25", "--wait", "--reason", "it looks weak")
    assert (code, told["error"]) == (4, "permit_timeout_or_missing:missing_governor")
    assert Proposal.objects.get().why == "it looks weak"

    house.start("governor")
    retried = ("plan_retry", told["plan_id"], "--reason", "the governor is back", "--yes")
    assert said_by(capsys, *retried, "--dry-run")[0] == 0 and Plan.objects.count() == 1
    code, again = said_by(capsys, *retried, "--wait")
    assert (code, again["state"], again["parent"]) == (0, "filled", told["plan_id"])
    assert said_by(capsys, *retried)[0] == 4
    code, listed = said_by(capsys, "plan_list", "--symbol", "btcusdt", "--state", "filled")
    assert (code, [plan["attempt"] for plan in listed["plans"]]) == (0, [2])
    assert said_by(capsys, "plan_list", "--retryable")[1] == {"plans": []}

    flatten = ("flatten", "--all", "--reason", "out of everything")
    code, shown = said_by(capsys, *flatten, "--dry-run")
    assert code == 0 and [row["symbol"] for row in shown["symbols"]] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    assert said_by(capsys, *flatten) == (2, {})
    assert Plan.objects.count() == 2
    code, done = said_by(capsys, *flatten, "--confirm", settings.ACCOUNT, "--wait")
    assert (code, {row["state"] for row in done["symbols"]}) == (0, {"filled"})
    assert all(balance.amount == 0 for balance in Balance.objects.all())
    assert said_by(capsys, *flatten, "--confirm", settings.ACCOUNT) == (0, {"dry_run": False, "symbols": []})


@pytest.mark.django_db
def test_flatten_of_a_symbol_that_may_not_be_closed_says_so(
    redis: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = said_by(capsys, "flatten", "DOGEUSDT", "--reason", "out of everything")
    assert (code, told["symbols"][0]["why"]) == (4, "symbol_not_allowed")


@pytest.mark.django_db
def test_flatten_of_all_asks_for_what_nobody_can_call_flat(
    redis: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    """p33 dead or its snapshots wiped: "nothing to close" with exit 0 would leave a position forgotten."""
    now_s = clock.now_s()
    for symbol, amount, seen_s in (("BTCUSDT", "0", now_s), ("ETHUSDT", "0", now_s - 3600)):
        fields = {"position_amt": amount, "seen_epoch": f"{seen_s:.3f}"}
        redis.hset(KEYS.snapshot(symbol), mapping=fields)
    redis.set(KEYS.snapshot("SOLUSDT"), "no hash at all")
    _, told = said_by(capsys, "flatten", "--all", "--dry-run", "--reason", "out of everything")
    assert [row["symbol"] for row in told["symbols"]] == sorted({*settings.APPLY_ALLOWLIST} - {"BTCUSDT"})


@pytest.mark.parametrize(
    "words",
    [
        ("flatten", "--reason", "neither symbols nor all"),
        ("flatten", "BTCUSDT", "--all", "--reason", "both of them"),
        ("flatten", "BTCUSDT", "--reason", "short"),
        ("propose", "BTCUSDT", "PARTIAL_25", "--kill-score", "NaN"),
        ("plan_list", "--limit", "0"),
    ],
    ids=str,
)
def test_a_command_that_is_said_wrong_ends_with_2(words: tuple[str, ...], capsys: Any) -> None:
    assert said_by(capsys, *words) == (2, {})
