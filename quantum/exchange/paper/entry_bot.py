"""The user's own entry bot, for the demo: opens a position again some time after an exit has made it small."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from decimal import Decimal

from quantum.exchange.paper.hand import trade_to
from quantum.exchange.paper.venue import Venue

AFTER_S = 2.0
CLIENT_ID_PREFIX = "entry-"


class EntryBot:
    def __init__(self, *, venue: Venue, amounts: Mapping[str, Decimal]) -> None:
        self._venue = venue
        self._amounts = amounts

    def after_order(self, symbol: str) -> None:
        """Nothing ticks: an idle exchange has an idle entry bot."""
        if symbol in self._amounts:
            asyncio.get_running_loop().call_later(AFTER_S, self._top_up, symbol)

    def _top_up(self, symbol: str) -> None:
        wanted = self._amounts[symbol]
        if abs(self._venue.holding(symbol).amount) * 2 >= abs(wanted):
            return
        now_us = time.time_ns() // 1000
        client_id = f"{CLIENT_ID_PREFIX}{now_us}"
        trade_to(venue=self._venue, symbol=symbol, amount=wanted, client_id=client_id, now_us=now_us)
