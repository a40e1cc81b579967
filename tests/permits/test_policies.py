"""The policy in the database: seeded once, changed with who and why, never over another's change."""

from __future__ import annotations

import io
import json
import threading
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from pytest_django.fixtures import Settings

from permits.models import PolicyVersion
from permits.policy import policies, policy_check, rules
from quantum.commands import Exit
from quantum.doctor import State
from quantum.models import AuditEvent
from quantum.profiles import PROFILES

pytestmark = pytest.mark.usefixtures("transactional_db")
WHY = "because the tests say so"


def change(*words: str, expected: int) -> PolicyVersion:
    after = rules.changed(policies.newest()[1], list(words))
    return policies.change(rules=after, by="alice", reason=WHY, expected_version=expected)


# ---- the first version


def test_before_anybody_wrote_the_settings_hold(settings: Settings) -> None:
    settings.GOV_MAX_EXEC_PER_5MIN = 7
    settings.GOV_MAX_REDUCE_QTY_PER_DAY = Decimal("2.5")
    settings.P33_COOLDOWN_SEC = Decimal(15)
    policy = policies.copy()
    assert policy.version == 0
    assert policy.limits.total.permits_per_5min == 7
    assert policy.limits.of("BTCUSDT").quantity_per_day == Decimal("2.5")
    assert policy.limits.of("BTCUSDT").cooldown_s == 15
    assert policy.allowlist == set(settings.APPLY_ALLOWLIST)


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_makes_a_seed_that_can_be_read(settings: Settings, name: str) -> None:
    profile = PROFILES[name]
    settings.APPLY_ALLOWLIST = profile.allowlist
    settings.P33_COOLDOWN_SEC = Decimal(profile.cooldown_s)
    settings.GOV_MAX_EXEC_PER_5MIN = profile.permits_per_5min
    settings.GOV_MAX_EXEC_PER_HOUR = profile.permits_per_hour
    settings.GOV_MAX_REDUCE_NOTIONAL_PER_DAY_USD = Decimal(profile.notional_per_day_usd)
    rules.read(policies.seed())


def test_the_first_version_is_written_once_and_then_the_database_wins(settings: Settings) -> None:
    policies.ensure_first()
    settings.GOV_MAX_EXEC_PER_5MIN = 3
    policies.ensure_first()
    policies.forget()
    assert PolicyVersion.objects.count() == 1
    assert policies.copy().limits.total.permits_per_5min == 1000
    assert AuditEvent.objects.get(kind="policy_changed").actor == "start"


# ---- changes


def test_a_change_is_a_new_version_with_who_why_and_the_difference() -> None:
    policies.ensure_first()
    row = change("permits_per_5min=20", expected=1)
    assert (row.version, row.by, row.reason) == (2, "alice", WHY)
    event = AuditEvent.objects.get(kind="policy_changed", actor="alice")
    assert event.data == {"version": 2, "changes": {"total.permits_per_5min": [1000, "20"]}}
    assert policies.copy().limits.total.permits_per_5min == 20
    assert PolicyVersion.objects.get(version=1).rules["total"]["permits_per_5min"] == 1000, "history stays"


def test_a_policy_that_changed_meanwhile_is_not_overwritten() -> None:
    policies.ensure_first()
    change("permits_per_5min=20", expected=1)
    with pytest.raises(policies.ChangedMeanwhile) as refused:
        change("permits_per_5min=30", expected=1)
    assert refused.value.newest == 2
    assert policies.newest()[1]["total"]["permits_per_5min"] == "20"


