"""Say that somebody looks at an incident. It stays open, and the symbol stays frozen."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.db import Error as DatabaseError

from permits.management.acting import ActCommand
from positions.drift import incidents
from quantum.commands import Exit
from quantum.log import safe


class Command(ActCommand):
    help = (
        "Acknowledge an open incident: incident_ack ID --reason '...'. It ends by `reconcile`, or by itself."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("incident", type=int, metavar="ID")
        self.add_act_arguments(parser)

    def handle(self, *_: Any, **options: Any) -> None:
        said = self.who_and_why(options)
        try:
            incident = incidents.ack(incident_id=options["incident"], **said)
        except (DatabaseError, OverflowError) as error:
            self.leave(
                Exit.DEPENDENCY_DOWN, f"The database refuses ({type(error).__name__}). Nothing was changed."
            )
        if incident is None:
            self.leave(
                Exit.BLOCKED, f"No open incident {options['incident']}: see `reconcile`. Nothing was changed."
            )
        if options["json"]:
            data = {"id": incident.pk, "symbol": incident.symbol, "cause": incident.cause}
            self.data({**data, "acked_by": incident.acked_by, "acked_at": incident.acked_at})
            return
        self.stdout.write(
            f"Incident {incident.pk} of {safe(incident.symbol)}: taken by {safe(incident.acked_by)}"
        )
