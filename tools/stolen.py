"""What the host gave to others: a virtual machine loses its processors for milliseconds or seconds, and the kernel
counts it (`steal`)."""

from __future__ import annotations

from pathlib import Path


def counted() -> tuple[int, int]:
    """Ticks that were taken, ticks that were wanted. Without a kernel that counts: nothing was taken."""
    try:
        first = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return 0, 0
    user, nice, system, _idle, _io, irq, softirq, steal = map(int, first[:8])
    return steal, user + nice + system + irq + softirq + steal


def percent(before: tuple[int, int], after: tuple[int, int]) -> float:
    """Of the wanted time between two counts, how much was taken."""
    return 100 * (after[0] - before[0]) / max(after[1] - before[1], 1)
