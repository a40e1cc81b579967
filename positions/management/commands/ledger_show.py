"""A symbol's ledger: its balance now or at a moment, its newest entries, what trading it earned and cost."""

from __future__ import annotations

import datetime as dt
from argparse import ArgumentParser
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError

from permits.management.tables import table
from positions.books import entries, history
from positions.models import LedgerEntry
from quantum import amounts, clock
from quantum.commands import Command as Base
from quantum.commands import Exit
from quantum.log import safe

LIMIT_MAX = 1000
HEADINGS = ("entry", "recorded", "kind", "delta", "balance", "plan", "by", "why")


class Command(Base):
    help = "Show a symbol's ledger: ledger_show SYMBOL [--at 2026-01-31T12:00:00Z] [--limit N] [--json]"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("symbol")
        parser.add_argument("--at", default="", metavar="TIME", help="as it stood then; without a zone: UTC")
        parser.add_argument("--limit", type=int, default=20, help=f"entries, 1 to {LIMIT_MAX}, default 20")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *_: Any, **options: Any) -> None:
        if not 1 <= options["limit"] <= LIMIT_MAX:
            self.leave(Exit.USAGE, f"--limit must be 1 to {LIMIT_MAX}")
        symbol, at = options["symbol"].strip().upper(), self._moment(options["at"])
        try:
            self._show(symbol, at, options)
        except DatabaseError as error:
            self.leave(Exit.DEPENDENCY_DOWN, f"The database refuses ({type(error).__name__}).")

    def _show(self, symbol: str, at: dt.datetime, options: dict[str, Any]) -> None:
        newest = history.entry_at(symbol, at)
        if newest is None:
            self.leave(Exit.ERROR, f"{safe(symbol[:40])} was not in the ledger at {at.isoformat()}.")
        rows = LedgerEntry.objects.filter(
            account=settings.ACCOUNT, symbol=symbol, recorded_at__lte=at
        ).order_by("-recorded_at", "-id")[: options["limit"]]
        earned = history.earned(symbol, until=at)
        if options["json"]:
            self.data(
                {
                    "symbol": symbol,
                    "at": at,
                    "balance": amounts.plain(newest.balance),
                    "fills": earned.fills,
                    "realized_pnl": amounts.plain(earned.realized_pnl),
                    "commission": _plain(earned.commission),
                    "funding": _plain(earned.funding),
                    "entries": [_told(row) for row in rows],
                }
            )
            return
        self.stdout.write(table(HEADINGS, [_row(_told(row)) for row in rows]))
        self.stdout.write(
            f"{safe(symbol)} at {at.isoformat()}: {amounts.plain(newest.balance)}; {earned.fills} fills, realised "
            f"{amounts.plain(earned.realized_pnl)}, commission {_listed(earned.commission)}, "
            f"funding {_listed(earned.funding)}"
        )

    def _moment(self, text: str) -> dt.datetime:
        if not text:
            return clock.now()
        found = entries.moment_of(text)
        if found is None:
            self.leave(Exit.USAGE, f"{safe(text[:40])} is no time; write it like 2026-01-31T12:00:00Z")
        return found


def _plain(paid: dict[str, Decimal]) -> dict[str, str]:
    return {asset: amounts.plain(amount) for asset, amount in sorted(paid.items())}


def _listed(paid: dict[str, Decimal]) -> str:
    return safe(", ".join(f"{amount} {asset}" for asset, amount in _plain(paid).items())) or "0"


def _told(row: LedgerEntry) -> dict[str, Any]:
    return {
        "id": row.pk,
        "recorded_at": row.recorded_at,
        "kind": row.kind,
        "delta": amounts.plain(row.delta),
        "balance": amounts.plain(row.balance),
        "plan_id": row.plan_id,
        "by": row.actor,
        "reason": row.reason,
    }


def _row(told: dict[str, Any]) -> tuple[str, ...]:
    when = f"{told['recorded_at']:%Y-%m-%d %H:%M:%S} UTC"
    return (
        str(told["id"]),
        when,
        told["kind"],
        told["delta"],
        told["balance"],
        told["plan_id"],
        told["by"],
        told["reason"],
    )
