"""The product as `up` runs it, in a folder of its own, behind a line to Redis and a line to the exchange."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from quantum.exchange.paper.auth import PaperKeys
from quantum.exchange.paper.process import PaperExchangeFailed, PaperExchangeProcess
from tests.proxy import Proxy
from tests.stand_ins.running import STARTED_S, Place, bare_environment, free_port, within

POSITIONS = {"BTCUSDT": "40.000", "ETHUSDT": "-600.000", "SOLUSDT": "9000.00", "BNBUSDT": "-900.00",
             "XRPUSDT": "400000.0"}  # fmt: skip
"""Large enough for some twenty exits in a row, each by a share of what is left."""
SYMBOLS = tuple(POSITIONS)
ACCOUNT, MODE, TTL_S, STALE_S = "main", "paper", 10, 10
SETTINGS = {
    "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
    "APPLY_MODE": MODE,
    "DRY_RUN_HOST": "paper",
    "EXIT_BRAIN": "off",
    "APPLY_PLAN_TTL_SEC": str(TTL_S),
    "P33_STALE_THRESHOLD_SEC": str(STALE_S),
    "RESOLVER_MARGIN_SEC": "1",
    "RESOLVER_GAP_SEC": "1",
}


class Stage(Place):
    """Its processes are found by the folder in their environment: no fault can meet anything else."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.paper_port, self.door_port = free_port(), free_port()
        self.redis_line = Proxy(listen=directory / "door.sock", server=directory / "valkey.sock")
        self.paper_line = Proxy(listen=("127.0.0.1", self.door_port), server=("127.0.0.1", self.paper_port))
        self.paper: PaperExchangeProcess | None = None
        self.valkey.close()
        # No automatic resend: the storm must not wait for itself, nor say anything twice that it means once.
        self.valkey = redis.Redis(
            unix_socket_path=str(directory / "valkey.sock"), socket_timeout=0.5, retry=Retry(NoBackoff(), 0)
        )

    @property
    def env(self) -> dict[str, str]:
        return {
            **SETTINGS,
            "PAPER_URL": f"http://127.0.0.1:{self.paper_port}",
            "CHAOS_REDIS_URL": self.redis_line.url,
            "CHAOS_PAPER_URL": f"http://127.0.0.1:{self.door_port}",
        }

    def start_up(self) -> None:
        self.start("up", **self.env)
        within(STARTED_S, self.all_roles_live, "every role lives after `up`")
        self.paper = self._control_plane()
        within(STARTED_S, self._paper_answers, "the paper exchange answers")
        self.paper.control("POST", "/paper/limits", {"weight_1m": 1_000_000})
        within(STARTED_S, self._is_adopted, "every position is adopted")
        for symbol in SYMBOLS:
            self.enter(symbol)
        within(STARTED_S, self._is_entered, "every entry is in the ledger")

    def be_django(self) -> None:
        """This process may do what people and bots do: publish, halt, hold. Not the checker, which only reads."""
        import django

        bare = bare_environment()
        os.environ.clear()  # the product refuses what a caller of ours may have exported: QUANTUM_FIXTURES, say
        os.environ.update(
            {
                **bare,
                **self.env,
                "QUANTUM_VAR_DIR": str(self.directory),
                "QUANTUM_WEB_PORT": str(self.web_port),
                "LOG_LEVEL": "ERROR",  # the run tells itself what it does
            }
        )
        django.setup()

    def end(self) -> None:
        super().end()
        self.redis_line.close()
        self.paper_line.close()

    # ---- the exchange

    @property
    def exchange(self) -> PaperExchangeProcess:
        assert self.paper is not None, "start_up comes first"
        return self.paper

    def paper_pid(self) -> int:
        return self._pid_of(b"paper_exchange")

    def valkey_pid(self) -> int:
        return self._pid_of(b"--unixsocket")

    def _pid_of(self, word: bytes) -> int:
        [pid] = [pid for pid in self.processes() if word in _words(pid)]
        return pid

    def _control_plane(self) -> PaperExchangeProcess:
        """The process itself belongs to `up`, and its keys lie where `up` put them."""
        made = self.environment_file()
        keys = PaperKeys(
            *(made[f"BINANCE_{use}_{part}"] for use in ("READ", "TRADE") for part in ("KEY", "SECRET"))
        )
        return PaperExchangeProcess(data_path=self.directory / "unused", keys=keys, port=self.paper_port)

    def environment_file(self) -> dict[str, str]:
        lines = (self.directory / "quantum.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))

    def _paper_answers(self) -> bool:
        try:
            return self.exchange.log() is not None
        except (OSError, PaperExchangeFailed):
            return False

    def enter(self, symbol: str) -> str:
        """As the user's own entry bot would: the ledger follows by itself."""
        client_id = f"entry-{os.urandom(6).hex()}"
        self.exchange.set_position(symbol=symbol, amount=POSITIONS[symbol], client_order_id=client_id)
        return client_id

    def held(self, symbol: str) -> str:
        return str(self.exchange.control("GET", f"/paper/position?symbol={symbol}")["amount"])

    # ---- the database, by plain SQL

    @contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        path = self.directory / "quantum.sqlite3"
        line = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=2)
        line.row_factory = sqlite3.Row
        try:
            yield line
        finally:
            line.close()

    def ask(self, sql: str, *values: object) -> list[dict[str, Any]]:
        with self.database() as line:
            return [dict(row) for row in line.execute(sql, values)]

    def troubled(self) -> dict[str, str]:
        """symbol -> why an exit of it may not pass now, by what the product itself has written down."""
        rows = self.ask(
            "SELECT symbol, 'locked' AS why FROM positions_symbollock "
            "UNION ALL SELECT symbol, 'held' FROM permits_hold WHERE lifted_at IS NULL "
            "UNION ALL SELECT symbol, 'incident' FROM positions_incident WHERE state = 'open'"
        )
        return {row["symbol"]: row["why"] for row in rows}

    def _is_adopted(self) -> bool:
        try:
            [row] = self.ask("SELECT count(*) AS n FROM positions_balance")
        except sqlite3.Error:
            return False
        return bool(row["n"] >= len(SYMBOLS))

    def _is_entered(self) -> bool:
        rows = self.ask("SELECT symbol, amount FROM positions_balance")
        return {row["symbol"]: float(row["amount"]) for row in rows} == {
            symbol: float(text) for symbol, text in POSITIONS.items()
        }

    def ended(self, plan_id: str) -> str:
        """The state of a plan that is final and told; nothing while it is not."""
        rows = self.ask(
            "SELECT state FROM apply_plan WHERE plan_id = ? AND result_id <> '' "
            "AND state NOT IN ('open', 'intended', 'unknown')",
            plan_id,
        )
        return str(rows[0]["state"]) if rows else ""

    # ---- Redis

    def redis_answers(self) -> bool:
        with suppress(redis.RedisError):
            return bool(self.valkey.ping())
        return False


def _words(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []
