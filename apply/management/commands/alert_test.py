"""One notice to every target, now, and what each of them answered."""

from __future__ import annotations

import secrets
from argparse import ArgumentParser
from typing import Any

from apply.alerts import book, targets
from apply.alerts.targets import NotTold, Target
from quantum import clock
from quantum.commands import Command as Base
from quantum.commands import Exit


class Command(Base):
    help = "Sends one test notice to every target. Exit 0 all took it, 2 no target is set, 5 one did not."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *_: Any, **options: Any) -> None:
        found = targets.configured()
        if not found:
            self.leave(
                Exit.USAGE, "No target is set: give ALERT_WEBHOOK_URL and ALERT_WEBHOOK_SECRET (README)."
            )
        told = [_tell(target) for target in found]
        if options["json"]:
            self.data({"targets": told})
        else:
            for each in told:
                self.stdout.write(
                    f"{each['target']:<24}{'told' if each['told'] else 'NOT TOLD'}: {each['answer']}"
                )
        if not all(each["told"] for each in told):
            self.leave(Exit.DEPENDENCY_DOWN)


def _tell(target: Target) -> dict[str, Any]:
    mark = secrets.token_hex(16)
    body = book.body(
        event="test", mark=mark, at=clock.now(), severity="info", kind="test", about="", text="A test: all is well",
        why="somebody called alert_test", since=clock.now().isoformat(), plan_id="", link=book.link(), command="",
        alert=None,
    )  # fmt: skip
    try:
        return {"target": target.name, "told": True, "answer": target.tell(body, mark=mark)}
    except NotTold as failed:
        return {"target": target.name, "told": False, "answer": str(failed)}
