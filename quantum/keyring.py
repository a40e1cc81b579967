"""Changing the key of a signer while permits flow: no good permit may be refused, whenever a death comes.

1 the new public half is laid beside the current one; 2 all verifiers have time to look; 3 the private key is
replaced, by one rename: from here on the new key signs; 4 the old public half is kept with an end; 5 the new
public half becomes the current one. Whatever dies in between, what was signed is believed; the next
rotation, or `permit_keys make`, finishes what is half done. Decision 014.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from quantum import audit, clock, signing
from quantum.signing import SIGNERS, KeyUnusable

SETTLE_S = signing.LOOK_EVERY_S * 1.5
OLD_KEY_LIFE_S = signing.OLD_KEY_LIFE_S
OLD_KEYS_MAX = 4
"""Each one is tried on a forged permit: a loop that rotates must not make forgeries expensive for us."""


class RotationRefused(Exception):
    """Nothing was changed. Says why."""


class KeyFile(Struct, frozen=True):
    """One file as `permit_keys` shows it. Never its content."""

    signer: str
    what: str
    path: Path
    fingerprint: str
    mode: str
    problem: str = ""
    until_s: int | None = None


class Rotation(Struct, frozen=True):
    signer: str
    before: str
    after: str
    old_until_s: int | None


def files(directory: Path) -> list[KeyFile]:
    """Every key file there is, without opening a private one: this may run as whoever runs apply."""
    found: list[KeyFile] = []
    for name in SIGNERS:
        found.append(_private_file(name, directory / f"{name}.key"))
        found.append(_public_file(name, "public", directory / f"{name}.pub"))
        coming = directory / f"{name}.next.pub"
        if coming.exists():
            found.append(_public_file(name, "next", coming, problem="a rotation is not finished"))
        for path, until_s in signing.old_keys(name, directory):
            found.append(_public_file(name, "old", path, until_s=until_s))
    return found


def _private_file(name: str, path: Path) -> KeyFile:
    try:
        bits = path.stat().st_mode & 0o777
    except OSError:
        return KeyFile(name, "private", path, "", "", problem="missing; run permit_keys make")
    problem = f"open to others; run: chmod 600 {path}" if bits & 0o077 else ""
    return KeyFile(name, "private", path, "", f"{bits:o}", problem=problem)


def _public_file(
    name: str, what: str, path: Path, *, until_s: int | None = None, problem: str = ""
) -> KeyFile:
    try:
        mark = signing.fingerprint_of(signing.load_public(path))
        bits = f"{path.stat().st_mode & 0o777:o}"
    except (KeyUnusable, OSError) as unusable:
        return KeyFile(name, what, path, "", "", problem=str(unusable), until_s=until_s)
    return KeyFile(name, what, path, mark, bits, problem=problem, until_s=until_s)


def make_missing(directory: Path) -> list[str]:
    """The pairs that are missing; and what an interrupted rotation left is brought to its end."""
    made = signing.ensure_keys(directory)
    with _alone(directory):
        for name in SIGNERS:
            _finish(name, directory, believe_old=True)
            _prune(name, directory)
    return made


def rotate(
    name: str, *, directory: Path, by: str, reason: str, believe_old: bool = True, settle_s: float = SETTLE_S
) -> Rotation:
    """believe_old=False for a key that was stolen: its permits in flight are refused within a second."""
    with _alone(directory):
        _finish(name, directory, believe_old=believe_old)
        _prune(name, directory)
        if len(signing.old_keys(name, directory)) >= OLD_KEYS_MAX:
            raise RotationRefused(
                f"{name} has {OLD_KEYS_MAX} replaced keys whose permits may live; try in {OLD_KEY_LIFE_S} s"
            )
        before = signing.fingerprint_of(signing.load_public(directory / f"{name}.pub"))
        private, public = signing.pem_pair()
        _replace(directory / f"{name}.next.pub", public, mode=0o644)
        after = signing.fingerprint_of(signing.load_public(directory / f"{name}.next.pub"))
        # Before the act: a rotation without a record must not exist, a record of one that died may.
        audit.record(
            kind="permit_key_rotated",
            actor=by,
            reason=reason,
            data={"signer": name, "before": before, "after": after, "old_believed": believe_old},
        )
        clock.sleep_s(settle_s)
        _replace(directory / f"{name}.key", private, mode=0o600)
        until_s = _finish(name, directory, believe_old=believe_old)
    return Rotation(signer=name, before=before, after=after, old_until_s=until_s)


def _finish(name: str, directory: Path, *, believe_old: bool) -> int | None:
    """Steps 4 and 5, or away with a new public half whose private half never came into use."""
    coming, current = directory / f"{name}.next.pub", directory / f"{name}.pub"
    if not coming.exists():
        return None
    private = signing.load_private(directory / f"{name}.key")
    new = signing.fingerprint_of(signing.load_public(coming))
    if signing.fingerprint_of(private.public_key()) != new:
        coming.unlink()
        return None
    old = signing.fingerprint_of(signing.load_public(current))
    until_s = None
    if believe_old and old != new:
        until_s = int(clock.now_s()) + OLD_KEY_LIFE_S
        # Kept before it is replaced: no look may find a moment without it.
        _replace(directory / f"{name}.old-{old}-{until_s}.pub", current.read_bytes(), mode=0o644)
    if not believe_old:
        for path, _ in signing.old_keys(name, directory):
            path.unlink()
    coming.replace(current)
    return until_s


def _prune(name: str, directory: Path) -> None:
    for path, until_s in signing.old_keys(name, directory):
        if until_s <= clock.now_s():
            signing.keep_for_proofs(name, path)


def _replace(path: Path, content: bytes, *, mode: int) -> None:
    """Whole or not at all, also after a power cut."""
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Two rotations at once would each replace the other's half. The lock ends with the process."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise RotationRefused("another permit_keys is at work on these keys; let it end") from None
    try:
        yield
    finally:
        os.close(descriptor)
