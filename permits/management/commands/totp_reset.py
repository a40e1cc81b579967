"""Take a person's second factor away: for whoever has lost the phone and the recovery codes."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.db import Error as DatabaseError

from permits.management.acting import ActCommand
from quantum import second_factor
from quantum.commands import Exit


class Command(ActCommand):
    help = "Take a person's second factor away, and end every login of that person: totp_reset NAME --reason '...'"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("person", help="the name of the login")
        self.add_act_arguments(parser)

    def handle(self, *_: Any, **options: Any) -> None:
        who, name = self.who_and_why(options), options["person"]
        try:
            person = User.objects.filter(username=name).first()
            if person is None:
                self.leave(Exit.USAGE, f"There is nobody of the name {name!a}. Nothing was changed.")
            seen = second_factor.of(person)
            if seen is None:
                self.leave(Exit.BLOCKED, f"{name} has no second factor. Nothing was changed.")
            self.confirm(options, before=f"{name} logs in with a code", after="with the password alone")
            done = second_factor.reset(person, **who, seen=seen)
        except DatabaseError as error:
            self.leave(Exit.DEPENDENCY_DOWN, f"The database refuses ({type(error).__name__}).")
        if not done:
            self.leave(Exit.BLOCKED, "It was changed meanwhile. Nothing was changed here.")
        if options["json"]:
            self.data({"person": name, "second_factor": False})
        else:
            self.stdout.write(f"The second factor of {name} is off, and every login of {name} ended.")
