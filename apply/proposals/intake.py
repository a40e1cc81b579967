"""Proposals that come by Redis: the stream, and the hashes of brains that only ever know one thing to say.

Two threads of the warden beside its round: a proposal becomes a plan when it comes, not at the next second. The
warden's own loop renews the lease; these only look whether it still holds (SEMANTICS, lease).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import Protocol

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections, connections
from redis.exceptions import ResponseError

from apply.plans.publish import STREAM_AGE_MS
from apply.proposals import taking
from apply.proposals.proposal import FIELDS
from apply.proposals.taking import CameTo, Origin
from permits.policy import policies
from permits.policy.rules import Nonsense
from quantum import clock
from quantum.keys import INTAKE_GROUP
from quantum.log import log
from quantum.plan import FUTURE_TOLERANCE_S
from quantum.redis import Client, RedisError, command_client
from quantum.stream import Consumer, Entry
from quantum.tracking import Changes, NotOffered

BLOCK_MS = 2500
"""Two reads in five seconds when nothing comes: all of the product may ask Redis twenty times a second then. It is how
long the warden's end may take, of the eight seconds that a role has for it."""
LOOK_EVERY_S = 1.0
PAUSE_S = 1.0
"""After a hash has said something new. Whatever it says meanwhile is one word, the last: a brain that changes its mind
each 10 ms makes a plan a second and not a hundred."""
PROVE_EVERY_S = 10.0
TRIM_EVERY_S = 60.0
END_S = 4.0
STREAM = "stream"
HASH = "hash"


class Watch(Protocol):
    """What the threads need of roles.Watch."""

    consumer: str

    @property
    def stopping(self) -> bool: ...


class Terms:
    """The consumer's, without renewing: two loops that renew would hide that one of them is stuck."""

    def __init__(self, watch: Watch) -> None:
        self.consumer = watch.consumer
        self._watch = watch

    def keep(self) -> bool:
        return not self._watch.stopping


class Intake:
    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._threads = [
            threading.Thread(target=_closing(run), name=name, daemon=True)
            for name, run in (("intake-stream", self._read_stream), ("intake-hashes", self._watch_hashes))
        ]

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def dead(self) -> bool:
        """One of them failed: the role must not go on without its ears."""
        return not self._watch.stopping and not all(thread.is_alive() for thread in self._threads)

    def end(self) -> None:
        """What is being taken is finished."""
        for thread in self._threads:
            thread.join(END_S)

    def _read_stream(self) -> None:
        reader = StreamReader(command_client())
        Consumer(
            terms=Terms(self._watch),
            stream=settings.KEYS.proposal_stream,
            group=INTAKE_GROUP,
            handle=reader.handle,
            idle=reader.pause,
            block_ms=BLOCK_MS,
        ).run()

    def _watch_hashes(self) -> None:
        hashes = Hashes(command_client())
        while not self._watch.stopping:
            try:
                hashes.listen(stopping=lambda: self._watch.stopping)
            except (RedisError, DatabaseError, Nonsense) as error:
                log.warning("[INTAKE] proposals not readable, trying again", error=type(error).__name__)
                close_old_connections()
                clock.sleep_s(LOOK_EVERY_S)


def _closing(run: Callable[[], None]) -> Callable[[], None]:
    def closed() -> None:
        try:
            run()
        finally:
            connections.close_all()

    return closed


class StreamReader:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._stale_ms = 1000 * (settings.APPLY_PLAN_TTL_SEC + FUTURE_TOLERANCE_S)
        self._trim_boot_s = clock.boot_s() + TRIM_EVERY_S
        self._too_late: list[str] = []

    def handle(self, entry: Entry) -> bool:
        """Taken or refused, it is recorded and the next one comes. A database that is down leaves it pending."""
        origin = Origin(way=STREAM, actor=STREAM)
        if clock.now_ms() - entry.published_ms > self._stale_ms:
            self._too_late.append(entry.entry_id)
        else:
            taking.take_fields(self._client, entry.fields, origin=origin)
        return True

    def pause(self) -> None:
        self._tell_too_late()
        self._trim()

    def _tell_too_late(self) -> None:
        """A backlog is refused in bulk: a row for each would make what is fresh behind it stale as well."""
        if self._too_late:
            try:
                taking.refuse_late(self._too_late, origin=Origin(way=STREAM, actor=STREAM))
            except DatabaseError:
                return  # told with those that follow
            self._too_late = []

    def _trim(self) -> None:
        """By age, as the plan stream: nobody reads what is long past a plan's life."""
        if clock.boot_s() >= self._trim_boot_s:
            self._trim_boot_s = clock.boot_s() + TRIM_EVERY_S
            oldest_ms = clock.now_ms() - STREAM_AGE_MS
            self._client.xtrim(settings.KEYS.proposal_stream, minid=oldest_ms, approximate=True)


