"""Since when the user stream has been down: told by the feed, asked by doctor."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Gauge

from quantum import clock, metrics
from quantum.doctor import Finding, ok, warn

SILENT_S_MAX = 60.0
NAME = "p33_user_stream_down_since_epoch"
LIVES = -1.0
NOBODY = 0.0
"""What a gauge says that nobody has set."""
_DOWN_SINCE = Gauge(NAME, "-1: the user stream lives; 0: not told yet", multiprocess_mode="mostrecent")


class Silence:
    """Kept by one feed. It begins down."""

    def __init__(self) -> None:
        self._lives: bool | None = None

    def tell(self, *, lives: bool) -> None:
        """A gap that is told again while the stream is down has not begun anew."""
        if lives is not self._lives:
            _DOWN_SINCE.set(LIVES if lives else clock.now_s())
        self._lives = lives


def examine() -> Iterator[Finding]:
    """What p33 told on this host: exits pass without the stream, by what is read every second."""
    since_s = metrics.registry().get_sample_value(NAME)
    if since_s is None or since_s == NOBODY:
        yield warn(
            "no p33 on this host has told of the user stream",
            remedy="start p33; where another host runs it, ask doctor there",
        )
        return
    down_s = clock.now_s() - since_s
    if since_s == LIVES:
        yield ok("the user stream lives")
    elif down_s <= SILENT_S_MAX:
        yield ok(f"the user stream has been down for {down_s:.0f} s")
    else:
        yield warn(
            f"the user stream has been down for {down_s:.0f} s; positions are read every second instead",
            remedy="see p33's log for why no line stands: the listen key, the address, a proxy between",
        )