def test_of_two_changes_at_once_one_wins() -> None:
    policies.ensure_first()
    together, ends = threading.Barrier(2), []

    def work(value: int) -> None:
        together.wait()
        try:
            ends.append(change(f"permits_per_5min={value}", expected=1).version)
        except policies.ChangedMeanwhile:
            ends.append(0)
        connection.close()

    threads = [threading.Thread(target=work, args=(value,)) for value in (20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(ends) == [0, 2]


@pytest.mark.parametrize("reason", ["", "because", "        "])
def test_a_change_without_a_reason_is_refused(reason: str) -> None:
    with pytest.raises(rules.Nonsense, match="reason"):
        policies.change(rules=policies.seed(), by="alice", reason=reason, expected_version=0)
    assert not PolicyVersion.objects.exists()


def test_nonsense_is_never_written() -> None:
    with pytest.raises(rules.Nonsense):
        policies.change(rules={"allowlist": []}, by="alice", reason=WHY, expected_version=0)
    assert not PolicyVersion.objects.exists()


def test_another_process_sees_a_change_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the copy is not told of the change, as in another process."""
    policies.ensure_first()
    assert policies.allows("BTCUSDT")
    monkeypatch.setattr(policies, "forget", lambda: None)
    change("allowlist=ETHUSDT", expected=1)
    assert policies.allows("BTCUSDT", age_s=60), "a copy that may be old is not read again"
    assert not policies.allows("BTCUSDT", age_s=0)
    assert policies.allows("ETHUSDT")


# ---- doctor


def test_doctor_shows_where_settings_and_policy_differ(settings: Settings) -> None:
    policies.ensure_first()
    [calm] = policy_check.examine()
    assert calm.state is State.OK
    change("permits_per_5min=20", expected=1)
    [found] = policy_check.examine()
    assert found.state is State.WARN
    assert "total.permits_per_5min: the settings say 1000, the policy 20" in found.what
    PolicyVersion.objects.create(version=9, rules={"allowlist": []}, by="somebody", reason="past the door")
    [broken] = policy_check.examine()
    assert broken.state is State.FAIL


# ---- commands


def run(command: str, *words: str, **options: Any) -> tuple[int, dict[str, Any], str]:
    out, err, code = io.StringIO(), io.StringIO(), 0
    try:
        call_command(command, *words, json=True, stdout=out, stderr=err, **options)
    except SystemExit as left:
        code = int(left.code or 0)
    return code, json.loads(out.getvalue()) if out.getvalue() else {}, err.getvalue()


def test_policy_set_shows_before_and_after_and_changes_the_policy() -> None:
    policies.ensure_first()
    code, told, talk = run("policy_set", "permits_per_5min=20", reason=WHY, by="alice")
    assert (code, told["version"]) == (0, 2)
    assert "total.permits_per_5min: 1000 -> 20" in talk
    assert policies.newest()[0] == 2


def test_policy_set_changes_nothing_in_a_dry_run() -> None:
    policies.ensure_first()
    code, told, talk = run("policy_set", "cooldown_s=5", symbol="BTCUSDT", dry_run=True)
    assert (code, told["dry_run"]) == (0, True)
    assert "symbols.BTCUSDT.cooldown_s: not said -> 5" in talk
    assert policies.newest()[0] == 1


@pytest.mark.parametrize(
    ("words", "options", "code"),
    [
        (["permits_per_5min=0"], {"reason": WHY}, Exit.USAGE),
        (["permits_per_5min=20"], {}, Exit.USAGE),
        (["permits_per_5min=20"], {"reason": WHY, "expect": 7}, Exit.BLOCKED),
    ],
)
def test_policy_set_refuses_and_says_what_would_be_right(
    words: list[str], options: dict[str, Any], code: Exit
) -> None:
    policies.ensure_first()
    left, _, talk = run("policy_set", *words, **options)
    assert left == code
    assert "Refused" in talk
    assert policies.newest()[0] == 1


def test_policy_show_tells_the_rules_and_their_history() -> None:
    policies.ensure_first()
    change("permits_per_5min=20", expected=1)
    _, told, _ = run("policy_show")
    assert told["version"] == 2
    assert told["rules"]["total"]["permits_per_5min"] == "20"
    assert told["differs_from_settings"] == {"total.permits_per_5min": [1000, "20"]}
    assert [(one["version"], one["by"]) for one in told["history"]] == [(2, "alice"), (1, "start")]
    out = io.StringIO()
    call_command("policy_show", stdout=out)
