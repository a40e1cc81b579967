"""What the exchange, the database, Redis and the run itself wrote down: plain rows, read by nothing of the product."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

Row = dict[str, Any]


@dataclass(slots=True)
class Evidence:
    # the exchange's own memory
    received: list[Row] = field(default_factory=list)
    trades: list[Row] = field(default_factory=list)
    exchange_orders: list[Row] = field(default_factory=list)
    # the database, by plain SQL
    plans: list[Row] = field(default_factory=list)
    orders: list[Row] = field(default_factory=list)
    permits: list[Row] = field(default_factory=list)
    fills: list[Row] = field(default_factory=list)
    ledger: list[Row] = field(default_factory=list)
    balances: list[Row] = field(default_factory=list)
    locks: list[Row] = field(default_factory=list)
    incidents: list[Row] = field(default_factory=list)
    holds: list[Row] = field(default_factory=list)
    states: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    instances: list[Row] = field(default_factory=list)
    # Redis at the end
    results: list[Row] = field(default_factory=list)
    dead: list[Row] = field(default_factory=list)
    groups: list[Row] = field(default_factory=list)
    receipts: dict[str, Row] = field(default_factory=dict)
    # files
    public_keys: dict[str, list[str]] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    """Where a secret must not stand: logs, what Redis holds, the database's file. Latin-1, so that any bytes fit."""
    # the run
    terms: Row = field(default_factory=dict)
    """mode, account, ttl_s, allowlist."""
    published: list[Row] = field(default_factory=list)
    faults: list[Row] = field(default_factory=list)
    poisons: list[Row] = field(default_factory=list)
    probes: list[Row] = field(default_factory=list)
    faults_of_end: list[str] = field(default_factory=list)
    """What did not come to rest in the quiet phase."""

    def plan(self, plan_id: str) -> Row | None:
        return next((row for row in self.plans if row["plan_id"] == plan_id), None)

    def order(self, plan_id: str) -> Row | None:
        return next((row for row in self.orders if row["plan_id"] == plan_id), None)

    def sent(self) -> list[Row]:
        """Every order request that came to the exchange by its API, refused ones too."""
        return [row for row in self.received if row["source"] == "api"]

    def accepted(self) -> list[Row]:
        """Also those that the exchange took later than it answered."""
        return [row for row in self.received if row["verdict"] == "accepted" and is_ours(row["client_id"])]

    def events_of(self, plan_id: str) -> list[Row]:
        return [row for row in self.events if row["plan_id"] == plan_id]

    def as_json(self) -> str:
        """Without what must stay secret."""
        told = asdict(self)
        del told["secrets"], told["texts"]
        return json.dumps(told, indent=1, default=str)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that must never be, with whose it is and the numbers."""

    invariant: str
    what: str
    plan_id: str = ""
    numbers: dict[str, str] = field(default_factory=dict)

    def is_of_time(self) -> bool:
        """A machine that stands still makes it; no other invariant depends on how fast anything is."""
        return self.invariant in ("I8", "untouched")

    def line(self) -> str:
        told = " ".join(f"{name}={value}" for name, value in self.numbers.items())
        return " ".join(filter(None, (self.invariant, self.plan_id, self.what, told)))


Findings = Iterator[Finding]


def is_ours(client_id: str) -> bool:
    return client_id.startswith("q-")


def plan_of(client_id: str) -> str:
    return client_id.split("-")[1] if is_ours(client_id) else ""


def seconds(value: object) -> float:
    """Epoch seconds of a stored moment: text of SQLite, without its zone, which is UTC."""
    moment = value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(str(value))
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


def amount(value: object) -> Decimal:
    return Decimal(str(value)) if value not in (None, "") else Decimal(0)


def signed(trade: Row) -> Decimal:
    quantity = amount(trade["quantity"])
    return quantity if trade["side"] == "BUY" else -quantity


def before_each_trade(trades: list[Row]) -> dict[int, Decimal]:
    """trade id -> the position that it met, from the exchange's own trades."""
    held: dict[str, Decimal] = {}
    found = {}
    for trade in sorted(trades, key=lambda row: int(row["trade_id"])):
        found[int(trade["trade_id"])] = held.get(trade["symbol"], Decimal(0))
        held[trade["symbol"]] = found[int(trade["trade_id"])] + signed(trade)
    return found
