"""Our own exits' trades as the user stream tells them: stored at once, so that apply need not ask the exchange.

Stored, not booked: an exit moves the ledger in the transaction that settles it, and nowhere else. Where a trade does
not come this way, because it came without its numbers or could not be written, apply asks for it after half a second.
"""

from __future__ import annotations

from django.conf import settings

from positions.books import ledger
from positions.books.ledger import SeenTrade
from positions.feed.gathered import Gathered
from quantum import clock
from quantum.plan import plan_of_order
from quantum.redis import Client

BATCH_MAX = 50
WAKE_LIFE_S = 10
LATELY_S = 1.0
"""Apply has booked a fill by then; what differs for longer has another cause."""


class OwnFills:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._heard = Gathered[SeenTrade]()
        self._told_s: dict[str, float] = {}

    def hear(self, seen: SeenTrade) -> None:
        self._told_s[seen.trade.symbol] = clock.boot_s()
        self._heard.add(seen)
        if len(self._heard) >= BATCH_MAX:
            self.write()

    def told_lately(self, symbol: str) -> bool:
        """From any thread."""
        return clock.boot_s() - self._told_s.get(symbol, -LATELY_S) < LATELY_S

    @property
    def due_in_s(self) -> float:
        return self._heard.due_in_s

    def write(self) -> None:
        """What came together is one commit. The ids go into Redis as a hint which rows to look at, nothing more."""
        heard = self._heard.take()
        if not heard:
            return
        ledger.store(heard)
        line = self._client.pipeline(transaction=False)
        for seen in heard:
            plan_id = plan_of_order(seen.client_order_id)
            if plan_id is not None:
                key = settings.KEYS.fills_wake(plan_id)
                line.rpush(key, seen.trade.trade_id)
                line.expire(key, WAKE_LIFE_S)
        line.execute()
