"""A signed webhook: POST of JSON. Who receives it makes the HMAC anew and compares; the time is signed with the body,
so that an old notice cannot be sent again by a stranger."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from apply.alerts import asking
from apply.alerts.targets import NotTold
from quantum import clock

AGAIN = (408, 425, 429)
"""Of the answers 400-499 those that ask for patience; the others would be the same the next time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    name: str
    url: str = field(repr=False)
    secret: bytes = field(repr=False)
    escalations_only: bool = False

    def tell(self, body: str, *, mark: str) -> str:
        raw = body.encode()
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "quantum-alerts",
            "Idempotency-Key": mark,
            "Quantum-Signature": signature(self.secret, at_s=int(clock.now_s()), body=raw),
        }
        try:
            status = asking.ask("POST", self.url, body=raw, headers=headers)
        except asking.FAILURES as failed:
            raise NotTold(f"no answer ({type(failed).__name__})", permanent=False) from None
        if 200 <= status < 300:
            return f"answered {status}"
        permanent = status < 500 and status not in AGAIN
        words = "a redirect, which is not followed" if 300 <= status < 400 else "refused"
        raise NotTold(
            f"answered {status}: {words}" if permanent else f"answered {status}", permanent=permanent
        )


def signature(secret: bytes, *, at_s: int, body: bytes) -> str:
    made = hmac.new(secret, f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={made}"
