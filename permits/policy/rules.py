"""Policy rules as they are kept, JSON, read strictly; and single changes to them. Pure.

    {"allowlist": [...], "approval_symbols": [...], "total": {limit: value}, "each": {...},
     "symbols": {symbol: {...}}, "shadow": {"total": ..., "each": ..., "symbols": ..., "approval_symbols": ...}}

`each` holds for every symbol; what `symbols` says of one wins over it, and null there is no limit.
Amounts are kept as text, so that no reader makes floats of them.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from msgspec import Struct

from permits.policy import mandate
from permits.policy.policy import Limits, LimitSet
from quantum import amounts

Rules = dict[str, Any]
SYMBOL = re.compile(r"[A-Z0-9]{2,20}")
SCOPES = ("total", "each", "symbols", "approval_symbols")
_COUNT, _LEAST_AMOUNT = (Decimal(1), Decimal(1_000_000)), Decimal("0.000001")


class Nonsense(Exception):
    """Rules that cannot hold. Each problem says what would be right."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class _Kind(Struct, frozen=True):
    least: Decimal
    most: Decimal
    whole: bool = False
    why: str = ""

    def read(self, name: str, value: object) -> Decimal:
        """Text or a whole JSON number; a JSON fraction would have been through a float."""
        said = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else "?"
        found = amounts.parse(said)
        whole = found is not None and (not self.whole or found == found.to_integral_value())
        if found is None or not whole or not self.least <= found <= self.most:
            number = "a whole number" if self.whole else "a plain decimal number, as text,"
            raise Nonsense(f"{name}: must be {number} from {self.least} to {self.most}{self.why}")
        return found


_HALT = "; to stop exits, halt them (or take the symbol off the allow-list) and say why"
KINDS: Mapping[str, _Kind] = {
    "permits_per_5min": _Kind(*_COUNT, whole=True, why=_HALT),
    "permits_per_hour": _Kind(*_COUNT, whole=True, why=_HALT),
    "notional_per_day_usd": _Kind(Decimal(1), Decimal(10) ** 12, why=_HALT),
    "quantity_per_day": _Kind(_LEAST_AMOUNT, Decimal(10) ** 12, why=_HALT),
    "cooldown_s": _Kind(Decimal(0), Decimal(3600)),
    "failures_in_a_row": _Kind(Decimal(1), Decimal(1000), whole=True),
    "circuit_open_s": _Kind(Decimal(1), Decimal(3600)),
    "approval_above_usd": _Kind(Decimal(0), Decimal(10) ** 12),
}
NOT_IN_TOTAL = {
    "quantity_per_day": "coins of different symbols do not add up; set it for each symbol or for one"
}
NEVER_NONE = {"circuit_open_s"}


class Read(Struct, frozen=True):
    allowlist: frozenset[str]
    limits: LimitSet
    shadow: LimitSet | None


def read(rules: object) -> Read:
    """Raises Nonsense with every problem that was found."""
    if not isinstance(rules, dict):
        raise Nonsense("rules: must be an object")
    known = ("allowlist", *SCOPES, "shadow", mandate.RULE)
    problems = [f"{name}: unknown; known are {', '.join(known)}" for name in sorted(set(rules) - set(known))]
    if mandate.RULE in rules:
        try:
            mandate.parse(rules[mandate.RULE])
        except mandate.RuleMalformed as malformed:
            problems.append(f"{mandate.RULE}: {malformed}")
    allowlist = _symbols(rules.get("allowlist", []), "allowlist", problems)
    if not allowlist:
        problems.append("allowlist: must name at least one symbol; to stop every exit, halt them and say why")
    limits = _limit_set({name: rules[name] for name in SCOPES if name in rules}, "", problems)
    shadow = rules.get("shadow")
    shadowed = None if shadow is None else _limit_set(shadow, "shadow.", problems)
    if problems:
        raise Nonsense(*problems)
    return Read(allowlist=allowlist, limits=limits, shadow=shadowed)


