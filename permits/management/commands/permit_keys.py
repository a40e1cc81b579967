"""The gates' signing keys: what there is, make what is missing, rotate one."""

from __future__ import annotations

import getpass
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError

from permits.management.tables import table
from quantum import clock, keyring
from quantum.audit import REASON_MIN
from quantum.commands import Command as Base
from quantum.commands import Exit
from quantum.keyring import KeyFile, RotationRefused
from quantum.signing import SIGNERS, KeyUnusable

HEADINGS = ("signer", "what", "fingerprint", "mode", "file", "note")


class Command(Base):
    help = "Signing keys: permit_keys [show] | make | rotate <signer> --reason '...' [--stolen]"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("act", nargs="?", choices=("show", "make", "rotate"), default="show")
        parser.add_argument("signer", nargs="?", choices=SIGNERS, help="governor, p33 or operator")
        parser.add_argument("--reason", default="", help=f"of a rotation, at least {REASON_MIN} characters")
        parser.add_argument("--by", default="", help="who; default: the login name")
        parser.add_argument(
            "--stolen", action="store_true", help="stop believing the old key at once: permits in flight fail"
        )
        parser.add_argument(
            "--settle",
            type=float,
            default=keyring.SETTLE_S,
            help="seconds the new public key lies ready before it signs: time to copy it to other hosts",
        )
        parser.add_argument("--dry-run", action="store_true", help="say what would be done")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            {"show": self._show, "make": self._make, "rotate": self._rotate}[options["act"]](options)
        except (KeyUnusable, RotationRefused) as problem:
            self.leave(Exit.ERROR, str(problem))
        except OSError as failure:
            self.leave(Exit.ERROR, f"{settings.PERMIT_KEYS_DIR} cannot be used: {failure.strerror}")
        except DatabaseError as error:
            self.leave(
                Exit.DEPENDENCY_DOWN,
                f"The database refuses ({type(error).__name__}): without a record no key is changed.",
            )

    def _show(self, options: dict[str, Any]) -> None:
        found = [
            file
            for file in keyring.files(settings.PERMIT_KEYS_DIR)
            if options["signer"] in (None, file.signer)
        ]
        if options["json"]:
            self.data({"directory": str(settings.PERMIT_KEYS_DIR), "files": [_data(file) for file in found]})
        else:
            self.stdout.write(table(HEADINGS, [_row(file) for file in found]))
        problems = [file for file in found if file.problem]
        if problems:
            self.leave(Exit.ERROR, "\n".join(f"{file.path.name}: {file.problem}" for file in problems))

    def _make(self, options: dict[str, Any]) -> None:
        made = [] if options["dry_run"] else keyring.make_missing(settings.PERMIT_KEYS_DIR)
        if options["json"]:
            self.data({"made": made})
        else:
            self.say(f"Made: {', '.join(made) or 'nothing, all pairs are there'}")

    def _rotate(self, options: dict[str, Any]) -> None:
        reason = options["reason"].strip()
        if options["signer"] is None:
            self.leave(Exit.USAGE, f"Whose key? One of {', '.join(SIGNERS)}.")
        if len(reason) < REASON_MIN:
            self.leave(Exit.USAGE, f"--reason needs at least {REASON_MIN} characters: somebody will ask.")
        if options["dry_run"]:
            self.say(f"Would replace the key pair of {options['signer']} in {settings.PERMIT_KEYS_DIR}.")
            return
        done = keyring.rotate(
            options["signer"],
            directory=settings.PERMIT_KEYS_DIR,
            by=(options["by"].strip() or getpass.getuser())[:60],
            reason=reason,
            believe_old=not options["stolen"],
            settle_s=max(options["settle"], keyring.SETTLE_S),
        )
        if options["json"]:
            until = _when(done.old_until_s)
            self.data({"signer": done.signer, "before": done.before, "after": done.after, "old_until": until})
            return
        end = f"until {_when(done.old_until_s)}" if done.old_until_s else "no longer"
        self.say(f"{done.signer}: {done.before} -> {done.after}; the old key is believed {end}.")
        self.say("Running roles take it up within a second.")


def _when(until_s: int | None) -> str | None:
    return clock.from_ms(until_s * 1000).isoformat() if until_s else None


def _data(file: KeyFile) -> dict[str, Any]:
    return {
        "signer": file.signer,
        "what": file.what,
        "file": file.path.name,
        "fingerprint": file.fingerprint,
        "mode": file.mode,
        "until": _when(file.until_s),
        "problem": file.problem,
    }


def _row(file: KeyFile) -> tuple[str, ...]:
    note = file.problem or (f"believed until {_when(file.until_s)}" if file.until_s else "")
    return file.signer, file.what, file.fingerprint, file.mode, file.path.name, note
