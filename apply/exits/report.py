"""What a backtest found, as the cells of a table and as data."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from msgspec import Struct

from apply.exits.backtest import Result
from quantum import amounts
from quantum.exchange.types import Kline
from quantum.log import safe


class Played(Struct, frozen=True):
    """One row of klines, and what each scorer made of it."""

    name: str
    story: str
    klines: Sequence[Kline]
    amount: Decimal
    results: Sequence[Result]


def cells(result: Result) -> list[str]:
    return [
        safe(result.scorer),
        f"{result.profit:+.2f}",
        f"{result.drawdown:.2f}",
        _span(result.in_trade_s),
        str(len(result.exits)),
        _blocked(result.blocked),
    ]


def sums(results: Sequence[Result]) -> list[str]:
    """Of all paths; the drawdown is the deepest one."""
    blocked: dict[str, int] = {}
    for result in results:
        for reason, count in result.blocked.items():
            blocked[reason] = blocked.get(reason, 0) + count
    return [
        safe(results[0].scorer),
        f"{sum(result.profit for result in results):+.2f}",
        f"{max(result.drawdown for result in results):.2f}",
        _span(sum(result.in_trade_s for result in results)),
        str(sum(len(result.exits) for result in results)),
        _blocked(blocked),
    ]


def _blocked(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items())) or "0"


def _span(seconds: int) -> str:
    return f"{seconds // 3600}:{seconds % 3600 // 60:02} h"


def data(one: Played, result: Result) -> dict[str, Any]:
    return {
        "path": one.name,
        "scorer": result.scorer,
        "amount": amounts.plain(one.amount),
        "profit": amounts.plain(result.profit),
        "fees": amounts.plain(result.fees),
        "drawdown": amounts.plain(result.drawdown),
        "in_trade_s": result.in_trade_s,
        "exits": [
            {
                "at_ms": exit_.at_ms,
                "action": exit_.action.value,
                "price": amounts.plain(exit_.price),
                "quantity": amounts.plain(exit_.quantity),
                "reason": exit_.reason,
            }
            for exit_ in result.exits
        ],
        "blocked": result.blocked,
        "no_data": result.unscored,
    }
