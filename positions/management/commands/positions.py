"""What the exchange holds and what our ledger says, freshly read."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from positions.management.looking import LookCommand, shown, told


class Command(LookCommand):
    help = "Positions of the exchange and of the ledger, side by side, read now: positions [--json]"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *_: Any, **options: Any) -> None:
        lines = self.look([])
        if options["json"]:
            self.data({"positions": [told(line) for line in lines]})
        else:
            self.stdout.write(shown(lines))
