"""Which address belongs to which mode. Known without importing python-binance."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

MODE_HOSTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "testnet": "https://testnet.binancefuture.com/fapi",
        "live": "https://fapi.binance.com/fapi",
    }
)
MODE_STREAMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "testnet": "wss://fstream.binancefuture.com/",
        "live": "wss://fstream.binance.com/",
    }
)
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")


def base_url_for(*, mode: str, paper_url: str | None = None, hosts: Mapping[str, str] = MODE_HOSTS) -> str:
    """The one address that belongs to a mode. Raises ValueError where they do not fit (I15)."""
    if mode != "paper":
        if mode not in hosts:
            raise ValueError(f"no exchange host belongs to mode {mode!r}; known: {sorted(hosts)}")
        return hosts[mode]
    parts = urlsplit(paper_url or "")
    if parts.scheme != "http" or parts.hostname not in LOOPBACK_HOSTS or parts.path != "/fapi":
        raise ValueError("mode 'paper' needs a paper exchange on loopback, as in http://127.0.0.1:8087/fapi")
    return f"http://{parts.netloc}/fapi"


def stream_url_for(
    *, mode: str, paper_url: str | None = None, streams: Mapping[str, str] = MODE_STREAMS
) -> str:
    """Where the mode's user stream is; the paper exchange has it beside its REST. Raises ValueError."""
    if mode != "paper":
        if mode not in streams:
            raise ValueError(f"no user stream belongs to mode {mode!r}; known: {sorted(streams)}")
        return streams[mode]
    return f"ws://{urlsplit(base_url_for(mode=mode, paper_url=paper_url)).netloc}/"
