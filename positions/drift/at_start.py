"""What changed while p33 was away: a small difference is adopted, if the owner said so. Otherwise it is drift like any.

Off by default. It is meant for the one who trades by hand beside the bots and restarts at night: what it takes is
told, with what it was worth, and in the ledger for ever.
"""

from __future__ import annotations

from decimal import Decimal

from django.conf import settings
from django.db import transaction

from positions.books import ledger
from positions.books.ledger import Correction, LedgerChanged
from positions.judging.difference import Cause, Difference
from positions.models import Balance, Fill, LedgerEntry
from quantum import amounts
from quantum.exchange.types import PositionsRead
from quantum.log import log

ACTOR = "p33"
NEVER = frozenset({Cause.NEVER_ENTERED, Cause.FOREIGN_PREFIX})
"""A first entry is a person's decision; and whoever uses our prefix is to be found, whatever it is worth."""


def adopts(symbol: str, found: Difference, read: PositionsRead, *, cause: Cause) -> bool:
    """True: the exchange's amount is the ledger's now. False: it is not little, or not known to be."""
    limit: Decimal | None = settings.RECONCILE_AT_START_USD
    worth = None if limit is None or cause in NEVER else _worth(symbol, found, read)
    if limit is None or worth is None or worth > limit:
        return False
    why = cause.value.replace("_", " ")
    reason = f"at the start, {why}: worth {worth:.2f} USD, RECONCILE_AT_START_USD is {limit:f}"
    balance = Balance.objects.filter(account=settings.ACCOUNT, symbol=symbol).first()
    if balance is None or balance.amount != found.ledger:
        return False
    wanted = Correction(
        symbol=symbol,
        to=found.exchange,
        seen_version=balance.version,
        as_of_ms=read.asked_ms,
        kind=LedgerEntry.Kind.ADOPTED,
        by=ACTOR,
        reason=reason,
    )
    try:
        with transaction.atomic():
            ledger.correct(wanted)
    except LedgerChanged:
        return False
    log.warning(
        f"{symbol}: adopted what changed while p33 was away",
        before=amounts.plain(found.ledger or Decimal(0)),
        amount=amounts.plain(found.exchange),
        worth_usd=f"{worth:.2f}",
    )
    return True


def _worth(symbol: str, found: Difference, read: PositionsRead) -> Decimal | None:
    """A position that is flat has no mark price: then the newest fill's. None: nobody knows, which is not little."""
    position = read.positions.get(symbol)
    price = position.mark_price if position else None
    if not price:
        newest = Fill.objects.filter(account=settings.ACCOUNT, symbol=symbol).order_by("-at").first()
        price = newest.price if newest else None
    return found.diff * price if price else None
