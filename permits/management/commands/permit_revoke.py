"""Take permits back before they are spent."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.db import Error as DatabaseError

from permits.desk import desk
from permits.desk.desk import Revoked
from permits.desk.peek import Peek, peek
from permits.management.acting import ActCommand
from permits.pages import story
from quantum import clock
from quantum.commands import Exit
from quantum.log import safe
from quantum.redis import RedisError, command_client

TEXTS = {
    "already_consumed": "Too late: the pair was spent at {spent}. See with plan_show what came of it.",
    "missing": "No permit of this plan stands: it never had one, or its time is over. Nothing was changed.",
    "changed": "Another permit stands there by now: it was left alone. Look with permit_show and ask again.",
}


class Command(ActCommand):
    help = "Revoke permits: permit_revoke <plan_id> [--gate governor|p33|both] --reason '...' [--dry-run]"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("plan_id")
        parser.add_argument("--gate", choices=(*story.GATES, "both"), default="both")
        parser.add_argument("--dry-run", action="store_true", help="show what stands, change nothing")
        self.add_act_arguments(parser)

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            self._act(options)
        except RedisError as error:
            self.leave(
                Exit.DEPENDENCY_DOWN,
                f"Redis gave no answer ({type(error).__name__}): it is not known whether the permits stand. "
                "Ask again: a revocation that was begun is completed.",
            )
        except DatabaseError as error:
            self.leave(
                Exit.DEPENDENCY_DOWN,
                f"The database refuses ({type(error).__name__}). Ask again when it is back: "
                "without it no order leaves.",
            )

    def _act(self, options: dict[str, Any]) -> None:
        said = self.who_and_why(options)
        client, plan_id = command_client(), options["plan_id"]
        gates = story.GATES if options["gate"] == "both" else (options["gate"],)
        before = peek(client, plan_id)
        standing = [gate for gate in gates if before.of(gate)]
        if options["dry_run"]:
            self._would(before, standing, as_json=options["json"])
            return
        if standing:
            text = ", ".join(f"{gate} {before.of(gate).ttl_ms / 1000:.0f} s left" for gate in standing)  # type: ignore[union-attr]
            self.confirm(options, before=text, after="revoked, and no further permit for this plan")
        answer = desk.revoke(client, plan_id=plan_id, gates=gates, seen=before.seen, **said)
        if isinstance(answer, Revoked):
            if options["json"]:
                self.data({"revoked": True, "plan_id": plan_id, "gates": answer.gates, **said})
            else:
                self.stdout.write(f"Revoked: {' and '.join(answer.gates) or 'already'} of {safe(plan_id)}")
            return
        if options["json"]:
            self.data(
                {
                    "revoked": False,
                    "plan_id": plan_id,
                    "reason": answer.reason,
                    "spent_at_ms": answer.spent_at_ms,
                }
            )
        text = TEXTS[answer.reason].format(spent=clock.from_ms(answer.spent_at_ms).isoformat())
        self.leave(Exit.ERROR if answer.reason == "missing" else Exit.BLOCKED, text)

    def _would(self, before: Peek, standing: list[str], *, as_json: bool) -> None:
        if as_json:
            self.data({"revoked": False, "would_revoke": standing, "plan_id": before.plan_id})
        else:
            self.stdout.write(f"Would revoke: {' and '.join(standing) or 'nothing, no permit stands'}")
