"""Conventions of the command line: data on stdout, talk on stderr, exit codes that mean something."""

from __future__ import annotations

import json
import sys
from enum import IntEnum
from typing import Any, NoReturn

from django.core.management.base import BaseCommand

from quantum.checks import OURS


class Exit(IntEnum):
    OK = 0
    ERROR = 1
    USAGE = 2
    DRIFT = 3
    BLOCKED = 4
    DEPENDENCY_DOWN = 5
    BROKEN = 6
    CANNOT_TELL = 7


class Command(BaseCommand):
    """Base of our commands."""

    requires_system_checks: tuple[str, ...] = (OURS,)

    def say(self, text: str) -> None:
        """Talk: for people, on stderr."""
        self.stderr.write(text)

    def data(self, value: dict[str, Any]) -> None:
        """Data: one JSON document on stdout."""
        self.stdout.write(json.dumps(value, indent=2, default=str))

    def leave(self, code: Exit, text: str = "") -> NoReturn:
        if text:
            self.say(text)
        sys.exit(code)
