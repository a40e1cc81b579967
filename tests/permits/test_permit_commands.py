"""The desk from a shell: data on stdout, talk on stderr, exit codes that mean something."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import override_settings

from permits.desk import records
from permits.desk.desk import Issued
from permits.desk.peek import peek
from permits.gate.gate import Gate
from permits.models import Permit, PolicyVersion
from quantum import keyring
from quantum.commands import Exit
from quantum.plan import ExitPlan
from quantum.redis import Client
from quantum.signing import ensure_keys
from tests.house import House
from tests.permits.conftest import outcome_of
from tests.permits.desk_by_hand import allow, issue, issued_both, on_stream, snapshot
from tests.permits_by_hand import GOVERNOR, P33, lay, permit

pytestmark = pytest.mark.django_db
NOWHERE = override_settings(REDIS_URL="unix:///nowhere/at-all.sock")
WHY = "--reason=the Governor is down"


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


@pytest.fixture
def run() -> Callable[..., Ran]:
    def run(name: str, *args: str) -> Ran:
        out, err, code = io.StringIO(), io.StringIO(), 0
        try:
            call_command(name, *args, stdout=out, stderr=err)
        except SystemExit as left:
            code = int(left.code or 0)
        return Ran(code, out.getvalue(), err.getvalue())

    return run


Run = Callable[..., Ran]


@pytest.fixture
def plan(redis: Client, keys: None) -> ExitPlan:
    return issued_both(redis)


# ---- show and list


def test_show_tells_a_denials_numbers_and_what_to_do(run: Run, redis: Client, keys: None) -> None:
    plan = on_stream(redis)
    context = {"used": Decimal(90), "asked": Decimal(20), "limit": Decimal(100)}
    issued = issue(redis, plan, GOVERNOR, verdict=False, reason="daily_notional_limit", context=context)
    assert isinstance(issued, Issued)
    records.record_issued(
        [records.row_of(issued.raw, gate=GOVERNOR, plan_id=plan.plan_id, fate=Permit.Fate.LIVE)]
    )
    shown = run("permit_show", plan.plan_id)
    for told in ("used=90", "asked=20", "limit=100", "Next: propose a smaller share"):
        assert told in shown.err, told


def test_an_empty_list_is_talk_and_an_empty_document(run: Run, plan: ExitPlan) -> None:
    assert run("permit_list", "--symbol", plan.symbol.lower()).out.count(plan.plan_id) == 2
    none = run("permit_list", "--symbol", "NOPE")
    assert (none.out, none.code) == ("", 0) and "No permit" in none.err
    assert run("permit_list", "--symbol", "NOPE", "--json").data == {"permits": []}


def test_show_tells_what_stands_with_its_real_time_and_the_history(run: Run, plan: ExitPlan) -> None:
    shown = run("permit_show", plan.plan_id[:9], "--json")
    assert shown.code == 0
    assert 0 < shown.data["redis"]["governor"]["ttl_ms"] <= 60_000
    assert shown.data["redis"]["p33"]["signed_by"] == "p33"
    assert [row["fate"] for row in shown.data["history"]] == ["live", "live"]
    assert "sanity" not in shown.err
    text = run("permit_show", plan.plan_id)
    assert "granted" in text.out and "ok," in text.out


def test_show_says_what_a_stranger_wrote_and_what_is_gone(run: Run, redis: Client, plan: ExitPlan) -> None:
    redis.delete(settings.KEYS.governor_permit(plan.plan_id))
    lay(redis, plan, p33=b"\xff\x1b[31m no permit")
    shown = run("permit_show", plan.plan_id, "--json").data
    assert shown["redis"]["governor"] is None
    assert shown["redis"]["p33"]["problem"] == "not valid JSON"
    assert {row["note"] for row in shown["history"]} == {"not in Redis any more"}
    text = run("permit_show", plan.plan_id)
    assert text.code == 0 and "\x1b[31m no" not in text.out


def test_show_without_redis_gives_the_history_and_says_so(run: Run, plan: ExitPlan) -> None:
    with NOWHERE:
        shown = run("permit_show", plan.plan_id, "--json")
    assert shown.code == Exit.DEPENDENCY_DOWN
    assert shown.data["redis"] is None and len(shown.data["history"]) == 2


def test_show_knows_what_it_does_not_know(run: Run, plan: ExitPlan) -> None:
    assert run("permit_show", "f" * 16).code == Exit.ERROR
    Permit.objects.filter(gate=P33).update(plan_id=plan.plan_id[:8] + "f" * 8)
    assert run("permit_show", plan.plan_id[:8]).code == Exit.USAGE


def test_list_filters_and_counts_the_living_by_the_server(run: Run, redis: Client, plan: ExitPlan) -> None:
    gone = issued_both(redis)
    redis.delete(settings.KEYS.governor_permit(gone.plan_id), settings.KEYS.p33_permit(gone.plan_id))
    assert len(run("permit_list", "--json").data["permits"]) == 4
    live = run("permit_list", "--live", "--json").data["permits"]
    assert [(row["plan_id"], row["gate"]) for row in live] == [(plan.plan_id, P33), (plan.plan_id, GOVERNOR)]
    assert all(0 < row["ttl_ms"] <= 60_000 for row in live)
    assert len(run("permit_list", "--gate=p33", "--json").data["permits"]) == 2
    assert len(run("permit_list", "--fate=spent", "--json").data["permits"]) == 0
    assert len(run("permit_list", "--symbol=ETHUSDT", "--json").data["permits"]) == 0
    assert len(run("permit_list", "--limit=3", "--json").data["permits"]) == 3
    assert plan.plan_id in run("permit_list").out
    assert run("permit_list", "--limit=0").code == Exit.USAGE
    with NOWHERE:
        assert run("permit_list", "--json").code == 0, "a list needs no Redis"
        assert run("permit_list", "--live", "--json").code == Exit.DEPENDENCY_DOWN


# ---- revoke


def test_revoke_takes_back_and_says_what_it_did(run: Run, redis: Client, plan: ExitPlan) -> None:
    tried = run("permit_revoke", plan.plan_id, WHY, "--dry-run", "--json")
    assert tried.data["would_revoke"] == ["governor", "p33"]
    assert len(peek(redis, plan.plan_id).standing) == 2
    done = run("permit_revoke", plan.plan_id, "--gate=p33", WHY, "--by=nina", "--json")
    assert (done.code, done.data["revoked"], done.data["gates"]) == (0, True, ["p33"])
    assert "-> revoked" in done.err and "PAPER main" in done.err
    row = Permit.objects.get(plan_id=plan.plan_id, gate=P33)
    assert (row.fate, row.fate_by) == ("revoked", "nina")
    assert run("permit_revoke", plan.plan_id, WHY).out.startswith("Revoked: governor")


def test_revoke_answers_too_late_and_nothing_there_with_codes_of_their_own(
    run: Run, gate: Gate, redis: Client
) -> None:
    plan = issued_both(redis)
    outcome_of(gate, plan)
    late = run("permit_revoke", plan.plan_id, WHY, "--json")
    assert (late.code, late.data["reason"]) == (Exit.BLOCKED, "already_consumed")
    assert "plan_show" in late.err
    assert run("permit_revoke", "f" * 16, WHY).code == Exit.ERROR


def test_an_act_needs_a_reason_that_says_something(run: Run, plan: ExitPlan) -> None:
    assert run("permit_revoke", plan.plan_id, "--reason=oops").code == Exit.USAGE
    assert run("permit_grant", plan.plan_id, "--gate=p33", "--reason=       x").code == Exit.USAGE
    assert run("permit_keys", "rotate", "p33", "--reason=oops").code == Exit.USAGE
    with pytest.raises(CommandError):
        run("permit_revoke", plan.plan_id)


def test_acts_without_redis_say_that_nothing_is_known(run: Run, plan: ExitPlan) -> None:
    with NOWHERE:
        assert run("permit_revoke", plan.plan_id, WHY).code == Exit.DEPENDENCY_DOWN
        assert run("permit_grant", plan.plan_id, WHY, "--gate=p33").code == Exit.DEPENDENCY_DOWN


@pytest.mark.parametrize(("said", "standing"), [("n", 2), ("y", 0)])
def test_on_a_terminal_it_asks_before_it_acts(
    run: Run, redis: Client, plan: ExitPlan, monkeypatch: pytest.MonkeyPatch, said: str, standing: int
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _text: said)
    assert run("permit_revoke", plan.plan_id, WHY).code == 0
    assert len(peek(redis, plan.plan_id).standing) == standing


# ---- grant


def test_grant_signs_what_policy_allows_and_shows_it_first(run: Run, redis: Client, keys: None) -> None:
    allow(P33, BTCUSDT="0.5")
    snapshot(redis, "1")
    plan = on_stream(redis)
    args = ("permit_grant", plan.plan_id, "--gate=p33", "--quantity=0.25", "--by=nina", WHY, "--json")
    tried = run(*args, "--dry-run")
    assert (tried.code, tried.data["signed"], tried.data["quantity"]) == (0, False, "0.25")
    assert peek(redis, plan.plan_id).standing == []
    done = run(*args)
    assert (done.code, done.data["signed"], done.data["by"]) == (0, True, "nina")
    assert len(peek(redis, plan.plan_id).standing) == 1
    again = run(*args)
    assert (again.code, again.data["reason"]) == (Exit.BLOCKED, "standing")


def test_grant_refuses_what_policy_does_not_name_and_denies_for_anybody(
    run: Run, redis: Client, keys: None
) -> None:
    plan = on_stream(redis)
    refused = run("permit_grant", plan.plan_id, "--gate=governor", WHY)
    assert refused.code == Exit.BLOCKED and "policy" in refused.err
    done = run("permit_grant", plan.plan_id, "--gate=governor", "--deny", WHY)
    assert done.code == 0 and "denied by" in done.out
    [row] = Permit.objects.filter(plan_id=plan.plan_id)
    assert (row.verdict, row.reason) == (False, "operator_denied")


def test_grant_refuses_the_governors_side_where_the_gate_would_refuse_the_size(
    run: Run, redis: Client, keys: None
) -> None:
    """Signed and then refused by apply would cost the plan: it is said before anything is signed."""
    plan = on_stream(redis)
    PolicyVersion.objects.create(version=1, rules={"operator": {"gates": ["governor"]}}, by="x", reason="x")
    refused = run("permit_grant", plan.plan_id, "--gate=governor", WHY)
    assert refused.code == Exit.BLOCKED and "operator.max_notional" in refused.err
    PolicyVersion.objects.create(
        version=2,
        rules={"operator": {"gates": ["governor"], "max_quantity": {plan.symbol: "0.1"}}},
        by="x",
        reason="x",
    )
    issue(redis, plan, P33)
    refused = run("permit_grant", plan.plan_id, "--gate=governor", WHY)
    assert refused.code == Exit.BLOCKED and "0.25 is above the operators' 0.1" in refused.err
    assert [standing.gate for standing in peek(redis, plan.plan_id).standing] == [P33]


@pytest.mark.parametrize("quantity", ["-1", "0", "NaN", "1e3", "a lot"])
def test_a_quantity_is_a_plain_number(run: Run, redis: Client, quantity: str) -> None:
    assert run("permit_grant", "f" * 16, "--gate=p33", f"--quantity={quantity}", WHY).code == Exit.USAGE


def test_grant_with_a_key_open_to_others_signs_nothing_and_gives_the_remedy(
    run: Run, redis: Client, tmp_path: Path
) -> None:
    ensure_keys(tmp_path)
    (tmp_path / "operator.key").chmod(0o644)
    allow(GOVERNOR)
    plan = on_stream(redis)
    with override_settings(PERMIT_KEYS_DIR=tmp_path):
        refused = run("permit_grant", plan.plan_id, "--gate=governor", WHY)
    assert refused.code == Exit.ERROR and "chmod 600" in refused.err
    assert peek(redis, plan.plan_id).standing == []


# ---- keys


def test_keys_are_made_shown_and_rotated(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "SETTLE_S", 0.0)
    with override_settings(PERMIT_KEYS_DIR=tmp_path):
        assert run("permit_keys", "--json").code == Exit.ERROR, "there are none yet"
        made = run("permit_keys", "make", "--json").data["made"]
        assert made == ["governor", "p33", "operator", "audit", "proof"]
        assert run("permit_keys").code == 0
        before = run("permit_keys", "show", "governor", "--json").data["files"]
        assert {file["signer"] for file in before} == {"governor"}
        assert run("permit_keys", "rotate", WHY).code == Exit.USAGE
        assert run("permit_keys", "rotate", "governor", WHY, "--dry-run").code == 0
        done = run("permit_keys", "rotate", "governor", WHY, "--settle=0", "--json")
        assert done.data["before"] == next(f["fingerprint"] for f in before if f["what"] == "public")
        after = {
            file["what"]: file for file in run("permit_keys", "show", "governor", "--json").data["files"]
        }
        assert after["public"]["fingerprint"] == done.data["after"]
        assert after["old"]["until"] == done.data["old_until"]
        (tmp_path / "p33.key").chmod(0o644)
        wrong = run("permit_keys")
        assert wrong.code == Exit.ERROR and "chmod 600" in wrong.err
        assert "PRIVATE" not in wrong.out


def test_commands_take_hostile_words_as_words(run: Run, redis: Client, keys: None) -> None:
    plan = House.make()
    raw = permit(plan, GOVERNOR, reason="[red]\x1b[2J\n")
    records.record_issued([records.row_of(raw, gate=GOVERNOR, plan_id=plan.plan_id, fate=Permit.Fate.LIVE)])
    for shown in (run("permit_show", plan.plan_id), run("permit_list")):
        assert shown.code == 0
        assert "\x1b[2J" not in shown.out and "[red]" in shown.out
    assert run("permit_show", "\x1b[2J").code == Exit.ERROR
