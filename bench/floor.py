"""The floor: the same chain with nothing in it. Four processes and a Redis, no Django, no rows, no signatures.

Measured beside it: one bare durable commit and one bare futures_create_order. Floor of an exit =
chain + two commits + the order's way to the exchange. And the chain once more as the predecessor
ran it, with a waiter that polls every 100 ms.
"""

from __future__ import annotations

import multiprocessing
import sqlite3
import statistics
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import redis

from quantum import embedded
from quantum.exchange.paper.process import PaperExchangeProcess

STREAM = "floor:plans"
LIFE_MS = 60_000
POLL_S = 0.1

POLLS = 10

ISSUE = """
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('RPUSH', KEYS[3], '1') end
return 1
"""
CONSUME = """
local a, b = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
if not a or not b then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
return {a, b}
"""


def _client(socket_path: str) -> Any:
    return redis.Redis(unix_socket_path=socket_path, socket_timeout=10, protocol=2)


def _read(client: Any, group: str) -> list[str]:
    answer = client.xreadgroup(group, group, {STREAM: ">"}, count=64, block=1000)
    found = [(entry_id, fields) for _, entries in answer or [] for entry_id, fields in entries]
    if found:
        client.xack(STREAM, group, *(entry_id for entry_id, _ in found))
    return [fields[b"plan_id"].decode() for _, fields in found]


def _gate(socket_path: str, group: str, other: str) -> None:
    client = _client(socket_path)
    issue = client.register_script(ISSUE)
    while True:
        for plan_id in _read(client, group):
            keys = [f"floor:{group}:{plan_id}", f"floor:{other}:{plan_id}", f"floor:wake:{plan_id}"]
            issue(keys=keys, args=["{}", LIFE_MS])


def _apply(socket_path: str, told: Connection, poll: bool) -> None:
    client = _client(socket_path)
    consume = client.register_script(CONSUME)
    while True:
        for plan_id in _read(client, "apply"):
            keys = [f"floor:governor:{plan_id}", f"floor:p33:{plan_id}"]
            if not poll:
                client.blpop([f"floor:wake:{plan_id}"], timeout=2)
            while not consume(keys=keys):
                time.sleep(POLL_S)
            told.send(time.monotonic_ns())


class Floor:
    """Measured in several goes, each in a folder of its own."""

    def __init__(self) -> None:
        self.chain: list[float] = []
        self.polled: list[float] = []
        self._commits: list[float] = []
        self._received: list[float] = []
        self._answered: list[float] = []

    def measure(self, folder: Path, *, n: int, gap_s: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        socket = folder / "v.sock"
        server = embedded.start(directory=folder / "valkey", unix_socket=socket)
        try:
            if not embedded.wait_until_ready(unix_socket=socket):
                raise TimeoutError("the floor's Valkey does not answer")
            self.chain += chain(str(socket), n=n, gap_s=gap_s, poll=False)
            polled = chain(str(socket), n=POLLS, gap_s=gap_s, poll=True)
        finally:
            server.terminate()
            server.wait(5)
        self._commits += commit(folder, n=n, gap_s=gap_s / 10)
        with PaperExchangeProcess(data_path=folder / "paper.sqlite3") as paper:
            received, answered = order(paper, n=n, gap_s=gap_s)
        self._received += received
        self._answered += answered
        self.polled += [one + statistics.median(received) for one in polled]

    def add(self, turn: Floor) -> None:
        for name, measured in vars(turn).items():
            getattr(self, name).extend(measured)

    def parts(self) -> dict[str, float]:
        measured = {
            "chain": self.chain,
            "commit": self._commits,
            "order_received": self._received,
            "order_answered": self._answered,
        }
        return {f"{name}_p50_ms": round(statistics.median(took), 3) for name, took in measured.items()}

    @property
    def p50_ms(self) -> float:
        found = self.parts()
        return round(found["chain_p50_ms"] + 2 * found["commit_p50_ms"] + found["order_received_p50_ms"], 3)


def chain(socket_path: str, *, n: int, gap_s: float, poll: bool) -> list[float]:
    """Milliseconds from publish to the pair in the waiter's hands, n times."""
    client = _client(socket_path)
    client.flushall()
    for group in ("governor", "p33", "apply"):
        client.xgroup_create(STREAM, group, id="0", mkstream=True)
    spawn = multiprocessing.get_context("spawn")
    hears, tells = spawn.Pipe(duplex=False)
    children = [
        spawn.Process(target=_gate, args=(socket_path, "governor", "p33"), daemon=True),
        spawn.Process(target=_gate, args=(socket_path, "p33", "governor"), daemon=True),
        spawn.Process(target=_apply, args=(socket_path, tells, poll), daemon=True),
    ]
    for child in children:
        child.start()
    try:
        return [_once(client, hears, number, gap_s) for number in range(-10, n)][10:]
    finally:
        for child in children:
            child.terminate()
            child.join(5)


def _once(client: Any, hears: Connection, number: int, gap_s: float) -> float:
    started = time.monotonic_ns()
    client.xadd(STREAM, {"plan_id": f"{number:016d}"})
    if not hears.poll(10):
        raise TimeoutError("the floor's chain stands still")
    took_ms: float = (hears.recv() - started) / 1e6
    time.sleep(gap_s)
    return took_ms


def commit(folder: Path, *, n: int, gap_s: float) -> list[float]:
    """One bare durable insert: SQLite, WAL, synchronous FULL, a file on the same disk."""
    database = sqlite3.connect(folder / "floor.sqlite3", isolation_level=None)
    database.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t (a TEXT, b TEXT);"
    )
    took = []
    for number in range(n):
        started = time.monotonic_ns()
        database.execute("BEGIN IMMEDIATE")
        database.execute("INSERT INTO t VALUES (?, ?)", (str(number), "x" * 200))
        database.execute("COMMIT")
        took.append((time.monotonic_ns() - started) / 1e6)
        time.sleep(gap_s)
    database.close()
    return took


def order(paper: PaperExchangeProcess, *, n: int, gap_s: float) -> tuple[list[float], list[float]]:
    """One bare futures_create_order of python-binance: until it is received, and until it is answered."""
    from binance.client import Client

    client = Client(paper.keys.trade_key, paper.keys.trade_secret, ping=False)
    client.FUTURES_URL = paper.base_url
    paper.set_position(symbol="BTCUSDT", amount="100.000", client_order_id="entry-floor")
    sent_us: dict[str, int] = {}
    answered = []
    for number in range(n):
        client_id = f"floor-{number}"
        asked: dict[str, Any] = {"symbol": "BTCUSDT", "side": "SELL", "type": "MARKET", "quantity": "0.001"}
        sent_us[client_id] = time.time_ns() // 1000
        started = time.monotonic_ns()
        client.futures_create_order(
            **asked, reduceOnly="true", newClientOrderId=client_id, newOrderRespType="RESULT"
        )
        answered.append((time.monotonic_ns() - started) / 1e6)
        time.sleep(gap_s)
    received = {row["client_id"]: row["received_us"] for row in paper.log()}
    return [(received[one] - at) / 1000 for one, at in sent_us.items()], answered
