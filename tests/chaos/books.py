"""The checker's part for the books: the ledger is the fills and people's words, the fills are the exchange's trades."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal

from tests.chaos.evidence import Evidence, Finding, Findings, Row, amount, is_ours, plan_of, signed

BY_FILLS, BY_PEOPLE = ("exit", "entry"), ("adopted", "correction")
LOOK_S = 1.0
"""Between the moment that a read is stamped with and the exchange's own stamp of a trade lie two clocks' roundings."""


def fills_are_trades(evidence: Evidence) -> Findings:
    """I11. A fill is what the exchange reported, once."""
    trades = {int(row["trade_id"]): row for row in evidence.trades}
    for trade_id, times in Counter(int(fill["trade_id"]) for fill in evidence.fills).items():
        if times > 1:
            yield Finding("I11", "a trade stored twice", "", {"trade": str(trade_id)})
    for fill in evidence.fills:
        trade = trades.get(int(fill["trade_id"]))
        same = ("symbol", "side", "order_id")
        if (
            trade is None
            or any(str(fill[name]) != str(trade[name]) for name in same)
            or any(amount(fill[name]) != amount(trade[name]) for name in ("quantity", "price"))
        ):
            numbers = {"trade": str(fill["trade_id"]), "fill": str(fill["quantity"]),
                       "exchange": str(trade and trade["quantity"])}  # fmt: skip
            yield Finding("I11", "a fill that the exchange did not report so", _plan(fill), numbers)


def ledger_is_fills(evidence: Evidence) -> Findings:
    """I11, per symbol and exactly: each entry on top of the last, by one fill or by somebody who says why."""
    fills = {fill["id"]: fill for fill in evidence.fills}
    for fill_id, times in Counter(row["fill_id"] for row in evidence.ledger if row["fill_id"]).items():
        if times > 1:
            yield Finding("I11", "a fill booked twice", _plan(fills.get(fill_id, {})), {"fill": str(fill_id)})
    standing: dict[str, Decimal] = {}
    for entry in sorted(evidence.ledger, key=lambda row: int(row["id"])):
        symbol, delta = entry["symbol"], amount(entry["delta"])
        standing[symbol] = standing.get(symbol, Decimal(0)) + delta
        if amount(entry["balance"]) != standing[symbol]:
            numbers = {
                "entry": str(entry["id"]),
                "balance": str(entry["balance"]),
                "sum": str(standing[symbol]),
            }
            yield Finding("I11", "a balance that is not the sum of its entries", entry["plan_id"], numbers)
            standing[symbol] = amount(entry["balance"])
        yield from _moved_by(entry, fills.get(entry["fill_id"]))
    for row in evidence.balances:
        if amount(row["amount"]) != standing.get(row["symbol"], Decimal(0)):
            numbers = {"symbol": row["symbol"], "balance": str(row["amount"]),
                       "entries": str(standing.get(row["symbol"]))}  # fmt: skip
            yield Finding("I11", "the running sum is not that of the entries", "", numbers)


def _moved_by(entry: Row, fill: Row | None) -> Findings:
    numbers = {"entry": str(entry["id"]), "symbol": entry["symbol"], "delta": str(entry["delta"])}
    if entry["kind"] in BY_FILLS and (fill is None or signed(fill) != amount(entry["delta"])):
        yield Finding("I11", "the ledger moved without a fill", entry["plan_id"], numbers)
    elif entry["kind"] in BY_PEOPLE and not (entry["actor"] and entry["reason"]):
        yield Finding("I11", "the ledger moved without who and why", "", numbers)
    elif entry["kind"] not in BY_FILLS + BY_PEOPLE:
        yield Finding("I11", "an entry of no known kind", "", numbers | {"kind": str(entry["kind"])})


def exits_are_booked(evidence: Evidence) -> Findings:
    """I11 from the other side: every trade of an order of ours moved the ledger, for its own plan."""
    entries = {row["fill_id"]: row for row in evidence.ledger if row["fill_id"]}
    booked = {int(fill["trade_id"]): entries.get(fill["id"]) for fill in evidence.fills}
    ours = {
        row["order_id"]: row["client_id"] for row in evidence.exchange_orders if is_ours(row["client_id"])
    }
    for trade in evidence.trades:
        client_id = ours.get(trade["order_id"])
        if client_id is None:
            continue
        plan = evidence.plan(plan_of(client_id))
        if plan is not None and plan["state"] in ("intended", "unknown"):
            continue  # told as what did not come to rest
        entry = booked.get(int(trade["trade_id"]))
        if entry is None or entry["plan_id"] != plan_of(client_id):
            numbers = {"trade": str(trade["trade_id"]), "quantity": str(trade["quantity"])}
            yield Finding("I11", "an exit's trade that is not in the ledger", plan_of(client_id), numbers)


def ledger_is_the_position(evidence: Evidence) -> Findings:
    """I11. At rest, and where no incident says otherwise, both are one number."""
    held: dict[str, Decimal] = {}
    for trade in evidence.trades:
        held[trade["symbol"]] = held.get(trade["symbol"], Decimal(0)) + signed(trade)
    troubled = {row["symbol"] for row in evidence.incidents if row["state"] == "open"}
    for row in evidence.balances:
        symbol = row["symbol"]
        if symbol not in troubled and amount(row["amount"]) != held.get(symbol, Decimal(0)):
            numbers = {"symbol": symbol, "ledger": str(row["amount"]), "exchange": str(held.get(symbol, 0))}
            yield Finding("I11", "ledger and exchange differ, and nobody was told", "", numbers)


def executed_is_traded(evidence: Evidence) -> Findings:
    """I11. What an order says of itself is what its trades add up to."""
    made = {row["client_id"]: row["order_id"] for row in evidence.exchange_orders}
    for order in evidence.orders:
        if not order["settled_at"]:
            continue
        mine = [row for row in evidence.trades if row["order_id"] == made.get(order["client_order_id"])]
        traded = sum((amount(row["quantity"]) for row in mine), Decimal(0))
        if amount(order["executed_quantity"]) != traded:
            numbers = {"executed": str(order["executed_quantity"]), "traded": str(traded)}
            yield Finding("I11", "settled with another quantity than was traded", order["plan_id"], numbers)


def seen_not_guessed(evidence: Evidence) -> Findings:
    """I12. Every grant of p33 stands on an amount that the exchange really held, read not long before."""
    for permit in evidence.permits:
        if permit["gate"] != "p33" or not permit["verdict"]:
            continue
        said = json.loads(permit["raw"], parse_float=Decimal)
        held, created_s = amount(said.get("exchange_position_amt")), amount(said.get("created_at"))
        observed_s = amount(said.get("observed_at"))
        numbers = {"held": str(held), "observed": str(observed_s), "created": str(created_s)}
        if held == 0:
            yield Finding("I12", "a grant on no position", permit["plan_id"], numbers)
        elif created_s - observed_s > Decimal(str(evidence.terms["stale_s"])) + 1:
            yield Finding("I12", "a grant on an old look", permit["plan_id"], numbers)
        elif held not in _held_between(evidence, permit["symbol"], observed_s, created_s):
            yield Finding("I12", "a grant on an amount that was never held then", permit["plan_id"], numbers)


def _held_between(evidence: Evidence, symbol: str, since_s: Decimal, until_s: Decimal) -> set[Decimal]:
    look_ms = Decimal(str(LOOK_S * 1000))
    standing, found = Decimal(0), set()
    for trade in sorted(evidence.trades, key=lambda row: int(row["trade_id"])):
        if trade["symbol"] != symbol or trade["time_ms"] > until_s * 1000 + look_ms:
            continue
        if trade["time_ms"] >= since_s * 1000 - look_ms:
            found.add(standing)
        standing += signed(trade)
    return found | {standing}


def _plan(fill: Row) -> str:
    return plan_of(str(fill.get("client_order_id", "")))
