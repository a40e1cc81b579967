"""The policy page: limits with their use, a draft tried before it holds, the change itself, and its history."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client as WebClient
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django.fixtures import Settings

from permits.desk.payloads import GOVERNOR
from permits.desk.reserved import Reservation
from permits.models import Judgement, PolicyVersion, Usage
from permits.policy import policies
from quantum import clock
from quantum.models import AuditEvent
from quantum.redis import Client
from tests.flow.test_admin import NOWHERE, someone, text_of
from tests.permits.governors import AtWork, arm, limit, snapshot

PAGE = "admin:permits_policyversion_changelist"
SET = "admin:permits_policy_set"
WHY = "a calmer week is ahead"


@pytest.fixture
def web(redis: Client, transactional_db: None) -> WebClient:
    return someone("omar", "view_policyversion", "set_policy")


@pytest.fixture
def governor(redis: Client, keys: None, transactional_db: None) -> Iterator[AtWork]:
    arm(redis)
    snapshot(redis)
    snapshot(redis, symbol="ETHUSDT")
    one = AtWork(redis)
    yield one
    one.recorder.finish()


def shown(web: WebClient, **asked: Any) -> str:
    answer = web.get(reverse(PAGE), {name.replace("__", "."): value for name, value in asked.items()})
    assert answer.status_code == 200
    return text_of(answer)


def text(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def save(web: WebClient, *words: str, seen: int, on: str = "limits", reason: str = WHY, **more: str) -> str:
    said = {"seen": seen, "on": on, "words": "\n".join(words), "reason": reason, **more}
    return text(text_of(web.post(reverse(SET), said, follow=True)))


# ---- limits and their use


def test_each_limit_stands_beside_what_is_used_of_it_filled_or_held(web: WebClient, redis: Client) -> None:
    limit("permits_per_5min=3", "each.quantity_per_day=2", "each.cooldown_s=3000")
    limit("permits_per_5min=1", symbol="ETHUSDT")
    for number, symbol in enumerate(("BTCUSDT", "ETHUSDT")):
        Usage.objects.create(
            plan_id=f"{number:016x}",
            symbol=symbol,
            kind="executed",
            quantity=Decimal("0.5"),
            notional=Decimal(900),
        )
    now_ms = clock.now_ms()
    held = Reservation("f" * 16, "BTCUSDT", Decimal("0.25"), Decimal(100), now_ms, now_ms + 60_000)
    redis.hset(settings.KEYS.reserved(GOVERNOR), mapping={"f" * 16: held.text(), "version": "1"})
    said = text(shown(web))
    assert "Exits in 5 minutes 3 3 ! used up" in said, "two were filled and one may be"
    assert "USD in 24 hours 1000000000 1900 " in said
    assert "Coins in 24 hours 2 BTCUSDT 0.75 " in said, "ETHUSDT has limits of its own"
    assert re.search(r"Seconds between two exits 3000 BTCUSDT last exit [\d.]+ s ago ! runs", said)
    own = text(shown(web, symbol="ETHUSDT"))
    assert re.search(r"ETHUSDT by itself .*Exits in 5 minutes 1 1 ! used up", own)


def test_without_redis_the_page_says_what_it_cannot_know(web: WebClient, settings: Settings) -> None:
    settings.REDIS_URL = NOWHERE
    assert "what permits hold of the limits is not known" in shown(web)


def test_a_policy_that_cannot_be_read_is_told_with_what_is_wrong_and_is_no_error(web: WebClient) -> None:
    PolicyVersion.objects.create(
        version=1, rules={"total": {"permits_per_5min": "many"}}, by="x", reason="y" * 8
    )
    said = text(shown(web, seen="1", on="limits"))
    assert "Version 1 cannot be read" in said
    assert "total.permits_per_5min: must be a whole number" in said and "allowlist: must name" in said
    assert "y" * 8 in said, "who did it still stands there"
    senseless: list[Any] = [[], "nothing", {"shadow": 3, "allowlist": 1}]
    for rules in senseless:
        PolicyVersion.objects.update(rules=rules)
        assert "cannot be read" in shown(web)
    assert "Nothing was changed" in save(web, "permits_per_5min=5", seen=1)


# ---- a draft


def test_a_draft_shows_before_and_after_and_what_it_would_have_decided(
    web: WebClient, governor: AtWork
) -> None:
    limit("permits_per_5min=50")
    for symbol in ("BTCUSDT", "ETHUSDT", "BTCUSDT"):
        assert governor.reason(symbol=symbol) == "approved"
    assert governor.reason(symbol="FOOUSDT") == "not_in_allowlist"
    governor.recorder.finish()
    version = policies.newest()[0]
    html = shown(
        web, seen=version, on="limits", total__permits_per_5min="2", allow="foousdt", each__cooldown_s=""
    )
    said = text(html)
    assert "total.permits_per_5min 50 2" in said
    assert "Was allowed, would be denied: 1" in said and "Was denied, would be allowed: 0" in said
    assert re.search(r"BTCUSDT approved burst_limit scope total unit permits in 5 min limit 2 used 2", said)
    assert "Would be denied for another reason: 1" in said and "FOOUSDT not_in_allowlist burst_limit" in said
    assert "4 of 4 decisions are what they were" in said
    assert re.search(rf"On \w+ {settings.ACCOUNT} : version {version} → version {version + 1}", said), said
    assert PolicyVersion.objects.count() == version, "looking changes nothing"
    Judgement.objects.all()[0].delete()
    assert "Not enough recorded: 3 of 4 can be told" in text(shown(web, seen=version, on="limits"))


def test_a_draft_that_cannot_hold_says_why_and_keeps_what_was_typed(web: WebClient) -> None:
    policies.ensure_first()
    html = shown(web, seen="1", on="limits", total__permits_per_5min="0", last="0")
    assert "last: " in html
    html = shown(web, seen="1", on="limits", total__permits_per_5min="0")
    assert "to stop exits, halt them" in html and 'value="0"' in html
    assert "Change the limits" not in html
    assert "the page showed version 7, and the policy is at version 1 by now" in shown(
        web, seen="7", on="limits"
    )
    assert "is no symbol" in shown(web, symbol="<b>")


# ---- the change


def test_what_was_drafted_holds_with_who_and_why_as_by_the_command(web: WebClient) -> None:
    policies.ensure_first()
    html = shown(
        web, seen="1", on="limits", symbol="ETHUSDT", total__permits_per_5min="20",
        symbols__ETHUSDT__permits_per_hour="none", symbols__ETHUSDT__cooldown_s="7", approval_symbols="ethusdt",
    )  # fmt: skip
    [words] = re.findall(r'name="words" value="([^"]*permits_per_5min[^"]*)"', html)
    assert "Version 2 holds" in save(web, *words.split("\n"), seen=1)
    row = PolicyVersion.objects.get(version=2)
    assert (row.by, row.reason) == ("omar", WHY)
    limits = policies.current().limits
    assert limits.total.permits_per_5min == 20
    own = limits.of("ETHUSDT")
    assert own.permits_per_hour is None and own.cooldown_s == 7
    assert limits.approval_symbols == {"ETHUSDT"}
    assert limits.of("BTCUSDT").cooldown_s != 7
    event = AuditEvent.objects.get(kind="policy_changed", actor="omar")
    assert event.data["changes"]["total.permits_per_5min"] == [1000, "20"]


def test_a_page_that_is_old_by_now_changes_nothing_and_names_both_versions(web: WebClient) -> None:
    policies.ensure_first()
    limit("permits_per_5min=30")
    said = save(web, "total.permits_per_5min=20", seen=1)
    assert "the page showed version 1, and the policy is at version 2 by now" in said
    assert PolicyVersion.objects.count() == 2


def test_a_change_at_the_same_moment_is_refused_too(web: WebClient, monkeypatch: pytest.MonkeyPatch) -> None:
    policies.ensure_first()

    def meanwhile(**_: Any) -> Any:
        raise policies.ChangedMeanwhile(9)

    monkeypatch.setattr(policies, "change", meanwhile)
    assert "showed version 1, and the policy is at version 9" in save(web, "permits_per_5min=20", seen=1)


def test_no_change_without_a_reason_or_of_nonsense_or_of_nothing(web: WebClient) -> None:
    policies.ensure_first()
    assert "reason:" in save(web, "permits_per_5min=20", seen=1, reason="why")
    assert "to stop exits, halt them" in save(web, "permits_per_5min=0", seen=1)
    assert "that is what the policy says already" in save(web, "operator.gates=none", seen=1)
    assert PolicyVersion.objects.count() == 1


def test_in_live_the_accounts_name_is_typed(web: WebClient, settings: Settings) -> None:
    policies.ensure_first()
    settings.APPLY_MODE = "live"
    assert "confirm:" in save(web, "permits_per_5min=20", seen=1)
    assert "Version 2 holds" in save(web, "permits_per_5min=20", seen=1, confirm=settings.ACCOUNT)


def test_who_may_only_look_can_draft_and_not_save(redis: Client, transactional_db: None) -> None:
    policies.ensure_first()
    viewer = someone("vera", "view_policyversion")
    html = shown(viewer, seen="1", on="limits", total__permits_per_5min="20")
    assert (
        "Whoever may change the limits can make it hold" in html and "Change the limits</button>" not in html
    )
    said = {"seen": 1, "on": "limits", "words": "permits_per_5min=20", "reason": WHY}
    assert viewer.post(reverse(SET), said).status_code == 403
    assert someone("sam", "set_policy").get(reverse(PAGE)).status_code == 403
    assert PolicyVersion.objects.count() == 1


# ---- shadow rules


def test_shadow_rules_are_drafted_watched_and_ended(web: WebClient, governor: AtWork) -> None:
    version = policies.newest()[0]
    html = shown(web, seen=version, on="shadow", total__permits_per_5min="1")
    assert "If the shadow rules alone held" in html and "Watch by these shadow rules" in html
    assert f"Version {version + 1} holds" in save(web, "total.permits_per_5min=1", seen=version, on="shadow")
    governor.governor._books.policy = policies.copy(age_s=0)
    assert [governor.reason() for _ in range(3)] == ["approved"] * 3
    governor.recorder.finish()
    html = shown(web)
    assert "In all 2 : burst_limit 2 . All of these were allowed." in text(html)
    for row in Judgement.objects.exclude(shadow=""):
        assert reverse("admin:apply_plan_change", args=[row.plan_id]) in html
    assert "End all shadow rules" in html
    save(web, "shadow=none", seen=version + 1)
    assert policies.current().shadow is None
    assert "End all shadow rules" not in shown(web)


# ---- history


def test_the_history_says_who_why_and_each_old_and_new_value_a_leaf_at_a_time(web: WebClient) -> None:
    for number in range(1, 46):
        rules = {"allowlist": ["BTCUSDT"], "total": {"permits_per_5min": number}}
        PolicyVersion.objects.create(version=number, rules=rules, by="nina", reason=f"because of {number}.")
    with CaptureQueriesContext(
        connection,
    ) as first:
        said = text(shown(web))
    assert "total.permits_per_5min 44 → 45" in said and "total.permits_per_5min 25 → 26" in said
    assert "because of 26." in said and "because of 25." not in said
    with CaptureQueriesContext(connection) as last:
        oldest = text(shown(web, before="6"))
    assert "total.permits_per_5min 4 → 5" in oldest and "the first version" in oldest and "Newest" in oldest
    assert len(first) == len(last) <= 9, "however many versions there are"
    assert "because of 45." in shown(web, before="x" * 30)
