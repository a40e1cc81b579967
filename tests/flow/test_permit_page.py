"""The page of a plan's permits: what stands, what was, and the two acts, each with its own permission."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client as WebClient
from django.test import override_settings
from django.urls import reverse

from permits.desk import records
from permits.desk.peek import peek
from permits.models import Permit
from permits.pages import pages
from quantum import clock
from quantum.models import AuditEvent
from quantum.plan import ExitPlan
from quantum.redis import Client
from tests.flow.test_admin import HOSTILE, NOWHERE, someone, text_of
from tests.house import House
from tests.permits.desk_by_hand import allow, issue, issued_both, on_stream, revoke, snapshot
from tests.permits_by_hand import GOVERNOR, P33, lay, permit

WHY = "the market is not what it was"


def page(plan_id: str) -> str:
    return reverse("admin:permits_permit_change", args=[plan_id])


def act(web: WebClient, plan: ExitPlan, name: str, **said: str) -> Any:
    sent = {"gate": GOVERNOR, "reason": WHY, "seen": seen(plan), **said}
    if name == "grant":
        sent = {"verdict": "grant", **sent}
    return web.post(reverse(f"admin:permits_permit_{name}", args=[plan.plan_id]), sent, follow=True)


def seen(plan: ExitPlan) -> str:
    from quantum.redis import command_client

    return peek(command_client(), plan.plan_id).seen


@pytest.fixture
def web(redis: Client, keys: None, transactional_db: None) -> WebClient:
    return someone("root", superuser=True)


@pytest.fixture
def plan(redis: Client, web: WebClient) -> ExitPlan:
    return issued_both(redis)


# ---- what it shows


def test_both_gates_stand_side_by_side_with_their_time_and_signature(web: WebClient, plan: ExitPlan) -> None:
    shown = text_of(web.get(page(plan.plan_id)))
    ttls = [int(found) for found in re.findall(r'data-ttl-ms="(\d+)"', shown)]
    assert len(ttls) == 2 and all(50_000 < ttl <= 60_000 for ttl in ttls)
    for told in ("Governor", "Position State Brain", "ok, governor</span>", "ok, p33</span>", "approved"):
        assert told in shown, told
    assert "<dt>safe close qty</dt>" in shown and ">0.25<" in shown
    assert shown.count("Raw permit") == 2 and "&quot;sig&quot;" in shown
    assert "ttl.js" in shown and not re.search(r"<script(?![^>]*\ssrc=)|\sstyle=|\son\w+=", shown)


def test_the_number_of_a_row_leads_to_its_plans_page(web: WebClient, plan: ExitPlan) -> None:
    row = Permit.objects.get(plan_id=plan.plan_id, gate=GOVERNOR)
    assert plan.plan_id in text_of(web.get(page(str(row.pk))))
    for unknown in ("12345678", "nothing"):
        assert web.get(page(unknown)).status_code == 302


def test_a_plan_no_gate_has_answered_has_a_page_where_an_operator_can(web: WebClient, redis: Client) -> None:
    plan = on_stream(redis)
    shown = text_of(web.get(page(plan.plan_id)))
    assert (
        shown.count("no permit</span>") == 2 and "Sign</button>" in shown and "Revoke</button>" not in shown
    )


def test_what_was_written_by_a_raw_set_has_a_page_and_a_bad_signature(web: WebClient, redis: Client) -> None:
    plan = House.make()
    lay(redis, plan, governor=permit(plan, GOVERNOR, signer=P33), p33=b"<script>alert(1)</script>")
    shown = text_of(web.get(page(plan.plan_id)))
    assert "no key that may sign for this gate" in shown
    assert "no valid permit" in shown and "not valid JSON" in shown
    assert "<script>alert" not in shown
    assert "It has no row yet" in shown
    assert "says granted" in shown and shown.count("will be refused") == 2
    assert '<span class="chip good">' not in shown, "what is not believed must not look green"


def test_a_page_that_cannot_read_the_public_keys_says_that_nothing_was_checked(
    web: WebClient, plan: ExitPlan, tmp_path: Path
) -> None:
    with override_settings(PERMIT_KEYS_DIR=tmp_path):
        shown = text_of(web.get(page(plan.plan_id)))
    assert shown.count("not checked") == 2 and "ok, governor" not in shown


def test_the_history_says_by_whom_and_why_each_permit_ended(
    web: WebClient, redis: Client, plan: ExitPlan
) -> None:
    revoke(redis, plan, GOVERNOR)
    shown = text_of(web.get(page(plan.plan_id)))
    assert "nina: changed my mind" in shown
    assert "A permit of this plan was revoked" in shown
    assert "permit_revoke_asked" in shown and "permit_revoked" in shown
    assert shown.count("data-ttl-ms") == 1
    assert "this is the last one it signed" in shown


def test_a_fate_is_told_by_the_servers_clock_and_not_by_a_row_that_still_says_live(
    web: WebClient, redis: Client
) -> None:
    plan = House.make()
    raw = permit(plan, GOVERNOR, age_s=70)
    records.record_issued([records.row_of(raw, gate=GOVERNOR, plan_id=plan.plan_id, fate=Permit.Fate.LIVE)])
    shown = text_of(web.get(page(plan.plan_id)))
    assert str(pages.fate_chip("expired")) in shown
    assert str(pages.fate_chip("live")) not in shown
    assert str(pages.fate_chip("expired")) in text_of(web.get(reverse("admin:permits_permit_changelist")))


def test_a_spent_plan_offers_no_act(web: WebClient, redis: Client, plan: ExitPlan) -> None:
    redis.delete(settings.KEYS.governor_permit(plan.plan_id), settings.KEYS.p33_permit(plan.plan_id))
    redis.hset(
        settings.KEYS.receipt(plan.plan_id), mapping={"token": "secret-of-the-attempt", "at": "1700000000007"}
    )
    shown = text_of(web.get(page(plan.plan_id)))
    assert "The pair was spent" in shown and "22:13:20.007" in shown
    assert "secret-of-the-attempt" not in shown
    assert '<button type="submit" class="button' not in shown
    assert "spent, not recorded yet" in shown


def test_without_redis_the_page_says_so_and_shows_the_history(web: WebClient, plan: ExitPlan) -> None:
    with override_settings(REDIS_URL=NOWHERE):
        answer = web.get(page(plan.plan_id))
        tried = web.post(
            reverse("admin:permits_permit_revoke", args=[plan.plan_id]),
            {"gate": "both", "reason": WHY, "seen": "0" * 16},
            follow=True,
        )
        granted = web.post(
            reverse("admin:permits_permit_grant", args=[plan.plan_id]),
            {"gate": P33, "verdict": "deny", "reason": WHY, "seen": "0" * 16},
            follow=True,
        )
        assert web.get(page("f" * 16)).status_code == 200
    assert answer.status_code == tried.status_code == granted.status_code == 200
    shown = text_of(answer)
    assert "Redis does not answer" in shown and "approved" in shown and "data-ttl-ms" not in shown
    assert "Revoke</button>" not in shown and "Sign</button>" not in shown
    assert "Redis gave no answer" in text_of(tried) and "Redis gave no answer" in text_of(granted)


def test_the_list_finds_any_part_of_a_plan_id(web: WebClient, plan: ExitPlan) -> None:
    other = Permit.objects.first()
    assert other is not None
    other.pk, other.plan_id = None, "0" * 16
    other.save(force_insert=True)
    shown = text_of(web.get(reverse("admin:permits_permit_changelist"), {"q": plan.plan_id[5:13]}))
    found = shown.partition("Every permit there was")[2]
    assert page(plan.plan_id) in found and "0" * 16 not in found


# ---- the acts


def test_revoking_takes_the_permit_and_lands_in_the_history(
    web: WebClient, redis: Client, plan: ExitPlan
) -> None:
    answer = act(web, plan, "revoke", gate="both")
    assert "Revoked: governor and p33" in text_of(answer)
    assert peek(redis, plan.plan_id).standing == []
    rows = Permit.objects.filter(plan_id=plan.plan_id, fate="revoked", fate_by="root", fate_reason=WHY)
    assert rows.count() == 2


def test_a_page_that_is_stale_changes_nothing(web: WebClient, redis: Client) -> None:
    plan = on_stream(redis)
    issue(redis, plan, GOVERNOR)
    old = seen(plan)
    issue(redis, plan, P33)
    shown = text_of(act(web, plan, "revoke", seen=old))
    assert "not those this page showed" in shown
    assert len(peek(redis, plan.plan_id).standing) == 2
    fresh = on_stream(redis)
    old = seen(fresh)
    issue(redis, fresh, P33)
    shown = text_of(act(web, fresh, "grant", verdict="deny", seen=old))
    assert "not those this page showed" in shown
    assert len(peek(redis, fresh.plan_id).standing) == 1


@pytest.mark.parametrize(
    ("has", "may"),
    [
        ([], set()),
        (["issue_permit"], {"grant"}),
        (["revoke_permit"], {"revoke"}),
        (["add_permit", "change_permit", "delete_permit"], set()),
    ],
)
def test_each_act_needs_its_own_permission_and_no_other_will_do(
    redis: Client, keys: None, transactional_db: None, has: list[str], may: set[str]
) -> None:
    person = someone("olga", "view_permit", *has)
    for name, button in (("revoke", "Revoke</button>"), ("grant", "Sign</button>")):
        plan = on_stream(redis)
        issue(redis, plan, GOVERNOR)
        assert (button in text_of(person.get(page(plan.plan_id)))) == (name in may)
        gate = GOVERNOR if name == "revoke" else P33
        answer = act(person, plan, name, verdict="deny", gate=gate)
        assert answer.status_code == (200 if name in may else 403), name
        assert bool(AuditEvent.objects.filter(plan_id=plan.plan_id).exists()) == (name in may)


def test_an_act_without_the_right_to_look_is_refused(
    redis: Client, keys: None, transactional_db: None
) -> None:
    plan = issued_both(redis)
    blind = someone("olga", "revoke_permit", "issue_permit")
    assert act(blind, plan, "revoke").status_code == 403
    assert len(peek(redis, plan.plan_id).standing) == 2


def test_an_act_is_a_post_with_a_token_and_a_reason(web: WebClient, redis: Client, plan: ExitPlan) -> None:
    for name in ("revoke", "grant"):
        assert web.get(reverse(f"admin:permits_permit_{name}", args=[plan.plan_id])).status_code == 405
    for reason in ("", "too few", "       x"):
        assert "Nothing was changed" in text_of(act(web, plan, "revoke", reason=reason))
    assert "Nothing was changed" in text_of(act(web, plan, "revoke", gate="neither"))
    strict = WebClient(enforce_csrf_checks=True)
    strict.cookies = web.cookies
    assert act(strict, plan, "revoke").status_code == 403
    assert len(peek(redis, plan.plan_id).standing) == 2


def test_signing_from_the_page_obeys_policy_and_says_so(web: WebClient, redis: Client) -> None:
    plan = on_stream(redis)
    issue(redis, plan, GOVERNOR)
    assert "Sign</button>" in text_of(web.get(page(plan.plan_id)))
    refused = text_of(act(web, plan, "grant", gate=P33, quantity="0.25"))
    assert "the policy has no rule for operators" in refused
    allow(P33, BTCUSDT="0.5")
    snapshot(redis, "1")
    for wrong in ("-1", "NaN", "lots"):
        assert "above zero" in text_of(act(web, plan, "grant", gate=P33, quantity=wrong))
    done = text_of(act(web, plan, "grant", gate=P33, quantity="0.25"))
    assert "Signed as operator" in done
    assert "ok, operator</span>" in done and "operator:root@main" in done
    row = Permit.objects.get(plan_id=plan.plan_id, gate=P33)
    assert (row.verdict, row.issuer) == (True, "operator:root@main")


def test_hostile_words_stay_words(web: WebClient, redis: Client) -> None:
    plan = House.make()
    raw = permit(
        plan, GOVERNOR, reason=HOSTILE, issuer=HOSTILE[:60], symbol=HOSTILE[:39], context={"a": HOSTILE}
    )
    lay(redis, plan, governor=raw)
    row = records.row_of(raw, gate=GOVERNOR, plan_id=plan.plan_id, fate=Permit.Fate.LIVE)
    row.fate_by, row.fate_reason, row.fate_at = HOSTILE[:80], HOSTILE, clock.now()
    records.record_issued([row])
    answer = web.get(page(plan.plan_id))
    assert answer.status_code == 200
    assert "<script>alert" not in text_of(answer) and "<img src=x" not in text_of(answer)
