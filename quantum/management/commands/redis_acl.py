"""Make the Redis users: an ACL file for the server, a password file for each role."""

from __future__ import annotations

import secrets
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings

from quantum import redis_users
from quantum.commands import Command as Base
from quantum.commands import Exit
from quantum.redis import RedisError, command_client
from quantum.up import write_once

PLACEHOLDER = "#{%s}"
"""Where no password is known: the server refuses such a file, so that nobody runs with it."""


class Command(Base):
    help = (
        "Print the server's ACL file, one user per role. With --passwords DIR each user gets a password "
        "of its own in DIR (kept when it is there) and the file carries their hashes."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--passwords", type=Path, help="folder of <user>.password; default REDIS_USERS_DIR"
        )
        parser.add_argument("--out", type=Path, help="write the file there, mode 600, instead of printing it")
        parser.add_argument("--rotate", action="append", default=[], choices=redis_users.USERS, metavar="USER",
                            help="a new password for this user")  # fmt: skip
        parser.add_argument(
            "--separate",
            choices=("auto", "yes", "no"),
            default="auto",
            help="read-only keys (%%R~, from Redis 7): auto asks the server at REDIS_URL",
        )
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *_: Any, **options: Any) -> None:
        folder = options["passwords"]
        if folder is None and settings.REDIS_USERS_DIR:
            folder = Path(settings.REDIS_USERS_DIR)
        if folder is None and options["rotate"]:
            self.leave(
                Exit.USAGE, "Nothing was changed: name the folder of the passwords with --passwords DIR."
            )
        separate = self._separate(options["separate"])
        try:
            hashes = self._hashes(folder, rotate=options["rotate"])
            text = redis_users.acl_file(settings.KEYS, secrets=hashes, separate=separate)
            if options["out"]:
                write_once(options["out"], text)
        except OSError as error:
            self.leave(Exit.ERROR, f"{error.filename}: {error.strerror}; name a folder that can be written")
        self._tell(folder, options, text=text, separate=separate)

    def _separate(self, asked: str) -> bool:
        if asked != "auto":
            return asked == "yes"
        try:
            return redis_users.knows_separate_access(command_client())
        except RedisError as error:
            self.leave(
                Exit.DEPENDENCY_DOWN,
                f"the server at REDIS_URL cannot be asked what it knows ({type(error).__name__}); start it, "
                f"or say --separate yes (Redis 7 and newer, Valkey) or --separate no (Redis 6.2)",
            )

    def _hashes(self, folder: Path | None, *, rotate: list[str]) -> dict[str, str]:
        if folder is None:
            return {name: PLACEHOLDER % name for name in redis_users.USERS}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return {name: _password_hash(folder / f"{name}.password", anew=name in rotate)
                for name in redis_users.USERS}  # fmt: skip

    def _tell(self, folder: Path | None, options: dict[str, Any], *, text: str, separate: bool) -> None:
        out = options["out"]
        if options["json"]:
            self.data({
                "users": list(redis_users.USERS),
                "read_only_keys": separate,
                "passwords": folder,
                "out": out,
                "acl": None if out else text.splitlines(),
            })  # fmt: skip
        elif not out:
            self.stdout.write(text, ending="")
        if folder is None:
            self.say(
                "No passwords: put a hash (sha256) or >password for each {user}, or name --passwords DIR."
            )
        else:
            self.say(f"Passwords are in {folder}; set REDIS_USERS_DIR to it, and copy to a machine only what "
                     f"its roles need. Give the file to the server as aclfile.")  # fmt: skip


def _password_hash(path: Path, *, anew: bool) -> str:
    if anew or not path.exists():
        write_once(path, secrets.token_urlsafe(32) + "\n")
    return redis_users.hashed(path.read_text().strip())
