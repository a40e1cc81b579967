"""Say what is wrong here and how to mend it."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from quantum import doctor
from quantum.commands import Command as Base
from quantum.log import masked, safe


class Command(Base):
    help = "Look at everything; one line each. Exit 0: nothing fails, 5: a dependency is down, 1: other."
    requires_system_checks = ()  # they are among its findings

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *_: Any, **options: Any) -> None:
        found: list[doctor.Finished] = []
        for name, finding in doctor.examine():
            found.append((name, finding))
            if not options["json"]:
                self.stdout.write(_line(name, finding))
        code = doctor.exit_code(finding for _, finding in found)
        if options["json"]:
            self.data({"ok": code == 0, "exit": int(code), "findings": [_data(*one) for one in found]})
        elif code:
            self.say("doctor: mend what fails from the top; later ones often follow from it")
        self.leave(code)


def _line(name: str, finding: doctor.Finding) -> str:
    remedy = f" -> {finding.remedy}" if finding.remedy else ""
    return f"{finding.state:<5} {name:<13} {safe(masked(finding.what + remedy))}"


def _data(name: str, finding: doctor.Finding) -> dict[str, str]:
    return {
        "check": name,
        "state": finding.state.value,
        "what": safe(masked(finding.what)),
        "remedy": safe(masked(finding.remedy)),
    }
