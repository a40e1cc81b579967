"""Consumer runtime: read, reclaim, hand over, acknowledge, park the poison, heal, stop.

Nothing that an entry contains may reach this loop as an exception it does not survive, and no
entry may block the one behind it (I14). Entries are bytes; decoding is the handler's job.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, close_old_connections
from msgspec import Struct
from redis.exceptions import ClusterDownError, OutOfMemoryError, ReadOnlyError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from quantum import ailing, clock, metrics, rows
from quantum.log import log, safe
from quantum.redis import Client, RedisError, Script, blocking_client, command_client

DELIVERIES_MAX = 5
RECLAIM_IDLE_MS = 15_000
RECLAIM_EVERY_S = 5.0
SAMPLE_CHARACTERS = 300
OUTAGES = (
    *(OperationalError, InterfaceError, RedisConnectionError, RedisTimeoutError),
    *(OutOfMemoryError, ReadOnlyError, ClusterDownError),
)
SERVER_IS_ILL = ("NOREPLICAS", "MISCONF", "BUSY ", "UNBLOCKED")
"""The first word of what has no class of its own in redis-py: the server can do nothing now."""
RETRY_PAUSE_S = 0.2

_DEAD_LETTER = Script(Path(__file__).parent / "lua" / "dead_letter-2.lua")


class Terms(Protocol):
    """What the loop needs of roles.Watch."""

    consumer: str

    def keep(self) -> bool: ...


class Poison(Exception):
    """Raised by a handler: this entry can never be handled. The text is shown to people."""


class Entry(Struct, frozen=True):
    entry_id: str
    fields: dict[bytes, bytes]

    @property
    def published_ms(self) -> int:
        """Redis' own clock at XADD."""
        return int(self.entry_id.partition("-")[0])


Handler = Callable[[Entry], bool]
"""True: acknowledge now. False: whoever took it over acknowledges later, with Consumer.ack."""


