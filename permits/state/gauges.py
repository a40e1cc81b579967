"""The trading state and the holds as gauges."""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings
from prometheus_client import Metric

from permits.models import Hold
from permits.state import trading
from quantum.gauges import gauge
from quantum.redis import command_client


def read() -> Iterator[Metric]:
    """Active is what the database says; armed is whether the gate in Redis lets a pair be spent now."""
    state = trading.current()
    yield gauge("quantum_trading_active", "1 while the trading state is ACTIVE, 0 when HALTED", state.active)
    yield gauge("quantum_holds", "Symbols that are frozen", Hold.objects.filter(lifted_at=None).count())
    projected = command_client().get(settings.KEYS.trading_state)
    armed = state.active and projected == state.raw
    yield gauge("quantum_trading_armed", "1 while Redis carries the ACTIVE state of the database", armed)
