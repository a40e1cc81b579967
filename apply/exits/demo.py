"""The demo's exit feed: every few seconds one proposal for a symbol that has a position."""

from __future__ import annotations

import itertools
from decimal import Decimal

from django.conf import settings

from apply.proposals.proposal import Proposal
from apply.proposals.taking import Origin, take
from quantum import amounts, clock
from quantum.plan import Action
from quantum.redis import Client

ACTOR = "demo-exit-feed"
WHY = "the demo closes a part of each position in turn, whatever the price does"
EVERY_S = 3.0
ACTIONS = (Action.PARTIAL_25, Action.PARTIAL_50, Action.PARTIAL_25, Action.PARTIAL_75)


class DemoFeed:
    def __init__(self, *, client: Client) -> None:
        self._client = client
        self._symbols = itertools.cycle(settings.APPLY_ALLOWLIST)
        self._actions = itertools.cycle(ACTIONS)
        self._next_boot_s = 0.0

    def tick(self) -> None:
        if clock.boot_s() < self._next_boot_s or not self._client.exists(settings.KEYS.trading_state):
            return  # not armed yet: the first thing a newcomer sees should not be a refusal
        symbol = self._with_position()
        if symbol is None:
            return
        self._next_boot_s = clock.boot_s() + EVERY_S
        said = Proposal(
            symbol=symbol,
            action=next(self._actions),
            kill_score_text="0.8",
            computed_at_text=f"{clock.now_s():.3f}",
            reason_codes="demo",
            source=ACTOR,
        )
        take(self._client, said, origin=Origin(way="demo", actor=ACTOR, why=WHY))

    def _with_position(self) -> str | None:
        """In turn; no position, or one that the ledger has not adopted yet, no plan."""
        for _ in settings.APPLY_ALLOWLIST:
            symbol = next(self._symbols)
            if not self._client.exists(settings.KEYS.ledger(symbol)):
                continue
            held = self._client.hget(settings.KEYS.snapshot(symbol), "position_amt")
            amount = amounts.parse(held.decode()) if held else None
            if amount not in (None, Decimal(0)):
                return symbol
        return None
