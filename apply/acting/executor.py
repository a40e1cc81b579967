"""Apply: reads plans, waits for both permits, spends them, sends one order, proves the outcome."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from django.conf import settings
from django.db import close_old_connections
from msgspec.structs import replace
from prometheus_client import Counter

from apply.acting import account, intent, late, orders, settle, sizing
from apply.acting.cancels import Cancels
from apply.acting.lanes import After, Lanes
from apply.acting.late import Late
from apply.acting.marks import Marks
from apply.acting.told import Told
from apply.models import PENDING_STATES, Order, Plan
from apply.plans import publish, results, transitions
from apply.plans.publish import Standing
from permits.gate import alarms
from permits.gate import outcome as outcomes
from permits.gate.gate import Gate
from permits.gate.outcome import Blocked, SpentPair, Verified
from permits.policy import policies
from positions.feed.feed import READ_RULES
from quantum import clock, metrics
from quantum.exchange.outcomes import rules_may_be_old
from quantum.exchange.reading import ReadFailed
from quantum.exchange.types import Answered, FateUnknown, LocalCode, RefusalKind, Refused, SymbolRules
from quantum.fault import fault_point
from quantum.log import log
from quantum.plan import Action, Decision, ExitPlan, MalformedPlan, parse
from quantum.reasons import ApplyReason, GateReason
from quantum.redis import Client
from quantum.stream import Entry, Poison

ACTOR = "apply"
RECEIPT_GRACE_MS = 5000
INTENT_PAUSES_S = (0.1, 0.4)
RULES_LIFE_S = 3600.0

State = Plan.State

DEDUPED = Counter("quantum_apply_dedupe_hits_total", "Entries of plans that were known already")
PERMIT_WAIT = metrics.histogram(
    "quantum_apply_permit_wait_seconds", "From the start of the wait to the spent pair"
)
PLAN_TO_ORDER = metrics.histogram("quantum_apply_plan_to_order_seconds", "From XADD to the order leaving")
ROUND_TRIP = metrics.histogram("quantum_apply_order_seconds", "From the order leaving to its answer")

REFUSALS = {
    RefusalKind.BACK_OFF: ApplyReason.RATE_LIMITED,
    RefusalKind.CLOCK: ApplyReason.CLOCK_SKEW,
    RefusalKind.CONFLICT: ApplyReason.REJECTED_CONFLICT,
    RefusalKind.REQUEST: ApplyReason.REJECTED_REQUEST,
    RefusalKind.ACCOUNT: ApplyReason.REJECTED_ACCOUNT,
    RefusalKind.MARKET: ApplyReason.REJECTED_MARKET,
}


class Executor:
    def __init__(
        self,
        *,
        gate: Gate,
        desk: orders.Desk,
        rules: dict[str, SymbolRules],
        client: Client,
        stopping: Callable[[], bool],
        told: Told | None = None,
    ) -> None:
        """told: the short way to a fill's trades. Without it the exchange is asked for each order's."""
        self._gate = gate
        self._desk = desk
        self._rules = rules
        self._rules_boot_s = clock.boot_s()
        self._client = client
        self._told = told
        self._stopping = stopping
        self._lanes = Lanes()
        self._in_hand: dict[str, str] = {}
        self._unrecorded: set[str] = set()
        self._late = Late(client=client, actor=ACTOR)
        self._marks = Marks(client=client)
        self._marks.start()
        self._cancels = Cancels(cancel=lambda order: orders.cancel(desk.sender, order), actor=ACTOR)
        self.ack: Callable[..., None] = lambda *_: None

    def holds(self, entry_id: str) -> bool:
        return entry_id in self._in_hand.values() or self._late.holds(entry_id)

    def idle(self) -> None:
        """After every batch of entries, and every second: what belongs to no lane."""
        self._marks.check()
        self.ack_all(self._late.end_some())
        if self._cancels.due():
            self._lanes.work(self._cancels.send_all)

    def ack_all(self, entry_ids: list[str]) -> None:
        if entry_ids:
            self.ack(*entry_ids)

    def drain(self) -> None:
        self._lanes.drain()
        self._marks.finish()

    # ---- reading: the recovery table of SEMANTICS, top to bottom

    def handle(self, entry: Entry) -> bool:
        try:
            plan = parse(entry.fields)
        except MalformedPlan as malformed:
            raise Poison(f"{ApplyReason.INVALID_PLAN}: {malformed}") from malformed
        if _is_late(plan) and plan.plan_id not in self._in_hand:
            self._late.put(plan, entry.entry_id)
            return False
        row = publish.ensure_row(plan, actor=publish.stream_actor(plan), stream_id=entry.entry_id)
        if row.standing is Standing.CONFLICT:
            late.conflict(plan, actor=ACTOR)
            return True
        if row.state not in PENDING_STATES:
            return self._known_and_final(plan, row, entry)
        if row.state != State.OPEN:
            return True  # intended or unknown: the resolver owns it
        if plan.plan_id in self._in_hand:
            return self._seen_again(plan, entry)
        refusal = _refusal(plan)
        if refusal is not None:
            state, reason = refusal
            return self._end_unsent(plan, entry, to=state, error=reason)
        self._in_hand[plan.plan_id] = entry.entry_id
        self._lanes.put(plan.symbol, lambda: self._wait(plan, entry), done=lambda: self._let_go(plan))
        return False

    def _known_and_final(self, plan: ExitPlan, row: publish.Row, entry: Entry) -> bool:
        DEDUPED.inc()
        publish.count_again(plan.plan_id, entry_id=entry.entry_id)
        if not row.result_id:
            results.finish(self._client, plan.plan_id)
        return True

    def _seen_again(self, plan: ExitPlan, entry: Entry) -> bool:
        """The same entry claimed again stays ours; another entry of the same plan adds nothing."""
        if self._in_hand.get(plan.plan_id) == entry.entry_id:
            return False
        DEDUPED.inc()
        publish.count_again(plan.plan_id, entry_id=entry.entry_id)
        log.info("duplicate entry of a plan in hand", plan=plan.plan_id)
        return True

    def _let_go(self, plan: ExitPlan) -> None:
        self._in_hand.pop(plan.plan_id, None)

    def _end_unsent(
        self,
        plan: ExitPlan,
        entry: Entry,
        *,
        to: Plan.State,
        error: str,
        changes: dict[str, object] | None = None,
        token: str = "",
    ) -> bool:
        """Final without an order. Zero rows: another process moved it on, and its entry is done here too."""
        if to == State.SPENT_UNSENT:
            settle.record_unsent(self._client, plan.plan_id)
        fields = {"stream_id": entry.entry_id, **(changes or {})}
        transitions.move(
            plan.plan_id, come_from=(State.OPEN,), to=to, actor=ACTOR, error=error, changes=fields
        )
        row = Plan.objects.get(plan_id=plan.plan_id)
        if row.state not in PENDING_STATES and not row.result_id:
            results.finish(self._client, plan.plan_id, token=token)
        return True

    # ---- waiting: no database, no sender

    def _wait(self, plan: ExitPlan, entry: Entry) -> After | None:
        outcome = self._gate.wait_and_consume(plan, stopping=self._stopping)
        if outcome is None:
            return None
        if isinstance(outcome, Blocked):
            return lambda: self._blocked(plan, entry, outcome)
        if isinstance(outcome, Verified):
            return lambda: self._would(outcome, entry)
        fault_point("pair_spent")
        return lambda: self._spent(outcome, entry)

    def _blocked(self, plan: ExitPlan, entry: Entry, blocked: Blocked) -> None:
        outcomes.tell(plan, blocked)
        # A permit that says of itself that it is consumed is accused, and nobody has spent it.
        spent = blocked.reason is GateReason.ALREADY_CONSUMED and not blocked.accused
        if spent and not self._receipt_is_abandoned(plan):
            return  # another attempt spent it a moment ago and may be writing its intent: look again later
        alarms.sound_if_forged(plan, blocked, actor=ACTOR)
        changes: dict[str, object] = {
            "wait_ms": blocked.wait_ms,
            "gov_ttl": blocked.gov_ttl,
            "p33_ttl": blocked.p33_ttl,
            "gate_reason": blocked.gate_reason[:120],
        }
        end = State.SPENT_UNSENT if spent else State.BLOCKED
        if blocked.reason is GateReason.EXPIRED_PLAN:
            end = State.EXPIRED
        # Spent by ourselves while the database could not record it: that is why nothing was sent.
        error = ApplyReason.AUDIT_UNAVAILABLE.value if plan.plan_id in self._unrecorded else blocked.error
        self._end_unsent(plan, entry, to=end, error=error, changes=changes)
        self._unrecorded.discard(plan.plan_id)
        self.ack(entry.entry_id)

    def _receipt_is_abandoned(self, plan: ExitPlan) -> bool:
        spent_at = self._client.hget(settings.KEYS.receipt(plan.plan_id), "at")
        return spent_at is None or clock.now_ms() - int(spent_at) >= RECEIPT_GRACE_MS

    def _would(self, pair: Verified, entry: Entry) -> None:
        """dry_run: the plan ends here, with what would have left. The permits lapse unspent."""
        size = self._size(pair)
        outcomes.tell(pair.plan, pair)
        changes: dict[str, object] = {"wait_ms": pair.wait_ms}
        if isinstance(size, str):
            self._end_unsent(pair.plan, entry, to=State.BLOCKED, error=size, changes=changes)
        else:
            changes |= {"would_quantity": size.quantity, "safe_quantity": pair.safe_quantity}
            error = ApplyReason.DRY_RUN.value
            self._end_unsent(pair.plan, entry, to=State.SKIPPED, error=error, changes=changes)
        self.ack(entry.entry_id)

    # ---- acting: on a sender thread

    def _spent(self, pair: SpentPair, entry: Entry) -> None:
        plan = pair.plan
        order = self._intend(pair, entry)
        if isinstance(order, str):
            self._not_intended(pair, entry, reason=order)
            return
        fault_point("order_intended")
        order.sent_at = clock.now()
        sent_ms = clock.monotonic_ms()
        outcome = orders.send(self._desk.sender, pair, order)
        PERMIT_WAIT.observe(pair.wait_ms / 1000)
        ROUND_TRIP.observe((clock.monotonic_ms() - sent_ms) / 1000)
        PLAN_TO_ORDER.observe(max(0.0, order.sent_at.timestamp() - entry.published_ms / 1000))
        order.answered_at = clock.now()
        fault_point("order_answered")
        outcomes.tell(plan, pair)
        log.info(
            f"{plan.symbol}: Executing step {order.step}",
            plan=plan.plan_id,
            qty=order.quantity,
            side=order.side,
        )
        self.ack(entry.entry_id)
        end = self._record(order, outcome)
        fault_point("order_settled")
        self._marks.tell(pair, order, end)
        if rules_may_be_old(outcome) or clock.boot_s() - self._rules_boot_s > RULES_LIFE_S:
            self._read_rules_again()

    def _size(self, pair: SpentPair | Verified) -> sizing.Size | str:
        step, rules = pair.plan.step, self._rules.get(pair.plan.symbol)
        if step is None or rules is None:
            return ApplyReason.EXCHANGE_UNREACHABLE.value
        position = pair.p33.exchange_amt or Decimal(0)
        size = sizing.size(step=step, position=position, safe_quantity=pair.safe_quantity, rules=rules)
        return size.value if isinstance(size, ApplyReason) else size

    def _intend(self, pair: SpentPair, entry: Entry) -> Order | str:
        size = self._size(pair)
        if isinstance(size, str):
            return size
        return self._commit(pair, size, entry)

    def _commit(self, pair: SpentPair, size: sizing.Size, entry: Entry) -> Order | str:
        """A database that stumbles is asked again while the consume is young: only it, never the exchange. An intent
        that did commit and could not say so answers `duplicate` then, and is the resolver's."""
        made = self._make(pair, size, entry)
        for pause_s in INTENT_PAUSES_S:
            too_old = clock.boot_s() - pair.consumed_boot_s > intent.CONSUME_TO_INTENT_S
            if made != ApplyReason.AUDIT_UNAVAILABLE or too_old:
                break
            close_old_connections()
            clock.sleep_s(pause_s)
            made = self._make(pair, size, entry)
        return made

    def _make(self, pair: SpentPair, size: sizing.Size, entry: Entry) -> Order | str:
        now_ms = self._desk.reader.now_ms()
        return intent.make(pair, size, stream_id=entry.entry_id, timestamp_ms=now_ms)

    def _not_intended(self, pair: SpentPair, entry: Entry, *, reason: str) -> None:
        """The pair is spent and nothing was sent. A database that is down leaves the entry pending."""
        outcomes.tell(pair.plan, pair)
        log.warning(f"{pair.plan.symbol}: permits spent, nothing sent", plan=pair.plan.plan_id, reason=reason)
        if reason == ApplyReason.AUDIT_UNAVAILABLE:
            self._unrecorded.add(pair.plan.plan_id)
            close_old_connections()
            return
        changes: dict[str, object] = {"wait_ms": pair.wait_ms}
        self._end_unsent(
            pair.plan, entry, to=State.SPENT_UNSENT, error=reason, changes=changes, token=pair.token
        )
        self.ack(entry.entry_id)

    def _record(self, order: Order, outcome: Answered | Refused | FateUnknown) -> settle.End | None:
        if isinstance(outcome, Answered):
            return self._answered(order, outcome)
        if isinstance(outcome, Refused):
            self._refused(order, outcome)
        else:
            log.warning(
                f"{order.symbol}: outcome unknown, symbol locked", plan=order.plan_id, error=outcome.text
            )
            settle.unknown(order, text=outcome.text, actor=ACTOR)
        return None

    def _answered(self, order: Order, outcome: Answered) -> settle.End | None:
        done = (
            "executed successfully" if outcome.order.executed_quantity else "accepted, nothing executed yet"
        )
        log.info(
            f"{order.symbol}: Order {outcome.order.order_id} {done}",
            plan=order.plan_id,
            executed_qty=outcome.order.executed_quantity,
            avg_price=outcome.order.average_price,
        )
        proof = settle.gather(self._desk.reader, outcome.order, told=self._told)
        if proof is None:
            settle.record_reply(order, outcome.order)  # the resolver goes on until the trades add up
            return None
        return settle.settle(order, proof, actor=ACTOR)

    def _refused(self, order: Order, refused: Refused) -> None:
        refused = _with_its_time(refused)
        log.warning(
            f"{order.symbol}: order refused", plan=order.plan_id, code=refused.code, error=refused.text
        )
        if refused.kind is RefusalKind.DUPLICATE:
            settle.unknown(order, text=refused.text, actor=ACTOR)  # it exists: the resolver looks it up
            return
        to = State.REJECTED
        if refused.kind is RefusalKind.CLOCK:
            self._resync_clock()
        if refused.kind is RefusalKind.ACCOUNT:
            account.halt(self._client, order, refused, actor=ACTOR)
        if refused.kind is RefusalKind.CONFLICT and self._is_flat(order.symbol):
            to = State.ALREADY_DONE
        reason = REFUSALS[refused.kind]
        if refused.code == LocalCode.UNREACHABLE:
            reason = ApplyReason.EXCHANGE_UNREACHABLE
        settle.refuse(order, refused, to=to, error=reason.value, actor=ACTOR)

    def _is_flat(self, symbol: str) -> bool:
        try:
            return self._desk.reader.positions().amount(symbol) == 0
        except ReadFailed:
            return False

    def _resync_clock(self) -> None:
        try:
            self._desk.reader.sync_clock()
        except ReadFailed as failed:
            log.warning("exchange clock not measured", error=str(failed))

    def _read_rules_again(self) -> None:
        """The lane is still ours: the symbol's next plan is sized by what the exchange says now. The Brain too."""
        self._client.rpush(settings.KEYS.feed_wake, READ_RULES)
        try:
            self._rules = self._desk.reader.symbol_rules()
            self._rules_boot_s = clock.boot_s()
        except ReadFailed as failed:
            log.warning("symbol rules not read again", error=str(failed))


