"""What home shows, on the command line."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError

from apply.glance import glance
from apply.glance.glance import Glance
from apply.glance.hour import Spread
from quantum import amounts
from quantum.backlog import Backlog
from quantum.commands import Command as Base
from quantum.commands import Exit
from quantum.log import safe


class Command(Base):
    help = "Do exits flow, and what is in the way? Exit 0 they do, 4 none can leave, 5 Redis or the database is down."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            found = glance.look()
        except DatabaseError as error:
            self.leave(
                Exit.DEPENDENCY_DOWN, f"The database refuses ({type(error).__name__}): nothing is known."
            )
        if options["json"]:
            self.data(glance.as_data(found))
        else:
            for line in _lines(found):
                self.stdout.write(safe(line))
        if found.running is None:
            self.leave(Exit.DEPENDENCY_DOWN)
        if not found.flows:
            self.leave(Exit.BLOCKED)


def _lines(found: Glance) -> list[str]:
    state, hour, now = found.state, found.hour, found.running
    mode = settings.APPLY_MODE.replace("_", " ").upper()
    lines = [f"{mode} {settings.ACCOUNT}: {found.verdict}"]
    for each in found.troubles:
        lines.append(
            f"  {'stops' if each.stops else 'look '}  {each.text}" + (f" ({each.why})" if each.why else "")
        )
        if each.command:
            lines.append(f"         manage.py {each.command}")
    lines.append(
        f"state       {state.state} by {state.by}: {state.reason}"
        if state
        else "state       HALTED: none was set"
    )
    lines.append(f"last hour   {hour.done} done, {hour.refused} refused, {hour.unknown} unknown")
    lines += [f"            {n} {cause}" for cause, n in hour.causes]
    lines.append(f"wait        {_spread(hour.wait)}, limit {settings.APPLY_PERMIT_WAIT_MS} ms")
    lines.append(f"to order    {_spread(hour.order)}")
    lines += [
        f"{gate:<12}{granted} granted, {denied} denied" for gate, (granted, denied) in hour.gates.items()
    ]
    for consumer in now.consumers if now else ():
        alive = "alive" if consumer.health.alive else "SILENT"
        lines.append(f"{consumer.health.name:<12}{alive}, {consumer.health}{_behind(consumer.backlog)}")
    for symbol, line in now.lines.items() if now else ():
        said = (
            f"{line.state.value}, exchange {amounts.plain(line.exchange)}, read {line.age_s:.1f} s ago"
            if line
            else "not read"
        )
        lines.append(f"{symbol:<12}{said}")
    return lines


def _spread(spread: Spread) -> str:
    return (
        f"p50 {spread.percentile(50)} ms, p95 {spread.percentile(95)} ms of {spread.n}"
        if spread.n
        else "none"
    )


def _behind(backlog: Backlog | None) -> str:
    if backlog is None:
        return ""
    return f", {backlog.pending} in hand, {'?' if backlog.lag is None else backlog.lag} unread"
