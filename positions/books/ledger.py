"""The only writer of the ledger. It moves by a fill seen once, or by a person, with who and why (I11)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from msgspec import Struct

from positions.judging import difference
from positions.judging.difference import Origin
from positions.judging.verdict import Ledger
from positions.models import Balance, Fill, LedgerEntry, SymbolLock
from quantum import amounts, audit, clock, rows
from quantum.exchange.types import PositionsRead, Side, Trade
from quantum.fault import fault_point
from quantum.redis import Client

SKEW_MS_MAX = 5000
CLOCK_MS_MAX = 60_000
"""Two moments of the exchange that lie farther apart than this were not told by one clock."""


class SeenTrade(Struct, frozen=True):
    trade: Trade
    client_order_id: str

    @property
    def origin(self) -> Origin:
        return difference.origin(self.client_order_id, sources=settings.LEDGER_SOURCES)


_VIEW = """
SELECT b.amount, b.moved_ms, b.exit_ms,
       (SELECT plan_id FROM positions_symbollock WHERE account = %s AND symbol = %s),
       (SELECT reason FROM permits_hold WHERE symbol = %s AND lifted_at IS NULL)
FROM (SELECT 1 AS one) AS always LEFT JOIN positions_balance b ON b.account = %s AND b.symbol = %s
"""


_HELD = "SELECT symbol, version, amount FROM positions_balance WHERE account = %s"


def view(symbol: str) -> Ledger:
    """All that our own record says of a symbol, for the Brain. One statement: it lies on the path of every exit."""
    account = settings.ACCOUNT
    asked = (account, symbol, symbol, account, symbol)
    amount, moved_ms, exit_ms, locked_by, hold = rows.first(_VIEW, asked)
    return Ledger(
        amount=None if amount is None else Decimal(amounts.plain(Decimal(amount))),
        moved_ms=moved_ms or 0,
        locked_by=locked_by or "",
        hold=hold or "",
        since_exit_s=None if exit_ms is None else _since(exit_ms),
    )


def _since(exit_ms: int) -> Decimal | None:
    """An exit that lies far in the future was stamped by a clock that has been set back since: it must not cool
    down for as long as that clock was wrong. A little ahead is only another host's clock: it has just been."""
    return None if is_of_a_wrong_clock(exit_ms) else Decimal(max(0, clock.now_ms() - exit_ms)) / 1000


def is_of_a_wrong_clock(exit_ms: int) -> bool:
    return exit_ms - clock.now_ms() > SKEW_MS_MAX


def amounts_held() -> dict[str, tuple[int, Decimal]]:
    """Version and amount of every symbol that was entered: the feed asks several times a second."""
    with connection.cursor() as cursor:
        cursor.execute(_HELD, (settings.ACCOUNT,))
        return {symbol: (version, Decimal(amount)) for symbol, version, amount in cursor.fetchall()}


def unknown_symbols(symbols: Iterable[str]) -> set[str]:
    """Those that were never entered."""
    known = Balance.objects.filter(account=settings.ACCOUNT).values_list("symbol", flat=True)
    return set(symbols) - set(known)


def adopt(read: PositionsRead, *, symbols: Iterable[str], seen_ms: int, actor: str, reason: str) -> None:
    """First start: take what the exchange holds as our record, once per symbol. Flat symbols are entered as
    zero, so that what a declared entry bot opens later has something to be added to.

    The caller vouches that these symbols did not trade between seen_ms and the read.
    """
    with transaction.atomic():
        for symbol in sorted(unknown_symbols(symbols)):
            _adopt_one(symbol, read, seen_ms=seen_ms, actor=actor, reason=reason)


def _adopt_one(symbol: str, read: PositionsRead, *, seen_ms: int, actor: str, reason: str) -> None:
    amount = read.amount(symbol)
    Balance.objects.create(
        account=settings.ACCOUNT, symbol=symbol, amount=amount, moved_ms=read.asked_ms, trades_from_ms=seen_ms
    )
    LedgerEntry.objects.create(
        account=settings.ACCOUNT,
        symbol=symbol,
        kind=LedgerEntry.Kind.ADOPTED,
        delta=amount,
        balance=amount,
        actor=actor,
        reason=reason,
        at=clock.from_ms(read.asked_ms),
    )
    audit.record(
        kind="ledger_adopted",
        actor=actor,
        symbol=symbol,
        reason=reason,
        data={"amount": amounts.plain(amount)},
    )


class LedgerChanged(Exception):
    """The ledger is not what the person looked at: nothing was written. The text says what to do."""


class Correction(Struct, frozen=True):
    """What a person decided on, and what he saw when he did: the version of the balance (None: never entered)
    and the moment of the exchange's amount. Trades before that moment are inside the amount."""

    symbol: str
    to: Decimal
    seen_version: int | None
    as_of_ms: int
    kind: LedgerEntry.Kind
    by: str
    reason: str


