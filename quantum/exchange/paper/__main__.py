"""python -m quantum.exchange.paper: the paper exchange as a process of its own.

Keys come from the environment, never from the command line, where every user sees them.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import sqlite3
import sys
from pathlib import Path

from quantum.exchange.paper import scenarios
from quantum.exchange.paper.auth import PaperKeys
from quantum.exchange.paper.market import LISTINGS, Listing
from quantum.exchange.paper.server import run_paper_exchange
from quantum.exchange.paper.weights import LIMITS, WEIGHT_1M

PR_SET_PDEATHSIG = 1
KEY_NAMES = ("BINANCE_READ_KEY", "BINANCE_READ_SECRET", "BINANCE_TRADE_KEY", "BINANCE_TRADE_SECRET")


def main() -> int:
    asked = _arguments().parse_args()
    missing = [name for name in KEY_NAMES if not os.environ.get(name)]
    if missing:
        return _fail(f"not set: {', '.join(missing)}")
    if asked.parent_pid and not die_with_parent(parent_pid=asked.parent_pid):
        return _fail("the parent process has gone")
    try:
        run_paper_exchange(
            host=asked.host,
            port=asked.port,
            data_path=asked.data,
            keys=PaperKeys(*(os.environ[name] for name in KEY_NAMES)),
            seed_positions=asked.seed_positions,
            seed=asked.seed,
            listings=_listings(asked.symbols),
            scenario=scenarios.read(asked.scenario) if asked.scenario else (),
            limits={WEIGHT_1M: asked.weight_limit},
            ready=lambda port: _tell_port(asked.port_file, port),
        )
    except OSError as error:
        return _fail(f"cannot listen on {asked.host}:{asked.port}: {error.strerror or error}")
    except sqlite3.Error as error:
        return _fail(f"cannot use {asked.data} (another paper exchange on the same file?): {error}")
    except ValueError as error:
        return _fail(str(error))
    return 0


def die_with_parent(*, parent_pid: int) -> bool:
    """The kernel ends us when the thread that started us ends, whatever ended it (Linux).

    False: the parent died before we could ask for that.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == parent_pid


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="paper exchange", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8087, help="0: any free port")
    parser.add_argument("--data", type=Path, required=True, help="the SQLite file that remembers everything")
    parser.add_argument("--port-file", type=Path, help="gets the port once requests are answered")
    parser.add_argument("--seed-positions", action="store_true", help="positions in all symbols, once")
    parser.add_argument("--seed", type=int, default=1, help="of the price path")
    parser.add_argument("--symbols", type=Path, help="JSON list of other symbols, see market.Listing")
    parser.add_argument("--weight-limit", type=int, default=LIMITS[WEIGHT_1M], help="a minute")
    parser.add_argument("--scenario", type=Path, help="a shipped name, or a JSON file, see scenario.py")
    parser.add_argument("--parent-pid", type=int, help="end when this parent ends")
    return parser


def _listings(path: Path | None) -> tuple[Listing, ...]:
    if path is None:
        return LISTINGS
    return tuple(Listing.from_json(row) for row in json.loads(path.read_text()))


def _tell_port(path: Path | None, port: int) -> None:
    if path is not None:
        part = path.with_suffix(".part")
        part.write_text(str(port))
        part.replace(path)  # whoever waits for the file sees it whole


def _fail(text: str) -> int:
    sys.stderr.write(f"paper exchange: {text}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
