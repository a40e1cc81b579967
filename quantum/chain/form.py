"""The bytes of the chain, and nothing else. docs/audit.md says the same in words, for whoever writes a verifier."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

FORMAT = 1
FIELDS = ("id", "at", "kind", "plan_id", "symbol", "actor", "reason", "data")
"""Every column of an event, in this order. A new column is a new format."""
NO_HEAD = "0" * 64
EVENT_TAG = b"quantum-audit-event-1"
_LEAF, _NODE, _SEAL = b"\x00", b"\x01", b"\x02"
_LENGTH = struct.Struct(">I").pack
_LENGTH_SIZE = 4
_SIGNED = re.compile(rb'(\{.*),"sig":"([A-Za-z0-9_-]{86})"\}', re.DOTALL)
_LINE = re.compile(rb"([0-9a-f]{64}) (\{.*\})\n?")


class Fields(Struct, frozen=True, kw_only=True):
    """What a seal says. From a database they may be anything that somebody wrote there."""

    number: Any
    format: Any
    instance: Any
    events: Any
    total: Any
    previous: Any
    root: Any
    at_us: Any
    checkpointed: Any
    key: Any


def event_bytes(fields: Iterable[bytes]) -> bytes:
    """Each field with its length before it: no two events have the same bytes."""
    parts = [EVENT_TAG]
    for field in fields:
        parts += (_LENGTH(len(field)), field)
    return b"".join(parts)


def fields_of(event: bytes) -> list[bytes]:
    """Of the bytes that event_bytes() made."""
    at, found = len(EVENT_TAG), []
    while at < len(event):
        end = at + _LENGTH_SIZE + int.from_bytes(event[at : at + _LENGTH_SIZE], "big")
        found.append(event[at + _LENGTH_SIZE : end])
        at = end
    return found


def leaf(event: bytes) -> bytes:
    return hashlib.sha256(_LEAF + event).digest()


def root(leaves: Sequence[bytes]) -> str:
    """Of a tree as in RFC 6962: pairs from the left, one that is left over goes up as it is."""
    level = list(leaves)
    while len(level) > 1:
        level = _above(level)
    return level[0].hex()


def path(leaves: Sequence[bytes], position: int) -> list[str]:
    """What proves one leaf without showing the others, from the bottom up: PATH of RFC 6962."""
    level, found = list(leaves), []
    while len(level) > 1:
        beside = position ^ 1
        if beside < len(level):
            found.append(level[beside].hex())
        position //= 2
        level = _above(level)
    return found


def _above(level: list[bytes]) -> list[bytes]:
    pairs = zip(level[::2], level[1::2], strict=False)
    above = [hashlib.sha256(_NODE + left + right).digest() for left, right in pairs]
    return above + level[-1:] if len(level) % 2 else above


def seal_bytes(seal: Fields) -> bytes:
    return (
        f'{{"seal":{seal.number},"v":{seal.format},"instance":"{seal.instance}","events":{seal.events},'
        f'"total":{seal.total},"previous":"{seal.previous}","root":"{seal.root}","at_us":{seal.at_us},'
        f'"checkpointed":{seal.checkpointed},"key":"{seal.key}"}}'
    ).encode("utf-8", "surrogatepass")


def head(seal: bytes) -> str:
    return hashlib.sha256(_SEAL + seal).hexdigest()


# ---- a seal outside the database


class Checkpoint(Struct, frozen=True):
    """A line of a checkpoint file: a seal as it was when it was made."""

    head: str
    body: bytes
    signature: str
    number: int
    total: int
    instance: str
    key: str

    @property
    def line(self) -> bytes:
        return b"%s %s\n" % (self.head.encode(), signed(self.body, self.signature))


def copy_of(*, head: str, body: bytes, signature: str) -> Checkpoint | None:
    """None: somebody has changed that seal, and it is nothing to be kept."""
    return read_line(b"%s %s" % (head.encode(errors="replace"), signed(body, signature)))


def signed(body: bytes, signature: str) -> bytes:
    """As a permit carries its signature: the last member, over the bytes without it."""
    return body[:-1] + b',"sig":"' + signature.encode("utf-8", "surrogatepass") + b'"}'


def read_line(raw: bytes) -> Checkpoint | None:
    """None where these bytes are no checkpoint, or their head is not theirs. The signature is not looked at."""
    found = _LINE.fullmatch(raw)
    parts = _SIGNED.fullmatch(found[2]) if found else None
    if found is None or parts is None:
        return None
    body = parts[1] + b"}"
    try:
        told = json.loads(body)
        made = Checkpoint(
            head=found[1].decode(),
            body=body,
            signature=parts[2].decode(),
            number=int(told["seal"]),
            total=int(told["total"]),
            instance=str(told["instance"]),
            key=str(told["key"]),
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return made if made.head == head(body) else None
