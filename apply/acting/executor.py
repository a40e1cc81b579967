"""Apply: reads plans, waits for both permits, spends them, sends one order, proves the outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

from django.conf import settings
from django.db import close_old_connections
from prometheus_client import Counter

from apply.acting import intent, orders, settle, sizing
from apply.acting.lanes import After, Lanes
from apply.acting.told import Told
from apply.models import PENDING_STATES, Order, Plan
from apply.plans import publish, results, transitions
from apply.plans.publish import Standing
from permits.gate import alarms
from permits.gate import outcome as outcomes
from permits.gate.gate import Gate
from permits.gate.outcome import Blocked, SpentPair
from permits.policy import policies
from positions.feed.feed import READ_RULES
from quantum import audit, clock, metrics
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
        self.ack: Callable[..., None] = lambda *_: None

    def holds(self, entry_id: str) -> bool:
        return entry_id in self._in_hand.values()

    def drain(self) -> None:
        self._lanes.drain()

    # ---- reading: the recovery table of SEMANTICS, top to bottom

    def handle(self, entry: Entry) -> bool:
        try:
            plan = parse(entry.fields)
        except MalformedPlan as malformed:
            raise Poison(f"{ApplyReason.INVALID_PLAN}: {malformed}") from malformed
        row = publish.ensure_row(plan, actor=f"stream:{plan.source[:40]}", stream_id=entry.entry_id)
        if row.standing is Standing.CONFLICT:
            return _conflict(plan)
        if row.state not in PENDING_STATES:
            return self._known_and_final(plan, row)
        if row.state != State.OPEN:
            return True  # intended or unknown: the resolver owns it
        if plan.plan_id in self._in_hand:
            return self._seen_again(plan, entry)
        refusal = _refusal(plan)
        if refusal is not None:
            state, reason = refusal
            if state == State.EXPIRED and self._client.exists(settings.KEYS.receipt(plan.plan_id)):
                state, reason = State.SPENT_UNSENT, ApplyReason.SPENT_UNSENT.value
            return self._end_unsent(plan, entry, to=state, error=reason)
        self._in_hand[plan.plan_id] = entry.entry_id
        self._lanes.put(plan.symbol, lambda: self._wait(plan, entry), done=lambda: self._let_go(plan))
        return False

    def _known_and_final(self, plan: ExitPlan, row: publish.Row) -> bool:
        DEDUPED.inc()
        if not row.result_id:
            results.finish(self._client, plan.plan_id)
        return True

    def _seen_again(self, plan: ExitPlan, entry: Entry) -> bool:
        """The same entry claimed again stays ours; another entry of the same plan adds nothing."""
        if self._in_hand.get(plan.plan_id) == entry.entry_id:
            return False
        DEDUPED.inc()
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
        self._end_unsent(plan, entry, to=end, error=blocked.error, changes=changes)
        self.ack(entry.entry_id)

    def _receipt_is_abandoned(self, plan: ExitPlan) -> bool:
        spent_at = self._client.hget(settings.KEYS.receipt(plan.plan_id), "at")
        return spent_at is None or clock.now_ms() - int(spent_at) >= RECEIPT_GRACE_MS

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
        self._record(order, outcome)
        fault_point("order_settled")
        self._finish_if_final(plan.plan_id, token=pair.token)
        if rules_may_be_old(outcome) or clock.boot_s() - self._rules_boot_s > RULES_LIFE_S:
            self._read_rules_again()

    def _intend(self, pair: SpentPair, entry: Entry) -> Order | str:
        step, rules = pair.plan.step, self._rules.get(pair.plan.symbol)
        if step is None or rules is None:
            return ApplyReason.EXCHANGE_UNREACHABLE.value
        position = pair.p33.exchange_amt or Decimal(0)
        size = sizing.size(step=step, position=position, safe_quantity=pair.safe_quantity, rules=rules)
        if isinstance(size, ApplyReason):
            return size.value
        return intent.make(pair, size, stream_id=entry.entry_id, timestamp_ms=self._desk.reader.now_ms())

    def _not_intended(self, pair: SpentPair, entry: Entry, *, reason: str) -> None:
        """The pair is spent and nothing was sent. A database that is down leaves the entry pending."""
        outcomes.tell(pair.plan, pair)
        log.warning(f"{pair.plan.symbol}: permits spent, nothing sent", plan=pair.plan.plan_id, reason=reason)
        if reason == ApplyReason.AUDIT_UNAVAILABLE:
            close_old_connections()
            return
        changes: dict[str, object] = {"wait_ms": pair.wait_ms}
        self._end_unsent(
            pair.plan, entry, to=State.SPENT_UNSENT, error=reason, changes=changes, token=pair.token
        )
        self.ack(entry.entry_id)

    def _record(self, order: Order, outcome: Answered | Refused | FateUnknown) -> None:
        if isinstance(outcome, FateUnknown):
            log.warning(
                f"{order.symbol}: outcome unknown, symbol locked", plan=order.plan_id, error=outcome.text
            )
            settle.unknown(order, text=outcome.text, actor=ACTOR)
        elif isinstance(outcome, Refused):
            self._refused(order, outcome)
        else:
            self._answered(order, outcome)

    def _answered(self, order: Order, outcome: Answered) -> None:
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
            return
        settle.settle(order, proof, actor=ACTOR)

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

    def _finish_if_final(self, plan_id: str, *, token: str) -> None:
        if Plan.objects.filter(plan_id=plan_id).exclude(state__in=PENDING_STATES).exists():
            results.finish(self._client, plan_id, token=token)


def _with_its_time(refused: Refused) -> Refused:
    """Whoever reads the refusal also reads when it ends."""
    if refused.retry_at_ms is None:
        return refused
    until = clock.from_ms(refused.retry_at_ms).isoformat(timespec="seconds")
    return replace(refused, text=f"{refused.text[:160]}; silent until {until}")


def _conflict(plan: ExitPlan) -> bool:
    log.warning("the same plan_id with other content is refused", plan=plan.plan_id, symbol=plan.symbol)
    audit.record(
        kind="plan_conflict",
        actor=ACTOR,
        plan_id=plan.plan_id,
        symbol=plan.symbol,
        reason=ApplyReason.CONFLICT,
        data={"digest": plan.digest},
    )
    return True


def _refusal(plan: ExitPlan) -> tuple[Plan.State, str] | None:
    """What needs no permit to be refused."""
    if plan.action is Action.UPDATE_SL:
        return State.SKIPPED, ApplyReason.ACTION_UNSUPPORTED.value
    if plan.decision is not Decision.EXECUTE or plan.step is None:
        return State.SKIPPED, ApplyReason.DECISION_SKIP.value
    if not policies.allows(plan.symbol):
        return State.BLOCKED, ApplyReason.SYMBOL_NOT_ALLOWED.value
    now_s = clock.now_s()
    if plan.is_from_the_future(now_s=now_s):
        return State.BLOCKED, ApplyReason.FUTURE_PLAN.value
    if Decimal(now_s) >= plan.expiry_s(ttl_s=settings.APPLY_PLAN_TTL_SEC):
        return State.EXPIRED, ApplyReason.STALE_PLAN.value
    return None
