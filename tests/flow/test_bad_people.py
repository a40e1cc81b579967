"""Bad input and bad people (FAULTS F): what a stranger wrote, secrets, rows of others, acts on many rows."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.test import Client as WebClient
from django.urls import reverse

from apply.models import Inquiry, Plan
from permits.models import PolicyVersion, TradingState
from permits.policy import policies
from permits.state import trading
from quantum.audit import REASON_MIN
from quantum.exchange import connect
from quantum.models import AuditEvent
from quantum.plan import Action
from quantum.redis import Client
from tests.flow.test_admin import HOSTILE, lived_in, someone, text_of
from tests.flow.test_groups import ACT_NEEDS, ADDRESSES, OWN_BUSINESS, rows
from tests.house import House
from tests.unguarded import unguarded

WHOSE = ("permits", "positions", "apply", "quantum")
OURS_ALONE = {
    "mode", "account", "state", "scope", "kind", "verdict", "gate", "fate", "cause", "how", "version",
    "plan_id", "asked_plan_id", "digest", "scopes", "issuer_key",
}  # fmt: skip
"""Written by us from a fixed list, or by its form a name; a page may rely on them."""
SPARED = {("positions_balance", "symbol"), ("permits_policyversion", "rules")}
"""The exchange's own names, which stand in addresses; and limits, which are read strictly before they are written."""


class Markup(HTMLParser):
    """What a browser would run or fetch for a stranger."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        foreign = (given.get("src") or given.get("href") or "").lower().startswith(("javascript:", "x", "//"))
        if (
            (tag == "script" and "src" not in given)
            or foreign
            or any(name.startswith("on") for name in given)
        ):
            self.found.append(self.get_starttag_text() or tag)


def written_by_a_stranger() -> int:
    """Into every text of every row that is not ours alone. How many columns."""
    done = 0
    for model in apps.get_models():
        for field in model._meta.concrete_fields if model._meta.app_label in WHOSE else ():
            if field.name in OURS_ALONE or field.unique or (model._meta.db_table, field.name) in SPARED:
                continue
            if isinstance(field, (models.CharField, models.TextField)) and not field.choices:
                raw = isinstance(field, models.TextField)
                said: Any = (
                    json.dumps({"context": {HOSTILE: HOSTILE}}) if raw else HOSTILE[: field.max_length]
                )
            elif isinstance(field, models.JSONField):
                empty = field.get_default()
                said = [{HOSTILE: HOSTILE}] if isinstance(empty, list) else {HOSTILE: HOSTILE}
            else:
                continue
            done += model._default_manager.update(**{field.name: said})
    return done


def pages_of(web: WebClient) -> Iterator[tuple[str, str]]:
    """Whatever the router answers with a page or a part, and each kind of row; the list is the router's."""
    found = [address for name, address in ADDRESSES if name not in OWN_BUSINESS]
    for model in admin.site._registry:
        for pk in model._default_manager.values_list("pk", flat=True)[:1]:
            found.append(reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[pk]))
    found += [
        f"{reverse('admin:apply_plan_changelist')}?q={HOSTILE}",
        f"{reverse('admin:index')}?x={HOSTILE}",
    ]
    for address in dict.fromkeys(found):
        answer: Any = web.get(address)
        assert answer.status_code < 500, address
        if answer.streaming:  # an export: saved, not opened
            assert answer["Content-Disposition"].startswith("attachment"), address
            assert b"".join(answer.streaming_content), address
        elif answer["Content-Type"] == "application/json":  # no browser reads it as markup
            assert answer["X-Content-Type-Options"] == "nosniff", address
        elif answer.status_code == 200:
            yield address, text_of(answer)


def test_f6_nothing_that_a_stranger_wrote_becomes_markup_on_any_page(
    redis: Client, transactional_db: None
) -> None:
    lived_in(1)
    PolicyVersion.objects.update(rules=policies.seed())
    Inquiry.objects.create(plan_id=f"{1:016x}", finding="absent", text="not there")
    trading.change(state=TradingState.State.HALTED, by="omar", reason="to have a reason")
    with unguarded():
        assert written_by_a_stranger() > 60
    shown = dict(pages_of(someone("root", superuser=True)))
    assert len(shown) > 60
    for address, text in shown.items():
        assert Markup(text).found == [], address
        assert "<script>alert" not in text, address
    assert sum("&lt;script&gt;" in text for text in shown.values()) > 30, (
        "it was there, and was shown as text"
    )


def test_f6_a_reason_comes_back_in_the_message_as_text(redis: Client, transactional_db: None) -> None:
    web = someone("root", superuser=True)
    answer = web.post(
        reverse("admin:apply_break_glass_act"), {"reason": HOSTILE, "mark": HOSTILE}, follow=True
    )
    assert Markup(text_of(answer)).found == []
    data = web.get("/healthz")
    assert data["Content-Type"] == "application/json"
    assert data["X-Content-Type-Options"] == "nosniff"


def test_f8_who_was_given_nothing_finds_nothing_by_address(redis: Client, transactional_db: None) -> None:
    lived_in(1)
    nobody = someone("nobody")
    answered = []
    for name, address in ADDRESSES:
        if name in OWN_BUSINESS:
            continue
        answer = nobody.get(address)
        if answer.status_code == 200:
            answered.append(name)
            text = text_of(answer)
            assert f"{1:016x}" not in text and "to have a row" not in text, address
        else:
            assert answer.status_code in (302, 403, 404, 405), address
    assert set(answered) <= {"index", "home_part", "jsi18n", "quantum_second_factor"}


