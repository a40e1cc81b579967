"""What readers in Redis see of positions and ledger: copies, which decide nothing here.

Written by the feed and by its ear. An older copy never follows a newer one: both write under one lock.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from decimal import Decimal

from django.conf import settings

from positions.books import ledger, tampering
from positions.feed.picture import Known, Picture
from quantum import amounts, clock
from quantum.exchange.types import SymbolRules
from quantum.redis import Client

SNAPSHOT_MARGIN_S = 1.0
CHECK_S = 30.0


class Shown:
    def __init__(self, client: Client, *, picture: Picture, beat_s: float) -> None:
        self._client = client
        self._picture = picture
        self._old_s = float(settings.P33_STALE_THRESHOLD_SEC) - SNAPSHOT_MARGIN_S - beat_s
        self._guard = threading.Lock()
        self._snapshots: dict[str, tuple[Decimal | None, float]] = {}
        """What stands, and when what it says was seen: not when it was written, which may be a beat later."""
        self._ledgers: dict[str, int] = {}
        self._check_due_s = 0.0
        self.rules: Mapping[str, SymbolRules] = {}

    def forget(self) -> None:
        """Somebody waits for every snapshot to be written anew."""
        with self._guard:
            self._snapshots.clear()

    def ledgers(self) -> None:
        """Whatever moved since the last time: a correction by command, which may not write these keys itself. When
        some are gone, all of them anew."""
        held = ledger.amounts_held()
        versions = {symbol: version for symbol, (version, _) in held.items()}
        with self._guard:
            copies = [settings.KEYS.ledger(symbol) for symbol in self._ledgers]
            if copies and self._client.exists(*copies) != len(copies):
                self._ledgers = {}
            moved = {
                each: held[each] for each, version in versions.items() if self._ledgers.get(each) != version
            }
            if moved:
                ledger.project_all(self._client, moved)
            self._ledgers = versions
            if clock.boot_s() >= self._check_due_s:
                tampering.mend(self._client)
                self._check_due_s = clock.boot_s() + CHECK_S

    def snapshots(self) -> None:
        """At once where the amount changed; otherwise before the next beat would come too late for the
        Governor's age check, and no oftener. When some are gone, all of them anew."""
        with self._guard:
            standing = [settings.KEYS.snapshot(symbol) for symbol in self._snapshots]
            if standing and self._client.exists(*standing) != len(standing):
                self._snapshots.clear()
            self._write({*settings.APPLY_ALLOWLIST, *self._picture.symbols(), *self._ledgers})

    def changed(self, symbols: frozenset[str]) -> None:
        with self._guard:
            self._write(symbols)

    def _write(self, symbols: set[str] | frozenset[str]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        now_s = clock.boot_s()
        age_s = self._picture.age_s()
        due: dict[str, tuple[Decimal | None, float]] = {}
        for symbol in symbols:
            known, (told, told_s) = self._picture.of(symbol), self._snapshots.get(symbol, (None, 0.0))
            if known is None or (told == known.amount and now_s - told_s < self._old_s):
                continue
            due[symbol] = known.amount, now_s - age_s
            rules = self.rules.get(symbol)
            fields = {
                **_snapshot(known),
                "seen_epoch": f"{clock.now_s() - age_s:.3f}",
                "lot_step": amounts.plain(rules.lot_step) if rules else "0",
            }
            pipeline.hset(settings.KEYS.snapshot(symbol), mapping=fields)
        if due:
            pipeline.execute()
            self._snapshots |= due  # only then: what was not written is due again


def _snapshot(known: Known) -> dict[str, str]:
    amount, position = known.amount, known.position
    return {
        "position_amt": amounts.plain(amount),
        "side": "FLAT" if amount == 0 else "LONG" if amount > 0 else "SHORT",
        "entry_price": amounts.plain(position.entry_price) if position else "0",
        "mark_price": amounts.plain(position.mark_price) if position and position.mark_price else "",
        "unrealized_pnl": amounts.plain(position.unrealized_pnl) if position else "0",
        "leverage": "",  # the position call (v3) does not tell it
        "ts_epoch": amounts.plain(Decimal(known.as_of_ms) / 1000),
        "source": known.source,
    }
