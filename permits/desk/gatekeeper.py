"""What both gates share: read a plan, decide, issue at once, write the row a moment later, acknowledge.

Rows are written in one transaction per batch about 25 ms after the permit: written before it they
would cost 3.6 ms of every exit and collide with the intent. A death in between loses nothing: the
entry is still pending, the permit still stands and is recorded when the entry comes again (A4).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, close_old_connections
from msgspec import Struct

from permits.desk import payloads, records
from permits.desk.desk import INPUTS_CHANGED, Desk, Finding, Issued, NotIssued
from permits.models import Permit
from quantum import clock
from quantum.beside import Beside
from quantum.fault import fault_point
from quantum.log import log
from quantum.plan import Decision, ExitPlan, MalformedPlan, parse
from quantum.reasons import GovernorReason
from quantum.rows import look_after_line
from quantum.stream import Entry

DATABASE_PAUSE_S = 0.5
DECISIONS_MAX = 10

Decide = Callable[[ExitPlan], Finding]
Announce = Callable[[ExitPlan, Finding], None]


class Gatekeeper:
    def __init__(
        self,
        *,
        desk: Desk,
        decide: Decide,
        announce: Announce,
        decide_anew: Callable[[ExitPlan], None] = lambda _: None,
    ) -> None:
        """decide_anew is told before a plan is decided again because what it rests on changed meanwhile."""
        self._desk = desk
        self._decide = decide
        self._decide_anew = decide_anew
        self._announce = announce
        self._recorder: Recorder | None = None

    def start_recording(self, *, ack: Callable[..., None]) -> Recorder:
        self._recorder = Recorder(ack=ack)
        self._recorder.start()
        return self._recorder

    def check_recorder(self) -> None:
        if self._recorder is not None:
            self._recorder.check()

    def handle(self, entry: Entry) -> bool:
        try:
            plan = parse(entry.fields)
        except MalformedPlan:
            return True  # apply parks it: one poison entry is one dead letter, not three
        if plan.step is None or plan.decision is not Decision.EXECUTE:
            return True  # closes nothing: apply skips it with its reason, and no permit may lie about for it
        finding, issued = self._answer(plan)
        fault_point(f"{self._desk.gate}_issued")
        if not isinstance(issued, Issued):
            log.info("permit not issued", gate=self._desk.gate, plan=plan.plan_id, reason=issued.reason)
            return True
        if issued.fresh:
            self._announce(plan, finding)
        if self._recorder is None:
            raise RuntimeError("start_recording comes before the first entry")
        self._recorder.put(
            Written(
                raw=issued.raw,
                gate=self._desk.gate,
                plan_id=plan.plan_id,
                entry_id=entry.entry_id,
                said=issued.said,
                beside=finding.beside if issued.fresh or self._says(issued.raw, finding) else (),
            )
        )
        return False

    def _says(self, raw: bytes, finding: Finding) -> bool:
        """Whether the permit that was kept says the same: else what belongs to a decision that was never signed
        would be recorded, such as a question to people about a plan that had its grant."""
        try:
            kept = payloads.read(raw, gate=self._desk.gate, all_fields=False)
        except payloads.Malformed:
            return False
        return (kept.verdict, kept.reason) == (finding.verdict, finding.reason)

    def _answer(self, plan: ExitPlan) -> tuple[Finding, Issued | NotIssued]:
        """Decided again while others reserve at the same time: each round one of them gets through."""
        for _ in range(DECISIONS_MAX):
            finding = self._decide(plan)
            fault_point(f"{self._desk.gate}_decided")
            issued = self._desk.issue(plan, finding)
            if issued != NotIssued(INPUTS_CHANGED):
                return finding, issued
            self._decide_anew(plan)
        context: dict[str, Decimal | str] = {"missing": "inputs that stand still"}
        finding = Finding(verdict=False, reason=GovernorReason.INPUTS_UNAVAILABLE.value, context=context)
        return finding, self._desk.issue(plan, finding)


class Written(Struct, frozen=True):
    """A permit that stands in Redis and has no row yet. Even the reading of one that was kept is left to the recorder:
    right after the permit the waiter needs the processor more."""

    raw: bytes
    gate: str
    plan_id: str
    entry_id: str
    said: payloads.Answer | None = None
    beside: tuple[records.Beside, ...] = ()

    def row(self) -> Permit | None:
        """None: bytes of a stranger stood under our key and are no permit; there is nothing to record."""
        try:
            return records.row_of(
                self.raw, gate=self.gate, plan_id=self.plan_id, fate=Permit.Fate.LIVE, said=self.said
            )
        except payloads.Malformed as malformed:
            log.warning(
                "a permit that is none stands in Redis",
                plan=self.plan_id,
                gate=self.gate,
                error=str(malformed),
            )
            return None


class Recorder(Beside[Written]):
    """Writes permit rows beside the path and acknowledges what it has written."""

    def __init__(self, *, ack: Callable[..., None]) -> None:
        super().__init__(name="permit-recorder")
        self._ack = ack

    def write(self, batch: list[Written]) -> None:
        look_after_line()
        # One permit may stand for many entries: claimed again while it waited, or its plan was added again. Its row is
        # written once, with what the first of them decided beside it, and each of them is acknowledged.
        once: dict[bytes, Written] = {}
        for written in batch:
            once.setdefault(written.raw, written)
        rows = [row for row in (written.row() for written in once.values()) if row is not None]
        try:
            records.record_issued(rows, beside=[row for written in once.values() for row in written.beside])
        except DatabaseError as error:
            # Not acknowledged: the entries come again after the reclaim time. But after a minute no permit stands
            # any more that could be recorded then, so a database that is only gone is asked again from here.
            log.warning("permit rows not written", rows=len(rows), error=type(error).__name__)
            close_old_connections()
            clock.sleep_s(DATABASE_PAUSE_S)
            if isinstance(error, OperationalError | InterfaceError):
                for written in batch:
                    self.put(written)
            return
        self._ack(*dict.fromkeys(written.entry_id for written in batch))
