"""One message of every kind the user stream has, with numbers of our own."""

from __future__ import annotations

from typing import Any

AT_MS = 1_795_000_000_000
ORDER_ROW: dict[str, Any] = {
    "s": "SOLUSDT", "c": "q-67e6da21fa9fe506-1", "S": "SELL", "o": "MARKET", "f": "GTC", "q": "12.5", "p": "0",
    "ap": "151.0200", "sp": "0", "x": "TRADE", "X": "PARTIALLY_FILLED", "i": 770001, "l": "4.5", "z": "4.5",
    "L": "151.0200", "N": "USDT", "n": "0.33979500", "T": AT_MS - 4, "t": 9100017, "b": "0", "a": "0",
    "m": False, "R": True, "wt": "CONTRACT_PRICE", "ot": "MARKET", "ps": "BOTH", "cp": False, "rp": "-3.15000000",
    "pP": False, "si": 0, "ss": 0, "V": "EXPIRE_MAKER", "pm": "NONE", "gtd": 0,
}  # fmt: skip
ALGO_ROW: dict[str, Any] = {
    "caid": "bot-stop-7", "aid": 5501, "at": "CONDITIONAL", "o": "STOP_MARKET", "s": "SOLUSDT", "S": "SELL",
    "ps": "BOTH", "f": "GTC", "q": "3", "X": "TRIGGERED", "ai": "770009", "ap": "0", "aq": "0", "tp": "140.00",
    "p": "0", "R": True, "cp": False, "tt": 0, "gtd": 0,
}  # fmt: skip


def order_update(**fields: Any) -> dict[str, Any]:
    return {"e": "ORDER_TRADE_UPDATE", "E": AT_MS, "T": AT_MS - 4, "o": {**ORDER_ROW, **fields}}


def account_update(reason: str = "ORDER", amount: str = "-8.0") -> dict[str, Any]:
    position = {"s": "SOLUSDT", "pa": amount, "ep": "150.3", "bep": "150.4", "cr": "-3.1", "up": "-5.76",
                "mt": "cross", "iw": "0", "ps": "BOTH"}  # fmt: skip
    balance = {"a": "USDT", "wb": "9120.44015000", "cw": "9120.44015000", "bc": "0"}
    account = {"m": reason, "B": [balance], "P": [position]}
    return {"e": "ACCOUNT_UPDATE", "E": AT_MS, "T": AT_MS - 4, "a": account}


def funding() -> dict[str, Any]:
    """Funding comes without a position where the margin is crossed."""
    balance = {"a": "USDT", "wb": "9119.91", "cw": "9119.91", "bc": "-0.53015000"}
    return {"e": "ACCOUNT_UPDATE", "E": AT_MS, "T": AT_MS, "a": {"m": "FUNDING_FEE", "B": [balance]}}


def trade_lite() -> dict[str, Any]:
    return {
        "e": "TRADE_LITE", "E": AT_MS, "T": AT_MS - 4, "s": "SOLUSDT", "q": "12.5", "p": "0", "m": False,
        "c": "q-67e6da21fa9fe506-1", "S": "SELL", "L": "151.0200", "l": "4.5", "t": 9100017, "i": 770001,
    }  # fmt: skip


def algo_update(**fields: Any) -> dict[str, Any]:
    return {"e": "ALGO_UPDATE", "E": AT_MS, "T": AT_MS - 4, "o": {**ALGO_ROW, **fields}}


def listen_key_expired() -> dict[str, Any]:
    return {"e": "listenKeyExpired", "E": AT_MS, "listenKey": "abcdefabcdef"}


def margin_call() -> dict[str, Any]:
    row = {"s": "SOLUSDT", "ps": "BOTH", "pa": "-8.0", "mt": "CROSSED", "iw": "0", "mp": "160", "up": "-80",
           "mm": "12"}  # fmt: skip
    return {"e": "MARGIN_CALL", "E": AT_MS, "cw": "3.11", "p": [row]}


def ignored() -> list[dict[str, Any]]:
    return [
        {"e": "ACCOUNT_CONFIG_UPDATE", "E": AT_MS, "T": AT_MS, "ac": {"s": "SOLUSDT", "l": 7}},
        {"e": "CONDITIONAL_ORDER_TRIGGER_REJECT", "E": AT_MS, "T": AT_MS,
         "or": {"s": "SOLUSDT", "i": 8, "r": "no"}},
        {"e": "STRATEGY_UPDATE", "T": AT_MS, "E": AT_MS, "su": {}},
        {"e": "GRID_UPDATE", "T": AT_MS, "E": AT_MS, "gu": {}},
    ]  # fmt: skip


def every_kind() -> list[dict[str, Any]]:
    return [
        order_update(), account_update(), funding(), trade_lite(), algo_update(), listen_key_expired(),
        margin_call(), *ignored(),
    ]  # fmt: skip
