"""Scorers side by side on past prices: a file of the user's, or synthetic paths that ship with this."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from apply.exits import backtest, kline_file, paths, picture, report, scorers
from apply.exits.backtest import Trade
from apply.exits.market import KLINES_MIN
from apply.exits.report import Played
from quantum import amounts
from quantum.commands import Command as Base
from quantum.commands import Exit
from quantum.exchange.types import Kline, SymbolRules
from quantum.log import safe

SCORERS = ("rules", "hold", "stop")
SYNTHETIC = "Synthetic paths: seeded random walks made to tell a story. No market's prices."
QUANTITY_MAX = Decimal(10) ** 12


class Command(Base):
    help = "Run scorers on klines side by side: exit_backtest [FILE.csv] [--scorer rules ...] [--picture FILE] [--json]"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "file", nargs="?", help="CSV with open_time,open,high,low,close; else shipped paths"
        )
        parser.add_argument(
            "--path", action="append", choices=list(paths.PATHS), help="only this shipped path"
        )
        parser.add_argument("--seed", type=int, default=7, help="of the shipped paths; default 7")
        parser.add_argument(
            "--scorer",
            action="append",
            metavar="NAME",
            help=f"default: {', '.join(SCORERS)}; or a dotted path",
        )
        parser.add_argument(
            "--amount", help="signed: 0.1 is long, -0.1 short; default 0.1, or the path's own"
        )
        parser.add_argument("--risk-pct", default="1", help="one R, in percent of the entry price; default 1")
        parser.add_argument("--fee-pct", default="0.05", help="of each side's value; default 0.05")
        parser.add_argument("--step", default="0.001", help="the symbol's step of quantity; default 0.001")
        parser.add_argument("--min-quantity", default="0.001", help="its smallest quantity; default 0.001")
        parser.add_argument("--picture", metavar="FILE", help="write an SVG here")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            chosen = [scorers.find(name) for name in options["scorer"] or SCORERS]
        except scorers.NoSuchScorer as none:
            self.leave(Exit.USAGE, safe(str(none)))
        played = []
        for name, story, klines, amount in self._rows(options):
            trade = self._trade(options, amount)
            try:
                results = [backtest.run(scorer, klines, trade) for scorer in chosen]
            except backtest.TooShort as short:
                self.leave(Exit.USAGE, f"{safe(name)}: {short}.")
            played.append(Played(name, story, klines[KLINES_MIN - 1 :], amount, results))
        if not options["file"]:
            self.say(SYNTHETIC)
        if options["picture"]:
            self._draw(played, options)
        self._tell(played, options)

    def _rows(self, options: dict[str, Any]) -> list[tuple[str, str, list[Kline], Decimal]]:
        given = self._number(options, "amount") if options["amount"] else None
        if given == 0:
            self.leave(Exit.USAGE, "--amount: expected a number that is not 0.")
        if options["file"]:
            if options["path"]:
                self.leave(Exit.USAGE, "A file or shipped paths, not both.")
            return [(Path(options["file"]).name, "", self._file(options["file"]), given or Decimal("0.1"))]
        return [
            (
                name,
                paths.PATHS[name].story,
                paths.klines(name, seed=options["seed"]),
                given or paths.PATHS[name].amount,
            )
            for name in options["path"] or paths.PATHS
        ]

    def _file(self, name: str) -> list[Kline]:
        try:
            with Path(name).open(encoding="utf-8", newline="") as lines:
                return kline_file.read(lines)
        except OSError as fault:
            self.leave(Exit.USAGE, f"{safe(name)}: cannot be read ({fault.strerror}).")
        except kline_file.WrongFile as wrong:
            self.leave(Exit.USAGE, f"{safe(name)}: {safe(str(wrong))}.")

    def _trade(self, options: dict[str, Any], amount: Decimal) -> Trade:
        step, least = self._above_zero(options, "step"), self._above_zero(options, "min_quantity")
        fee_pct = self._number(options, "fee_pct")
        if not 0 <= fee_pct <= 10:
            self.leave(Exit.USAGE, "--fee-pct: expected a number from 0 to 10.")
        rules = SymbolRules("FILE", step, least, QUANTITY_MAX, step, least, QUANTITY_MAX, step, Decimal(0))
        return Trade("FILE", amount, self._above_zero(options, "risk_pct"), fee_pct, rules)

    def _above_zero(self, options: dict[str, Any], name: str) -> Decimal:
        value = self._number(options, name)
        if value <= 0:
            self.leave(Exit.USAGE, f"--{name.replace('_', '-')}: expected a number above 0.")
        return value

    def _number(self, options: dict[str, Any], name: str) -> Decimal:
        value = amounts.parse(options[name])
        if value is None:
            self.leave(Exit.USAGE, f"--{name.replace('_', '-')}: expected a plain number.")
        return value

    # ---- what came of it

    def _draw(self, played: Sequence[Played], options: dict[str, Any]) -> None:
        panels = [picture.Panel(one.name, one.story, one.klines, one.results) for one in played]
        note = (
            "Profit in USD of one position, after fees. A dot is an exit; the thin line above is the price."
        )
        title = "Exits on synthetic paths" if not options["file"] else f"Exits on {played[0].name}"
        if not options["file"]:
            note = f"{note} Synthetic prices: no market's."
        try:
            Path(options["picture"]).write_text(
                picture.draw(panels, title=title, note=note), encoding="utf-8"
            )
        except OSError as fault:
            self.leave(Exit.ERROR, f"{safe(options['picture'])}: cannot be written ({fault.strerror}).")
        self.say(f"Picture written to {safe(options['picture'])}.")

    def _tell(self, played: Sequence[Played], options: dict[str, Any]) -> None:
        if options["json"]:
            rows = [report.data(one, result) for one in played for result in one.results]
            self.data({"synthetic": not options["file"], "seed": options["seed"], "runs": rows})
            return
        table = Table("path", "scorer")
        for name in ("profit", "drawdown", "in trade", "exits", "blocked"):
            table.add_column(name, justify="left" if name == "blocked" else "right", no_wrap=True)
        for one in played:
            for at, result in enumerate(one.results):
                last = at == len(one.results) - 1
                table.add_row(safe(one.name) if at == 0 else "", *report.cells(result), end_section=last)
        if len(played) > 1:
            for at in range(len(played[0].results)):
                table.add_row("all" if at == 0 else "", *report.sums([one.results[at] for one in played]))
        Console(file=sys.stdout).print(table)
        for one in played:
            for result in one.results:
                if result.unscored:
                    self.say(
                        f"{safe(one.name)}: {safe(result.scorer)} could say nothing at {result.unscored} closes."
                    )
