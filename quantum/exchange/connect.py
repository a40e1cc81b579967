"""Builds the reader of this instance: mode decides the host, the role brings its key.

python-binance is imported only when a role connects; the other processes never pay for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from quantum.exchange.binance import BinanceReader

HTTP_TIMEOUT_S = 4.0


def base_url() -> str:
    from quantum.exchange.binance import base_url_for

    mode = settings.DRY_RUN_HOST if settings.APPLY_MODE == "dry_run" else settings.APPLY_MODE
    return base_url_for(mode=mode, paper_url=f"{settings.PAPER_URL.rstrip('/')}/fapi")


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
    from quantum.exchange.binance import BinanceReader

    key, secret = credentials(kind)
    return BinanceReader(api_key=key, api_secret=secret, base_url=base_url(), timeout_s=HTTP_TIMEOUT_S)
