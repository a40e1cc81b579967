"""A small world in which all is well, as the product and the exchange write it down. For the tests of the checker."""

from __future__ import annotations

import base64
import datetime as dt
import json
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.chaos.evidence import Evidence, Row
from tests.chaos.orders import PERCENT, digest_of

START_S = 1_800_000_000.0
STEP = Decimal("0.001")


def moment(seconds: float) -> str:
    """As SQLite keeps it."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


@dataclass
class World:
    """Call by call it goes on as a real run does; every row agrees with every other."""

    evidence: Evidence = field(default_factory=Evidence)
    now_s: float = START_S
    keys: dict[str, Ed25519PrivateKey] = field(
        default_factory=lambda: {
            name: Ed25519PrivateKey.generate() for name in ("governor", "p33", "operator")
        }
    )
    held: dict[str, Decimal] = field(default_factory=dict)

    def __post_init__(self) -> None:
        found = self.evidence
        found.terms = {"mode": "paper", "account": "main", "ttl_s": 10, "stale_s": 10,
                       "allowlist": ["BTCUSDT", "ETHUSDT"]}  # fmt: skip
        found.instances = [{"mode": "paper", "account": "main"}]
        found.public_keys = {
            name: [key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()]
            for name, key in self.keys.items()
        }
        found.secrets = {"SECRET_KEY": "a-secret-that-nobody-may-see"}
        found.texts = {"stderr.log": "2027-01-15T08:00:00.000Z INFO all is well", "Redis": "{}"}
        found.groups = [{"name": name, "pending": 0, "lag": 0} for name in ("apply", "governor", "p33")]
        found.probes = [{"after": "kill_role", "took_s": 1.2, "last": "filled"}]
        found.poisons = [{"entry": "1-0", "at": self.now_s, "kind": "binary"}]
        found.dead = [{"entry": "1-0", "group": "apply", "error": "invalid_plan: not UTF-8"}]
        self.event("trading_active")
        for symbol, amount in (("BTCUSDT", "1.000"), ("ETHUSDT", "-8.000")):
            self.adopt(symbol, Decimal(amount))

    # ---- small parts

    def event(self, kind: str, *, plan_id: str = "", symbol: str = "", **data: object) -> None:
        rows = self.evidence.events
        rows.append({"id": len(rows) + 1, "kind": kind, "plan_id": plan_id, "symbol": symbol, "actor": "apply",
                     "reason": "", "data": json.dumps(data), "at": moment(self.now_s)})  # fmt: skip

    def permit(self, gate: str, plan: Row, **more: object) -> str:
        members = {
            "gate": gate, "plan_id": plan["plan_id"], "symbol": plan["symbol"], "digest": digest_of(plan),
            "mode": "paper", "account": "main", "issuer": gate, "granted" if gate == "governor" else "allow": True,
            "created_at": self.now_s, "expires_at": self.now_s + 60, **more,
        }  # fmt: skip
        return self.sign(gate, members)

    def sign(self, gate: str, members: Row) -> str:
        body = json.dumps(members, separators=(",", ":"))
        signature = base64.urlsafe_b64encode(self.keys[gate].sign(body.encode())).rstrip(b"=").decode()
        return f'{body[:-1]},"sig":"{signature}"}}'

    def trade(self, symbol: str, side: str, quantity: Decimal, client_id: str) -> Row:
        found = self.evidence
        order_id, trade_id = 8_000_000 + len(found.exchange_orders), 500 + len(found.trades)
        found.exchange_orders.append({"order_id": order_id, "client_id": client_id, "symbol": symbol,
                                      "status": "FILLED"})  # fmt: skip
        trade = {"trade_id": trade_id, "order_id": order_id, "symbol": symbol, "side": side,
                 "quantity": f"{quantity:f}", "price": "100.0", "time_ms": int(self.now_s * 1000)}  # fmt: skip
        found.trades.append(trade)
        self.held[symbol] = self.held.get(symbol, Decimal(0)) + (quantity if side == "BUY" else -quantity)
        return trade

    def adopt(self, symbol: str, amount: Decimal) -> None:
        self.trade(symbol, "BUY" if amount > 0 else "SELL", abs(amount), f"entry-seed-{symbol}")
        self.now_s += 5
        self._entry(symbol, "adopted", amount, actor="feed", reason="first start in paper mode")
        self.evidence.balances.append({"symbol": symbol, "amount": f"{amount:f}"})

    def _entry(self, symbol: str, kind: str, delta: Decimal, **more: object) -> None:
        rows = self.evidence.ledger
        before = next(
            (Decimal(row["balance"]) for row in reversed(rows) if row["symbol"] == symbol), Decimal(0)
        )
        rows.append({"id": len(rows) + 1, "symbol": symbol, "kind": kind, "delta": f"{delta:f}",
                     "balance": f"{before + delta:f}", "fill_id": None, "plan_id": "", "actor": "apply", "reason": "",
                     **more})  # fmt: skip

    # ---- plans

    def plan(self, symbol: str = "BTCUSDT", action: str = "PARTIAL_25", state: str = "filled") -> Row:
        found, self.now_s = self.evidence, self.now_s + 1
        row: Row = {
            "plan_id": f"{len(found.plans) + 1:016x}", "symbol": symbol, "action": action, "decision": "EXECUTE",
            "kill_score": "0.8", "timestamp": f"{self.now_s:.3f}", "mode": "paper", "account": "main",
            "state": state, "error": "", "gate_reason": "", "gov_ttl": None, "p33_ttl": None, "result_id": "1-1",
            "expires_at": moment(self.now_s + 10), "ended_at": moment(self.now_s + 0.1),
        }  # fmt: skip
        found.plans.append(row)
        found.published.append({"plan_id": row["plan_id"], "symbol": symbol, "at": self.now_s, "trouble": ""})
        self.event("plan_recorded", plan_id=row["plan_id"], symbol=symbol)
        return row

    def exit(self, symbol: str = "BTCUSDT", action: str = "PARTIAL_25") -> Row:
        """A plan that was permitted, spent, intended, sent, filled, booked and told."""
        found, plan = self.evidence, self.plan(symbol, action)
        position = self.held[symbol]
        quantity = (abs(position) * PERCENT[action] / 100).quantize(STEP, rounding=ROUND_DOWN)
        side, plan_id = ("SELL" if position > 0 else "BUY"), plan["plan_id"]
        look = {
            "safe_close_qty": f"{quantity:f}",
            "exchange_position_amt": f"{position:f}",
            "observed_at": self.now_s,
        }
        pair = {"governor": self.permit("governor", plan), "p33": self.permit("p33", plan, **look)}
        client_id = f"q-{plan_id}-{PERCENT[action]}"
        at_s = self.now_s
        self.event("order_intended", plan_id=plan_id, symbol=symbol, client_order_id=client_id)
        self.now_s = at_s + 0.03
        trade = self.trade(symbol, side, quantity, client_id)
        found.orders.append({
            "plan_id": plan_id, "symbol": symbol, "side": side, "client_order_id": client_id, "token": "t" * 16,
            "quantity": f"{quantity:f}", "executed_quantity": f"{quantity:f}", "governor_permit": pair["governor"],
            "p33_permit": pair["p33"], "consumed_at": moment(at_s + 0.01), "intended_at": moment(at_s + 0.02),
            "settled_at": moment(at_s + 0.05),
        })  # fmt: skip
        found.received.append({
            "source": "api", "verdict": "accepted", "client_id": client_id, "symbol": symbol, "code": None,
            "received_us": int((at_s + 0.03) * 1e6), "order_id": trade["order_id"],
            "params": f"symbol={symbol}&side={side}&type=MARKET&quantity={quantity:f}&reduceOnly=true"
                      f"&newClientOrderId={client_id}&recvWindow=3000",
        })  # fmt: skip
        found.receipts[plan_id] = {"token": "t" * 16, "governor": pair["governor"], "p33": pair["p33"]}
        found.permits += [{"plan_id": plan_id, "gate": gate, "verdict": 1, "symbol": symbol, "mode": "paper",
                           "account": "main", "raw": raw} for gate, raw in pair.items()]  # fmt: skip
        self._book(trade, plan_id, client_id)
        self.event("plan_filled", plan_id=plan_id, symbol=symbol)
        found.results.append({"plan_id": plan_id, "error": "", "executed": "True"})
        return plan

    def _book(self, trade: Row, plan_id: str, client_id: str) -> None:
        found, delta = self.evidence, Decimal(trade["quantity"]) * (1 if trade["side"] == "BUY" else -1)
        found.fills.append({**trade, "id": len(found.fills) + 1, "client_order_id": client_id})
        self._entry(trade["symbol"], "exit", delta, fill_id=len(found.fills), plan_id=plan_id)
        for row in found.balances:
            if row["symbol"] == trade["symbol"]:
                row["amount"] = f"{self.held[trade['symbol']]:f}"

    def blocked(self, error: str = "permit_denied:p33_denied", gate_reason: str = "no_position") -> Row:
        plan = self.plan(state="blocked")
        plan |= {"error": error, "gate_reason": gate_reason, "gov_ttl": 52, "p33_ttl": -2}
        self.event("plan_blocked", plan_id=plan["plan_id"], symbol=plan["symbol"])
        self.evidence.results.append({"plan_id": plan["plan_id"], "error": error, "executed": "False"})
        return plan


def world() -> World:
    """Five exits on two symbols, and one that a fault met and that was blocked."""
    found = World()
    for symbol, action in (("BTCUSDT", "PARTIAL_25"), ("ETHUSDT", "PARTIAL_50"), ("BTCUSDT", "PARTIAL_25"),
                           ("ETHUSDT", "PARTIAL_25"), ("BTCUSDT", "PARTIAL_50")):  # fmt: skip
        found.exit(symbol, action)
    found.now_s += 5
    met = found.blocked()
    found.evidence.faults = [{"kind": "kill_role", "symbols": None, "plans": [], "episode": 0, "words": "",
                              "from": found.now_s - 0.5, "until": found.now_s + 3}]  # fmt: skip
    assert met["state"] == "blocked"
    return found
