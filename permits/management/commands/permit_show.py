"""Show the permits of one plan: what stands now, and all there ever were."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from permits.desk.peek import Standing
from permits.management.tables import table
from permits.models import Permit
from permits.pages import story
from permits.pages.story import Story, Told
from quantum import advice
from quantum.commands import Command as Base
from quantum.commands import Exit
from quantum.log import safe
from quantum.redis import command_client


class Command(Base):
    help = (
        "Show both permits of a plan as they stand, with real TTLs, and their history: permit_show <plan_id>"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("plan_id", help="the id, or the beginning of one")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *_: Any, **options: Any) -> None:
        found = story.tell(command_client(), self._one_id(options["plan_id"]))
        if not found.known and found.peek is not None:
            self.leave(
                Exit.ERROR,
                f"No permit of plan {safe(options['plan_id'])} is known: no gate has answered it, or there is no "
                "such plan. permit_list shows the newest permits, plan_show what became of a plan.",
            )
        if options["json"]:
            self.data(story.as_data(found))
        else:
            self._print(found)
        if found.peek is None:
            self.leave(Exit.DEPENDENCY_DOWN, "Redis does not answer: what stands there is not known.")

    def _one_id(self, text: str) -> str:
        rows = Permit.objects.filter(plan_id__startswith=text).order_by("plan_id")
        ids = list(rows.values_list("plan_id", flat=True).distinct()[:6])
        if len(ids) > 1 and text not in ids:
            self.leave(Exit.USAGE, f"Several plans begin so: {', '.join(ids)}")
        return text if text in ids or not ids else str(ids[0])

    def _print(self, found: Story) -> None:
        rows = [self._row(found, told) for told in found.history]
        recorded = {told.row.raw.encode() for told in found.history}
        for standing in found.peek.standing if found.peek else ():
            if standing.raw not in recorded:
                text = standing.problem or "stands in Redis and has no row yet"
                rows.append((standing.gate, "", text, "", _left(standing), "", "", ""))
        headings = ("gate", "answer", "reason", "fate", "left", "issuer", "signature", "who and why")
        self.stdout.write(table(headings, rows, title=f"permits of {found.plan_id}"))
        for told in found.history:
            if not told.row.verdict:
                numbers = "  ".join(f"{name}={value}" for name, value in story.numbers(told.row.raw))
                self.say(safe(f"{told.row.gate} denied {told.row.reason}: {numbers}"))
                written = advice.of(told.row.reason, gate=told.row.gate)
                if written is not None:
                    self.say(safe(f"  {told.row.reason}: {written.means}. Next: {written.next}."))
        if found.peek and found.peek.receipt:
            self.say("The pair of this plan was spent; manage.py plan_show tells what came of it.")

    def _row(self, found: Story, told: Told) -> tuple[str, ...]:
        row = told.row
        standing = found.peek.of(row.gate) if found.peek else None
        here = standing if standing is not None and standing.raw == row.raw.encode() else None
        return (
            row.gate,
            "granted" if row.verdict else "denied",
            row.reason,
            told.fate + (f" ({told.note})" if told.note else ""),
            _left(here) if here else "",
            row.issuer,
            (f"ok, {here.signer} {here.fingerprint}" if here.signer else "BAD") if here else "",
            f"{row.fate_by}: {row.fate_reason}" if row.fate_reason else row.fate_by,
        )


def _left(standing: Standing) -> str:
    return f"{standing.ttl_ms / 1000:.1f} s" if standing.ttl_ms >= 0 else "no end"