def test_f8_the_history_of_a_row_needs_the_right_to_see_it(redis: Client, transactional_db: None) -> None:
    lived_in(1)
    nobody = someone("nobody", "view_hold")
    for model in (Plan, AuditEvent, get_user_model()):
        row = model._default_manager.first()
        assert row is not None
        names = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        assert nobody.get(reverse(f"{names}_history", args=[row.pk])).status_code in (302, 403)
        assert nobody.get(reverse(f"{names}_change", args=[row.pk])).status_code == 403


@pytest.mark.parametrize("address", ["orders/?symbol=%00", "order/%00/change/", "plan/?q=a&q=%00&symbol=%00"])
def test_an_address_with_a_character_that_no_database_keeps_is_refused_in_words(
    redis: Client, transactional_db: None, address: str
) -> None:
    web = WebClient()
    web.force_login(get_user_model().objects.create_superuser("root"))
    answer = web.get(f"/admin/apply/{address}")
    assert answer.status_code == 400
    assert "no text can hold" in answer.content.decode()


def test_f9_no_list_acts_on_many_rows(redis: Client, transactional_db: None) -> None:
    lived_in(1)
    web = someone("root", superuser=True)
    get_user_model().objects.create_user("nina")
    before = rows()
    for model in admin.site._registry:
        address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        assert 'name="_selected_action"' not in text_of(web.get(address)), address
        every = [str(pk) for pk in model._default_manager.values_list("pk", flat=True)]
        sent = {"action": "delete_selected", "_selected_action": every, "select_across": "1", "post": "yes"}
        web.post(address, sent)
    assert rows() == before


@pytest.mark.parametrize("reason", [None, "", "x" * (REASON_MIN - 1), " " * REASON_MIN])
def test_f9_no_act_is_done_without_a_reason(
    redis: Client, transactional_db: None, reason: str | None
) -> None:
    """Those that a valid form would reach are tried one by one where each page is tested."""
    lived_in(1)
    web = someone("root", superuser=True)
    before = rows()
    for name, address in ADDRESSES:
        if name in ACT_NEEDS:
            sent = {
                "gate": "both",
                "symbol": "BTCUSDT",
                "action": "FULL_CLOSE",
                "kill_score": "0.5",
                "once": "1",
            }
            web.post(address, sent if reason is None else {**sent, "reason": reason})
            assert rows() == before, name


# ---- F1, F14: secrets


@pytest.mark.parametrize("name", ["BINANCE_TRADE_KEY", "BINANCE_TRADE_SECRET"])
def test_f1_a_missing_key_refuses_and_names_the_variable_not_a_value(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    told = {"BINANCE_TRADE_KEY": "zq7key", "BINANCE_TRADE_SECRET": "zq7secret", name: ""}
    monkeypatch.setattr(settings.ENVIRONMENT, "secret", told.__getitem__)
    with pytest.raises(ImproperlyConfigured, match=f"{name} is missing") as refused:
        connect.credentials("TRADE")
    assert "zq7" not in str(refused.value)


def test_f14_no_page_no_key_of_the_server_and_no_line_shows_a_secret(
    house: House, capfd: pytest.CaptureFixture[str]
) -> None:
    house.start()
    house.exit("BTCUSDT")
    house.ended(house.publish(house.make("ETHUSDT", Action.FULL_CLOSE)))
    house.stop()
    secrets = [settings.SECRET_KEY, *(_private_keys())]
    secrets += [
        settings.ENVIRONMENT.secret(f"BINANCE_{use}_{part}")
        for use in ("READ", "TRADE")
        for part in ("KEY", "SECRET")
    ]
    assert all(len(secret) > 20 for secret in secrets) and len(secrets) >= 7
    told = dict(pages_of(someone("root", superuser=True)))
    told |= {f"key {key}": value for key, value in _in_redis(house.redis)}
    told["log"] = "".join(capfd.readouterr())
    assert len(told) > 60
    for where, text in told.items():
        assert not [secret for secret in secrets if secret in text], where


def _private_keys() -> list[str]:
    files = [
        path
        for path in Path(settings.PERMIT_KEYS_DIR).rglob("*")
        if path.is_file() and ".pub" not in path.name
    ]
    lines = [line for path in files for line in path.read_text().splitlines() if "PRIVATE" not in line]
    return [line for line in lines if len(line) > 20]


def _in_redis(client: Client) -> Iterator[tuple[str, str]]:
    read: dict[bytes, Any] = {
        b"string": client.get, b"hash": client.hgetall, b"stream": client.xrange,
        b"list": lambda key: client.lrange(key, 0, -1), b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
    }  # fmt: skip
    for key in client.scan_iter():
        yield repr(key), repr(read[client.type(key)](key))


# ---- F19: packages


def test_f19_every_package_is_pinned_with_a_hash_and_a_loose_one_is_found() -> None:
    path = settings.BASE_DIR / "tools" / "locks.py"
    spec = importlib.util.spec_from_file_location("locks", path)
    assert spec is not None and spec.loader is not None
    locks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(locks)
    runtime, dev = ((settings.BASE_DIR / name).read_text() for name in (locks.RUNTIME, locks.DEV))
    assert locks.problems(runtime, dev) == []
    loose = re.sub(r"(\nredis==\S+?) \\\n(?: +--hash=\S+(?: \\)?\n)+", r"\1\n", runtime, count=1)
    assert loose != runtime
    assert any("has no hash" in problem for problem in locks.problems(loose, dev))
