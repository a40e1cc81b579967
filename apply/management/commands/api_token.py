"""Tokens of the HTTP interface: make one, list them, revoke one."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.db import Error as DatabaseError

from apply.models import ApiToken
from apply.proposals import tokens
from apply.proposals.tokens import NoToken
from permits.management.acting import ActCommand
from permits.management.tables import table
from quantum.audit import REASON_MIN
from quantum.commands import Exit
from quantum.log import safe

HEADINGS = ("name", "scopes", "symbols", "a minute", "since", "by", "state")


class Command(ActCommand):
    help = (
        "Tokens of the HTTP interface: api_token list; api_token create NAME --scope propose --symbols BTCUSDT "
        "--reason '...'; api_token revoke NAME --reason '...'"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("act", nargs="?", choices=["list", "create", "revoke"], default="list")
        parser.add_argument("name", nargs="?", default="")
        parser.add_argument("--scope", action="append", choices=tokens.SCOPES, help="may be given twice")
        parser.add_argument("--symbols", default="", help="separated by commas; * is every symbol")
        parser.add_argument("--per-minute", type=int, default=tokens.PER_MINUTE, help="requests a minute")
        parser.add_argument("--reason", default="", help=f"why, at least {REASON_MIN} characters")
        parser.add_argument("--by", default="", help="who; default: the login name")
        parser.add_argument("--yes", action="store_true", help="do not ask on a terminal before a revocation")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            if options["act"] == "list":
                return self._list(options)
            if not options["name"]:
                self.leave(Exit.USAGE, f"Name the client: api_token {options['act']} NAME")
            said = self.who_and_why(options)
            return self._create(options, said) if options["act"] == "create" else self._revoke(options, said)
        except NoToken as refused:
            self.leave(Exit.USAGE, safe(f"Nothing was done: {refused}."))
        except DatabaseError as error:
            self.leave(
                Exit.DEPENDENCY_DOWN, f"The database refuses ({type(error).__name__}). Nothing was done."
            )

    def _create(self, options: dict[str, Any], said: dict[str, str]) -> None:
        token = tokens.create(
            name=options["name"],
            scopes=options["scope"] or [],
            symbols=[symbol.strip().upper() for symbol in options["symbols"].split(",") if symbol.strip()],
            per_minute=options["per_minute"],
            **said,
        )
        if options["json"]:
            self.data({"name": options["name"], "token": token})
        else:
            self.stdout.write(token)
        self.say("This is the only time it is shown: only a digest of it is kept.")

    def _revoke(self, options: dict[str, Any], said: dict[str, str]) -> None:
        self.confirm(options, before=f"token of {safe(options['name'])}: valid", after="revoked, for ever")
        tokens.revoke(name=options["name"], **said)
        if options["json"]:
            self.data({"name": options["name"], "revoked": True})
        else:
            self.stdout.write("revoked")

    def _list(self, options: dict[str, Any]) -> None:
        found = list(ApiToken.objects.all())
        if options["json"]:
            self.data({"tokens": [_data(token) for token in found]})
            return
        if not found:
            self.say("No program may use the HTTP interface: there is no token.")
            return
        self.stdout.write(table(HEADINGS, [_row(token) for token in found]))


def _row(token: ApiToken) -> list[str]:
    state = f"revoked by {token.revoked_by}: {token.revoked_reason}" if token.revoked_at else "valid"
    since = f"{token.created_at:%Y-%m-%d %H:%M:%S} UTC"
    return [
        token.name,
        token.scopes,
        token.symbols,
        str(token.per_minute),
        since,
        token.created_by,
        state,
    ]


def _data(token: ApiToken) -> dict[str, Any]:
    names = ("name", "scopes", "symbols", "per_minute", "created_at", "created_by", "reason", "revoked_at",
             "revoked_by", "revoked_reason")  # fmt: skip
    return {name: getattr(token, name) for name in names}
