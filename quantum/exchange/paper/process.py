"""The paper exchange as a child process: for `up`, for tests and for the bench."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from quantum.exchange.paper.auth import PaperKeys

START_S_MAX = 15
STOP_S_MAX = 5
WEIGHT_1M_FOR_TESTS = 1_000_000
"""A run of tests asks in a minute what an instance asks in hours; set_limits() brings the exchange's own."""


class PaperExchangeFailed(Exception):
    """It did not start, or an answer of its control plane was an error. Says why."""


class PaperExchangeProcess:
    """Starts, scripts, kills and restarts one paper exchange. A context manager.

    Linux ends the child when the thread that called start() ends: start it from a
    thread that lives as long as it should.
    """

    def __init__(
        self, *, data_path: Path, keys: PaperKeys | None = None, port: int = 0,
        seed_positions: bool = False, seed: int = 1, symbols_path: Path | None = None,
        scenario_path: Path | None = None, weight_1m: int = WEIGHT_1M_FOR_TESTS,
    ):  # fmt: skip
        self.keys = keys or PaperKeys.generate()
        self.port = port
        self._data_path = data_path
        self._more = ["--seed", str(seed)]
        self._more += ["--seed-positions"] if seed_positions else []
        self._more += ["--symbols", str(symbols_path)] if symbols_path else []
        self._more += ["--weight-limit", str(weight_1m)]
        self._more += ["--scenario", str(scenario_path)] if scenario_path else []
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/fapi"

    @property
    def pid(self) -> int:
        if self._child is None:
            raise PaperExchangeFailed("not started")
        return self._child.pid

    def start(self) -> None:
        """Returns once it answers. A second start takes the same port and data again."""
        with tempfile.TemporaryDirectory() as folder:
            port_file, errors = Path(folder) / "port", Path(folder) / "errors"
            command = [sys.executable, "-m", "quantum.exchange.paper", "--port", str(self.port)]
            command += ["--data", str(self._data_path), "--port-file", str(port_file)]
            command += ["--parent-pid", str(os.getpid()), *self._more]
            with errors.open("wb") as stream:
                self._child = subprocess.Popen(
                    command, env=self._environment(), stdin=subprocess.DEVNULL, stderr=stream
                )
            self._await_port(port_file, errors)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a power cut would, for this process alone."""
        self._end(signal.SIGKILL)

    @property
    def stream_url(self) -> str:
        """As FSTREAM_URL of the client library."""
        return f"ws://127.0.0.1:{self.port}/"

    def push_scenario(self, *items: Mapping[str, object]) -> None:
        self.control("POST", "/paper/scenario", list(items))

    def clear_scenario(self) -> None:
        self.control("POST", "/paper/scenario", [])

    def set_position(self, *, symbol: str, amount: str, client_order_id: str) -> None:
        asked = {"symbol": symbol, "amount": amount, "client_order_id": client_order_id}
        self.control("POST", "/paper/position", asked)

    def set_price(self, *, symbol: str, price: str, standing: bool = True) -> None:
        self.control("POST", "/paper/price", {"symbol": symbol, "price": price, "standing": standing})

    def set_latency(self, *, ms: int) -> None:
        self.control("POST", "/paper/latency", {"ms": ms})

    def set_clock(self, *, skew_ms: int) -> None:
        self.control("POST", "/paper/clock", {"skew_ms": skew_ms})

    def set_hedge_mode(self, *, on: bool) -> None:
        self.control("POST", "/paper/hedge_mode", {"on": on})

    def seize(self, *, symbol: str, kind: str = "liquidation", **more: str) -> None:
        """The exchange closes the position itself: liquidation, adl or settlement."""
        self.control("POST", "/paper/seize", {"symbol": symbol, "kind": kind, **more})

    def fill(self, *, symbol: str, client_order_id: str, **more: str) -> None:
        """What rests meets a counterparty, for `quantity` or all of it."""
        asked = {"symbol": symbol, "client_order_id": client_order_id, **more}
        self.control("POST", "/paper/fill", asked)

    def set_filters(self, *, symbol: str, **numbers: str) -> None:
        self.control("POST", "/paper/filters", {"symbol": symbol, **numbers})

    def set_limits(self, **limits: int) -> None:
        """Without any: the exchange's own. The counts begin anew."""
        self.control("POST", "/paper/limits", limits)

    def pull_stream(self, do: str, **more: object) -> None:
        """One lever of the user stream (stream_faults.py): freeze, cut, double, drop ..."""
        self.control("POST", "/paper/stream", {"do": do, **more})

    def stream(self) -> dict[str, Any]:
        return self.control("GET", "/paper/stream")

    def calls(self) -> tuple[dict[str, int], int]:
        """How often each endpoint was asked since the start, and the weight of all of it."""
        told = self.control("GET", "/paper/calls")
        return told["calls"], told["weight"]

    def log(self, *, after: int = 0) -> list[dict[str, Any]]:
        """The exchange's own log: every order request it received, with what became of it."""
        rows: list[dict[str, Any]] = self.control("GET", f"/paper/log?after={after}")["orders"]
        return rows

    def accepted(self, *, prefix: str = "") -> list[dict[str, Any]]:
        return [r for r in self.log() if r["verdict"] == "accepted" and r["client_id"].startswith(prefix)]

    def control(self, method: str, path: str, asked: object = None) -> dict[str, Any]:
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            body = None if asked is None else json.dumps(asked)
            line.request(method, path, body, {"X-MBX-APIKEY": self.keys.trade_key})
            answer = line.getresponse()
            value: dict[str, Any] = json.loads(answer.read())
        finally:
            line.close()
        if answer.status != 200:
            raise PaperExchangeFailed(f"{method} {path}: {value.get('error')}")
        return value

    def _environment(self) -> dict[str, str]:
        root = str(Path(__file__).resolve().parents[3])
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
        return {
            **kept,
            "PYTHONPATH": os.pathsep.join([root, *_entries(os.environ.get("PYTHONPATH"))]),
            "BINANCE_READ_KEY": self.keys.read_key,
            "BINANCE_READ_SECRET": self.keys.read_secret,
            "BINANCE_TRADE_KEY": self.keys.trade_key,
            "BINANCE_TRADE_SECRET": self.keys.trade_secret,
        }

    def _await_port(self, port_file: Path, errors: Path) -> None:
        deadline = time.monotonic() + START_S_MAX
        while not port_file.exists():
            ended = self._child is None or self._child.poll() is not None
            if ended or time.monotonic() > deadline:
                self.kill()
                raise PaperExchangeFailed(errors.read_text().strip() or "it did not answer in time")
            time.sleep(0.02)
        self.port = int(port_file.read_text())

    def _end(self, number: signal.Signals) -> None:
        child, self._child = self._child, None
        if child is None or child.poll() is not None:
            return
        child.send_signal(number)
        try:
            child.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(STOP_S_MAX)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _entries(path: str | None) -> Sequence[str]:
    return path.split(os.pathsep) if path else ()
