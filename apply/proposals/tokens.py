"""Tokens of the HTTP interface: shown once, kept as a digest, bound to scopes, symbols and a rate."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence

from django.core.cache import caches
from django.db import IntegrityError, transaction

from apply.models import ApiToken
from quantum import audit, clock

PROPOSE, READ = "propose", "read"
SCOPES = (PROPOSE, READ)
EVERY_SYMBOL = "*"
PREFIX = "qt_"
PER_MINUTE = 60
PER_MINUTE_MAX = 6000
WINDOW_S = 60
SYMBOLS_LENGTH_MAX = 1000
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_SYMBOL = re.compile(r"\*|[A-Z0-9]{2,40}")


class NoToken(Exception):
    """Nothing was made or changed. One line for a person."""


def create(
    *, name: str, scopes: Sequence[str], symbols: Sequence[str], per_minute: int, by: str, reason: str
) -> str:
    """The token itself, for this one time. Raises NoToken."""
    if not _NAME.fullmatch(name):
        raise NoToken("a name has 1 to 40 of a-z 0-9 . _ - and begins with a letter or digit")
    if not scopes or set(scopes) - set(SCOPES):
        raise NoToken(f"scopes are {' and '.join(SCOPES)}")
    if not symbols or not all(_SYMBOL.fullmatch(symbol) for symbol in symbols):
        raise NoToken("symbols are names like BTCUSDT, or * for every one")
    if len(",".join(set(symbols))) > SYMBOLS_LENGTH_MAX:
        raise NoToken(f"symbols have {SYMBOLS_LENGTH_MAX} characters at most; * is every symbol")
    if not 0 < per_minute <= PER_MINUTE_MAX:
        raise NoToken(f"the rate is 1 to {PER_MINUTE_MAX} requests a minute")
    token = PREFIX + secrets.token_urlsafe(32)
    said = {"scopes": ",".join(sorted(set(scopes))), "symbols": ",".join(sorted(set(symbols)))}
    try:
        with transaction.atomic():
            ApiToken.objects.create(
                name=name, digest=_digest(token), per_minute=per_minute, created_by=by, reason=reason, **said
            )
            audit.record(kind="api_token_created", actor=by, reason=reason, data={"client": name, **said})
    except IntegrityError:
        raise NoToken(f"there is or was a client {name}: names are never used again") from None
    return token


def revoke(*, name: str, by: str, reason: str) -> None:
    with transaction.atomic():
        changes = {"revoked_at": clock.now(), "revoked_by": by, "revoked_reason": reason}
        if not ApiToken.objects.filter(name=name, revoked_at=None).update(**changes):
            raise NoToken(f"there is no valid token of {name}")
        audit.record(kind="api_token_revoked", actor=by, reason=reason, data={"client": name})


def find(token: str) -> ApiToken | None:
    """By its digest: what is compared tells nothing of the token. None: unknown or revoked."""
    return ApiToken.objects.filter(digest=_digest(token), revoked_at=None).first()


def may(token: ApiToken, *, scope: str) -> bool:
    return scope in token.scopes.split(",")


def covers(token: ApiToken, symbol: str) -> bool:
    symbols = token.symbols.split(",")
    return EVERY_SYMBOL in symbols or symbol in symbols


def spend(token: ApiToken) -> int:
    """Seconds to wait before the next request; 0: this one is within the rate. Raises what the cache raises."""
    cache, now_s = caches["default"], int(clock.now_s())
    key = f"api-rate:{token.pk}:{now_s // WINDOW_S}"
    if cache.add(key, 1, timeout=2 * WINDOW_S):
        return 0
    try:
        within = cache.incr(key) <= token.per_minute
    except ValueError:  # thrown out between the two calls: what cannot be counted has to wait
        within = False
    return 0 if within else WINDOW_S - now_s % WINDOW_S


def _digest(token: str) -> str:
    """The token has 256 random bits: nothing slower is needed to keep it from being guessed."""
    return hashlib.sha256(token.encode()).hexdigest()