class Consumer:
    def __init__(
        self,
        *,
        terms: Terms,
        stream: str,
        group: str,
        handle: Handler,
        block_ms: int = 1000,
        batch: int = 64,
        reclaim_idle_ms: int = RECLAIM_IDLE_MS,
        idle: Callable[[], None] | None = None,
        holds: Callable[[str], bool] = lambda _entry_id: False,
    ) -> None:
        """holds tells which entries the handler still has in its hands: those are not poison, they wait."""
        self.stream, self.group, self.name = stream, group, terms.consumer
        self._terms = terms
        self._handle = handle
        self._idle = idle
        self._holds = holds
        self._claim_from = "0-0"
        self._taken_over: set[str] = set()
        self._block_ms, self._batch, self._reclaim_idle_ms = block_ms, batch, reclaim_idle_ms
        self._reader = blocking_client(block_s=block_ms / 1000)
        self._commands = command_client()
        self._next_reclaim_s = 0.0
        self._own_pending_from: str | None = "0"

    def run(self) -> None:
        """Until the terms end. The one broad except of the tree is in _hand_over."""
        self._make_group()
        while self._terms.keep():
            try:
                self._turn()
            except ResponseError as error:
                self._heal(error)
            except RedisError as error:
                log.warning(
                    "stream unreachable, trying again", stream=self.stream, error=type(error).__name__
                )
                self._own_pending_from = "0"  # a lost answer may have carried entries: ours now, and unseen
                clock.sleep_s(RETRY_PAUSE_S)

    def ack(self, *entry_ids: str) -> None:
        """For entries taken over by others. A lost acknowledgement means redelivery, which is harmless."""
        try:
            self._commands.xack(self.stream, self.group, *entry_ids)
            self._taken_over.difference_update(entry_ids)
        except RedisError as error:
            log.warning(
                "acknowledgement lost", stream=self.stream, entries=len(entry_ids), error=type(error).__name__
            )

    # ---- one turn

    def _turn(self) -> None:
        if self._own_pending_from is not None:
            self._read_own_pending(self._own_pending_from)
            return
        if clock.boot_s() >= self._next_reclaim_s:
            self._reclaim()
        fresh = self._read(">", block_ms=self._block_ms)
        for entry in fresh:
            self._hand_over(entry)
        if self._idle is not None:
            self._idle()

    def _read(self, start: str, *, block_ms: int | None) -> list[Entry]:
        answer = self._reader.xreadgroup(
            self.group, self.name, {self.stream: start}, count=self._batch, block=block_ms
        )
        return [entry for _, entries in answer or [] for entry in self._entries(entries)]

    def _read_own_pending(self, start: str) -> None:
        """What this consumer had in its hands when it died comes first, oldest first."""
        found = self._read(start, block_ms=None)
        self._own_pending_from = found[-1].entry_id if found else None
        for entry in found:
            if not self._holds(entry.entry_id):
                self._hand_over(entry)

    def _reclaim(self) -> None:
        """Entries left by any consumer, ours after a failure included; too often delivered: poison."""
        self._next_reclaim_s = clock.boot_s() + RECLAIM_EVERY_S
        next_start, claimed, *_ = self._commands.xautoclaim(
            self.stream,
            self.group,
            self.name,
            min_idle_time=self._reclaim_idle_ms,
            start_id=self._claim_from,
            count=self._batch,
        )
        self._claim_from = (
            next_start.decode()
        )  # 0-0 after the last: entries that stay do not hide those behind
        for entry in self._entries(claimed):
            if self._holds(entry.entry_id):
                continue
            if entry.entry_id in self._taken_over:
                self._forgive(entry)  # it did not fail here: whoever took it over could not end it yet
            deliveries = self._deliveries(entry.entry_id)
            if deliveries > DELIVERIES_MAX:
                self._park(entry, f"delivered {deliveries} times and never handled", deliveries=deliveries)
            else:
                self._hand_over(entry)

    def _entries(self, answer: list[tuple[bytes, dict[bytes, bytes] | None]]) -> list[Entry]:
        """Trimmed entries come without a body: there is nothing left to handle, so they are acknowledged."""
        gone = [entry_id.decode() for entry_id, fields in answer if not fields]
        if gone:
            self.ack(*gone)
            log.warning("entries were trimmed before they were read", stream=self.stream, entries=len(gone))
        return [Entry(entry_id=entry_id.decode(), fields=fields) for entry_id, fields in answer if fields]

    def _deliveries(self, entry_id: str) -> int:
        rows = self._commands.xpending_range(self.stream, self.group, min=entry_id, max=entry_id, count=1)
        return int(rows[0]["times_delivered"]) if rows else 0

    def _hand_over(self, entry: Entry) -> None:
        if not self._terms.keep():  # between any two: a batch may outlast the lease; the rest stays pending
            return
        rows.look_after_line()
        try:
            self._taken_over.add(entry.entry_id)  # before: it may be ended elsewhere when handle returns
            if self._handle(entry):
                self.ack(entry.entry_id)
        except Poison as poison:
            self._taken_over.discard(entry.entry_id)
            self._park(entry, str(poison), deliveries=1)
        except Exception as error:  # noqa: BLE001  nothing may end the loop (I14)
            close_old_connections()
            metrics.HANDLER_FAILURES.labels(group=self.group).inc()
            log.failure(
                "entry failed, will be delivered again", error, group=self.group, entry=entry.entry_id
            )
            self._taken_over.discard(entry.entry_id)
            if _is_outage(error):
                if isinstance(error, DatabaseError):
                    ailing.note(error)
                self._forgive(entry)

    def _forgive(self, entry: Entry) -> None:
        """This delivery does not count: a database that is down for two minutes made poison of good plans.

        Kept where the count is kept, so that it outlives this process. An entry that kills its process
        never comes here, and one that is refused for what it contains is not an outage.
        """
        try:
            self._commands.xclaim(
                self.stream, self.group, self.name, 0, [entry.entry_id], retrycount=0, justid=True
            )
        except RedisError as error:
            log.warning("delivery not forgiven", entry=entry.entry_id, error=type(error).__name__)

    def _park(self, entry: Entry, error: str, *, deliveries: int) -> None:
        dead = settings.KEYS.dead_letters(self.stream)
        sample = safe(repr(dict(list(entry.fields.items())[:8])))[:SAMPLE_CHARACTERS]
        args = (self.group, entry.entry_id, safe(error)[:SAMPLE_CHARACTERS], sample, deliveries)
        if _DEAD_LETTER(self._commands, keys=(self.stream, dead), args=args):
            metrics.DEAD_LETTERS.labels(group=self.group).inc()
            log.warning("entry parked as a dead letter", group=self.group, entry=entry.entry_id, error=error)

    # ---- healing

    def _make_group(self) -> None:
        """From 0: what waits is judged by its age, not skipped."""
        try:
            self._commands.xgroup_create(self.stream, self.group, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                # WRONGTYPE, OOM, MISCONF: a person has to mend it, and then the loop goes on by itself.
                log.warning(
                    "group cannot be made", stream=self.stream, error=safe(str(error))[:SAMPLE_CHARACTERS]
                )
                clock.sleep_s(RETRY_PAUSE_S)
        except RedisError:
            return  # the loop will say NOGROUP once the server is back, and heal

    def _heal(self, error: ResponseError) -> None:
        if str(error).startswith("NOGROUP"):
            log.warning("group was gone and is made again", stream=self.stream, group=self.group)
            self._make_group()
            self._own_pending_from = "0"
            return
        log.warning("stream refused", stream=self.stream, error=safe(str(error))[:SAMPLE_CHARACTERS])
        clock.sleep_s(RETRY_PAUSE_S)


def _is_outage(error: Exception) -> bool:
    """The database or the server cannot be used now; any other entry would have failed in the same way."""
    return isinstance(error, OUTAGES) or (
        isinstance(error, ResponseError) and str(error).startswith(SERVER_IS_ILL)
    )


def group_lag(client: Client, *, stream: str, group: str) -> int | None:
    """Entries pending or unread; None where the group does not exist."""
    try:
        rows = client.xinfo_groups(stream)
    except RedisError:
        return None
    for row in rows:
        if row["name"] in (group, group.encode()):
            return int(row["pending"]) + int(row.get("lag") or 0)
    return None
