"""Break-glass: past the gate that stands in the way, within every bound, once."""

from __future__ import annotations

import datetime as dt
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import override_settings

from apply.models import BreakGlass, Order, Plan
from apply.operators import break_glass, decided, preview
from apply.operators.break_glass import CannotBreak
from apply.operators.preview import GATES, Wanted
from permits.models import Hold, Permit, TradingState
from permits.state import freezing
from quantum import clock
from quantum.models import AuditEvent
from quantum.plan import Action
from tests.flow.test_admin import NOWHERE
from tests.flow.test_dry_run import adopt
from tests.flow.test_halts_and_holds import halt, hold, leave_to_operators, resume, told
from tests.flow.test_reconcile import balance, incident_of, run, trade_by_hand
from tests.glass_by_hand import WHY, YES, approve, asked, ended, glass, made, sent
from tests.house import House, wait_for
from tests.orders_by_hand import reborn


@pytest.fixture
def working(house: House) -> House:
    """All four roles at work; operators may sign for both gates, up to 1 BTC."""
    leave_to_operators()
    return house.start()


@pytest.fixture
def halted(working: House) -> House:
    """Automatic plans are stopped; the Governor denies."""
    halt(TradingState.Scope.AUTOMATIC)
    told(working)
    return working


def kinds() -> list[str]:
    rows = AuditEvent.objects.filter(kind__startswith="break_glass").order_by("id")
    return list(rows.values_list("kind", flat=True))


def test_under_a_halt_of_automatic_plans_the_governors_permit_is_signed_and_the_brain_judges(
    halted: House,
) -> None:
    assert halted.exit().state == "blocked"
    code, shown, talk = glass("governor", "--action", "PARTIAL_50", "--dry-run")
    assert (code, shown["exchange_amt"], shown["after"], shown["most"]) == (0, "1", "0.5", "0.5"), talk
    assert "Governor: would deny, halted" in talk and "Brain (p33): would grant; judges by itself" in talk
    assert "HALTED for automatic plans, by omar" in talk and "exits in 5 min" in talk
    code, _, talk = glass("governor", confirm="")
    assert (code, "type --confirm BTCUSDT" in talk, made()) == (2, True, [])

    code, came, talk = glass("governor", "--action", "PARTIAL_50", "--wait")
    assert (code, came["state"], came["decided_before"]) == (0, "filled", False), talk
    row = ended(came["plan_id"])
    order = Order.objects.get(plan_id=row.plan_id)
    assert (order.side, order.quantity, sent(halted)) == ("SELL", Decimal("0.5"), 1)
    issuers = dict(Permit.objects.filter(plan_id=row.plan_id).values_list("gate", "issuer"))
    assert issuers["governor"].startswith("operator:nina@") and issuers["p33"].startswith("p33@")
    assert kinds() == ["break_glass_asked", "break_glass_acted"]
    event = AuditEvent.objects.get(kind="break_glass_acted")
    assert (event.actor, event.reason, event.plan_id) == ("nina", WHY, row.plan_id)
    assert (event.data["before"], event.data["after"]) == ("1", "0.5 at the least")
    code, story, _ = run("plan_show", row.plan_id)
    assert [each["by"] for each in story["timeline"] if each["what"] == "break-glass"] == ["nina"]

    code, again, talk = glass("governor", "--action", "PARTIAL_50", by="omar")
    assert (code, again["decided_before"], again["plan_id"]) == (0, True, row.plan_id), talk
    assert "no second order" in talk and sent(halted) == 1


def test_past_a_hold_the_brains_permit_names_that_hold_and_the_governor_still_judges(working: House) -> None:
    trade_by_hand(working, "BTCUSDT", "0.750")
    incident = incident_of()
    _, shown, talk = glass("p33", "--dry-run")
    assert (shown["exchange_amt"], shown["ledger_amt"], shown["still_in_the_way"]) == ("0.75", "1", [])
    assert "Brain (p33): would deny, reconcile_hold_active" in talk
    assert "Still in the way: Brain (p33)" in glass("governor", "--dry-run")[2]
    code, came, talk = glass("p33", "--wait")
    assert (code, came["state"]) == (0, "filled"), talk
    order = Order.objects.get(plan_id=came["plan_id"])
    assert order.quantity == Decimal("0.75") and f'"hold_id":{incident.hold_id}' in order.p33_permit
    assert Hold.objects.get(lifted_at=None).pk == incident.hold_id


