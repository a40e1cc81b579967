"""Wrong settings of alerts refuse to start, with name and remedy, and without the address, which may be a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_settings import KEY, MARK, check, refusals, value_of

HOOK = f"https://hooks.example/{MARK}"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "var"


def test_a_webhook_needs_a_secret_of_its_own(place: Path) -> None:
    found = refusals(check(place, ALERT_WEBHOOK_URL=HOOK, ALERT_ESCALATE_AFTER_SEC="100"))
    assert "32 or more random characters" in found["ALERT_WEBHOOK_SECRET"]
    assert "longer than ALERT_BLOCKED_AFTER_SEC" in found["ALERT_ESCALATE_AFTER_SEC"]


def test_everything_wrong_is_named_at_once(place: Path) -> None:
    wrong = {
        "ALERT_WEBHOOK_URL": f"https://user:{MARK}@hooks.example/",
        "ALERT_ESCALATION_URL": f"ftp://{MARK}",
        "ALERT_HEARTBEAT_URL": f"{MARK}.example/beat",
        "ALERT_WEBHOOK_SECRET": MARK,
        "ALERT_APPRISE_URLS": f"{MARK} and no address",
        "ALERT_HEARTBEAT_SEC": "1",
        "ALERT_WEBHOK_URL": HOOK,
        "PUBLIC_URL": MARK,
    }
    found = refusals(check(place, **wrong))
    assert set(found) == set(wrong)
    assert "unknown setting" in found["ALERT_WEBHOK_URL"], "a typing error would be silence"
    assert "without a login" in found["ALERT_WEBHOOK_URL"]


def test_live_tells_nobody_in_the_clear(place: Path) -> None:
    live = {"APPLY_MODE": "live", "ACCOUNT": "a1", "LIVE_CONFIRM": "a1", "SECRET_KEY": KEY}
    found = refusals(check(place, ALERT_WEBHOOK_URL=f"http://h/{MARK}", ALERT_WEBHOOK_SECRET=KEY, **live))
    assert set(found) == {"ALERT_WEBHOOK_URL"}
    assert "https" in found["ALERT_WEBHOOK_URL"]


def test_the_secret_may_come_from_a_file_and_is_no_setting(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(KEY)
    given = {"ALERT_WEBHOOK_URL": "http://127.0.0.1:1/hook", "ALERT_WEBHOOK_SECRET_FILE": str(file)}
    assert value_of(place, "ALERT_WEBHOOK_URL", **given) == "http://127.0.0.1:1/hook"
    names = "__import__('json').dumps([n for n in dir(settings) if 'ALERT' in n and 'SECRET' in n])"
    program = f"from quantum import settings; print({names})"
    assert check(place, program=program, **given).stdout.strip() == "[]"
