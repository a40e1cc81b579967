"""How ledger and exchange differ, and what probably made them. One rule for the Brain, the sweep and people. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

OWN_PREFIX = "q-"


class Kind(StrEnum):
    """In what they differ."""

    SIDE = "side"
    QUANTITY = "quantity"
    MISSING_LEDGER = "missing_ledger"
    MISSING_POSITION = "missing_position"


class Cause(StrEnum):
    """What probably did it, by the fills that moved the position and not the ledger."""

    LIQUIDATION = "liquidation"
    ADL = "adl"
    SETTLEMENT = "settlement"
    FOREIGN_PREFIX = "foreign_prefix"
    MANUAL_TRADE = "manual_trade"
    NEVER_ENTERED = "never_entered"
    UNEXPLAINED = "unexplained"


class Origin(StrEnum):
    """Whose order it was, by its client id."""

    OURS = "ours"
    DECLARED = "declared"
    EXCHANGE = "exchange"
    MANUAL = "manual"


EXCHANGE_CAUSES = {
    "autoclose-": Cause.LIQUIDATION,
    "adl_autoclose": Cause.ADL,
    "settlement_autoclose-": Cause.SETTLEMENT,
    "delivery_autoclose-": Cause.SETTLEMENT,
}


class Difference(Struct, frozen=True):
    """Both numbers, how far they are apart and how far they might be. ledger None: never entered."""

    kind: Kind
    exchange: Decimal
    ledger: Decimal | None
    diff: Decimal
    tolerance: Decimal


def tolerance_of(exchange: Decimal, *, lot_step: Decimal, tolerance_pct: Decimal) -> Decimal:
    """One lot step, or the share of the position, whichever is more."""
    return max(lot_step, abs(exchange) * tolerance_pct / 100)


def between(
    *, exchange: Decimal, ledger: Decimal | None, lot_step: Decimal, tolerance_pct: Decimal
) -> Difference | None:
    """None: they agree. Opposite sides never agree, however small; a symbol never entered is not zero."""
    tolerance = tolerance_of(exchange, lot_step=lot_step, tolerance_pct=tolerance_pct)
    diff = abs(exchange - (ledger or 0))
    kind = _kind(exchange, ledger, beyond=diff > tolerance)
    return Difference(kind, exchange, ledger, diff, tolerance) if kind else None


def _kind(exchange: Decimal, ledger: Decimal | None, *, beyond: bool) -> Kind | None:
    if ledger is None:
        return Kind.MISSING_LEDGER
    if exchange * ledger < 0:
        return Kind.SIDE
    if not beyond:
        return None
    return Kind.MISSING_POSITION if exchange == 0 else Kind.QUANTITY


def origin(client_order_id: str, *, sources: Collection[str]) -> Origin:
    """sources: LEDGER_SOURCES, the prefixes of the user's own entry bots. The exchange's own orders are never
    declared, not even by `*`. An order without an id that we know was made by hand."""
    if client_order_id.startswith(OWN_PREFIX):
        return Origin.OURS
    if client_order_id.startswith(tuple(EXCHANGE_CAUSES)):
        return Origin.EXCHANGE
    declared = "*" in sources or any(client_order_id.startswith(source) for source in sources)
    return Origin.DECLARED if declared else Origin.MANUAL


def probable_cause(kind: Kind, client_order_ids: Iterable[str], *, sources: Collection[str]) -> Cause:
    """client_order_ids: of the fills that the ledger was not moved by. What the exchange did itself weighs most,
    then an order under our own prefix that no order of ours explains, then a trade by hand."""
    if kind is Kind.MISSING_LEDGER:
        return Cause.NEVER_ENTERED
    found = list(client_order_ids)
    for prefix, cause in EXCHANGE_CAUSES.items():
        if any(each.startswith(prefix) for each in found):
            return cause
    origins = {origin(each, sources=sources) for each in found}
    if Origin.OURS in origins:
        return Cause.FOREIGN_PREFIX
    return Cause.MANUAL_TRADE if Origin.MANUAL in origins else Cause.UNEXPLAINED
