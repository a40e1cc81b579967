"""Everything that proves what became of one plan, for somebody who trusts nobody."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from apply.bundle import making, reading
from quantum.commands import Command as Base
from quantum.commands import Exit
from quantum.log import safe


class Command(Base):
    help = "What proves the end of a plan; tools/verify_bundle.py checks it: proof_bundle <plan_id> [--html]"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("plan_id")
        parser.add_argument("--out", type=Path, metavar="FILE", help="default: stdout")
        parser.add_argument(
            "--html", action="store_true", help="the same to read; it proves nothing by itself"
        )
        parser.add_argument("--to", type=int, metavar="SEAL", help="of a checkpoint that the reader holds")

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            bundle = making.of(options["plan_id"], to=options["to"])
        except making.NoBundle as none:
            self.leave(Exit.ERROR, safe(f"There is no bundle: {none}."))
        if bundle is None:
            self.leave(Exit.ERROR, f"There is no plan {safe(options['plan_id'])}.")
        if bundle.unsealed:
            self.say(
                f"{bundle.unsealed} audit events lie in no seal yet: in a second or two the bundle proves them too."
            )
        body = reading.html(bundle).encode() if options["html"] else bundle.raw
        if options["out"] is None:
            self.stdout.write(body.decode(), ending="")
            return
        try:
            options["out"].write_bytes(body)
        except OSError as failure:
            self.leave(Exit.ERROR, f"{options['out']} cannot be written: {failure.strerror}")
        self.say(f"{options['out']}: {len(body):,} bytes")