def test_for_both_gates_another_person_says_yes_on_top_of_what_was_asked(working: House) -> None:
    trade_by_hand(working, "BTCUSDT", "0.750")
    incident_of()
    halt(TradingState.Scope.AUTOMATIC)
    told(working)
    request = asked()
    assert (made(), Permit.objects.filter(issuer__startswith="operator:").count()) == ([], 0)
    assert asked() == request, "asked for twice it is one request"
    for by in ("nina", " NINA "):
        code, _, talk = approve(request, by)
        assert (code, "another person has to say yes" in talk) == (4, True)
    assert "waits for BTCUSDT" in glass("governor", by="olga")[2]

    trade_by_hand(working, "BTCUSDT", "0.700")
    code, _, talk = approve(request)
    assert (code, "not any more what was shown: the exchange holds 0.7, not 0.75" in talk) == (4, True), talk
    trade_by_hand(working, "BTCUSDT", "0.750")
    code, came, talk = approve(request)
    assert (code, came["state"]) == (0, "filled"), talk
    permits = Permit.objects.filter(plan_id=came["plan_id"])
    assert {each.issuer.partition("@")[0] for each in permits} == {"operator:nina"}
    assert all(f"approved by omar: {YES}" in each.raw for each in permits)
    assert kinds() == ["break_glass_asked", "break_glass_approved", "break_glass_acted"]
    request.refresh_from_db()
    assert (request.state, request.plan_id, request.decided_by) == ("acted", came["plan_id"], "omar")
    assert "is acted" in approve(request)[2] and sent(working) == 1


def test_a_request_is_taken_back_ends_by_itself_and_falls_with_a_hold_or_a_state_that_changed(
    working: House,
) -> None:
    request = asked()
    code, _, talk = run("break_glass", refuse=request.pk, reason="not needed any more", by="nina")
    assert (code, "is refused" in approve(request)[2]) == (0, True), talk
    request = asked()
    BreakGlass.objects.filter(pk=request.pk).update(expires_at=clock.now() - dt.timedelta(seconds=1))
    assert "is expired" in approve(request)[2]
    request = asked()
    placed = hold(working)
    assert f"hold {placed.pk}, before no hold" in approve(request)[2]
    freezing.release(working.redis, hold=placed, by="omar", reason="all is well")
    halt(TradingState.Scope.AUTOMATIC)
    assert "the trading state was changed" in approve(request)[2]
    assert made() == [] and "break_glass_expired" in kinds() and "break_glass_refused" in kinds()


