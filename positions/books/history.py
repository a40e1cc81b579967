"""What the ledger said at a moment, and what trading earned and cost. Exact on every database."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from decimal import Decimal

from django.conf import settings
from msgspec import Struct

from positions.models import Fill, Funding, LedgerEntry


class Earned(Struct, frozen=True):
    """Realised profit is what the exchange says of each fill, without commission and funding; those stay apart,
    each in its own assets. Funding is signed: what came in."""

    fills: int
    realized_pnl: Decimal
    commission: dict[str, Decimal]
    funding: dict[str, Decimal]


def entry_at(symbol: str, at: dt.datetime) -> LedgerEntry | None:
    """The newest entry that we had written by then. None: the symbol was not entered yet."""
    rows = LedgerEntry.objects.filter(account=settings.ACCOUNT, symbol=symbol, recorded_at__lte=at)
    return rows.order_by("-recorded_at", "-id").first()


def earned(symbol: str, *, until: dt.datetime | None = None) -> Earned:
    """Added up here: SQLite keeps amounts as text, and its own sum would be a float."""
    rows = Fill.objects.filter(account=settings.ACCOUNT, symbol=symbol)
    rows = rows.filter(at__lte=until) if until else rows
    count, profit, commission = 0, Decimal(0), defaultdict[str, Decimal](Decimal)
    for pnl, paid, asset in rows.values_list("realized_pnl", "commission", "commission_asset").iterator():
        count, profit = count + 1, profit + pnl
        commission[asset] += paid
    return Earned(
        fills=count,
        realized_pnl=profit,
        commission=dict(commission),
        funding=_funding(symbol, until=until),
    )


def _funding(symbol: str, *, until: dt.datetime | None) -> dict[str, Decimal]:
    rows = Funding.objects.filter(account=settings.ACCOUNT, symbol=symbol)
    rows = rows.filter(at__lte=until) if until else rows
    paid = defaultdict[str, Decimal](Decimal)
    for amount, asset in rows.values_list("amount", "asset").iterator():
        paid[asset] += amount
    return dict(paid)
