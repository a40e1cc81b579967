"""What Linux offers so that no process outlives the one that answers for it."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from quantum import clock

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)  # loaded here: between fork and exec nothing may be loaded


def die_with_parent(parent_pid: int, *, by: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """For Popen's preexec_fn, or to be called at once in a forked child."""

    def set_in_child() -> None:
        _prctl(_PR_SET_PDEATHSIG, by)
        if os.getppid() != parent_pid:  # it died before the line above: no signal will come
            os._exit(1)

    return set_in_child


def adopt_orphans() -> None:
    """Orphaned descendants become our children, so that they can be found and ended."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def children_of(pid: int) -> list[int]:
    """Read from /proc; a process that ends meanwhile is simply not in the list."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(stat.parent.name))
    return found


def kill_children_of(pid: int, *, within_s: float) -> bool:
    """By pid, again and again: what a killed child leaves behind may become a child of ours."""

    def none_left() -> bool:
        left = children_of(pid)
        for child in left:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        return not left

    return wait_until(none_left, within_s=within_s, step_s=0.02)


def signal_group(group: int, number: int) -> bool:
    """False when nobody is left in it (number 0 only asks). A group outlives its leader."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def wait_until(done: Callable[[], bool], *, within_s: float, step_s: float = 0.05) -> bool:
    end = clock.monotonic_s() + within_s
    while not done():
        if clock.monotonic_s() >= end:
            return False
        clock.sleep_s(step_s)
    return True


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")