class Hashes:
    """One hash per symbol of the allow-list. A key that was never heard of is never asked for."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._seen: dict[str, dict[bytes, bytes]] = {}
        self._told = False
        self._rests_until_boot_s: dict[str, float] = {}

    def listen(self, *, stopping: Callable[[], bool]) -> None:
        """Until stopping, or an error: whatever was missed then is found by the look at all of them."""
        try:
            changes = Changes(prefix=settings.KEYS.proposal(""))
        except NotOffered as refused:
            self._poll(stopping, because=str(refused))
            return
        try:
            self.look_at_all()  # after tracking began: what is written from here on is heard
            self._hear(changes, stopping)
        finally:
            changes.close()

    def _hear(self, changes: Changes, stopping: Callable[[], bool]) -> None:
        prove_boot_s = clock.boot_s() + PROVE_EVERY_S
        allowed = _allowed()
        waiting: set[str] = set()
        while not stopping():
            waiting |= self._symbols(changes.wait(within_s=self._until_due_s(waiting)))
            for symbol in sorted(waiting):
                if self._rests_until_boot_s.get(symbol, 0.0) <= clock.boot_s():
                    waiting.discard(symbol)
                    self.look(symbol)
            if clock.boot_s() >= prove_boot_s:
                changes.prove()
                prove_boot_s = clock.boot_s() + PROVE_EVERY_S
                if _allowed() != allowed:  # what a symbol had said before it was allowed, nobody heard
                    allowed = _allowed()
                    self.look_at_all()

    def _symbols(self, keys: Collection[str]) -> set[str]:
        named = {key.removeprefix(settings.KEYS.proposal("")) for key in keys}
        return {symbol for symbol in named if policies.allows(symbol)}

    def _until_due_s(self, waiting: Collection[str]) -> float:
        now_boot_s = clock.boot_s()
        rests = [self._rests_until_boot_s.get(symbol, 0.0) - now_boot_s for symbol in waiting]
        return max(0.0, min([LOOK_EVERY_S, *rests]))

    def _poll(self, stopping: Callable[[], bool], *, because: str) -> None:
        if not self._told:
            self._told = True
            log.warning("[INTAKE] no key tracking here; looking once a second", because=because)
        while not stopping():
            self.look_at_all()
            clock.sleep_s(LOOK_EVERY_S)

    def look_at_all(self) -> None:
        for symbol in sorted(_allowed()):
            self.look(symbol)

    def look(self, symbol: str) -> None:
        said = self._fields(symbol)
        if not said or said == self._seen.get(symbol):
            return
        origin = Origin(way=HASH, actor=HASH)
        taken = taking.take_fields(self._client, said, origin=origin, symbol=symbol)
        if taken.came_to in (CameTo.PLAN, CameTo.REFUSED):
            self._rests_until_boot_s[symbol] = clock.boot_s() + PAUSE_S
        self._seen[symbol] = said  # only then: what a database that was down refused is due again

    def _fields(self, symbol: str) -> dict[bytes, bytes]:
        """What is ours of the hash, and of a key that holds something else that it does."""
        try:
            found = self._client.hmget(settings.KEYS.proposal(symbol), FIELDS)
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            return {b"source": b"a key of another type"}  # which is no proposal, and is refused as none
        said = zip((name.encode() for name in FIELDS), found, strict=True)
        return {name: value for name, value in said if value is not None}


def _allowed() -> frozenset[str]:
    return frozenset(policies.copy().allowlist)
