"""Entries that no consumer could handle: list them, put one back, let one go."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError
from msgspec.structs import asdict

from permits.management.acting import ActCommand
from permits.management.tables import table
from quantum import backlog, dead_letters
from quantum.commands import Exit
from quantum.dead_letters import Letter, NotEnded, NotSure
from quantum.redis import Client, RedisError, command_client

HEADINGS = ("stream", "letter", "parked", "by", "what was wrong", "its fields")
AFTER = {dead_letters.BACK: "on the stream again", dead_letters.DISCARD: "gone"}


class Command(ActCommand):
    help = "List: dead_letters; end one: dead_letters plan 1700000000000-0 back|discard --reason '...'"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("stream", nargs="?", choices=list(dead_letters.streams()))
        parser.add_argument("letter", nargs="?", help="its id, as the list shows it")
        parser.add_argument(
            "way", nargs="?", choices=dead_letters.WAYS, help="put its entry back, or let it go"
        )
        parser.add_argument("--confirm", default="", metavar="ACCOUNT", help="in live: the account, typed")
        parser.add_argument("--dry-run", action="store_true", help="say what would be done")
        self.add_act_arguments(parser, always=False)

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            with command_client() as client:
                self._end(client, options) if options["stream"] else self._list(client, options)
        except RedisError as error:
            self.leave(Exit.DEPENDENCY_DOWN, f"Redis does not answer ({type(error).__name__}).")
        except DatabaseError as error:
            text = f"The database refuses ({type(error).__name__}). Nothing was changed."
            self.leave(Exit.DEPENDENCY_DOWN, text)

    def _list(self, client: Client, options: dict[str, Any]) -> None:
        found, number = dead_letters.newest(client), backlog.dead_letters(client)
        if options["json"]:
            self.data({"number": number, "letters": [asdict(letter) for letter in found]})
        elif found:
            self.stdout.write(table(HEADINGS, [_row(letter) for letter in found]))
            self.say(f"{len(found)} of {number}, newest first.")
        else:
            self.say("No dead letter.")

    def _end(self, client: Client, options: dict[str, Any]) -> None:
        stream, letter_id, way = (options[name] for name in ("stream", "letter", "way"))
        if not letter_id or not way:
            self.leave(Exit.USAGE, "Name the stream, the letter and back or discard.")
        who = self.who_and_why(options)
        letter = dead_letters.find(client, stream=stream, letter_id=letter_id)
        if letter is None:
            self.leave(Exit.USAGE, "There is no such letter.")
        mode, account = settings.APPLY_MODE, settings.ACCOUNT
        self.say(f"{mode.upper()} {account} {letter.error}: parked -> {AFTER[way]}")
        if options["dry_run"]:
            return
        if mode == "live" and options["confirm"] != account:
            self.leave(Exit.USAGE, f"Nothing was changed. In live, type --confirm {account}")
        self.ask(options)
        try:
            made = dead_letters.end(client, letter, way=way, **who)
        except NotEnded as refused:
            self.leave(Exit.BLOCKED, f"Nothing was changed: {refused}.")
        except NotSure as unsure:
            self.leave(Exit.DEPENDENCY_DOWN, str(unsure))
        if options["json"]:
            self.data({"letter": letter.letter_id, "way": way, "entry": made})
        else:
            self.stdout.write(made or "discarded")


def _row(letter: Letter) -> list[str]:
    parked = f"{letter.parked_at:%Y-%m-%d %H:%M:%S} UTC"
    return [letter.stream, letter.letter_id, parked, letter.group, letter.error, letter.sample]
