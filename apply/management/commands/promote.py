"""Whether this code may run live: `--check` says what is missing. On the testnet `--write` makes the paper, here
`--take` brings it in; `--override` does without, under somebody's name."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import transaction

from apply.proof_report import look, promoting
from apply.proof_report.report import Outcome
from permits.management.acting import ActCommand
from quantum import version
from quantum.audit import REASON_MIN
from quantum.commands import Exit
from quantum.log import safe
from quantum.models import Promotion


class Command(ActCommand):
    help = "May this code run live? --check; on the testnet --write FILE; in live --take FILE or --override"

    def add_arguments(self, parser: ArgumentParser) -> None:
        ways = parser.add_mutually_exclusive_group()
        ways.add_argument("--check", action="store_true", help="what is missing; the same as no option")
        ways.add_argument(
            "--write", type=Path, metavar="FILE", help="on the testnet: prove, and write it down"
        )
        ways.add_argument(
            "--take", type=Path, metavar="FILE", help="in live: promote by what the testnet wrote"
        )
        ways.add_argument(
            "--known", type=Path, metavar="FILE", help="on the testnet: did this house write that file?"
        )
        ways.add_argument("--override", action="store_true", help="in live: promote without a proof")
        parser.add_argument("--reason", default="", help=f"why, at least {REASON_MIN} characters")
        parser.add_argument("--by", default="", help="who; default: the login name")
        parser.add_argument("--confirm", default="", metavar="ACCOUNT", help="in live: the account, typed")
        parser.add_argument("--yes", action="store_true", help="do not ask on a terminal")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            if options["write"]:
                self._write(options)
            elif options["known"]:
                self._known(options)
            elif options["take"] or options["override"]:
                self._promote(options)
            else:
                self._check(options)
        except DatabaseError as error:
            text = f"The database refuses ({type(error).__name__}). Nothing was changed."
            self.leave(Exit.DEPENDENCY_DOWN, text)

    # ---- looking

    def _check(self, options: dict[str, Any]) -> None:
        stands = promoting.standing()
        if stands is not None:
            missing: list[str] = []
            self.say(
                f"version {stands.version} may run live: {stands.way} by {safe(stands.by)}, {safe(stands.reason)}"
            )
        elif settings.APPLY_MODE == promoting.FROM:
            missing = self._proved()[1]
        else:
            missing = [_how(version.of_the_code())]
        if options["json"]:
            row = stands and {"way": stands.way, "by": stands.by, "reason": stands.reason, "at": stands.at}
            self.data({"version": version.of_the_code(), "promoted": row, "missing": missing})
        else:
            for each in missing:
                self.stdout.write(f"missing: {safe(each)}")
        self.leave(Exit.BLOCKED if missing else Exit.OK)

    def _proved(self) -> tuple[dict[str, Any] | None, list[str]]:
        history, why_not = look.exchange()
        found, exits = promoting.proof_of_this_code(history=history, why_not=why_not)
        if found is None:
            code = version.of_the_code()
            return None, [f"governor, p33 and apply were not all started with version {code}: restart them"]
        paper = promoting.paper_of(found, exits)
        missing = promoting.missing(paper)
        if found.outcome is not Outcome.CLEAN:
            missing += [f"{each.wrong}: {each.text}" for each in found.findings()]
            missing += [f"{part.title}: {doubt}" for part in found.parts for doubt in part.doubts]
        return paper, missing

    # ---- on the testnet

    def _known(self, options: dict[str, Any]) -> None:
        """For whoever doubts what was taken in live: there the file has to be believed, here its digest is sealed."""
        paper = self._read(options["known"])
        found = promoting.event_of(paper)
        if found is None:
            self.leave(Exit.BROKEN, f"No event of this house tells of digest {paper['digest']}.")
        event, seal = found
        said = {"event": event.pk, "at": event.at, "by": event.actor, "reason": event.reason, "seal": seal}
        if options["json"]:
            self.data({"digest": paper["digest"], **said})
        else:
            where = (
                "not sealed yet"
                if seal is None
                else f"seal {seal}: audit_verify tells whether the chain is whole"
            )
            self.stdout.write(
                f"event {event.pk}, {event.at:%Y-%m-%d %H:%M:%S} UTC, by {safe(event.actor)}; {where}"
            )

    def _write(self, options: dict[str, Any]) -> None:
        who = self.who_and_why(options)
        if settings.APPLY_MODE != promoting.FROM:
            self.leave(
                Exit.USAGE, f"This is {settings.APPLY_MODE}: a promotion is proved on the {promoting.FROM}."
            )
        paper, missing = self._proved()
        if paper is None or missing:
            for each in missing:
                self.say(f"missing: {safe(each)}")
            self.leave(Exit.BLOCKED, "Nothing was written.")
        try:
            with transaction.atomic():  # no file without its event: nobody could find its digest in the chain
                promoting.written(paper, **who)
                options["write"].write_text(json.dumps(paper, indent=1) + "\n")
        except OSError as failure:
            self.leave(Exit.ERROR, f"Nothing was written: {failure.strerror}: {options['write']}")
        self.say(f"{len(paper['exits'])} clean exits, digest {paper['digest']}")

    # ---- in live

    def _promote(self, options: dict[str, Any]) -> None:
        who = self.who_and_why(options)
        if settings.APPLY_MODE != "live":
            self.leave(Exit.USAGE, f"This is {settings.APPLY_MODE}: only live asks for a promotion.")
        if options["confirm"] != settings.ACCOUNT:
            self.leave(Exit.USAGE, f"Nothing was changed. To promote, type --confirm {settings.ACCOUNT}")
        paper = self._taken(options["take"]) if options["take"] else None
        way = "by proof" if paper else "WITHOUT a proof"
        self.confirm(options, before=f"version {version.of_the_code()}", after=f"may run live, {way}")
        row = promoting.take(paper, **who) if paper else promoting.override(**who)
        self._tell(row, options)

    def _read(self, file: Path) -> dict[str, Any]:
        try:
            with file.open("rb") as opened:
                return promoting.read(opened.read(promoting.PAPER_BYTES_MAX + 1))
        except OSError as failure:
            self.leave(Exit.USAGE, f"Nothing was changed. {failure.strerror}: {file}")
        except promoting.NotAPaper as none:
            self.leave(Exit.BROKEN, f"Nothing was changed. {none}")

    def _taken(self, file: Path) -> dict[str, Any]:
        paper = self._read(file)
        if missing := promoting.missing(paper):
            for each in missing:
                self.say(f"missing: {safe(each)}")
            self.leave(Exit.BLOCKED, "Nothing was changed.")
        return paper

    def _tell(self, row: Promotion, options: dict[str, Any]) -> None:
        if options["json"]:
            self.data(
                {"version": row.version, "way": row.way, "by": row.by, "reason": row.reason, "at": row.at}
            )
        else:
            self.stdout.write(f"version {row.version} may run live, {row.way} by {safe(row.by)}")


def _how(code: str) -> str:
    return (
        f"a proof of {promoting.EXITS_LEAST} clean exits on the testnet with version {code}: there "
        f"`promote --write FILE`, here `promote --take FILE`; or `promote --override` with a reason"
    )