def _limit_set(said: object, where: str, problems: list[str]) -> LimitSet:
    if not isinstance(said, dict) or set(said) - set(SCOPES):
        problems.append(f"{where or 'rules'}: must be an object of {', '.join(SCOPES)}")
        return LimitSet()
    each = said.get("each", {})
    symbols = said.get("symbols", {})
    if not isinstance(symbols, dict):
        problems.append(f"{where}symbols: must be an object, limits by symbol")
        symbols = {}
    _symbols(list(symbols), f"{where}symbols", problems)
    merged = {symbol: _merged(each, own) for symbol, own in symbols.items()}
    return LimitSet(
        total=_limits(said.get("total", {}), f"{where}total", problems),
        each=_limits(each, f"{where}each", problems),
        symbols={symbol: _limits(own, f"{where}{symbol}", problems) for symbol, own in merged.items()},
        approval_symbols=_symbols(said.get("approval_symbols", []), f"{where}approval_symbols", problems),
    )


def _merged(each: object, own: object) -> object:
    return {**each, **own} if isinstance(each, dict) and isinstance(own, dict) else own


def _limits(said: object, where: str, problems: list[str]) -> Limits:
    if not isinstance(said, dict):
        problems.append(f"{where}: must be an object of limits")
        return Limits()
    values: dict[str, Any] = {}
    for name, value in said.items():
        try:
            values[name] = _value(name, value, where)
        except Nonsense as nonsense:
            problems.extend(nonsense.problems)
    burst, hourly = values.get("permits_per_5min"), values.get("permits_per_hour")
    if burst is not None and hourly is not None and hourly < burst:
        problems.append(
            f"{where}.permits_per_hour: {hourly} is below permits_per_5min ({burst}), which it makes useless; "
            f"make it {burst} or more, or lower permits_per_5min"
        )
    return Limits(**{name: value for name, value in values.items() if name in KINDS and value is not None})


def _value(name: str, value: object, where: str) -> Decimal | int | None:
    kind = KINDS.get(name)
    if kind is None:
        raise Nonsense(f"{where}.{name}: unknown limit; known are {', '.join(KINDS)}")
    if where.endswith("total") and name in NOT_IN_TOTAL:
        raise Nonsense(f"{where}.{name}: has no total: {NOT_IN_TOTAL[name]}")
    if value is None:
        if name in NEVER_NONE:
            raise Nonsense(f"{where}.{name}: cannot be none; leave it out for {Limits().circuit_open_s} s")
        return None
    found = kind.read(f"{where}.{name}", value)
    return int(found) if kind.whole else found


def _symbols(said: object, where: str, problems: list[str]) -> frozenset[str]:
    if not isinstance(said, list) or not all(isinstance(one, str) for one in said):
        problems.append(f"{where}: must be a list of symbols")
        return frozenset()
    for one in said:
        if not SYMBOL.fullmatch(one):
            problems.append(
                f"{where}: {one[:40]!r} is no symbol; a symbol is 2 to 20 of A-Z 0-9, like BTCUSDT"
            )
    return frozenset(said)


# ---- single changes, as a person types them


def changed(rules: Rules, words: list[str], *, symbol: str = "", shadow: bool = False) -> Rules:
    """The rules after `NAME=VALUE` words. NAME is `allowlist`, `approval_symbols`, a limit in total, `each.<limit>` or
    `symbols.<symbol>.<limit>`, which a symbol given says too. VALUE `none`: no limit; `default`: not said.
    `shadow=none` ends all shadow rules."""
    if not isinstance(rules, dict):
        raise Nonsense(f"rules: must be an object; {_WHOLE}")
    after = copy.deepcopy(rules)
    place = _inside(after, "shadow") if shadow else after
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise Nonsense(f"{word[:60]}: must be NAME=VALUE, like permits_per_5min=20")
        if (name, value.strip()) == ("shadow", "none") and not shadow:
            after.pop("shadow", None)
            continue
        own = name.split(".") if name.startswith("symbols.") and not symbol else []
        if len(own) == 3:
            _change(place, own[2], value.strip(), symbol=own[1], shadow=shadow)
        else:
            _change(place, name, value.strip(), symbol=symbol, shadow=shadow)
    read(after)
    return after


