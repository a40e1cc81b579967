"""The checker's part for orders: once, two keys, bounds, record first, never late, never while stopped."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from decimal import Decimal
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qsl

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from tests.chaos.evidence import (
    Evidence,
    Finding,
    Findings,
    Row,
    amount,
    before_each_trade,
    is_ours,
    plan_of,
    seconds,
    signed,
)

PERCENT = {"FULL_CLOSE_PROPOSED": 100, "PARTIAL_75": 75, "PARTIAL_50": 50, "PARTIAL_25": 25}
PERMIT_LIFE_S_MAX = 60
CONSUME_TO_INTENT_S, RECV_WINDOW_S = 2.0, 3.0
CLOCK_S = 0.002
"""Stored moments are cut to milliseconds or microseconds."""
_SIGNED = re.compile(r'(\{.*),"sig":"([A-Za-z0-9_-]{86})"\}', re.DOTALL)


def once(evidence: Evidence) -> Findings:
    """I1. By plan, not by client id: a second id for the same plan would be the same sin."""
    for plan_id, times in Counter(plan_of(row["client_id"]) for row in evidence.accepted()).items():
        if times > 1:
            yield Finding("I1", "more than one accepted order", plan_id, {"accepted": str(times)})
    for plan_id, times in Counter(row["plan_id"] for row in evidence.orders).items():
        if times > 1:
            yield Finding("I1", "more than one order row", plan_id, {"rows": str(times)})


def sent_once(evidence: Evidence) -> Findings:
    """I5. Whatever became of a request, it is never made again, and nothing else of its symbol meanwhile."""
    ours = Counter(plan_of(row["client_id"]) for row in evidence.sent() if is_ours(row["client_id"]))
    for plan_id, times in ours.items():
        if times > 1:
            yield Finding("I5", "sent again", plan_id, {"requests": str(times)})
    by_symbol: dict[str, list[Row]] = {}
    for order in sorted(evidence.orders, key=lambda row: seconds(row["intended_at"])):
        by_symbol.setdefault(order["symbol"], []).append(order)
    for orders in by_symbol.values():
        for earlier, later in pairwise(orders):
            ended = earlier["settled_at"] and seconds(earlier["settled_at"])
            if ended is None or ended > seconds(later["intended_at"]) + CLOCK_S:
                numbers = {"first": earlier["plan_id"], "ended": str(earlier["settled_at"]),
                           "intended": str(later["intended_at"])}  # fmt: skip
                yield Finding("I5", "an order while the last was in flight", later["plan_id"], numbers)


def locked_while_unknown(evidence: Evidence) -> Findings:
    """I5. A plan without an end keeps its symbol, and only such a plan does."""
    locks = {row["plan_id"]: row["symbol"] for row in evidence.locks}
    flying = {row["plan_id"] for row in evidence.plans if row["state"] in ("intended", "unknown")}
    for plan_id in flying - locks.keys():
        yield Finding("I5", "in flight, and its symbol is not locked", plan_id)
    for plan_id in locks.keys() - flying:
        yield Finding("I5", "ended, and its symbol is still locked", plan_id, {"symbol": locks[plan_id]})


def record_first(evidence: Evidence) -> Findings:
    """I4, and I16: nobody but an intent makes the product send."""
    for row in evidence.sent():
        order = evidence.order(plan_of(row["client_id"]))
        if order is None or order["client_order_id"] != row["client_id"]:
            yield Finding(
                "I4", "an order without its row", plan_of(row["client_id"]), {"id": row["client_id"]}
            )
            continue
        sent_s, intended_s = row["received_us"] / 1e6, seconds(order["intended_at"])
        if intended_s > sent_s + CLOCK_S:
            numbers = {"received": f"{sent_s:.6f}", "intended": f"{intended_s:.6f}"}
            yield Finding("I4", "sent before its intent", order["plan_id"], numbers)
        if not any(event["kind"] == "order_intended" for event in evidence.events_of(order["plan_id"])):
            yield Finding("I4", "an intent without its audit event", order["plan_id"])


def reconciliation_never_trades(evidence: Evidence) -> Findings:
    """I16. Every trade at the exchange is an order of ours with a plan, or of a hand that the run moved."""
    known = {row["order_id"]: row["client_id"] for row in evidence.exchange_orders}
    for trade in evidence.trades:
        client_id = str(known.get(trade["order_id"], ""))
        strangers = ("entry-", "web_", "autoclose-", "adl_autoclose-", "settlement_autoclose-")
        if not is_ours(client_id) and not client_id.startswith(strangers):
            yield Finding(
                "I16", "a trade of nobody", "", {"client_id": client_id, "trade": str(trade["trade_id"])}
            )


# ---- two keys


def two_keys(evidence: Evidence) -> Findings:
    """I2."""
    keys = {name: [_public(pem) for pem in pems] for name, pems in evidence.public_keys.items()}
    used: dict[str, str] = {}
    for order in evidence.orders:
        plan = evidence.plan(order["plan_id"])
        if plan is None:
            yield Finding("I2", "an order without its plan", order["plan_id"])
            continue
        for gate in ("governor", "p33"):
            raw = order[f"{gate}_permit"]
            if used.setdefault(raw, order["plan_id"]) != order["plan_id"]:
                yield Finding(
                    "I2", "a permit used twice", order["plan_id"], {"gate": gate, "also": used[raw]}
                )
            for what in _wrong_with(raw, gate, plan, order, evidence, keys):
                yield Finding("I2", what, order["plan_id"], {"gate": gate})
        yield from _not_by_its_attempt(order, evidence)


def _wrong_with(
    raw: str, gate: str, plan: Row, order: Row, evidence: Evidence, keys: dict[str, list[Ed25519PublicKey]]
) -> list[str]:
    found = _SIGNED.fullmatch(raw or "")
    if found is None:
        return ["a permit is missing or not signed"]
    permit = json.loads(raw, parse_float=Decimal)
    signer = "operator" if str(permit.get("issuer", "")).startswith("operator") else gate
    wanted = {
        "plan_id": plan["plan_id"],
        "gate": gate,
        "symbol": plan["symbol"],
        "digest": digest_of(plan),
        "mode": evidence.terms["mode"],
        "account": evidence.terms["account"],
    }
    wrong = [f"the permit says another {name}" for name, value in wanted.items() if permit.get(name) != value]
    if not _verifies(found[1] + "}", found[2], keys.get(signer, [])):
        wrong.append("the signature does not hold")
    if permit.get("granted" if gate == "governor" else "allow") is not True:
        wrong.append("the permit is a denial")
    consumed_s = Decimal(str(seconds(order["consumed_at"])))
    ends_s = min(Decimal(permit["expires_at"]), Decimal(permit["created_at"]) + PERMIT_LIFE_S_MAX)
    if consumed_s >= ends_s + Decimal(str(CLOCK_S)):
        wrong.append("the permit had expired when it was spent")
    return wrong


def _not_by_its_attempt(order: Row, evidence: Evidence) -> Findings:
    """The receipt lives for 300 s and goes with a wiped Redis: where it is, it says who spent what."""
    receipt = evidence.receipts.get(order["plan_id"])
    if not order["token"]:
        yield Finding("I2", "no token of the attempt", order["plan_id"])
    if receipt is None:
        return
    same = all(receipt.get(gate) == order[f"{gate}_permit"] for gate in ("governor", "p33"))
    if receipt.get("token") != order["token"] or not same:
        yield Finding(
            "I2", "spent by another attempt", order["plan_id"], {"token": str(receipt.get("token"))}
        )


def digest_of(plan: Row) -> str:
    """As docs describe it: SHA-256 over length-prefixed texts, each reader for itself."""
    percent = PERCENT.get(plan["action"])
    name = "CLOSE_FULL" if percent == 100 else f"CLOSE_PARTIAL_{percent}"
    steps = f'[{{"percent":{percent},"step":"{name}"}}]' if percent else "[]"
    names = ("plan_id", "symbol", "action", "kill_score", "decision", "timestamp")
    parts = [str(plan[each]).encode() for each in names] + [steps.encode()]
    return hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).hexdigest()


def _public(pem: str) -> Ed25519PublicKey:
    key = load_pem_public_key(pem.encode())
    assert isinstance(key, Ed25519PublicKey)
    return key


def _verifies(body: str, signature: str, keys: list[Ed25519PublicKey]) -> bool:
    for key in keys:
        try:
            key.verify(base64.urlsafe_b64decode(signature + "=="), body.encode())
        except InvalidSignature:
            continue
        return True
    return False


# ---- bounds


def bounds(evidence: Evidence) -> Findings:
    """I3."""
    position = before_each_trade(evidence.trades)
    for row in evidence.sent():
        order = evidence.order(plan_of(row["client_id"]))
        if order is None:
            continue  # told by record_first
        params = dict(parse_qsl(row["params"]))
        plan_id, quantity = order["plan_id"], amount(params.get("quantity"))
        if params.get("reduceOnly") != "true":
            yield Finding("I3", "not reduce-only", plan_id)
        if row["symbol"] not in evidence.terms["allowlist"]:
            yield Finding("I3", "a symbol that is not allowed", plan_id, {"symbol": row["symbol"]})
        permit = _members(order["p33_permit"])
        allowed, held = amount(permit.get("safe_close_qty")), amount(permit.get("exchange_position_amt"))
        share = abs(held) * PERCENT[str((evidence.plan(plan_id) or {}).get("action"))] / 100
        if quantity > min(allowed, share):
            numbers = {"quantity": str(quantity), "safe": str(allowed), "share": f"{share:f}"}
            yield Finding("I3", "more than the permit or the plan allows", plan_id, numbers)
        if params.get("side") != ("SELL" if held > 0 else "BUY"):
            yield Finding(
                "I3", "not the closing side", plan_id, {"side": str(params.get("side")), "held": str(held)}
            )
        yield from _too_much_of_what_is_held(row, order, permit, position, evidence)
    yield from _never_across_zero(evidence, position)


def _too_much_of_what_is_held(
    row: Row, order: Row, permit: Row, position: dict[int, Decimal], evidence: Evidence
) -> Findings:
    """The plan's share of the position it met. What a stranger moved since the Brain's look is not held against it."""
    made = {each["client_id"]: each["order_id"] for each in evidence.exchange_orders}
    mine = [trade for trade in evidence.trades if trade["order_id"] == made.get(row["client_id"])]
    if not mine:
        return
    met = position[min(int(trade["trade_id"]) for trade in mine)]
    strangers = {each["order_id"] for each in evidence.exchange_orders if not is_ours(each["client_id"])}
    since_ms = amount(permit.get("observed_at") or permit.get("created_at")) * 1000 - 1000
    if any(
        trade["order_id"] in strangers and trade["symbol"] == row["symbol"] and trade["time_ms"] >= since_ms
        for trade in evidence.trades
    ):
        return
    plan = evidence.plan(order["plan_id"]) or {}
    share = abs(met) * PERCENT.get(str(plan.get("action")), 0) / 100
    executed = sum((amount(trade["quantity"]) for trade in mine), Decimal(0))
    if executed > share:
        numbers = {"executed": str(executed), "share": f"{share:f}", "met": str(met)}
        yield Finding("I3", "more than its share of the position it met", order["plan_id"], numbers)


def _never_across_zero(evidence: Evidence, position: dict[int, Decimal]) -> Findings:
    ours = {
        row["order_id"]: row["client_id"] for row in evidence.exchange_orders if is_ours(row["client_id"])
    }
    for trade in evidence.trades:
        if trade["order_id"] not in ours:
            continue
        before = position[int(trade["trade_id"])]
        after = before + signed(trade)
        if before * signed(trade) >= 0 or before * after < 0:
            numbers = {"before": str(before), "after": str(after)}
            yield Finding(
                "I3", "the position crossed zero or grew", plan_of(ours[trade["order_id"]]), numbers
            )


# ---- never late, never while stopped, always of this mode


def not_late(evidence: Evidence) -> Findings:
    """I7. Consumed in time by Redis' clock; what leaves then may still take the intent's and the request's time."""
    for order in evidence.orders:
        plan = evidence.plan(order["plan_id"])
        if plan is None:
            continue
        ends_s = seconds(plan["expires_at"])
        if seconds(order["consumed_at"]) >= ends_s + CLOCK_S:
            numbers = {"consumed": str(order["consumed_at"]), "expired": str(plan["expires_at"])}
            yield Finding("I7", "spent after the plan's end", order["plan_id"], numbers)
    for row in evidence.sent():
        plan = evidence.plan(plan_of(row["client_id"]))
        if plan is None:
            continue
        last_s = seconds(plan["expires_at"]) + CONSUME_TO_INTENT_S + RECV_WINDOW_S
        if row["received_us"] / 1e6 > last_s:
            numbers = {"received": f"{row['received_us'] / 1e6:.3f}", "expired": str(plan["expires_at"])}
            yield Finding("I7", "an order after the plan's end", plan["plan_id"], numbers)


