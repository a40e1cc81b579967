"""The preview in words: the same on the page and on the command line."""

from __future__ import annotations

from decimal import Decimal

from django.conf import settings

from apply.operators.outlook import Outlook
from apply.operators.preview import Preview
from permits.desk import payloads
from quantum import amounts

NAMES = {payloads.GOVERNOR: "Governor", payloads.P33: "Brain (p33)"}


def rows(shown: Preview) -> list[tuple[str, str]]:
    line, state = shown.line, shown.state
    incidents = [f"{each.pk}, {each.get_cause_display()}" for each in line.incidents]
    told = [
        ("On", f"{settings.APPLY_MODE.upper()} {settings.ACCOUNT}, {shown.wanted.symbol}"),
        ("Trading", _state(shown) if state else "HALTED: no state was ever set"),
        ("Hold", f"{line.hold.pk} by {line.hold.by}: {line.hold.reason}" if line.hold else "none"),
        ("Incident", "; ".join(incidents) or "none"),
        ("Exchange", f"{amounts.plain(line.exchange)}, read {max(line.age_s, Decimal(0)):.1f} s ago"),
        ("Ledger", "never entered" if line.ledger is None else amounts.plain(line.ledger)),
        ("Limits used", "; ".join(shown.limits) or "no limit is set"),
    ]
    told += [(NAMES[each.gate], _says(shown, each)) for each in shown.outlooks]
    told.append((shown.wanted.action.value, _becomes(shown)))
    told += [("Still in the way", _in_the_way(each)) for each in shown.still_in_the_way]
    if shown.second_person:
        told.append(("Another person", f"has to say yes: {shown.second_person}"))
    return told


def _state(shown: Preview) -> str:
    state = shown.state
    if state is None or state.state == state.State.ACTIVE:
        return "ACTIVE"
    return f"{state.state} for {state.get_scope_display()}, by {state.by}: {state.reason}"


def _says(shown: Preview, each: Outlook) -> str:
    compared = ", ".join(f"{name} {value}" for name, value in each.compared.items())
    says = (
        "would grant" if each.grants else f"would deny, {each.reason}{f' ({compared})' if compared else ''}"
    )
    return (
        f"{says}; you sign in its place" if each.gate in shown.wanted.gates else f"{says}; judges by itself"
    )


def _becomes(shown: Preview) -> str:
    worth = "" if shown.notional is None else f", worth {shown.notional:.2f} USD"
    sends = "; dry_run sends nothing" if settings.APPLY_MODE == "dry_run" else ""
    return (
        f"{amounts.plain(shown.line.exchange)} -> {amounts.plain(shown.after)}: at most "
        f"{amounts.plain(shown.quantity)}{worth}, by one reduce-only order{sends}"
    )


def _in_the_way(each: Outlook) -> str:
    return f"{NAMES[each.gate]}: it would end this, {each.reason}. Sign for it as well, or mend that first"
