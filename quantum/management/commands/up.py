"""Starts everything on this machine with one command, watches it, and takes all of it down again."""

from __future__ import annotations

import signal
import sys
from typing import Any

from django.core.management.base import BaseCommand

from quantum import up
from quantum.redis import HOST, log_in_as


class Command(BaseCommand):
    help = "Starts Valkey, database, paper exchange, every role and the web pages; Ctrl-C stops them all."
    requires_system_checks = ()  # run by `up` itself, once the settings it writes are there

    def handle(self, *_: Any, **__: Any) -> None:
        log_in_as(HOST)
        stop = up.Stop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, stop)
        try:
            up.run(stop=stop, say=self._say, show=self._show)
        except up.CannotStart as refusal:
            self._say(f"up: {refusal}")
            sys.exit(refusal.exit_code)

    def _show(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()  # a pipe would keep it until the end

    def _say(self, line: str) -> None:
        self.stderr.write(line, lambda text: text)
