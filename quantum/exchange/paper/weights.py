"""What the exchange counts: request weight and orders. Above the limit 429, and who goes on meets 418.

The limits are those exchangeInfo names. Weight is always enforced; orders only where
the control plane has set limits, so that a bench measures its product and not this count.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from quantum.exchange.paper.errors import BANNED, ApiError

WEIGHT_1M, ORDERS_10S, ORDERS_1M = "weight_1m", "orders_10s", "orders_1m"
LIMITS: Mapping[str, int] = MappingProxyType({WEIGHT_1M: 2400, ORDERS_10S: 300, ORDERS_1M: 1200})
WINDOW_MS: Mapping[str, int] = {WEIGHT_1M: 60_000, ORDERS_10S: 10_000, ORDERS_1M: 60_000}
HEADERS: Mapping[str, str] = {
    WEIGHT_1M: "X-MBX-USED-WEIGHT-1M",
    ORDERS_10S: "X-MBX-ORDER-COUNT-10S",
    ORDERS_1M: "X-MBX-ORDER-COUNT-1M",
}
IGNORED_MAX = 10
"""So many requests after the first 429 of a minute are forgiven, then the address is banned."""
BAN_MS = 120_000


class OverLimit(ApiError):
    """429 or 418, with the time after which asking again is allowed."""

    def __init__(self, code: int, *details: str, retry_after_s: int):
        super().__init__(code, *details)
        self.retry_after_s = retry_after_s

    @classmethod
    def banned(cls, *, now_ms: int, until_ms: int) -> OverLimit:
        error = cls(-1003, "", retry_after_s=_seconds(until_ms - now_ms))
        error.status, error.msg = 418, BANNED.format(until_ms)
        return error


class Weights:
    def __init__(self) -> None:
        self.limits = dict(LIMITS)
        self._counted_orders = False
        self._used = dict.fromkeys(LIMITS, 0)
        self._window = dict.fromkeys(LIMITS, 0)
        self._ignored = 0
        self._banned_until_ms = 0

    def set_limits(self, limits: Mapping[str, int]) -> None:
        """Those of the exchange but for these, and a clean slate. Naming a limit of orders makes it count."""
        if unknown := limits.keys() - LIMITS:
            raise ValueError(f"no such limit: {sorted(unknown)}; there are {sorted(LIMITS)}")
        if any(type(limit) is not int or limit < 1 for limit in limits.values()):
            raise ValueError("a limit is a whole number above zero")
        self.__init__()  # type: ignore[misc]
        self.limits |= limits
        self._counted_orders = bool(limits.keys() & {ORDERS_10S, ORDERS_1M})

    def count(self, *, weight: int, is_order: bool, now_ms: int) -> dict[str, str]:
        """The headers that tell the counts."""
        for name, window_ms in WINDOW_MS.items():
            if self._window[name] != now_ms // window_ms:
                self._window[name], self._used[name] = now_ms // window_ms, 0
                if name == WEIGHT_1M:
                    self._ignored = 0
            self._used[name] += weight if name == WEIGHT_1M else int(is_order)
        told = HEADERS if is_order else (WEIGHT_1M,)
        return {HEADERS[name]: str(self._used[name]) for name in told}

    def require_room(self, *, is_order: bool, now_ms: int) -> None:
        """After count(). Raises OverLimit; nothing was executed then."""
        if now_ms < self._banned_until_ms:
            raise OverLimit.banned(now_ms=now_ms, until_ms=self._banned_until_ms)
        for name in WINDOW_MS if is_order and self._counted_orders else (WEIGHT_1M,):
            if self._used[name] > self.limits[name]:
                self._turn_away(name, now_ms)

    def _turn_away(self, name: str, now_ms: int) -> None:
        self._ignored += 1
        if self._ignored > IGNORED_MAX:
            self._banned_until_ms = now_ms + BAN_MS
            raise OverLimit.banned(now_ms=now_ms, until_ms=self._banned_until_ms)
        window_ms, limit = WINDOW_MS[name], str(self.limits[name])
        rest_s = _seconds(window_ms - now_ms % window_ms)
        if name == WEIGHT_1M:
            raise OverLimit(-1003, limit, retry_after_s=rest_s)
        raise OverLimit(-1015, limit, "MINUTE" if name == ORDERS_1M else "TEN_SECONDS", retry_after_s=rest_s)


def _seconds(rest_ms: int) -> int:
    return max(1, -(-rest_ms // 1000))
