"""A second process that races for permits: `python -m tests.permits.racers`, one JSON line in, one out, a round.

In: the plan's fields, how many attempts, the state's bytes, and the monotonic moment (one clock for all processes
of a machine) at which all of them begin. Out: what each attempt was told.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantum.plan import ExitPlan
    from quantum.redis import Client

STEP_MS = 5


def race(plan: ExitPlan, *, client: Client, state: bytes, lanes: int, at_s: float) -> list[dict[str, Any]]:
    """Every attempt with a token of its own, in a thread of its own."""
    from django.conf import settings

    from permits.gate.attempt import Attempt
    from permits.gate.judge import Judge
    from permits.gate.outcome import Blocked, SpentPair
    from permits.gate.spending import Spending
    from permits.state.trading import Projection
    from quantum.signing import Verifier
    from tests.permits.mandates import no_hold, nobody

    judge = Judge(Verifier(directory=settings.PERMIT_KEYS_DIR), operators=nobody(client))
    known = Projection(raw=state, version=1, active=True)
    told: list[dict[str, Any]] = []

    def lane() -> None:
        spending = Spending(commands=client, blocking=client)
        attempt = Attempt(plan, spending=spending, judge=judge, state=lambda *, fresh: known, hold=no_hold)
        time.sleep(max(0.0, at_s - time.monotonic()))
        while (outcome := attempt.turn(STEP_MS)) is None:
            pass
        if isinstance(outcome, SpentPair):
            pair = [outcome.governor.raw.decode(), outcome.p33.raw.decode()]
            told.append({"spent": True, "token": outcome.token, "pair": pair})
        else:
            assert isinstance(outcome, Blocked)
            told.append({"spent": False, "reason": outcome.reason.value})

    threads = [threading.Thread(target=lane) for _ in range(lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return told


def main() -> None:
    import django

    django.setup()
    from quantum.plan import parse
    from quantum.redis import command_client

    client = command_client()
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        plan = parse({name.encode(): value.encode() for name, value in asked["plan"].items()})
        told = race(
            plan, client=client, state=asked["state"].encode(), lanes=asked["lanes"], at_s=asked["at_s"]
        )
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
