"""A seed becomes episodes of plans and faults. Pure: the same seed and number give the same script.

An episode begins with one to three faults and plans among them; every fault in it also ends in it. Then fresh plans
must pass again, and what follows until the next episode is left alone, so that some exits are met by nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.chaos.stage import SYMBOLS

BLOWS = ("signal", "freeze", "kill_frame", "valkey_signal", "wipe", "group_gone", "cut", "shut", "paper_kill", "halt",
         "hold", "hand", "seize")  # fmt: skip
PLANS_IN_A_STORM, PLANS_IN_A_CALM = 3, 2
ACTIONS = ("PARTIAL_25",) * 5 + ("PARTIAL_50",) * 2 + ("PARTIAL_75", "FULL_CLOSE_PROPOSED")
WAYS = ("publish", "publish", "xadd")
ROLES = ("apply", "apply", "governor", "p33", "warden")


@dataclass(frozen=True, slots=True)
class Act:
    """One thing done at a time after the episode's beginning. `fault` names the first act of a fault."""

    at_s: float
    what: str
    words: dict[str, Any] = field(default_factory=dict)
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Episode:
    faults: tuple[str, ...]
    acts: tuple[Act, ...]
    calm: tuple[Act, ...]


def make(*, seed: int, plans: int) -> list[Episode]:
    rng = random.Random(seed)
    families = list(FAMILIES)
    rng.shuffle(families)
    symbols = list(SYMBOLS)
    rng.shuffle(symbols)
    episodes: list[Episode] = []
    while plans > 0:
        stormy, calm = min(PLANS_IN_A_STORM, plans), min(PLANS_IN_A_CALM, max(0, plans - PLANS_IN_A_STORM))
        first = families[len(episodes) % len(families)]
        others = rng.sample([name for name in families if name != first], rng.choice((0, 1, 1, 2, 2)))
        acts: list[Act] = []
        for number, family in enumerate((first, *others)):
            begin_s = 0.2 + (rng.uniform(0.0, 1.0) if number else 0.0)
            fault = rng.choice(FAMILIES[family])(rng)
            acts += [replace(act, at_s=round(act.at_s + begin_s, 3)) for act in fault]
        names = [act.fault for act in acts if act.fault]
        acts += [_publication(rng, symbols, _moment(rng, acts)) for _ in range(stormy)]
        quiet = tuple(_publication(rng, symbols, 0.35 * number, calm=True) for number in range(calm))
        episodes.append(Episode(tuple(names), tuple(sorted(acts, key=lambda act: act.at_s)), quiet))
        plans -= stormy + calm
    return episodes


def _moment(rng: random.Random, acts: list[Act]) -> float:
    """Most plans are aimed: just ahead of a blow, so that it meets them on their way, and just after weather begins."""
    if rng.random() < 0.25:
        return round(rng.uniform(0.0, 1.8), 3)
    fault = rng.choice([act for act in acts if act.fault])
    if fault.what in BLOWS:
        return round(max(0.0, fault.at_s - rng.choice((0.0, 0.004, 0.008, 0.012, 0.02, 0.04, 0.15))), 3)
    return round(fault.at_s + rng.uniform(0.0, 0.4), 3)


def _publication(rng: random.Random, symbols: list[str], at_s: float, *, calm: bool = False) -> Act:
    """Symbols take turns: two plans of one symbol at the same moment are a fault of their own."""
    symbols.append(symbols.pop(0))
    action = "PARTIAL_25" if calm else rng.choice(ACTIONS)
    return Act(at_s, "plan", {"symbol": symbols[-1], "action": action, "way": rng.choice(WAYS)})


# ---- faults by family; each is a list of acts of which the first bears its name


def _kill(rng: random.Random) -> list[Act]:
    number = rng.choice(("KILL", "KILL", "TERM"))
    return [*_slow(rng), Act(0.0, "signal", {"role": rng.choice(ROLES), "signal": number}, "kill_role")]


def _slow(rng: random.Random) -> list[Act]:
    """Half of the time the exchange is slow meanwhile, so that orders are on their way when somebody dies."""
    if rng.random() < 0.5:
        return []
    return [Act(-0.2, "latency", {"ms": 200}), Act(1.5, "latency", {"ms": 0})]


