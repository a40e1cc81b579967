"""The listen key: one per account, lives 60 minutes by the exchange's clock, longer when kept alive."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from quantum.exchange.paper.errors import ApiError
from quantum.exchange.paper.store import Store

LIFE_MS = 60 * 60 * 1000


class ListenKey:
    def __init__(self, *, store: Store):
        self._store = store
        facts = store.facts()
        self._text = facts.get("listen_key", "")
        self.until_ms = int(facts.get("listen_key_until_ms", "0"))
        self.tell_expired: Callable[[str, int], None] = lambda _key, _now_ms: None

    def current(self, *, now_ms: int) -> str:
        """Empty: there is none. Whoever looks first after its end brings that to light."""
        if self._text and now_ms >= self.until_ms:
            self.expire(now_ms=now_ms)
        return self._text

    def open(self, *, now_ms: int) -> str:
        """The one that lives is given again, and lives longer."""
        self._keep(self.current(now_ms=now_ms) or secrets.token_hex(32), now_ms + LIFE_MS)
        return self._text

    def keep(self, *, asked: str, now_ms: int) -> str:
        """asked: as the client named it; it may leave that out."""
        current = self.current(now_ms=now_ms)
        if not current or asked not in ("", current):
            raise ApiError(-1125)
        return self.open(now_ms=now_ms)

    def close(self) -> None:
        self._keep("", 0)

    def expire(self, *, now_ms: int) -> None:
        gone = self._text
        if gone:
            self.tell_expired(gone, now_ms)  # while its lines still count as its own
            self.close()

    def _keep(self, text: str, until_ms: int) -> None:
        self._text, self.until_ms = text, until_ms
        self._store.put_fact(name="listen_key", value=text)
        self._store.put_fact(name="listen_key_until_ms", value=str(until_ms))
