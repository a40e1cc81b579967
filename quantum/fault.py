"""One seam for kill tests: fault_point(name) does nothing unless QUANTUM_FAULT names it. Refused in live."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from django.conf import settings

from quantum import clock

TAKES_EFFECT_S = 0.1


class FaultRaised(Exception):
    """What the fault `raise` raises."""


def fault_point(name: str) -> None:
    """QUANTUM_FAULT=<point>:<kill|stop|sleep|raise>[:seconds]. kill and stop happen once per var/ folder."""
    if not settings.QUANTUM_FAULT:
        return
    point, _, act = settings.QUANTUM_FAULT.partition(":")
    if point != name:
        return
    what, _, seconds = act.partition(":")
    if what == "sleep":
        clock.sleep_s(float(seconds or 1))
    elif what == "raise":
        raise FaultRaised(name)
    elif _first_time(name):
        os.kill(os.getpid(), signal.SIGKILL if what == "kill" else signal.SIGSTOP)
        # The signal is the process's: another thread may take it, and this one would run on for a moment, far enough
        # to send. It sleeps until all of them have stopped.
        clock.sleep_s(TAKES_EFFECT_S)


def _first_time(name: str) -> bool:
    """Otherwise a killed role would be killed again at its first plan after every restart."""
    marker = Path(settings.VAR_DIR) / f"fault-{name}"
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