def _freeze(rng: random.Random) -> list[Act]:
    role = rng.choice(ROLES)
    until_s = rng.choice((0.6, 1.5, 2.6, 4.0))
    return [
        *_slow(rng),
        Act(0.0, "freeze", {"role": role}, "freeze_role"),
        Act(until_s, "thaw", {"role": role}),
    ]


def _kill_frame(rng: random.Random) -> list[Act]:
    return [*_slow(rng), Act(0.0, "kill_frame", {"whom": rng.choice(("main", "sentinel"))}, "kill_frame")]


def _valkey_kill(_: random.Random) -> list[Act]:
    return [Act(0.0, "valkey_signal", {"signal": "KILL"}, "valkey_kill")]


def _valkey_freeze(rng: random.Random) -> list[Act]:
    return [Act(0.0, "valkey_signal", {"signal": "STOP"}, "valkey_freeze"),
            Act(rng.uniform(0.3, 2.0), "valkey_signal", {"signal": "CONT"})]  # fmt: skip


def _wipe(_: random.Random) -> list[Act]:
    return [Act(0.0, "wipe", {}, "wipe")]


def _group_gone(rng: random.Random) -> list[Act]:
    return [Act(0.0, "group_gone", {"group": rng.choice(("apply", "governor", "p33"))}, "group_gone")]


def _cut(rng: random.Random) -> list[Act]:
    return [Act(0.0, "cut", {"line": rng.choice(("redis", "paper"))}, "cut")]


def _shut(rng: random.Random) -> list[Act]:
    line = rng.choice(("redis", "paper"))
    return [Act(0.0, "shut", {"line": line}, "shut"), Act(rng.uniform(0.3, 1.8), "open", {"line": line})]


def _lose(rng: random.Random) -> list[Act]:
    """The server acts and nobody hears of it: a consume, a permit, an acknowledgement, a result, an order."""
    line, needle = rng.choice(
        (("redis", "EVALSHA"), ("redis", "EVALSHA"), ("redis", "XACK"), ("redis", "XREADGROUP"), ("redis", "BLPOP"),
         ("paper", "POST /fapi/v1/order"), ("paper", "GET /fapi/v1/order"), ("paper", "userTrades"))
    )  # fmt: skip
    words = {"line": line, "needle": needle, "times": rng.choice((1, 2, 4))}
    return [Act(0.0, "lose", words, "lose_answers"), Act(1.8, "lose", {**words, "times": 0})]


WEATHER: tuple[tuple[dict[str, Any], ...], ...] = (
    ({"next": "order", "do": "accept_then_cut"},),
    ({"next": "order", "do": "cut_before_accept"},),
    ({"next": "order", "do": "reply", "status": 408, "accepted": True,
      "body": {"code": -1007, "msg": "Timeout waiting for response from backend server."}},),
    ({"next": "order", "do": "late_accept", "after_ms": 2500},),
    ({"next": "order", "do": "unknown_503", "accepted": True}, {"next": "order", "do": "unknown_503"}),
    ({"next": "order", "do": "html", "status": 502, "accepted": True}, {"next": "order", "do": "html_200"}),
    ({"next": "order", "do": "unavailable"},),
    ({"next": "order", "do": "rate_limited", "retry_after_s": 1},),
    ({"next": "order", "do": "refuse", "code": -1008}, {"next": "order", "do": "refuse", "code": -1001}),
    ({"next": "order", "do": "refuse", "code": -2022},),
    ({"next": "order", "do": "partial", "percent": 50, "pieces": 2},),
    ({"next": "order", "do": "rest", "after_ms": 3000},),
    ({"next": "order", "do": "rest", "after_ms": 0},),
    ({"next": "order", "do": "latency", "ms": 5600},),
    ({"next": "order", "do": "move_first", "amount": "0"},),
    ({"next": "order", "do": "accept_then_cut"},
     {"next": "getOrder", "do": "reply", "status": 500, "times": 6, "body": {"code": -1000, "msg": "?"}}),
    ({"next": "positionRisk", "do": "reply", "status": 500, "times": 5, "body": {"code": -1000, "msg": "?"}},),
    ({"next": "positionRisk", "do": "html_200", "times": 3}, {"next": "userTrades", "do": "html_200", "times": 3}),
)  # fmt: skip


def _weather(rng: random.Random) -> list[Act]:
    items = rng.choice(WEATHER)
    name = "/".join(str(item["do"]) for item in items)
    return [Act(0.0, "weather", {"items": list(items)}, f"weather {name}"), Act(2.4, "weather_ends")]


