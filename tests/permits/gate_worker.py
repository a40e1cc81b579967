"""A worker that does all of apply's waiting and nothing else: `python -m tests.permits.gate_worker <name> <state>`.

The real consumer, lanes and gate; instead of an order it tells the list `told` how each plan ended.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from permits.gate.gate import Gate
    from quantum.plan import ExitPlan
    from quantum.redis import Client
    from quantum.stream import Entry

TOLD = "told"
RECLAIM_IDLE_MS = 60_000


class Waiting:
    def __init__(self, *, name: str, gate: Gate, client: Client) -> None:
        from apply.acting.lanes import Lanes

        self._name, self._gate, self._client = name, gate, client
        self._lanes = Lanes()
        self.ack: Callable[..., None] = lambda *_: None

    def handle(self, entry: Entry) -> bool:
        from quantum.plan import parse

        plan = parse(entry.fields)
        self._lanes.put(plan.symbol, lambda: self._wait(plan, entry), done=lambda: None)
        return False

    def _wait(self, plan: ExitPlan, entry: Entry) -> Callable[[], None]:
        from django.conf import settings

        from permits.gate.outcome import Blocked, SpentPair

        outcome = self._gate.wait_and_consume(plan, stopping=lambda: False)
        if isinstance(outcome, SpentPair):
            told = {"token": outcome.token, "reason": ""}
            self._client.delete(settings.KEYS.slot(plan.symbol))  # as the end of a plan does
        else:
            told = {"token": "", "reason": outcome.error if isinstance(outcome, Blocked) else "stopped"}

        def end() -> None:
            line = {"plan": plan.plan_id, "worker": self._name, **told}
            self._client.rpush(TOLD, json.dumps(line))
            self.ack(entry.entry_id)

        return end


def main(name: str, state: str) -> None:
    import django

    django.setup()
    from django.conf import settings

    from permits.gate.gate import SLOW_STEP_MS, Gate
    from permits.state.trading import Projection
    from quantum import keys
    from quantum.redis import blocking_client, command_client
    from quantum.signing import Verifier
    from quantum.stream import Consumer
    from tests.house import Terms

    client, known = command_client(), Projection(raw=state.encode(), version=1, active=True)
    gate = Gate(
        commands=client,
        blocking=blocking_client(block_s=SLOW_STEP_MS / 1000),
        verifier=Verifier(directory=settings.PERMIT_KEYS_DIR),
        state=lambda *, fresh: known,
    )
    terms, waiting = Terms(name), Waiting(name=name, gate=gate, client=client)
    consumer = Consumer(
        terms=terms,
        stream=settings.KEYS.plan_stream,
        group=keys.APPLY_GROUP,
        handle=waiting.handle,
        reclaim_idle_ms=RECLAIM_IDLE_MS,
    )
    waiting.ack = consumer.ack
    consumer.run()


if __name__ == "__main__":
    main(*sys.argv[1:3])
