"""Named sets of defaults for limits. The demo and the bench use one and say so on screen.

A profile only changes defaults: a setting that is given wins. The rules are the same in
every profile; only the numbers differ.
"""

from __future__ import annotations

from msgspec import Struct


class Profile(Struct, frozen=True):
    allowlist: tuple[str, ...]
    cooldown_s: str
    ledger_sources: tuple[str, ...]
    permits_per_5min: int = 10
    permits_per_hour: int = 60
    notional_per_day_usd: str = "50000"


DEMO_SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT")

PROFILES = {
    "standard": Profile(allowlist=("BTCUSDT",), cooldown_s="15", ledger_sources=()),
    # Positions of the paper exchange are opened by its own entry bot; exits may follow each other at once.
    "demo": Profile(
        allowlist=DEMO_SYMBOLS,
        cooldown_s="0",
        ledger_sources=("entry-",),
        permits_per_5min=1000,
        permits_per_hour=10_000,
        notional_per_day_usd="1000000000",
    ),
    # High enough that no run meets them; they are evaluated all the same, so the bench pays for them.
    "bench": Profile(
        allowlist=tuple(f"B{number:03d}USDT" for number in range(50)) + DEMO_SYMBOLS,
        cooldown_s="0",
        ledger_sources=("entry-",),
        permits_per_5min=1_000_000,
        permits_per_hour=1_000_000,
        notional_per_day_usd="1000000000000",
    ),
}