def correct(wanted: Correction) -> LedgerEntry:
    """Inside the caller's transaction: one entry, on top of exactly the version that was seen. Never trades."""
    mine = {"account": settings.ACCOUNT, "symbol": wanted.symbol}
    balance = Balance.objects.select_for_update().filter(**mine).first()
    if (balance.version if balance else None) != wanted.seen_version:
        raise LedgerChanged(f"{wanted.symbol}: the ledger moved meanwhile. Look again, then decide.")
    if SymbolLock.objects.filter(**mine).exists():
        raise LedgerChanged(f"{wanted.symbol}: an order of ours is in flight. Wait until it is settled.")
    _refuse_if_older(wanted, balance)
    before = balance.amount if balance else Decimal(0)
    if balance is None:
        _enter(wanted)
    else:
        balance.amount, balance.version = wanted.to, balance.version + 1
        balance.moved_ms = wanted.as_of_ms  # older reads are not compared with this
        balance.save(update_fields=["amount", "version", "moved_ms"])
    fault_point("ledger_balance_corrected")
    entry = LedgerEntry.objects.create(
        **mine,
        kind=wanted.kind,
        delta=wanted.to - before,
        balance=wanted.to,
        actor=wanted.by,
        reason=wanted.reason,
        at=clock.from_ms(wanted.as_of_ms),
    )
    audit.record(
        kind=f"ledger_{'adopted' if wanted.kind is LedgerEntry.Kind.ADOPTED else 'corrected'}",
        actor=wanted.by,
        symbol=wanted.symbol,
        reason=wanted.reason,
        data={
            "before": "missing" if wanted.seen_version is None else amounts.plain(before),
            "amount": amounts.plain(wanted.to),
            "delta": amounts.plain(entry.delta),
            "entry": entry.pk,
        },
    )
    return entry


def _refuse_if_older(wanted: Correction, balance: Balance | None) -> None:
    """The version alone does not tell: an amount read first and a ledger that a fill moved before it was shown are
    of two moments. And an amount from a moment that is still to come would swallow every entry until then."""
    if wanted.as_of_ms - clock.now_ms() > CLOCK_MS_MAX:
        raise LedgerChanged(
            f"{wanted.symbol}: the exchange's amount is from the future. Set the clocks right."
        )
    if balance and moved_since(balance, wanted.as_of_ms):
        raise LedgerChanged(
            f"{wanted.symbol}: the ledger moved after the exchange was read. Look again, then decide."
        )


def moved_since(balance: Balance, asked_ms: int) -> bool:
    """Then an amount asked for at asked_ms is not to be compared with it. A movement stamped far in the future, by
    a clock set back since, must not hide everything until then."""
    return 0 < balance.moved_ms - asked_ms <= CLOCK_MS_MAX


def _enter(wanted: Correction) -> None:
    """The symbol's first balance. Somebody else may have entered it since: the row is unique."""
    try:
        with transaction.atomic():
            Balance.objects.create(
                account=settings.ACCOUNT,
                symbol=wanted.symbol,
                amount=wanted.to,
                moved_ms=wanted.as_of_ms,
                trades_from_ms=wanted.as_of_ms,
            )
    except IntegrityError:
        raise LedgerChanged(f"{wanted.symbol} was entered meanwhile. Look again, then decide.") from None


def _is_contained(trade: Trade) -> bool:
    """Whether the newest adoption or correction took an amount of the exchange that has this trade in it."""
    kinds = (LedgerEntry.Kind.ADOPTED, LedgerEntry.Kind.CORRECTION)
    mine = LedgerEntry.objects.filter(account=settings.ACCOUNT, symbol=trade.symbol, kind__in=kinds)
    return mine.filter(at__gte=clock.from_ms(trade.time_ms)).exists()


def store(trades: Iterable[SeenTrade]) -> None:
    """Keep what the exchange reported. A trade that is told twice is one row."""
    rows.insert(*(_fill(seen) for seen in trades), skip_conflicts=True)


def stored(symbol: str, trade_ids: Collection[int]) -> list[Trade]:
    """Trades of a symbol by their ids, as many of them as are stored, in the order in which they were made."""
    mine = {"account": settings.ACCOUNT, "symbol": symbol}
    found = (rows.one(Fill, where={**mine, "trade_id": trade_id}) for trade_id in sorted(trade_ids))
    return [trade_of(fill) for fill in found if fill is not None]


def trade_of(fill: Fill) -> Trade:
    return Trade(
        trade_id=fill.trade_id,
        order_id=fill.order_id,
        symbol=fill.symbol,
        side=Side(fill.side),
        quantity=fill.quantity,
        price=fill.price,
        realized_pnl=fill.realized_pnl,
        commission=fill.commission,
        commission_asset=fill.commission_asset,
        time_ms=round(fill.at.timestamp() * 1000),
    )