def _latency(rng: random.Random) -> list[Act]:
    return [
        Act(0.0, "latency", {"ms": rng.choice((120, 300, 900))}, "latency"),
        Act(2.2, "latency", {"ms": 0}),
    ]


def _stream(rng: random.Random) -> list[Act]:
    lever = rng.choice(({"do": "freeze"}, {"do": "double"}, {"do": "drop", "times": 3}, {"do": "cut"},
                        {"do": "delay", "ms": 800}, {"do": "disorder", "times": 4}, {"do": "expire"}))  # fmt: skip
    return [
        Act(0.0, "stream", {"lever": lever}, f"stream {lever['do']}"),
        Act(2.2, "stream", {"lever": {"do": "clear"}}),
    ]


def _paper_kill(_: random.Random) -> list[Act]:
    return [Act(0.0, "paper_kill", {}, "paper_kill")]


def _again(rng: random.Random) -> list[Act]:
    words = {"back": rng.randrange(6), "times": rng.choice((1, 3, 10))}
    return [Act(0.0, "again", words, "replay"), Act(0.7, "again", {**words, "back": 0})]


def _conflict(rng: random.Random) -> list[Act]:
    return [Act(0.3, "conflict", {"back": rng.randrange(4)}, "conflict")]


def _copied(rng: random.Random) -> list[Act]:
    return [
        Act(
            0.2, "copied_permits", {"symbol": rng.choice(SYMBOLS), "back": rng.randrange(4)}, "copied_permits"
        )
    ]


def _spent_again(rng: random.Random) -> list[Act]:
    words = {"back": rng.randrange(6), "forget": rng.choice((True, False))}
    return [Act(0.2, "spent_again", words, "spent_permits_again")]


def _senseless(rng: random.Random) -> list[Act]:
    kind = rng.choice(("stale", "future", "not_allowed", "skip"))
    return [Act(0.2, "senseless", {"kind": kind, "symbol": rng.choice(SYMBOLS)}, "senseless_plan")]


def _crowd(rng: random.Random) -> list[Act]:
    return [Act(0.1, "crowd", {"symbol": rng.choice(SYMBOLS), "plans": rng.choice((2, 4))}, "crowd")]


def _poison(rng: random.Random) -> list[Act]:
    kinds = ("binary", "no fields", "deep", "large", "injection")
    return [
        Act(0.0, "poison", {"kind": rng.choice(kinds)}, "poison"),
        Act(0.5, "poison", {"kind": rng.choice(kinds)}),
    ]


def _halt(rng: random.Random) -> list[Act]:
    ask_s = rng.uniform(0.4, 1.2)
    return [Act(0.2, "halt", {"scope": rng.choice(("automatic", "everything"))}, "halt"),
            Act(ask_s, "ask_resume"), Act(ask_s + 3.1, "resume")]  # fmt: skip


def _hold(rng: random.Random) -> list[Act]:
    symbol = rng.choice(SYMBOLS)
    return [
        Act(0.1, "hold", {"symbol": symbol}, "hold"),
        Act(rng.uniform(0.8, 2.2), "lift", {"symbol": symbol}),
    ]


def _hand(rng: random.Random) -> list[Act]:
    symbol = rng.choice(SYMBOLS)
    return [Act(0.1, "hand", {"symbol": symbol, "share": rng.choice((0, 0.5, -1, 1.5))}, "hand_trade"),
            Act(rng.uniform(1.5, 3.5), "adopt", {"symbol": symbol})]  # fmt: skip


def _seize(rng: random.Random) -> list[Act]:
    symbol = rng.choice(SYMBOLS)
    words = {"symbol": symbol, "kind": rng.choice(("liquidation", "adl"))}
    return [Act(0.1, "seize", words, "seizure"), Act(rng.uniform(1.5, 3.0), "adopt", {"symbol": symbol})]


FAMILIES: dict[str, tuple[Callable[[random.Random], list[Act]], ...]] = {
    "process": (_kill, _kill, _freeze, _kill_frame),
    "redis": (_valkey_kill, _valkey_freeze, _wipe, _group_gone),
    "line": (_cut, _shut, _lose, _lose),
    "order weather": (_weather,),
    "weather": (_weather, _latency, _stream, _paper_kill),
    "replay": (_again, _conflict, _copied, _spent_again),
    "bots": (_senseless, _crowd, _poison),
    "people": (_halt, _hold, _hand, _seize),
}
