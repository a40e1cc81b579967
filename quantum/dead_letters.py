"""Stream entries that could never be handled: what lies parked, and how a person ends it.

Ended by nobody else: a letter blocks nobody, and says that a program writes what nobody can read.
"""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

from django.conf import settings
from django.db import transaction
from msgspec import Struct
from msgspec.structs import asdict
from redis.exceptions import ResponseError

from quantum import audit, clock
from quantum.log import masked, safe
from quantum.redis import Client, RedisError, Script

SHOWN_MOST = 50
CHARACTERS_MOST = 300
"""As many of each text as its consumer kept; whoever else wrote one is held to the same."""
BACK, DISCARD = WAYS = ("back", "discard")
KINDS = {BACK: "dead_letter_put_back", DISCARD: "dead_letter_discarded"}
ID = re.compile(r"[0-9]{1,18}-[0-9]{1,18}")
_YEAR_9999_MS = 253_370_764_800_000
_END = Script(Path(__file__).parent / "lua" / "dead_letter_end-2.lua")


class NotEnded(Exception):
    """Nothing was changed. One line for a person."""


class NotSure(Exception):
    """The server gave no answer: the letter may have ended. Looking again tells."""


class Letter(Struct, frozen=True):
    """Every text was written by whoever reaches the stream: clipped, and without what could act."""

    stream: str
    """One of streams()."""
    letter_id: str
    entry: str
    group: str
    error: str
    sample: str
    deliveries: str

    @property
    def parked_at(self) -> dt.datetime:
        return _moment(self.letter_id)

    @property
    def published_at(self) -> dt.datetime | None:
        return _moment(self.entry) if ID.fullmatch(self.entry) else None


def streams() -> dict[str, str]:
    """What people call them -> their keys."""
    return {"plan": settings.KEYS.plan_stream, "proposal": settings.KEYS.proposal_stream}


def newest(client: Client) -> list[Letter]:
    """Of all streams, newest first."""
    found = [
        _letter(name, *raw)
        for name, key in streams().items()
        for raw in client.xrevrange(settings.KEYS.dead_letters(key), count=SHOWN_MOST)
    ]
    return sorted(found, key=lambda letter: letter.parked_at, reverse=True)[:SHOWN_MOST]


def find(client: Client, *, stream: str, letter_id: str) -> Letter | None:
    key = streams().get(stream)
    if key is None or not ID.fullmatch(letter_id):
        return None
    found = client.xrange(settings.KEYS.dead_letters(key), letter_id, letter_id)
    return _letter(stream, *found[0]) if found else None


def end(client: Client, letter: Letter, *, way: str, by: str, reason: str) -> str:
    """The id of the new entry, or nothing where the letter was discarded. A new entry is judged like any other: by
    its age, and by both gates.

    Recorded first, because a letter that is gone can be told by nobody any more.
    """
    unsure: RedisError | None = None
    answer = ""
    with transaction.atomic():
        told = asdict(letter) | {"published_at": letter.published_at and letter.published_at.isoformat()}
        audit.record(kind=KINDS[way], actor=by, reason=reason, data=told)
        try:
            answer = _ended(client, letter, way)
        except ResponseError as error:
            raise NotEnded(f"Redis refuses: {safe(str(error))[:CHARACTERS_MOST]}") from error
        except RedisError as error:
            unsure = error
    if unsure is not None:
        raise NotSure("Redis gave no answer. Look whether the letter is still there.") from unsure
    return answer


def _ended(client: Client, letter: Letter, way: str) -> str:
    key = streams()[letter.stream]
    answer = _END(client, keys=(settings.KEYS.dead_letters(key), key), args=(letter.letter_id, way)).decode()
    refusals = {
        "gone": "somebody ended this letter before",
        "trimmed": "its entry is no longer on the stream, so there is nothing to put back; propose it again",
        "large": "its entry has more fields than are ever put back",
    }
    if answer in refusals:
        raise NotEnded(refusals[answer])
    return "" if answer == "discarded" else str(answer)


def _letter(stream: str, letter_id: bytes, fields: dict[bytes, bytes]) -> Letter:
    names = ("entry", "group", "error", "sample", "deliveries")
    return Letter(stream, letter_id.decode(), *(_text(fields.get(name.encode(), b"")) for name in names))


def _text(raw: bytes) -> str:
    return safe(masked(raw[: 4 * CHARACTERS_MOST].decode(errors="replace")))[:CHARACTERS_MOST]


def _moment(entry_id: str) -> dt.datetime:
    return clock.from_ms(min(int(entry_id.partition("-")[0]), _YEAR_9999_MS))