def _fill(seen: SeenTrade) -> Fill:
    trade = seen.trade
    return rows.new(
        Fill,
        account=settings.ACCOUNT,
        symbol=trade.symbol,
        trade_id=trade.trade_id,
        order_id=trade.order_id,
        client_order_id=seen.client_order_id,
        side=trade.side.value,
        quantity=trade.quantity,
        price=trade.price,
        realized_pnl=trade.realized_pnl,
        commission=trade.commission,
        commission_asset=trade.commission_asset,
        at=clock.from_ms(trade.time_ms),
    )


def book(
    trades: list[SeenTrade],
    *,
    kind: LedgerEntry.Kind,
    actor: str,
    plan_id: str = "",
    pile: rows.Pile | None = None,
) -> int:
    """Inside the caller's transaction: move the ledger by each stored fill that has not moved it yet.

    The compare-and-set on `booked` makes a second booking impossible, whoever comes second.
    """
    booked = 0
    for seen in trades:
        mine = pile or rows.Pile()
        booked += _book_one(seen.trade, kind=kind, actor=actor, plan_id=plan_id, pile=mine)
        if pile is None or len(trades) > 1:
            mine.send()  # the next one reads the balance that this one has moved
    return booked


_LOCK = "SELECT amount, version, moved_ms, exit_ms FROM positions_balance WHERE account = %s AND symbol = %s"
_BOOK = """UPDATE positions_fill SET booked = TRUE
WHERE account = %s AND symbol = %s AND trade_id = %s AND booked = FALSE RETURNING id"""


def _book_one(trade: Trade, *, kind: LedgerEntry.Kind, actor: str, plan_id: str, pile: rows.Pile) -> int:
    mine = {"account": settings.ACCOUNT, "symbol": trade.symbol}
    # On SQLite the transaction itself is the lock.
    locking = "" if connection.vendor == "sqlite" else connection.ops.for_update_sql()
    balance = rows.first(f"{_LOCK} {locking}", [*mine.values()])
    if balance is None or (kind is LedgerEntry.Kind.ENTRY and _is_contained(trade)):
        return 0
    booked = rows.first(_BOOK, [*mine.values(), trade.trade_id])
    if booked is None:
        return 0
    amount, version, moved_ms, exit_ms = balance
    amount = Decimal(amount) + trade.signed_quantity
    moved = {
        "amount": amount,
        "version": version + 1,
        "moved_ms": max(moved_ms, trade.time_ms),
        "exit_ms": clock.now_ms() if kind is LedgerEntry.Kind.EXIT else exit_ms,
    }
    rows.change(Balance, moved, where=mine, pile=pile)
    fault_point("balance_moved")
    entry = {
        **mine,
        "kind": kind,
        "delta": trade.signed_quantity,
        "balance": amount,
        "fill_id": booked[0],
        "plan_id": plan_id,
        "actor": actor,
        "at": clock.from_ms(trade.time_ms),
    }
    rows.add(LedgerEntry, entry, pile=pile)
    audit.record(
        kind="ledger_moved",
        actor=actor,
        plan_id=plan_id,
        symbol=trade.symbol,
        data={
            "delta": amounts.plain(trade.signed_quantity),
            "balance": amounts.plain(amount),
            "by": kind.value,
        },
        pile=pile,
    )
    fault_point("trade_booked")
    return 1


def project(client: Client, symbol: str) -> None:
    """For readers in Redis. The Brain reads the database, so a hand edit there moves nothing."""
    balance = rows.one(Balance, where={"account": settings.ACCOUNT, "symbol": symbol})
    if balance is not None:
        client.hset(settings.KEYS.ledger(symbol), mapping=_copy(balance.version, balance.amount))


def project_exits(client: Client, last: Mapping[str, dict[str, str]]) -> None:
    """The same where exits were booked, with what moved each symbol last."""
    held = Balance.objects.filter(account=settings.ACCOUNT, symbol__in=last)
    pipeline = client.pipeline(transaction=False)
    for symbol, version, amount in held.values_list("symbol", "version", "amount"):
        pipeline.hset(settings.KEYS.ledger(symbol), mapping={**_copy(version, amount), **last[symbol]})
    pipeline.execute()


def project_all(client: Client, held: Mapping[str, tuple[int, Decimal]]) -> None:
    """One round trip, however many symbols moved since the last beat."""
    pipeline = client.pipeline(transaction=False)
    for symbol, (version, amount) in held.items():
        pipeline.hset(settings.KEYS.ledger(symbol), mapping=_copy(version, amount))
    pipeline.execute()


def _copy(version: int, amount: Decimal) -> dict[str, str]:
    return {
        "last_known_amt": amounts.plain(amount),
        "updated_at": f"{clock.now_s():.3f}",
        "version": str(version),
    }
