"""Named sets of defaults for limits. The demo and the bench use one and say so on screen.

A profile only changes defaults: a setting that is given wins. The rules are the same in
every profile; only the numbers differ.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    allowlist: tuple[str, ...]
    cooldown_s: str
    ledger_sources: tuple[str, ...]


DEMO_SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT")

PROFILES = {
    "standard": Profile(allowlist=("BTCUSDT",), cooldown_s="15", ledger_sources=()),
    # Positions of the paper exchange are opened by its own entry bot; exits may follow each other at once.
    "demo": Profile(allowlist=DEMO_SYMBOLS, cooldown_s="0", ledger_sources=("entry-",)),
    "bench": Profile(
        allowlist=tuple(f"B{number:03d}USDT" for number in range(50)) + DEMO_SYMBOLS,
        cooldown_s="0",
        ledger_sources=("entry-",),
    ),
}
