"""Proposals that come by Redis: the stream, and the hashes of brains that only ever know one thing to say.

Two threads of the warden beside its round: a proposal becomes a plan when it comes, not at the next second. The
warden's own loop renews the lease; these only look whether it still holds (SEMANTICS, lease).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections, connections
from redis.exceptions import ResponseError

from apply.plans.publish import STREAM_AGE_MS
from apply.proposals import taking
from apply.proposals.proposal import FIELDS
from apply.proposals.taking import Origin
from permits.policy import policies
from permits.policy.rules import Nonsense
from quantum import clock
from quantum.keys import INTAKE_GROUP
from quantum.log import log
from quantum.redis import Client, RedisError, command_client
from quantum.stream import Consumer, Entry
from quantum.tracking import Changes, NotOffered

BLOCK_MS = 1500
"""Two reads in three seconds when nothing comes, and no longer than the warden's drain at its end."""
LOOK_EVERY_S = 1.0
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
            idle=reader.trim,
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
        self._trim_boot_s = clock.boot_s() + TRIM_EVERY_S

    def handle(self, entry: Entry) -> bool:
        """Taken or refused, it is recorded and the next one comes. A database that is down leaves it pending."""
        taking.take_fields(self._client, entry.fields, origin=Origin(way=STREAM, actor="stream"))
        return True

    def trim(self) -> None:
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
        while not stopping():
            heard = changes.wait(within_s=LOOK_EVERY_S)
            symbols = {key.removeprefix(settings.KEYS.proposal("")) for key in heard}
            for symbol in symbols if heard else ():
                if policies.allows(symbol):
                    self.look(symbol)
            if clock.boot_s() >= prove_boot_s:
                changes.prove()
                prove_boot_s = clock.boot_s() + PROVE_EVERY_S
                if _allowed() != allowed:  # what a symbol had said before it was allowed, nobody heard
                    allowed = _allowed()
                    self.look_at_all()

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
        taking.take_fields(self._client, said, origin=origin, symbol=symbol)
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