def not_while_stopped(evidence: Evidence) -> Findings:
    """I13. By the audit events in the order of their ids: on SQLite that is the order of the commits."""
    halted, held = False, set()
    for event in sorted(evidence.events, key=lambda row: int(row["id"])):
        match event["kind"]:
            case "trading_halted":
                halted = True
            case "trading_active":
                halted = False
            case "hold_placed":
                held.add(event["symbol"])
            case "hold_lifted":
                held.discard(event["symbol"])
            case "order_intended" if not _data(event).get("operator"):
                if halted:
                    yield Finding("I13", "an intent while HALTED", event["plan_id"])
                if event["symbol"] in held:
                    yield Finding(
                        "I13", "an intent under a hold", event["plan_id"], {"symbol": event["symbol"]}
                    )


def mode_is_stamped(evidence: Evidence) -> Findings:
    """I15."""
    mode, account = evidence.terms["mode"], evidence.terms["account"]
    if [(row["mode"], row["account"]) for row in evidence.instances] != [(mode, account)]:
        yield Finding(
            "I15", "the instance is not this mode and account", "", {"rows": str(evidence.instances)}
        )
    for plan in evidence.plans:
        if (plan["mode"], plan["account"]) != (mode, account):
            yield Finding("I15", "a plan of another mode or account", plan["plan_id"], {"mode": plan["mode"]})
    for permit in evidence.permits:
        said = _members(permit["raw"])
        if {permit["mode"], said.get("mode")} != {mode} or {permit["account"], said.get("account")} != {
            account
        }:
            yield Finding(
                "I15", "a permit of another mode or account", permit["plan_id"], {"mode": permit["mode"]}
            )


def _members(raw: str) -> dict[str, Any]:
    try:
        found = json.loads(raw, parse_float=Decimal)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _data(event: Row) -> dict[str, Any]:
    return event["data"] if isinstance(event["data"], dict) else _members(event["data"])
