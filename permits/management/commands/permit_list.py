"""List permits, newest first."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.db.models import QuerySet

from permits.desk import records
from permits.desk.peek import ttls
from permits.management.tables import table
from permits.models import Permit
from permits.pages import story
from quantum import clock
from quantum.commands import Command as Base
from quantum.commands import Exit
from quantum.redis import RedisError, command_client

LIMIT_MAX = 1000
HEADINGS = ("issued", "plan", "gate", "answer", "reason", "symbol", "quantity", "fate", "issuer")


class Command(Base):
    help = "List permits: permit_list [--live] [--symbol S] [--gate G] [--fate F] [--limit N] [--json]"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--live", action="store_true", help="only those that may still be spent")
        parser.add_argument("--symbol", default="")
        parser.add_argument("--gate", choices=story.GATES)
        parser.add_argument("--fate", choices=Permit.Fate.values)
        parser.add_argument("--limit", type=int, default=20, help=f"1 to {LIMIT_MAX}, default 20")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *_: Any, **options: Any) -> None:
        if not 1 <= options["limit"] <= LIMIT_MAX:
            self.leave(Exit.USAGE, f"--limit must be 1 to {LIMIT_MAX}")
        rows = list(_chosen(options)[: options["limit"]])
        left = None
        if options["live"]:
            try:
                left = ttls(command_client(), [(row.plan_id, row.gate) for row in rows])
            except RedisError:
                self.say("Redis does not answer: what is live there is not known; this is what was recorded.")
        found = [_told(row, left[at] if left else None) for at, row in enumerate(rows)]
        if options["live"] and left is not None:
            found = [told for told in found if told["ttl_ms"] is not None and told["ttl_ms"] != -2]
        if options["json"]:
            self.data({"permits": found})
        elif found:
            self.stdout.write(table(HEADINGS, [_row(told) for told in found]))
        else:
            self.say(
                "No permit is like that. Each published plan gets one of each gate; a live one lasts a minute."
            )
        if options["live"] and left is None:
            self.leave(Exit.DEPENDENCY_DOWN)


def _chosen(options: dict[str, Any]) -> QuerySet[Permit]:
    rows = Permit.objects.order_by("-id")
    if options["live"]:
        rows = rows.filter(fate=Permit.Fate.LIVE, expires_at__gt=clock.now())
    for name in ("gate", "fate", "symbol"):
        if options[name]:
            rows = rows.filter(**{name: options[name].upper() if name == "symbol" else options[name]})
    return rows


def _told(row: Permit, ttl_ms: int | None) -> dict[str, Any]:
    fate = records.fate_at(row, now=clock.now())
    return {**story.row_data(row, fate=fate.value), "ttl_ms": ttl_ms}


def _row(told: dict[str, Any]) -> tuple[str, ...]:
    left = "" if told["ttl_ms"] is None else f" {told['ttl_ms'] / 1000:.1f} s"
    return (
        told["issued_at"],
        told["plan_id"],
        told["gate"],
        "granted" if told["verdict"] else "denied",
        told["reason"],
        told["symbol"],
        told["quantity"] or "",
        told["fate"] + left,
        told["issuer"],
    )
