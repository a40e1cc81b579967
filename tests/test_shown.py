"""The copies of positions in Redis: young enough for whoever judges by them."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings

from positions.feed.picture import Known
from positions.feed.shown import Shown
from quantum import clock
from quantum.redis import Client

pytestmark = pytest.mark.usefixtures("db")
BEAT_S = 4.0


def test_what_the_stream_told_just_before_a_beat_does_not_grow_too_old_for_the_governor(
    redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy says when the account was last read. Told between two reads, it is a beat old when it is written."""
    now = SimpleNamespace(s=1000.0, read_s=1000.0, amount=Decimal(2))
    monkeypatch.setattr(clock, "boot_s", lambda: now.s)
    monkeypatch.setattr(clock, "now_s", lambda: now.s)
    picture: Any = SimpleNamespace(
        age_s=lambda: now.s - now.read_s,
        of=lambda _: Known(_held(now.amount), 0, "stream"),
        symbols=lambda: {"BTCUSDT"},
    )
    shown, ages = Shown(redis, picture=picture, beat_s=BEAT_S), []
    shown.snapshots()
    for tenths in range(1, 300):
        now.s = 1000.0 + tenths / 10
        if tenths == 39:
            now.amount = Decimal(1)
            shown.changed(frozenset({"BTCUSDT"}))
        if tenths % 40 == 0:
            now.read_s = now.s
            shown.snapshots()
        ages.append(now.s - float(redis.hget(settings.KEYS.snapshot("BTCUSDT"), "seen_epoch") or 0))
    assert max(ages) < float(settings.P33_STALE_THRESHOLD_SEC) - 1


def _held(amount: Decimal) -> Any:
    return SimpleNamespace(
        amount=amount, entry_price=Decimal(1), mark_price=Decimal(1), unrealized_pnl=Decimal(0)
    )
