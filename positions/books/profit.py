"""What trading earned and cost, by day and symbol: what the exchange says of each fill, and the funding it booked.

Realised profit is without commission and funding; those stay apart, each in its own assets. A day is one of UTC.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from django.conf import settings
from django.db import connection
from django.db.models import Count, QuerySet, Sum
from django.db.models.functions import TruncDate

from positions.models import Fill, Funding

Paid = dict[str, Decimal]


@dataclass(slots=True)
class Made:
    fills: int = 0
    realized_pnl: Decimal = Decimal(0)
    commission: Paid = field(default_factory=lambda: defaultdict(Decimal))
    funding: Paid = field(default_factory=lambda: defaultdict(Decimal))

    def add(self, other: Made) -> None:
        self.fills += other.fills
        self.realized_pnl += other.realized_pnl
        for mine, its in ((self.commission, other.commission), (self.funding, other.funding)):
            for asset, amount in its.items():
                mine[asset] += amount


Books = dict[tuple[dt.date, str], Made]


def of(*, since: dt.date, until: dt.date, symbol: str = "") -> Books:
    """Both days included. Two questions, however many days and symbols."""
    mine = {
        "account": settings.ACCOUNT,
        "at__gte": _begin(since),
        "at__lt": _begin(until + dt.timedelta(days=1)),
    }
    if symbol:
        mine["symbol"] = symbol
    made: Books = defaultdict(Made)
    for day, name, asset, fills, profit, paid in _fills(Fill.objects.filter(**mine)):
        found = made[day, name]
        found.fills += fills
        found.realized_pnl += profit
        found.commission[asset] += paid
    for day, name, asset, amount in _funding(Funding.objects.filter(**mine)):
        made[day, name].funding[asset] += amount
    return dict(made)


def _begin(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC)


def _fills(rows: QuerySet[Fill]) -> Iterator[tuple[dt.date, str, str, int, Decimal, Decimal]]:
    """Added up by the database where that is exact: SQLite keeps amounts as text, and its own sum would be a float."""
    if connection.vendor == "sqlite":
        columns = ("at", "symbol", "commission_asset", "realized_pnl", "commission")
        for at, symbol, asset, profit, paid in rows.order_by().values_list(*columns).iterator():
            yield at.astimezone(dt.UTC).date(), symbol, asset, 1, profit, paid
        return
    by = (
        rows.annotate(day=TruncDate("at", tzinfo=dt.UTC))
        .order_by()
        .values_list("day", "symbol", "commission_asset")
    )
    yield from by.annotate(Count("id"), Sum("realized_pnl"), Sum("commission"))


def _funding(rows: QuerySet[Funding]) -> Iterator[tuple[dt.date, str, str, Decimal]]:
    if connection.vendor == "sqlite":
        for at, symbol, asset, amount in (
            rows.order_by().values_list("at", "symbol", "asset", "amount").iterator()
        ):
            yield at.astimezone(dt.UTC).date(), symbol, asset, amount
        return
    by = rows.annotate(day=TruncDate("at", tzinfo=dt.UTC)).order_by().values_list("day", "symbol", "asset")
    yield from by.annotate(Sum("amount"))


def by_day(books: Books, days: Iterable[dt.date]) -> list[tuple[dt.date, Made]]:
    """Every one of these days, also where nothing was traded."""
    found = {day: Made() for day in days}
    for (day, _), made in books.items():
        found[day].add(made)
    return list(found.items())


def by_symbol(books: Books) -> list[tuple[str, Made]]:
    found: dict[str, Made] = defaultdict(Made)
    for (_, symbol), made in books.items():
        found[symbol].add(made)
    return sorted(found.items())
