"""Lists with rows, and what a person gets of them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from html import unescape
from typing import Any

from django.db import OperationalError, transaction
from django.test import Client as WebClient
from django.urls import reverse

from permits.models import Permit
from quantum import exports
from quantum.models import AuditEvent
from tests.flow.test_admin import lived_in

NAMES = ("audit", "ledger", "orders", "permits", "plans")
KINDS = ("csv", "ndjson")
PAGES = {
    "audit": "quantum_audit",
    "ledger": "positions_ledger",
    "orders": "apply_orders",
    "permits": "permits_permit_changelist",
    "plans": "apply_plan_changelist",
}


def address(name: str, kind: str = "ndjson", query: str = "") -> str:
    return reverse(f"admin:export_{name}_{kind}") + query


def page(name: str, query: str = "") -> str:
    return reverse(f"admin:{PAGES[name]}") + query


def rows(count: int) -> None:
    """As many of each of the five lists."""
    with transaction.atomic():
        for number in range(1, count + 1):
            lived_in(number)
            AuditEvent.objects.create(
                kind="tested", actor="tests", plan_id=f"{number:016x}", data={"n": number}
            )


def stream(web: WebClient, name: str, kind: str = "ndjson") -> Any:
    """A file that somebody began to take."""
    return web.get(address(name, kind))


def text_of(answer: Any) -> str:
    assert answer.status_code == 200, answer.status_code
    return b"".join(answer.streaming_content).decode()


def read(answer: Any) -> list[dict[str, Any]]:
    """The rows of a whole NDJSON."""
    *found, last = [json.loads(line) for line in text_of(answer).splitlines()]
    assert last == {"end": True, "rows": len(found)}
    return found


def cells(text: str) -> list[list[str]]:
    """Without the head and the last line."""
    head, *found, last = csv.reader(io.StringIO(text))
    assert last[:2] == ["end", str(len(found))]
    assert {len(row) for row in (head, *found, last)} == {len(head)}
    return found


def links_on(web: WebClient, name: str, query: str = "") -> list[str]:
    text = web.get(page(name, query)).content.decode()
    return [unescape(found) for found in re.findall(r'href="(/admin/exports/[^"]+)"', text)]


def on_page(web: WebClient, name: str, query: str = "") -> list[int]:
    """What all leaves of the page show, newest first."""
    found: list[int] = []
    older = ""
    while True:
        answer = web.get(page(name, (query or "?") + older))
        leaf = answer.context["leaf"]
        found += [row.pk for row in leaf.rows]
        if leaf.older is None:
            return found
        older = f"&before={leaf.older}"


def permit_of(number: int, **more: Any) -> None:
    Permit.objects.filter(plan_id=f"{number:016x}").update(**more)


def filters(name: str) -> set[str]:
    return set(exports.every()[name].filters)


def ended() -> list[tuple[str, int, str]]:
    found = AuditEvent.objects.filter(kind="export_ended").order_by("id")
    return [(event.data["outcome"], event.data["rows"], event.reason) for event in found]


def failing_after(count: int) -> Callable[..., Any]:
    """The database dies when so many questions were answered."""
    asked = 0

    def ask(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked > count:
            raise OperationalError("the server closed the connection")
        return execute(sql, params, many, context)

    return ask
