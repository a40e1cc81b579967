"""Reads what everybody wrote down: Redis while it lives, the files once everything has ended."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import redis

from tests.chaos.evidence import Evidence, Row
from tests.chaos.stage import ACCOUNT, MODE, STALE_S, SYMBOLS, TTL_S, Stage

TABLES = {
    "plans": "apply_plan",
    "orders": "apply_order",
    "permits": "permits_permit",
    "fills": "positions_fill",
    "ledger": "positions_ledgerentry",
    "balances": "positions_balance",
    "locks": "positions_symbollock",
    "incidents": "positions_incident",
    "holds": "permits_hold",
    "states": "permits_tradingstate",
    "events": "quantum_auditevent",
    "instances": "quantum_instance",
}
OF_THE_EXCHANGE = {"received": "received", "trades": "trades", "exchange_orders": "orders"}
PREFIX = "quantum"
STREAM, RESULTS, DEAD = (f"{PREFIX}:{name}" for name in ("stream:apply.plan", "stream:apply.result",
                                                         "dead:apply.plan"))  # fmt: skip


def terms() -> Row:
    return {"mode": MODE, "account": ACCOUNT, "ttl_s": TTL_S, "stale_s": STALE_S, "allowlist": list(SYMBOLS)}


def from_redis(evidence: Evidence, client: Any) -> None:
    evidence.results = [_text(fields) for _, fields in client.xrange(RESULTS)]
    evidence.dead = [_text(fields) for _, fields in client.xrange(DEAD)]
    evidence.groups = groups(client)
    for key in client.scan_iter(f"{PREFIX}:receipt:*"):
        evidence.receipts[key.decode().rpartition(":")[2]] = _text(client.hgetall(key))
    everything = []
    for number in range(3):
        client.select(number)
        everything += [f"{key!r}: {_value(client, key)!r}" for key in client.scan_iter()]
    client.select(0)
    evidence.texts["Redis"] = "\n".join(everything)


def groups(client: Any) -> list[Row]:
    """Per group of the plan stream: what is pending or unread."""
    try:
        rows = client.xinfo_groups(STREAM)
    except redis.RedisError:
        return []
    return [
        {"name": row["name"].decode(), "pending": row["pending"], "lag": row.get("lag") or 0} for row in rows
    ]


def from_files(evidence: Evidence, stage: Stage) -> None:
    evidence.terms = terms()
    _tables(evidence, stage.directory / "quantum.sqlite3", TABLES)
    _tables(evidence, stage.directory / "paper.sqlite3", OF_THE_EXCHANGE)
    keys = stage.directory / "keys"
    for signer in ("governor", "p33", "operator"):
        evidence.public_keys[signer] = [path.read_text() for path in sorted(keys.glob(f"{signer}*.pub"))]
    evidence.secrets = _secrets(stage)
    for path in (
        stage.log,
        *stage.directory.glob("quantum.sqlite3*"),
        *(stage.directory / "valkey").rglob("*"),
    ):
        if path.is_file():
            evidence.texts[str(path.relative_to(stage.directory))] = path.read_bytes().decode("latin-1")


def _tables(evidence: Evidence, path: Path, tables: dict[str, str]) -> None:
    line = sqlite3.connect(path)
    line.row_factory = sqlite3.Row
    try:
        for name, table in tables.items():
            setattr(evidence, name, [dict(row) for row in line.execute(f"SELECT * FROM {table}")])
    finally:
        line.close()


def _secrets(stage: Stage) -> dict[str, str]:
    found = {
        name: value
        for name, value in stage.environment_file().items()
        if name == "SECRET_KEY" or name.startswith("BINANCE_")
    }
    for path in (stage.directory / "keys").glob("*.key"):
        found[path.name] = path.read_text().splitlines()[1]  # the middle line of a PEM: the key itself
    password = stage.directory / "admin_password"
    if password.exists():
        found["admin_password"] = password.read_text().strip()
    return found


def _value(client: Any, key: bytes) -> object:
    match client.type(key):
        case b"string":
            return client.get(key)
        case b"hash":
            return client.hgetall(key)
        case b"stream":
            return client.xrange(key)
        case b"list":
            return client.lrange(key, 0, -1)
        case b"set":
            return client.smembers(key)
        case b"zset":
            return client.zrange(key, 0, -1, withscores=True)
    return None


def _text(fields: dict[bytes, bytes]) -> Row:
    return {name.decode(): value.decode("utf-8", "replace") for name, value in fields.items()}
