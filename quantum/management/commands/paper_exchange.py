"""Run the paper exchange of this instance in the foreground."""

from __future__ import annotations

import sqlite3
from argparse import ArgumentParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from quantum.commands import Command as Base
from quantum.commands import Exit
from quantum.exchange import connect
from quantum.exchange.paper import scenarios
from quantum.exchange.paper.auth import PaperKeys
from quantum.exchange.paper.market import listings_for
from quantum.exchange.paper.server import run_paper_exchange


class Command(Base):
    help = "Run the paper exchange at PAPER_URL; it remembers everything in var/paper.sqlite3"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--data", type=Path, default=settings.VAR_DIR / "paper.sqlite3")
        parser.add_argument("--seed-positions", action="store_true", help="positions in all symbols, once")
        parser.add_argument("--entry-bot", action="store_true", help="open positions again after exits")
        parser.add_argument(
            "--scenario", type=Path, metavar="NAME|FILE", help="faults and acts to come: shipped, or as JSON"
        )
        parser.add_argument("--list-scenarios", action="store_true", help="the shipped ones, one a line")
        parser.add_argument("--seed", type=int, default=1, help="of the price path")

    def handle(self, *_: Any, **options: Any) -> None:
        if options["list_scenarios"]:
            for each in scenarios.shipped():
                self.stdout.write(f"{each.name:<36} {each.row:<4} {each.title}")
            return
        address = urlsplit(settings.PAPER_URL)
        try:
            scenario = scenarios.read(options["scenario"]) if options["scenario"] else ()
        except (OSError, ValueError) as error:
            self.leave(Exit.USAGE, f"cannot read {options['scenario']}: {error}")
        try:
            run_paper_exchange(
                host=address.hostname or "127.0.0.1",
                port=address.port or 80,
                data_path=options["data"],
                keys=PaperKeys(*connect.credentials("READ"), *connect.credentials("TRADE")),
                seed_positions=options["seed_positions"],
                seed=options["seed"],
                entry_bot=options["entry_bot"],
                scenario=scenario,
                listings=listings_for(settings.APPLY_ALLOWLIST),
                ready=lambda port: self.say(f"paper exchange listens on port {port}"),
            )
        except ValueError as error:
            self.leave(Exit.USAGE, f"{options['scenario']}: {error}")
        except OSError as error:
            self.leave(
                Exit.ERROR,
                f"cannot listen at {settings.PAPER_URL}: {error.strerror or error}; set PAPER_URL to a free port",
            )
        except sqlite3.Error as error:
            self.leave(
                Exit.ERROR,
                f"cannot use {options['data']} (another paper exchange on the same file?): {error}",
            )
