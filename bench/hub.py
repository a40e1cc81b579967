"""Rivals of the product's way to wait, kept so that anyone can measure them again. Nothing of the product uses them.

HubSpending: one pub/sub connection per process, PSUBSCRIBEd to every wake-up, hands each to the thread
that waits for that plan. A message that nobody awaits is gone, so a waiter must look once after it has
registered. PollSpending: the predecessor's, a look every step.
"""

from __future__ import annotations

import queue
import re
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from django.conf import settings

from permits.gate.spending import Call, Hint, Spending, _hint
from quantum.redis import Script

_PUSH = re.compile(
    r"redis\.call\('RPUSH', (KEYS\[\d+\]), wake\)\nredis\.call\('PEXPIRE', \1, [^)]*\)", re.MULTILINE
)


def publishing(product: Script) -> Script:
    """The product's issuing script, with its push to the plan's list turned into a PUBLISH."""
    text, count = _PUSH.subn(r"redis.call('PUBLISH', \1, wake)", product.text)
    if count != 1:
        raise ValueError(f"{product.name}.lua no longer pushes its wake-up as this rival expects")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{product.name}-{product.key_count}.lua"
        path.write_text(text)
        return Script(path)


class HubSpending(Spending):
    def __init__(self, *, commands: Any, blocking: Any) -> None:
        super().__init__(commands=commands, blocking=blocking)
        self._waiting: dict[bytes, queue.SimpleQueue[bytes]] = {}
        self._pubsub = blocking.pubsub()
        self._pubsub.psubscribe(settings.KEYS.wake("*"))
        threading.Thread(target=self._listen, name="wake-hub", daemon=True).start()

    def _listen(self) -> None:
        while True:
            answer = self._pubsub.parse_response(block=False, timeout=1)
            if answer and answer[0] == b"pmessage":
                box = self._waiting.get(answer[2])
                if box is not None:
                    box.put(answer[3])

    def wake(self, call: Call, *, within_ms: float) -> Hint | None:
        key = call.wake_key.encode()
        box = self._waiting.get(key)
        if box is None:
            self._waiting[key] = queue.SimpleQueue()
            return None  # registered: now look, because what was published before is gone
        try:
            return _hint(box.get(timeout=within_ms / 1000))
        except queue.Empty:
            return None

    def consume(self, call: Call, **more: Any) -> Any:
        answer = super().consume(call, **more)
        if answer[0] == 1:
            self._waiting.pop(call.wake_key.encode(), None)
        return answer


class PollSpending(Spending):
    def wake(self, _call: Call, *, within_ms: float) -> Hint | None:
        time.sleep(within_ms / 1000)
        return None
