"""Builds the reader of this instance: mode decides the host, the role brings its key.

python-binance is imported only when a role connects; the other processes never pay for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from quantum.exchange.hosts import base_url_for, stream_url_for

if TYPE_CHECKING:
    from quantum.exchange.binance_reader import BinanceReader
    from quantum.exchange.user_stream import UserStream

HTTP_TIMEOUT_S = 4.0


def base_url() -> str:
    return base_url_for(mode=_host_mode(), paper_url=_paper_url())


def _host_mode() -> str:
    mode: str = settings.DRY_RUN_HOST if settings.APPLY_MODE == "dry_run" else settings.APPLY_MODE
    return mode


def _paper_url() -> str:
    return f"{settings.PAPER_URL.rstrip('/')}/fapi"


def credentials(kind: str) -> tuple[str, str]:
    """READ or TRADE. Read from the environment now, by the role that needs it, and kept nowhere else."""
    names = f"BINANCE_{kind}_KEY", f"BINANCE_{kind}_SECRET"
    found = settings.ENVIRONMENT.secret(names[0]), settings.ENVIRONMENT.secret(names[1])
    for name, value in zip(names, found, strict=True):
        if not value:
            raise ImproperlyConfigured(
                f"{name} is missing; set it or {name}_FILE (`up` makes both for paper mode)"
            )
    return found


def reader(kind: str = "READ") -> BinanceReader:
    from quantum.exchange.binance_reader import BinanceReader

    key, secret = credentials(kind)
    return BinanceReader(api_key=key, api_secret=secret, base_url=base_url(), timeout_s=HTTP_TIMEOUT_S)


def user_stream(reader: BinanceReader) -> UserStream:
    """Not started. The reader's key opens it: the read key is enough, and nothing more is needed."""
    from quantum.exchange.binance_stream import BinanceLine
    from quantum.exchange.user_stream import UserStream

    stream_url = stream_url_for(mode=_host_mode(), paper_url=_paper_url())
    return UserStream(keys=reader, make_line=lambda: BinanceLine(stream_url=stream_url))
