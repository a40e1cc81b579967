"""trading_state and hold on the command line: immediate, with a reason, and plain about what was not reached."""

from __future__ import annotations

import getpass
import io
import json
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.management import call_command
from django.db import OperationalError

from permits.models import Hold, TradingState
from permits.state import holds, resuming, trading
from permits.state.trading import State, StateChanged
from quantum.models import AuditEvent
from quantum.redis import Client

pytestmark = pytest.mark.usefixtures("db")

WHY = "looks odd to me"
NOWHERE = "unix:///nowhere/valkey.sock"


@pytest.fixture(autouse=True)
def active(db: None, redis: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    trading.change(state=State.ACTIVE, by="start", reason="first start")
    monkeypatch.setattr(resuming, "DELAY_S", 0.0)


def run(*words: str, **options: Any) -> tuple[int, dict[str, Any], str]:
    """Exit code, what --json says, and the talk."""
    out, talk = io.StringIO(), io.StringIO()
    code = 0
    try:
        call_command(*words, "--json", stdout=out, stderr=talk, **options)
    except SystemExit as end:
        code = int(str(end.code))
    return code, json.loads(out.getvalue() or "{}"), talk.getvalue()


def state() -> tuple[str, str]:
    row = trading.newest()
    assert row is not None
    return row.state, row.scope


def in_redis(redis: Client) -> bytes:
    return redis.get(django_settings.KEYS.trading_state) or b""


def test_a_halt_is_in_the_database_and_in_redis_when_the_command_returns(redis: Client) -> None:
    code, told, talk = run("trading_state", "halt", reason=WHY)
    assert (code, state()) == (0, ("HALTED", "everything"))
    assert b'"HALTED"' in in_redis(redis)
    assert (told["state"]["by"], told["state"]["reason"], told["projected"]) == (getpass.getuser(), WHY, True)
    assert "ACTIVE v1" in talk and "-> HALTED" in talk


def test_a_halt_may_spare_operators_and_may_have_an_end(redis: Client) -> None:
    _, told, _ = run("trading_state", "halt", reason=WHY, scope="automatic", until="30m")
    assert state() == ("HALTED", "automatic")
    row = TradingState.objects.get(version=2)
    assert row.until is not None
    assert 1799 <= (row.until - row.since).total_seconds() <= 1801
    assert told["state"]["until"]


@pytest.mark.parametrize(
    "until", ["soon", "30", "2026-13-01T00:00Z", "2999-01-01T00:00", "2020-01-01T00:00Z", "-5m"]
)
def test_an_end_that_cannot_be_meant_is_refused(until: str) -> None:
    assert run("trading_state", "halt", reason=WHY, until=until)[0] == 2
    assert state()[0] == "ACTIVE"


@pytest.mark.parametrize("reason", ["", "short", "       "])
@pytest.mark.parametrize(
    "words", [("trading_state", "halt"), ("trading_state", "resume"), ("hold", "BTCUSDT")]
)
def test_without_a_reason_nothing_is_changed(words: tuple[str, ...], reason: str) -> None:
    assert run(*words, reason=reason)[0] == 2
    assert (TradingState.objects.count(), Hold.objects.count()) == (1, 0)


def test_a_halt_that_redis_cannot_be_told_is_recorded_and_says_so(settings: Any) -> None:
    settings.REDIS_URL = NOWHERE
    code, told, talk = run("trading_state", "halt", reason=WHY)
    assert (code, told["projected"], state()[0]) == (5, False, "HALTED")
    assert "within 6 s" in talk


@pytest.mark.parametrize("wrong", [OperationalError("gone"), StateChanged()], ids=repr)
@pytest.mark.parametrize("moment", ["while it arms", "once it armed"])
def test_a_resume_that_is_recorded_is_told_so_though_the_database_goes_right_after(
    redis: Client, monkeypatch: pytest.MonkeyPatch, moment: str, wrong: Exception
) -> None:
    """ACTIVE is committed; apply arms it seconds later, whatever the command says."""
    run("trading_state", "halt", reason=WHY)

    def goes(*_: object) -> None:
        raise wrong

    def armed(*_: object, **__: object) -> None:
        monkeypatch.setattr(trading, "newest", goes)

    if moment == "while it arms":
        monkeypatch.setattr(holds, "project", goes)
    else:
        monkeypatch.setattr(trading, "arm", armed)
    code, told, talk = run("trading_state", "resume", reason=WHY, confirm=django_settings.ACCOUNT)
    assert (code, told["state"]["state"], told["projected"]) == (5, "ACTIVE", False), talk
    assert "Recorded as v3" in talk and "not changed" not in talk
    assert TradingState.objects.latest("version").state == "ACTIVE"


def test_a_dry_run_changes_nothing(redis: Client) -> None:
    run("trading_state", "halt", "--dry-run", reason=WHY)
    run("hold", "BTCUSDT", "--dry-run", reason=WHY)
    run("trading_state", "resume", "--dry-run", reason=WHY)
    assert (state()[0], TradingState.objects.count(), Hold.objects.count()) == ("ACTIVE", 1, 0)
    assert not redis.keys("*")


def test_resuming_takes_the_account_typed(redis: Client) -> None:
    run("trading_state", "halt", reason=WHY)
    assert run("trading_state", "resume", reason=WHY)[0] == 2
    assert run("trading_state", "resume", reason=WHY, confirm="other")[0] == 2
    assert state()[0] == "HALTED"
    code, told, _ = run("trading_state", "resume", reason=WHY, confirm=django_settings.ACCOUNT)
    assert (code, told["state"]["state"]) == (0, "ACTIVE")
    assert in_redis(redis) == trading.current().raw


def test_resuming_takes_a_second_person_where_two_are_required(settings: Any) -> None:
    settings.APPROVERS_REQUIRED = 2
    account = django_settings.ACCOUNT
    run("trading_state", "halt", reason=WHY)
    assert run("trading_state", "resume", reason=WHY, by="nina", confirm=account)[0] == 4
    assert run("trading_state", "resume", reason=WHY, by="nina")[1]["requested"] is True
    assert run("trading_state", "resume", reason=WHY, by="nina", confirm=account)[0] == 4
    assert state()[0] == "HALTED"
    assert run("trading_state", "resume", reason=WHY, by="omar", confirm=account)[0] == 0
    assert state()[0] == "ACTIVE"


def test_resuming_what_is_active_is_refused() -> None:
    assert run("trading_state", "resume", reason=WHY, confirm=django_settings.ACCOUNT)[0] == 4


def test_show_tells_whether_redis_carries_it(redis: Client, settings: Any) -> None:
    assert run("trading_state")[1]["armed"] is False
    trading.arm(redis, actor="tests")
    code, told, _ = run("trading_state")
    assert (code, told["armed"], told["state"]["state"]) == (0, True, "ACTIVE")
    settings.REDIS_URL = NOWHERE
    assert run("trading_state")[:2] == (5, {"state": told["state"], "armed": None})


def test_a_symbol_is_frozen_listed_and_freed(redis: Client) -> None:
    key = django_settings.KEYS.hold("BTCUSDT")
    code, told, _ = run("hold", "BTCUSDT", reason=WHY)
    assert (code, told["projected"], redis.exists(key)) == (0, True, 1)
    assert [hold["symbol"] for hold in run("hold")[1]["holds"]] == ["BTCUSDT"]
    code, told, talk = run("hold", "BTCUSDT", "--lift", reason="it was fine")
    assert (code, told["hold"], redis.exists(key)) == (0, None, 0)
    assert WHY in talk
    assert run("hold")[1]["holds"] == []


def test_a_symbol_typed_small_freezes_the_symbol_that_is_traded(redis: Client) -> None:
    assert run("hold", "btcusdt", reason=WHY)[1]["hold"]["symbol"] == "BTCUSDT"
    assert redis.exists(django_settings.KEYS.hold("BTCUSDT"))
    assert run("hold", "btcusdt", "--lift", reason=WHY)[0] == 0


def test_before_and_after_are_told_once_when_a_hold_is_lifted() -> None:
    run("hold", "BTCUSDT", reason=WHY)
    assert run("hold", "BTCUSDT", "--lift", reason="it was fine")[2].count("->") == 1


def test_a_second_hold_or_halt_says_that_the_first_one_stands() -> None:
    assert "already" not in run("hold", "BTCUSDT", reason=WHY)[2]
    assert "frozen already" in run("hold", "BTCUSDT", reason="it looks odd again")[2]
    assert "already" not in run("trading_state", "halt", reason=WHY)[2]
    assert "halted already" in run("trading_state", "halt", reason="it looks odd again")[2]


def test_lifting_what_is_not_frozen_is_refused() -> None:
    assert run("hold", "BTCUSDT", "--lift", reason=WHY)[0] == 4
    assert run("hold", "--lift", reason=WHY)[0] == 2


def test_in_live_a_hold_is_lifted_by_typing_the_account(settings: Any, redis: Client) -> None:
    settings.APPLY_MODE = "live"
    run("hold", "BTCUSDT", reason=WHY)
    assert run("hold", "BTCUSDT", "--lift", reason=WHY)[0] == 2
    assert Hold.objects.filter(lifted_at=None).exists()
    assert run("hold", "BTCUSDT", "--lift", reason=WHY, confirm=django_settings.ACCOUNT)[0] == 0


def test_holds_that_redis_cannot_be_told_are_recorded_and_say_so(settings: Any) -> None:
    settings.REDIS_URL = NOWHERE
    code, told, talk = run("hold", "BTCUSDT", reason=WHY)
    assert (code, told["projected"], Hold.objects.filter(lifted_at=None).count()) == (5, False, 1)
    assert "Recorded" in talk
    assert run("hold", "BTCUSDT", "--lift", reason=WHY)[0] == 5
    assert not Hold.objects.filter(lifted_at=None).exists()


def test_every_act_of_a_person_is_in_the_audit(redis: Client) -> None:
    run("trading_state", "halt", reason=WHY, by="nina")
    run("trading_state", "resume", reason="it was fine", by="omar", confirm=django_settings.ACCOUNT)
    run("hold", "BTCUSDT", reason=WHY, by="nina")
    run("hold", "BTCUSDT", "--lift", reason="it was fine", by="omar")
    told = list(AuditEvent.objects.order_by("id").values_list("kind", "actor", "reason"))
    assert told[1:] == [
        ("trading_halted", "nina", WHY),
        ("resume_requested", "omar", "it was fine"),
        ("trading_active", "omar", "it was fine"),
        ("hold_placed", "nina", WHY),
        ("hold_lifted", "omar", "it was fine"),
    ]