def test_f13_the_limit_and_the_number_of_approvers_ask_for_a_second_person(
    halted: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Wanted("BTCUSDT", Action.PARTIAL_25, GATES["governor"])

    def second() -> str:
        return preview.look(halted.redis, wanted, within_s=5).second_person

    assert second() == ""
    monkeypatch.setattr(settings, "BREAK_GLASS_SECOND_PERSON_USD", Decimal(100))
    assert "the limit is 100" in second()
    monkeypatch.setattr(settings, "BREAK_GLASS_SECOND_PERSON_USD", Decimal(10**8))
    assert second() == ""
    monkeypatch.setattr(settings, "APPROVERS_REQUIRED", 2)
    code, came, _ = glass("governor")
    assert (code, came["request"]["gates"], made()) == (4, "governor", [])


def test_what_has_to_stay_refused_is_refused_with_what_to_do(
    working: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words, code, says in (
        (("BTCUSDT", "--reason", WHY), 2, "--gate governor, p33 or both"),
        (("BTCUSDT", "--gate", "p33", "--reason", "oops"), 2, "at least 8"),
        (("DOGEUSDT", "--gate", "p33", "--reason", WHY), 2, "allow-list"),
        (("--approve", "7", "--reason", YES), 4, "There is no request 7"),
        (("--approve", "9" * 30, "--reason", YES), 4, ""),
    ):
        found, _, talk = run("break_glass", *words, by="nina")
        assert (found, says in talk, "Traceback" in talk) == (code, True, False), (words, found, talk)
    trade_by_hand(working, "BTCUSDT", "3.000")
    assert "above the operators' 1" in glass("p33")[2], "the policy's size"
    trade_by_hand(working, "BTCUSDT", "0.000")
    assert "nothing to close" in glass("p33")[2]
    trade_by_hand(working, "BTCUSDT", "1.000")
    halt()
    told(working)
    code, _, talk = glass("governor")
    assert (code, "halted in full" in talk, "--scope automatic" in talk) == (4, True, True), talk
    resume()
    told(working)
    with override_settings(PERMIT_KEYS_DIR=tmp_path):
        code, _, talk = glass("governor")
    assert (code, "operator's key cannot be used" in talk) == (4, True), talk
    assert BreakGlass.objects.latest("id").state == "refused"
    with override_settings(REDIS_URL=NOWHERE):
        code, _, talk = glass("governor")
    assert (code, "Redis gave no answer" in talk) == (5, True), talk
    working.stop("p33")
    monkeypatch.setattr("apply.management.commands.break_glass.WITHIN_S", 0.3)
    code, _, talk = glass("p33")
    assert (code, "unknown is not flat" in talk, made()) == (5, True, []), talk


@pytest.mark.parametrize("state", ["open", "unknown"])
def test_an_exit_on_its_way_or_of_unknown_outcome_is_the_answer(working: House, state: str) -> None:
    working.stop("apply", "warden")
    plan = working.publish()
    reborn(plan.plan_id, state=state)
    code, came, talk = glass("governor")
    assert (code, came["plan_id"], came["decided_before"]) == (0, plan.plan_id, True), talk
    assert (made(), BreakGlass.objects.count()) == ([], 0)
    gone = clock.now() - dt.timedelta(seconds=decided.OPEN_AFTER_LIFE_S + 1)
    reborn(plan.plan_id, state=state, expires_at=gone)
    found = decided.decided("BTCUSDT", after_id=plan_pk(plan.plan_id), since=clock.now())
    assert (found is None) == (state == "open"), "what can never be executed stands in nobody's way"


def plan_pk(plan_id: str) -> int:
    return Plan.objects.get(plan_id=plan_id).pk


def test_two_people_and_two_tabs_at_once_make_one_plan_and_all_are_told_of_it(halted: House) -> None:
    wanted = Wanted("BTCUSDT", Action.PARTIAL_50, GATES["governor"])
    stood = preview.look(halted.redis, wanted, within_s=5).stood
    together = threading.Barrier(3)

    def press(by: str) -> str:
        together.wait(5)
        try:
            said = {"by": by, "reason": WHY, "confirm": "BTCUSDT"}
            answer = break_glass.act(halted.redis, wanted, stood=stood, within_s=5, **said)
            return answer.before.plan_id if answer.before else answer.plan_id
        except CannotBreak as refused:
            return str(refused)
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as hands:
        answers = list(hands.map(press, ("nina", "nina", "omar")))
    [plan] = made()
    assert answers == [plan.plan_id] * 3
    assert ended(plan.plan_id).state == "filled" and sent(halted) == 1
    late = break_glass.act(
        halted.redis, wanted, stood=stood, by="olga", reason=WHY, confirm="BTCUSDT", within_s=5
    )
    assert late.before == Plan.objects.get(plan_id=plan.plan_id), "a tab that was left open"


def test_an_act_that_ends_between_two_questions_is_still_the_answer(
    halted: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether anything is decided was asked before it ended, and who is at it after."""
    shown = preview.look(halted.redis, Wanted("BTCUSDT", Action.PARTIAL_50, GATES["governor"]), within_s=5)
    mine = BreakGlass(account=settings.ACCOUNT, symbol="BTCUSDT")
    others = [break_glass._claim(shown, shown.stood, state=BreakGlass.State.ACTING, by="nina", reason=WHY)]
    whether = break_glass._decided_since

    def asked_just_before(*given: Any) -> Plan | None:
        found = whether(*given)
        if others and (row := others.pop().request):
            break_glass._go_on(halted.redis, row, shown, shown.stood)
        return found

    monkeypatch.setattr(break_glass, "_decided_since", asked_just_before)
    answer = break_glass._of_the_other(mine, shown.stood)
    assert [answer.before] == made()


def test_what_was_seen_long_ago_is_answered_by_what_closed_it_since(
    halted: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long enough after it that a new look would go on; and the amount has become the same again."""
    wanted = Wanted("BTCUSDT", Action.PARTIAL_50, GATES["governor"])
    stood = preview.look(halted.redis, wanted, within_s=5).stood
    _, came, _ = glass("governor", "--action", "PARTIAL_50", "--wait")
    monkeypatch.setattr(decided, "JUST_S", -60)
    assert preview.look(halted.redis, wanted, within_s=5).decided is None
    said: dict[str, Any] = {"by": "omar", "reason": WHY, "confirm": "BTCUSDT", "within_s": 5}
    answer = break_glass.act(halted.redis, wanted, stood=stood, **said)
    assert answer.before is not None and answer.before.plan_id == came["plan_id"]


def test_a_death_between_signing_and_publishing_leaves_permits_that_end_and_no_plan(halted: House) -> None:
    words = ("--gate", "governor", "--reason", WHY, "--by", "nina", "--confirm", "BTCUSDT")
    victim = halted.spawn("break_glass", "BTCUSDT", *words, fault="glass_signed:kill")
    assert victim.wait(20) == -9
    [row] = BreakGlass.objects.all()
    assert (row.state, made()) == ("acting", [])
    [key] = halted.redis.keys(settings.KEYS.governor_permit("*"))
    assert 0 < halted.redis.pttl(key) <= settings.PERMIT_TTL_SEC * 1000
    code, _, talk = glass("governor", by="omar")
    assert (code, "nina is breaking the glass of BTCUSDT now" in talk) == (4, True), talk
    BreakGlass.objects.update(expires_at=clock.now())
    code, came, talk = glass("governor", "--wait", by="omar")
    assert (code, came["state"]) == (0, "filled"), talk
    row.refresh_from_db()
    assert row.state == "expired" and sent(halted) == 1


def test_an_act_that_slept_past_its_life_publishes_nothing(
    halted: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGSTOP between signing and publishing: somebody else may have acted since."""

    def sleeps(name: str) -> None:
        if name == "glass_signed":
            BreakGlass.objects.update(expires_at=clock.now())

    monkeypatch.setattr(break_glass, "fault_point", sleeps)
    code, _, talk = glass("governor")
    assert (code, "no plan was made" in talk, made()) == (4, True, []), talk


def test_a_death_after_the_row_is_published_by_the_janitor(
    halted: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "QUANTUM_FAULT", "glass_recorded:raise")
    with pytest.raises(Exception, match="glass_recorded"):
        glass("governor")
    monkeypatch.setattr(settings, "QUANTUM_FAULT", "")
    [plan] = wait_for(made, what="the plan's row")
    assert ended(plan.plan_id).state == "filled"


def test_a_gate_that_was_left_to_itself_is_told_with_its_reason_and_the_next_step(working: House) -> None:
    hold(working)
    code, came, talk = glass("governor", "--wait")
    assert (code, came["state"]) == (4, "blocked"), talk
    assert "Next:" in talk and sent(working) == 0


def test_an_act_that_begins_and_ends_between_the_look_and_the_claim_is_the_answer(
    halted: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """omar looks, nina acts from look to plan, omar claims the symbol, which is free again."""
    still_so, first = break_glass._still_so, []

    def then_nina_acts(*shown: Any) -> None:
        still_so(*shown)
        monkeypatch.setattr(break_glass, "_still_so", still_so)
        first.append(glass("governor", "--action", "PARTIAL_50", "--wait")[1]["plan_id"])

    monkeypatch.setattr(break_glass, "_still_so", then_nina_acts)
    _, came, talk = glass("governor", "--action", "PARTIAL_50", by="omar")
    assert (came["decided_before"], [came["plan_id"]], len(made())) == (True, first, 1), talk
    row = BreakGlass.objects.get(asked_by="omar")
    assert (row.state, row.plan_id, sent(halted)) == ("answered", first[0], 1)


def test_in_dry_run_it_is_signed_and_judged_and_nothing_is_sent(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "APPLY_MODE", "dry_run")
    adopt()
    leave_to_operators()
    house.start()
    hold(house)
    code, came, talk = glass("p33", "--wait")
    assert (code, came["state"], came["error"]) == (4, "skipped", "dry_run"), talk
    assert "dry_run sends nothing" in talk and "in dry_run nothing is sent" in talk
    assert Plan.objects.get().would_quantity == 1 and not Order.objects.exists() and sent(house) == 0


def test_what_is_bought_after_the_look_is_not_closed_by_a_break_glass_of_the_governor(
    halted: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nina is shown half of 1. Her entry bot buys before p33 has judged, the ledger follows, and p33 allows half of
    1.5: within the policy's size, and more than what she was shown and decided on."""

    def bought(name: str) -> None:
        if name == "glass_signed":
            halted.paper.set_position(symbol="BTCUSDT", amount="1.500", client_order_id=House.entry_id())
            wait_for(lambda: balance() == Decimal("1.5"), what="the ledger to follow")

    monkeypatch.setattr(break_glass, "fault_point", bought)
    code, came, talk = glass("governor", "--action", "PARTIAL_50", "--wait")
    assert (code, came["state"], "at most 0.5" in talk) == (0, "filled", True), talk
    order = Order.objects.get(plan_id=came["plan_id"])
    assert '"safe_close_qty":0.75' in order.p33_permit
    assert (order.quantity, BreakGlass.objects.get().quantity) == (Decimal("0.5"), Decimal("0.5"))
