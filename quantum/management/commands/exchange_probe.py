"""Hold what we assume of the exchange against the account of this instance."""

from __future__ import annotations

import sys
import threading
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from quantum.commands import Command as Base
from quantum.commands import Exit
from quantum.exchange import connect
from quantum.exchange.probe import ASSUMPTIONS, Finding, Verdict, counted
from quantum.exchange.probe_run import Probe
from quantum.exchange.reading import ReadFailed
from quantum.exchange.user_stream import UserStream
from quantum.log import safe

EXIT_TEXT = (
    "Exit: 0 all that was tested holds, 1 something was left behind, 3 something does not hold, 5 down."
)

NO_GATE = "THESE ORDERS PASS NO GATE: no permit, no limit, no hold and no halt stops them."


class Command(Base):
    help = (
        "Ask the exchange whether it does what we assume. Uses the trade key, in this process only, and places "
        "a few smallest orders on a flat symbol, each after a yes; it leaves nothing behind. "
        f"{NO_GATE} {EXIT_TEXT}"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("symbol", nargs="?", default=settings.APPLY_ALLOWLIST[0], help="a flat one")
        parser.add_argument("--read-only", action="store_true", help="place no order")
        parser.add_argument("--yes", action="store_true", help="do not ask before each order")
        parser.add_argument(
            "--confirm", default="", metavar="ACCOUNT", help="of orders in live: the account, typed"
        )
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *_: Any, **options: Any) -> None:
        self._refuse_unasked(options)
        self._yes = options["yes"]
        try:
            reader = connect.reader("TRADE")
        except ImproperlyConfigured as why:
            self.leave(Exit.USAGE, str(why))
        stream = None if options["read_only"] else connect.user_stream(reader)
        probe = Probe(reader=reader, symbol=options["symbol"].strip().upper(), may=self._may, stream=stream)
        self.say(
            f"{settings.APPLY_MODE.upper()} {settings.ACCOUNT} {safe(probe.symbol)} at {connect.base_url()}"
        )
        self.say("Read-only: no order is placed." if options["read_only"] else NO_GATE)
        try:
            if stream is not None:
                stream.start()
                self._await(stream)
            found = probe.run(read_only=options["read_only"])
        except ReadFailed as why:
            self.leave(Exit.DEPENDENCY_DOWN, f"The exchange could not be asked: {safe(str(why))}")
        finally:
            if stream is not None:
                stream.stop()
        self._tell(probe, found, options)
        for text in probe.left_behind:
            self.say(safe(f"LEFT BEHIND: {text}. Close it by hand at the exchange."))
        if probe.left_behind:
            self.leave(Exit.ERROR)
        if any(one.verdict is Verdict.DOES_NOT_HOLD for one in found):
            self.leave(Exit.DRIFT)

    def _tell(self, probe: Probe, found: list[Finding], options: dict[str, Any]) -> None:
        if options["json"]:
            self.data(
                {
                    "symbol": probe.symbol,
                    "orders": "none" if options["read_only"] else "passed no gate",
                    "findings": [one.as_data() for one in found],
                    "counted": counted(found),
                    "left_behind": probe.left_behind,
                }
            )
            return
        for one in found:
            self.stdout.write(safe(f"{one.verdict:<14} {ASSUMPTIONS[one.name]}: {one.seen}"))
        counts = ", ".join(f"{verdict}: {count}" for verdict, count in counted(found).items())
        self.stdout.write(f"{len(found)} assumptions - {counts}")

    def _await(self, stream: UserStream) -> None:
        """Its second word is that it is live; without it the probe goes on and says what it did not hear."""
        for _ in range(20):
            if stream.live_since_ms is not None:
                return
            threading.Event().wait(0.5)

    def _refuse_unasked(self, options: dict[str, Any]) -> None:
        if options["read_only"]:
            return
        if settings.APPLY_MODE == "dry_run":
            self.leave(Exit.USAGE, "dry_run sends no order, wherever it looks: use --read-only.")
        if settings.APPLY_MODE == "live" and options["confirm"] != settings.ACCOUNT:
            self.leave(Exit.USAGE, f"Orders in live: type --confirm {settings.ACCOUNT}, or use --read-only.")
        if not options["yes"] and not sys.stdin.isatty():
            self.leave(
                Exit.USAGE, "It asks before each order and there is no terminal: --yes or --read-only."
            )

    def _may(self, text: str) -> bool:
        return self._yes or input(f"Place {text}? [y/N] ").strip().lower() in ("y", "yes")
