"""Which code this is, so that "tried with this version" can be compared and not only said."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path

from django.conf import settings

FLOORS = ("quantum", "permits", "positions", "apply")
DECIDES = (".py", ".lua")
DIGITS = 16
Stamp = tuple[str, int, int, int]
_NAMED = re.compile(r"(?m)^([A-Za-z0-9_.-]+)==")


@cache
def of_the_code() -> str:
    """As it lay here when this process, or the one that it was forked from, first asked."""
    return _on_disk()


def that_runs() -> str:
    """For whoever is about to load code: none of the known versions where files were changed under a process that
    runs. What it forks has half of its modules from before and half of them from now, and nobody has tried that."""
    began, now = of_the_code(), _on_disk()
    return began if began == now else f"{began}+{now}"


def _releases() -> list[str]:
    """Of what the lock names as far as it is installed: tools that stand beside it change nothing."""
    names = sorted(set(_NAMED.findall((settings.BASE_DIR / "requirements.lock").read_text())))
    found = ["python=={}.{}".format(*sys.version_info)]
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{name}=={metadata.version(name)}")
    return found


def _on_disk() -> str:
    """Each role asks at its start, and whoever takes over from a dead one has a second: what lies there unwritten since
    the last look is not read again, nor after a fork."""
    return _read_once(tuple(_stamps()))


def _stamps() -> Iterator[Stamp]:
    """Nobody sets the time of a file's last change, as he may that of its content. A release that comes or goes changes
    the folder that it lies in."""
    for path in (str(settings.BASE_DIR / "requirements.lock"), *sys.path, *_that_decide()):
        with contextlib.suppress(OSError):  # a place that is not there, or lies in an archive
            found = os.stat(path)  # noqa: PTH116  no Path for each of 500, at each start
            yield path, found.st_ino, found.st_size, found.st_ctime_ns


def _that_decide() -> Iterator[str]:
    folders = [str(settings.BASE_DIR / floor) for floor in FLOORS]
    while folders:
        # A folder may go while it is read.
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as found:
            for each in found:
                if each.name.endswith(DECIDES):
                    yield each.path
                elif each.is_dir(follow_symlinks=False):
                    folders.append(each.path)


@lru_cache(maxsize=1)
def _read_once(_of: tuple[Stamp, ...]) -> str:
    return _read()


def _read() -> str:
    """Over the names and bytes of everything that decides: a number written by hand is forgotten with the next mend.
    What it rests on is part of it: another python-binance sends another order."""
    digest = hashlib.sha256("\n".join(_releases()).encode())
    for path in sorted(map(Path, _that_decide())):
        if path.is_file():  # an editor's mark beside a file that is open leads nowhere
            content = path.read_bytes()
            digest.update(f"{path.relative_to(settings.BASE_DIR)}\n{len(content)}\n".encode() + content)
    return digest.hexdigest()[:DIGITS]
