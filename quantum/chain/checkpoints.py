"""Copies of seals in a file outside the database: whoever cuts the chain's end there has not cut it here.

Lines are only ever added, each written through to the disk before it counts. docs/audit.md has the format.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from quantum.chain import form
from quantum.chain.form import Checkpoint

_TAIL = 4096
LINE_MAX = 2048


class Line(Struct, frozen=True):
    file: Path
    at: int
    checkpoint: Checkpoint | None
    """None: no checkpoint, whatever it is."""

    @property
    def where(self) -> str:
        return f"line {self.at} of {self.file}"


def append(path: Path, copy: Checkpoint) -> bool:
    """False: a later one stands there already, written by a sealer that took over meanwhile; lines only ascend.

    What a death left half written is taken away first: it never counted.
    """
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644), "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL))
        end = file.read()
        before = _last_of(end)
        if before is not None and before.instance == copy.instance and before.number >= copy.number:
            return False
        if torn := _torn(end):
            file.truncate(size - len(torn))
        file.seek(0, os.SEEK_END)
        file.write(copy.line)
        file.flush()
        os.fsync(file.fileno())
    if new:
        _keep_name(path.parent)
    return True


def last(path: Path) -> Checkpoint | None:
    """The last whole line, if it is a checkpoint."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            end = file.read()
    except FileNotFoundError:
        return None
    return _last_of(end)


def lines(path: Path) -> Iterator[Line]:
    """One after the other. The torn end of a line that is being written is none yet."""
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(LINE_MAX):
            number += 1
            if raw.endswith(b"\n") or len(raw) == LINE_MAX:
                yield Line(path, number, form.read_line(raw))
            elif found := form.read_line(raw):
                yield Line(path, number, found)


def first_from(path: Path, number: int) -> Checkpoint | None:
    """The first whole line of that seal or a later one. A file of years is not read through: its lines ascend."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        low, high = 0, file.seek(0, os.SEEK_END)
        while low < high:
            middle = (low + high) // 2
            found = _line_after(file, middle)
            if found is None or found.number >= number:
                high = middle
            else:
                low = middle + 1
        return _line_after(file, low)


def _line_after(file: BinaryIO, at: int) -> Checkpoint | None:
    """The first one that begins there or later."""
    file.seek(max(0, at - 1))
    if at:
        file.readline(LINE_MAX)
    return form.read_line(file.readline(LINE_MAX))


def _last_of(end: bytes) -> Checkpoint | None:
    whole = end[: len(end) - len(_torn(end))].splitlines()
    return form.read_line(whole[-1]) if whole else None


def _torn(end: bytes) -> bytes:
    return end[end.rfind(b"\n") + 1 :]


def _keep_name(folder: Path) -> None:
    """The name of a new file is the folder's, and has to reach the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
