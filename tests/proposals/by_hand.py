"""Proposals as brains write them."""

from __future__ import annotations

import itertools

from quantum import clock

_numbers = itertools.count(1)


def said(**more: str) -> dict[str, str]:
    """A good one that differs from every other; fields given as "" are left out."""
    fields = {
        "symbol": "BTCUSDT",
        "harvest_action": "PARTIAL_25",
        "kill_score": f"0.7{next(_numbers):06}1",
        "computed_at_utc": f"{clock.now_s():.3f}",
        "k_regime_flip": "0.4",
        "k_age_penalty": "0.05",
        "R_net": "2.5",
        "reason_codes": "regime_flip,age",
        "source": "a brain outside",
    }
    return {name: text for name, text in {**fields, **more}.items() if text}


def raw(**more: str) -> dict[bytes, bytes]:
    return {name.encode(): text.encode() for name, text in said(**more).items()}
