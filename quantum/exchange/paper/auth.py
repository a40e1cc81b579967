"""Who asks, and whether the request is fresh and untouched: keys, HMAC over the raw text, clock."""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from msgspec import Struct

from quantum.exchange.paper.errors import ApiError

RECV_WINDOW_MS_DEFAULT = 5000
RECV_WINDOW_MS_MAX = 60_000
AHEAD_MS_MAX = 1000
_SIGNATURE = re.compile(r"(?:^|&)signature=([^&]*)")


@dataclass(frozen=True, slots=True)
class PaperKeys:
    """Two key pairs: one may only read, the other may trade as well."""

    read_key: str = field(repr=False)
    read_secret: str = field(repr=False)
    trade_key: str = field(repr=False)
    trade_secret: str = field(repr=False)

    @classmethod
    def generate(cls) -> PaperKeys:
        return cls(*(secrets.token_hex(32) for _ in range(4)))

    def secret_of(self, key: str) -> str:
        """Raises -2014 / -2015 as the exchange does."""
        if not key:
            raise ApiError(-2014)
        pairs = {self.read_key: self.read_secret, self.trade_key: self.trade_secret}
        if key not in pairs:
            raise ApiError(-2015)
        return pairs[key]


class RawRequest(Struct, frozen=True):
    """What was on the wire, before anything decoded it."""

    key: str
    query: str
    body: str

    def params(self) -> dict[str, str]:
        pairs = parse_qsl(self.query, keep_blank_values=True)
        return dict(pairs + parse_qsl(self.body, keep_blank_values=True))

    def unsigned_text(self) -> str:
        """The parameters as sent, without the signature: what was signed, and what is logged."""
        return _SIGNATURE.sub("", self.query + self.body, count=1)


def require_signed(*, raw: RawRequest, params: dict[str, str], keys: PaperKeys, now_ms: int) -> None:
    secret = keys.secret_of(raw.key)
    signature = params.get("signature", "")
    if not signature:
        raise ApiError(-1102, "signature")
    _require_fresh(params=params, now_ms=now_ms)
    wanted = hmac.new(secret.encode(), raw.unsigned_text().encode(), "sha256").hexdigest()
    if not hmac.compare_digest(wanted, signature.lower()):
        raise ApiError(-1022)


def _require_fresh(*, params: dict[str, str], now_ms: int) -> None:
    timestamp_ms = _whole(params, "timestamp", default=None)
    window_ms = _whole(params, "recvWindow", default=RECV_WINDOW_MS_DEFAULT)
    if not 0 < window_ms <= RECV_WINDOW_MS_MAX:
        raise ApiError(-1102, "recvWindow")
    if not (timestamp_ms < now_ms + AHEAD_MS_MAX and now_ms - timestamp_ms <= window_ms):
        raise ApiError(-1021)


def _whole(params: dict[str, str], name: str, *, default: int | None) -> int:
    text = params.get(name)
    if text is None and default is not None:
        return default
    if not text or not text.isascii() or not text.isdigit() or len(text) > 15:
        raise ApiError(-1102, name)
    return int(text)
