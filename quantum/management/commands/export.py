"""A whole list of facts as a file: what the links below the pages give."""

from __future__ import annotations

import getpass
import os
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from django.db import Error as DatabaseError
from django.http import QueryDict

from quantum import exports
from quantum.commands import Command as Base
from quantum.commands import Exit
from quantum.exports.declared import NotAsked
from quantum.exports.formats import FORMATS
from quantum.exports.running import Cut, Running
from quantum.log import safe

STDOUT = "-"


class Command(Base):
    help = "A whole list as a file: export plans 'state=blocked&span=24h' --format ndjson --out plans.ndjson"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("list", choices=sorted(exports.every()))
        parser.add_argument(
            "filters", nargs="*", metavar="name=value", help="as in the address of its page, after the ?"
        )
        parser.add_argument("--format", choices=list(FORMATS), default="csv")
        parser.add_argument("--out", default=STDOUT, metavar="FILE", help="default: stdout")
        parser.add_argument("--by", default="", help="who; default: the login name")

    def handle(self, *_: Any, **options: Any) -> None:
        export = exports.every()[options["list"]]
        if nameless := [said for said in options["filters"] if "=" not in said]:
            self.leave(Exit.USAGE, safe(f"Nothing was exported. A filter is name=value, not {nameless[0]}."))
        address = QueryDict("&".join(options["filters"]).removeprefix("?"))
        by = safe(options["by"].strip() or getpass.getuser())[:60]
        try:
            running = Running(export, export.of(address), kind=options["format"], by=by)
        except NotAsked as why:
            self.leave(Exit.USAGE, safe(f"Nothing was exported. {why}"))
        except DatabaseError as error:
            self.leave(
                Exit.DEPENDENCY_DOWN, f"The database refuses ({type(error).__name__}). Nothing was exported."
            )
        with closing(running):
            try:
                self._write(running, options["out"])
            except Cut as why:
                self.leave(Exit.DEPENDENCY_DOWN, f"Cut after {running.rows:,} rows: {why}. {_left(options)}")
            except BrokenPipeError:
                _nothing_more_goes_out()
                self.leave(Exit.ERROR, f"Cut after {running.rows:,} rows: nobody reads any more.")
            except OSError as failure:
                where = "stdout" if options["out"] == STDOUT else safe(options["out"])
                self.leave(Exit.ERROR, f"{where} cannot be written: {failure.strerror}. {_left(options)}")
        self.say(f"{running.rows:,} rows.")

    def _write(self, running: Running, out: str) -> None:
        with _opened(out) as file:
            for chunk in running:
                file.write(chunk)
                if sys.stderr.isatty():
                    self.stderr.write(f"\r{running.rows:,} rows", ending="\r")
            file.flush()


@contextmanager
def _opened(out: str) -> Iterator[BinaryIO]:
    """A file gets its name when it is whole; until then it lies beside, and goes with a failure."""
    if out == STDOUT:
        yield sys.stdout.buffer
        return
    target = Path(out)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        try:
            yield file  # type: ignore[misc]
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(target)
        except BaseException:
            with suppress(OSError):
                Path(file.name).unlink()
            raise


def _left(options: dict[str, Any]) -> str:
    return "What went out has no last line." if options["out"] == STDOUT else "No file was made."


def _nothing_more_goes_out() -> None:
    """Python writes out what is left at its end, and would say that it cannot."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