_WHOLE = "give a whole policy with --draft FILE"


def _inside(place: Rules, name: str) -> Rules:
    """What is said there, to be changed. Null says nothing."""
    if place.get(name) is None:
        place[name] = {}
    found = place[name]
    if not isinstance(found, dict):
        raise Nonsense(f"{name}: must be an object of limits; {_WHOLE}")
    return found


def _change(place: Rules, name: str, value: str, *, symbol: str, shadow: bool) -> None:
    if name in ("allowlist", "approval_symbols"):
        if symbol or (shadow and name == "allowlist"):
            raise Nonsense(f"{name}: stands once for all symbols and is no shadow rule; leave --symbol out")
        place[name] = _list_after(name, place.get(name), value)
        return
    if name.startswith(f"{mandate.RULE}.") and not shadow:
        _change_mandate(place, name.partition(".")[2], value, symbol=symbol)
        return
    scope = "each" if name.startswith("each.") else "total"
    name = name.removeprefix("each.").removeprefix("total.")
    if symbol:
        if not SYMBOL.fullmatch(symbol):
            raise Nonsense(
                f"--symbol: {symbol[:40]!r} is no symbol; it must be 2 to 20 of A-Z 0-9, like BTCUSDT"
            )
        limits = _inside(_inside(place, "symbols"), symbol)
    else:
        limits = _inside(place, scope)
    if value == "default":
        limits.pop(name, None)
    else:
        _value(name, None if value == "none" else value, symbol or scope)
        limits[name] = None if value == "none" else value


def _list_after(name: str, known: object, value: str) -> list[str]:
    """`BTCUSDT,ETHUSDT`: these and no other. `+ETHUSDT`, `-BTCUSDT`: one more, one less: whoever adds a symbol at night
    must not forget the others by it."""
    words = {one.strip() for one in value.split(",") if one.strip() and one.strip() != "none"}
    signed = {word for word in words if word[0] in "+-"}
    if not signed:
        return sorted(words)
    if signed != words:
        raise Nonsense(f"{name}: all with + or - (one more, one less), or none of them (these and no other)")
    before = {one for one in known if isinstance(one, str)} if isinstance(known, list) else set()
    less = {word[1:] for word in words if word[0] == "-"}
    if missing := less - before:
        raise Nonsense(f"{name}: {', '.join(sorted(missing))[:60]} is not on it; policy_show lists what is")
    return sorted((before | {word[1:] for word in words if word[0] == "+"}) - less)


def _change_mandate(place: Rules, name: str, value: str, *, symbol: str) -> None:
    """`operator.gates=governor,p33`, `operator.max_notional=50000`, with a symbol `operator.max_quantity=1.5`."""
    said = place.setdefault(mandate.RULE, {})
    where, key = (said.setdefault(name, {}), symbol) if name == "max_quantity" else (said, name)
    if (name == "max_quantity") != bool(symbol):
        raise Nonsense(f"{mandate.RULE}.{name}: --symbol goes with max_quantity, and with that alone")
    if value in ("none", "default"):
        where.pop(key, None)
    else:
        where[key] = [one.strip() for one in value.split(",")] if name == "gates" else value


def difference(before: Rules, after: Rules) -> dict[str, list[Any]]:
    """{name: [before, after]} of every value that differs, by its full name."""
    old, new = _flat(before), _flat(after)
    return {
        name: [old.get(name), new.get(name)]
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    }


def worded(name: str, value: object) -> str:
    """A value of `difference` for a person. A limit that nobody stands behind is no limit: say that, not None."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if value is not None:
        return str(value)
    limit = name.rpartition(".")[2] in KINDS and "symbols." not in name
    return "no limit" if limit and name.rpartition(".")[2] not in NEVER_NONE else "not said"


def _flat(value: object, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    found: dict[str, Any] = {}
    for key, item in value.items():
        found |= _flat(item, f"{name}.{key}" if name else str(key))
    return found
