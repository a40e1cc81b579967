"""A duty of the warden, under its lease: audit events that lie in no seal yet are sealed, within about a second.

The lease only saves work. That nothing is sealed twice is the database's to hold: a seal's number and an event's
place are unique, and who comes second has done nothing.

Numbers of events do not commit in order. So nobody asks for "all above n" alone: numbers that were passed over are
asked for again, and all of them are looked through when the warden starts and every hour after.
"""

from __future__ import annotations

from django.conf import settings
from django.db import IntegrityError, transaction
from msgspec import Struct
from msgspec.structs import asdict

from quantum import clock, rows
from quantum.chain import checkpoints, form, reading
from quantum.chain.form import Checkpoint
from quantum.chain.key import SealKey
from quantum.fault import fault_point
from quantum.log import log
from quantum.models import AuditEvent, Instance, Seal, SealedEvent
from quantum.signing import KeyUnusable

BATCH = 500
"""So few that SQLite's one writer is held for some five milliseconds, so many that PostgreSQL has few statements."""
BUSY_S = 0.5
"""Longer than this a turn does not seal on: other duties wait, and the lease."""
CHECKPOINT_EVERY_S = 10.0
ASKED_AGAIN_S = 60.0
"""A number that stayed empty so long was most likely rolled back; the sweep looks there again."""
ASKED_AGAIN_MOST = 500
SWEPT = 10_000
"""Rows that a sweep looks through in a turn."""
SWEEP_EVERY_S = 3600.0
TROUBLE_S = 30.0

Found = list[tuple[int, bytes]]


class _Standing(Struct, frozen=True):
    """The end of the chain, as this sealer last saw it."""

    instance: str
    number: int
    head: str
    total: int
    checkpointed: int