def _with_its_time(refused: Refused) -> Refused:
    """Whoever reads the refusal also reads when it ends."""
    if refused.retry_at_ms is None:
        return refused
    until = clock.from_ms(refused.retry_at_ms).isoformat(timespec="seconds")
    return replace(refused, text=f"{refused.text[:160]}; silent until {until}")


def _refusal(plan: ExitPlan) -> tuple[Plan.State, str] | None:
    """What needs no permit to be refused."""
    if plan.action is Action.UPDATE_SL:
        return State.SKIPPED, ApplyReason.ACTION_UNSUPPORTED.value
    if plan.decision is not Decision.EXECUTE or plan.step is None:
        return State.SKIPPED, ApplyReason.DECISION_SKIP.value
    if not policies.allows(plan.symbol):
        return State.BLOCKED, ApplyReason.SYMBOL_NOT_ALLOWED.value
    if plan.is_from_the_future(now_s=clock.now_s()):
        return State.BLOCKED, ApplyReason.FUTURE_PLAN.value
    return None


def _is_late(plan: ExitPlan) -> bool:
    """Past its life, whatever else is wrong with it: many of them are ended together."""
    return Decimal(clock.now_s()) >= plan.expiry_s(ttl_s=settings.APPLY_PLAN_TTL_SEC)