class Sealer:
    def __init__(self) -> None:
        self._standing: _Standing | None = None
        self._key: SealKey | None = None
        self._newest = 0
        self._passed_over: dict[int, float] = {}
        self._sweep_below: int | None = None
        self._sweep_boot_s = 0.0
        self._copied = 0
        self._uncopied: Checkpoint | None = None
        self._copy_boot_s = 0.0
        self._rest_until_s = 0.0

    def tick(self) -> None:
        if clock.boot_s() < self._rest_until_s:
            return
        try:
            self._seal_on()
        except IntegrityError:
            log.info("[AUDIT] another sealer was quicker")
            self._standing = None
        except KeyUnusable as unusable:
            log.error("[AUDIT] nothing can be sealed", error=str(unusable))
            self._rest_until_s = clock.boot_s() + TROUBLE_S
        self._copy()

    # ---- what is to be sealed

    def _seal_on(self) -> None:
        standing = self._standing or self._begin()
        if standing is None:
            return  # a house that never started
        end_s = clock.boot_s() + BUSY_S
        while found := self._take():
            standing = self._standing = self._seal(standing, found)
            self._took(found)
            if clock.boot_s() >= end_s:
                return

    def _begin(self) -> _Standing | None:
        instance = Instance.objects.first()
        if instance is None:
            return None
        self._key = SealKey(directory=settings.PERMIT_KEYS_DIR)
        self._newest = (
            SealedEvent.objects.order_by("-event_id").values_list("event_id", flat=True).first() or 0
        )
        self._passed_over.clear()
        self._sweep_boot_s = 0.0
        number = Seal.objects.order_by("-number").values_list("number", flat=True).first() or 0
        last = reading.seal(number)
        self._find_copy(last)
        standing = _Standing(str(instance.uuid), 0, form.NO_HEAD, 0, 0)
        if last is not None:
            standing = _Standing(standing.instance, number, last.head, last.total, last.checkpointed)
        self._standing = standing
        return standing

    def _take(self) -> Found:
        """New ones first; then what was passed over, and what a sweep comes across."""
        found = reading.unsealed("e.id > %s", [self._newest], most=BATCH)
        room = BATCH - len(found)
        if room and self._passed_over:
            again = sorted(self._passed_over)[:ASKED_AGAIN_MOST]
            marks = ", ".join(["%s"] * len(again))
            found += reading.unsealed(f"e.id IN ({marks})", again, most=room)
        if not found:
            found = self._sweep()
        return sorted(found)

    def _took(self, found: Found) -> None:
        taken, now_s = {number for number, _ in found}, clock.boot_s()
        if (newest := max(taken)) > self._newest:
            before = self._newest or min(taken) - 1  # in a chain that begins nothing was passed over
            low = max(before, newest - BATCH - ASKED_AGAIN_MOST)
            self._passed_over |= dict.fromkeys(set(range(low + 1, newest)) - taken, now_s)
            self._newest = newest
        kept = {
            number: since_s
            for number, since_s in self._passed_over.items()
            if number not in taken and now_s - since_s < ASKED_AGAIN_S
        }
        self._passed_over = dict(sorted(kept.items())[-ASKED_AGAIN_MOST:])

    def _sweep(self) -> Found:
        """From the newest down, a part in each turn that has nothing else to do."""
        if self._sweep_below is None:
            if clock.boot_s() < self._sweep_boot_s:
                return []
            self._sweep_below = self._newest + 1
        below = self._sweep_below
        numbers = AuditEvent.objects.filter(id__lt=below).order_by("-id").values_list("id", flat=True)
        low = numbers[SWEPT - 1 : SWEPT].first() or 0
        found = reading.unsealed("e.id >= %s AND e.id < %s", [low, below], most=BATCH)
        if len(found) < BATCH:
            self._sweep_below = low or None
            if not low:
                self._sweep_boot_s = clock.boot_s() + SWEEP_EVERY_S
        return found

    # ---- a seal

    def _seal(self, standing: _Standing, found: Found) -> _Standing:
        if self._key is None:
            raise RuntimeError("sealing has not begun")
        leaves = [leaf for _, leaf in found]
        fields = form.Fields(
            number=standing.number + 1,
            format=form.FORMAT,
            instance=standing.instance,
            events=len(found),
            total=standing.total + len(found),
            previous=standing.head,
            root=form.root(leaves),
            at_us=clock.now_ms() * 1000,
            checkpointed=max(standing.checkpointed, self._copied),
            key=self._key.fingerprint,
        )
        body = form.seal_bytes(fields)
        head, signature = form.head(body), self._key.sign(body)
        with transaction.atomic():
            rows.insert(Seal(**asdict(fields), head=head, signature=signature))
            places = [
                {"event_id": event, "seal": fields.number, "position": position, "leaf": leaf}
                for position, (event, leaf) in enumerate(found)
            ]
            for first in range(0, len(places), rows.BATCH):
                rows.add(SealedEvent, *places[first : first + rows.BATCH])
        fault_point("audit_sealed")
        self._uncopied = form.copy_of(head=head, body=body, signature=signature)
        return _Standing(standing.instance, fields.number, head, fields.total, fields.checkpointed)

    # ---- its copy outside the database

    def _find_copy(self, last: reading.StoredSeal | None) -> None:
        """Where a death came between a seal and its copy, the copy is made now."""
        try:
            found = checkpoints.last(settings.AUDIT_CHECKPOINTS)
        except OSError as failure:
            log.error("[AUDIT] no checkpoint can be read", file=settings.AUDIT_CHECKPOINTS, error=failure)
            found = None
        known = reading.seal(found.number) if found else None
        ours = found is not None and known is not None and known.head == found.head
        self._copied = found.number if found and ours else 0
        if found and not ours:
            log.error(
                "[AUDIT] the last checkpoint is no seal of this database", file=settings.AUDIT_CHECKPOINTS
            )
        self._uncopied = None
        if last is not None and last.number > self._copied:
            self._uncopied = form.copy_of(
                head=last.head, body=form.seal_bytes(last), signature=last.signature
            )

    def _copy(self) -> None:
        copy = self._uncopied
        if copy is None or clock.boot_s() < self._copy_boot_s:
            return
        self._copy_boot_s = clock.boot_s() + CHECKPOINT_EVERY_S
        try:
            written = checkpoints.append(settings.AUDIT_CHECKPOINTS, copy)
        except OSError as failure:
            log.error("[AUDIT] no checkpoint", file=settings.AUDIT_CHECKPOINTS, error=failure)
            return
        self._uncopied = None
        if written:
            self._copied = copy.number
            # A second place outside the database, as far away as the log goes.
            log.info("[AUDIT] checkpoint", seal=copy.number, events=copy.total, head=copy.head)
