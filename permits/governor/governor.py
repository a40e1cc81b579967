"""The Governor: is this exit allowed by policy? The role's consumer."""

from __future__ import annotations

from decimal import Decimal
from functools import partial

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections
from msgspec.structs import replace
from prometheus_client import Counter

from permits.desk import approvals, payloads
from permits.desk.desk import Desk, Finding
from permits.desk.gatekeeper import Gatekeeper
from permits.desk.records import Beside
from permits.desk.reserved import Reservation
from permits.governor.books import Books
from permits.models import Approval
from permits.policy import inputs, judgements, policy
from permits.policy.policy import Facts, Verdict
from permits.state import trading
from quantum import clock, keys, metrics
from quantum.log import log
from quantum.plan import ExitPlan
from quantum.reasons import GovernorReason
from quantum.redis import RedisError, command_client
from quantum.roles import Watch
from quantum.signing import Signer
from quantum.stream import Consumer

ALLOWED = Counter("quantum_govern_allow_total", "Plans the Governor granted")
BLOCKED = Counter("quantum_govern_block_total", "Plans the Governor denied", ["symbol", "reason"])


STATE_AGE_S = 1.0
BOOKS_AGE_S = 1.0
WARM_AGE_S = 0.5


class Governor:
    def __init__(self) -> None:
        self._client = command_client()
        self._books = Books(client=self._client)
        self._snapshots = inputs.Snapshots(client=self._client)
        self._active: bool | None = None
        self._looked_s = 0.0

    def look(self) -> None:
        """Between plans: what a decision needs is kept warm."""
        self.look_at_state()
        self._books.look(age_s=WARM_AGE_S)
        # A position that is about to move is read when it is asked for: a copy of before would be decided by twice.
        moving = self._books.moving
        self._snapshots.warm(symbol for symbol in self._books.policy.allowlist if symbol not in moving)

    def decide(self, plan: ExitPlan) -> Finding:
        self.look_at_state()
        self._books.look(age_s=BOOKS_AGE_S)
        size = self._size_of(plan)
        facts = self._facts(plan, size)
        if self._books.too_old:
            verdict = Verdict(GovernorReason.INPUTS_UNAVAILABLE, {"missing": judgements.POLICY_AND_USAGE})
            return self._finding(plan, facts, verdict)
        verdict = policy.evaluate(plan, self._books.policy, facts)
        asks = verdict.reason is GovernorReason.AWAITING_APPROVAL
        if verdict.reason in policy.OF_USE or (asks and size.copied):
            self._read_anew(plan)
            size = self._size_of(plan)
            facts = self._facts(plan, size)
            verdict = policy.evaluate(plan, self._books.policy, facts)
        if verdict.reason is GovernorReason.AWAITING_APPROVAL:
            approved = _is_approved(plan)
            if approved is None:  # not a second question about what may have its yes
                unknown = Verdict(GovernorReason.INPUTS_UNAVAILABLE, {"missing": judgements.APPROVALS})
                return self._finding(plan, facts, unknown)
            facts = replace(facts, approved=approved)
            verdict = policy.evaluate(plan, self._books.policy, facts)
        return self._finding(plan, facts, verdict, position=size.position)

    def decide_anew(self, plan: ExitPlan) -> None:
        """What we decided by has changed since: another Governor's reservations count before ours, and a
        position that has moved is read and not remembered."""
        self._read_anew(plan)

    def issued(self, plan: ExitPlan, finding: Finding) -> None:
        """A fresh permit stands in Redis."""
        if finding.verdict:
            self._snapshots.forget(plan.symbol)
            now_ms = clock.now_ms()
            life_ms = int(settings.PERMIT_TTL_SEC * 1000)
            self._books.reserved(
                Reservation(
                    plan.plan_id, plan.symbol, finding.quantity, finding.notional, now_ms, now_ms + life_ms
                )
            )
        announce(plan, finding)

    def _read_anew(self, plan: ExitPlan) -> None:
        """The size is read anew even where the usage cannot be: it needs no database."""
        self._snapshots.forget(plan.symbol)
        try:
            self._books.read_anew()
        except (DatabaseError, RedisError) as error:
            log.warning("usage cannot be read anew", error=type(error).__name__)
            close_old_connections()

    def _size_of(self, plan: ExitPlan) -> inputs.Size:
        needed = self._books.policy.needs_size(plan.symbol)
        return self._snapshots.size_of(plan) if needed else inputs.Size()

    def _facts(self, plan: ExitPlan, size: inputs.Size) -> Facts:
        facts = Facts(
            now_s=Decimal(clock.now_ms()) / 1000,
            trading_active=self._active,
            quantity=size.quantity,
            notional=size.notional,
            missing=size.missing,
        )
        return self._books.facts(plan, facts)

    def _finding(self, plan: ExitPlan, facts: Facts, verdict: Verdict, *, position: bytes = b"") -> Finding:
        beside: list[Beside] = [partial(judgements.row, plan, self._books.policy, facts, verdict)]
        if verdict.reason is GovernorReason.AWAITING_APPROVAL:
            beside.append(_parked(plan, verdict))
        return Finding(
            verdict=verdict.approved,
            reason=verdict.reason.value,
            quantity=facts.quantity or Decimal(0),
            notional=facts.notional or Decimal(0),
            context=dict(verdict.rule) or None,
            usage_version=self._books.version,
            position=position,
            beside=tuple(beside),
        )

    def look_at_state(self) -> None:
        """The leased copy, at most a second old and kept warm between plans: this rule only saves a wait
        that must fail. What forbids is the consume, which looks in its own step, and the intent (I13)."""
        now_s = clock.boot_s()
        if self._active and now_s - self._looked_s < STATE_AGE_S:
            return
        try:
            raw = self._client.get(settings.KEYS.trading_state)
        except RedisError:
            self._active = None
            return
        self._active = None if raw is None else not trading.is_halted(raw)
        self._looked_s = now_s


def _is_approved(plan: ExitPlan) -> bool | None:
    """People said yes to exactly this plan: the one that was made of what they were asked. None: cannot tell."""
    try:
        return approvals.is_approved(plan=plan)
    except DatabaseError:
        close_old_connections()
        return None


def _parked(plan: ExitPlan, verdict: Verdict) -> Approval:
    rule = str(verdict.rule.get("rule", f"exits above {verdict.rule.get('limit')} USD"))
    return approvals.question(plan=plan, rule=rule, compared=verdict.rule)


def announce(plan: ExitPlan, finding: Finding) -> None:
    if finding.verdict:
        ALLOWED.inc()
        log.info(f"{plan.symbol}: ALLOW plan {plan.plan_id}", action=plan.action.value)
        return
    BLOCKED.labels(symbol=metrics.symbol_label(plan.symbol), reason=finding.reason).inc()
    log.info(f"{plan.symbol}: BLOCKED plan {plan.plan_id} - {finding.reason}", **(finding.context or {}))


def run(watch: Watch) -> None:
    signer = Signer(name=payloads.GOVERNOR, directory=settings.PERMIT_KEYS_DIR)
    desk = Desk(gate=payloads.GOVERNOR, signer=signer, client=command_client())
    governor = Governor()
    keeper = Gatekeeper(
        desk=desk, decide=governor.decide, announce=governor.issued, decide_anew=governor.decide_anew
    )

    def look() -> None:
        governor.look()
        keeper.check_recorder()

    consumer = Consumer(
        terms=watch,
        stream=settings.KEYS.plan_stream,
        group=keys.GOVERNOR_GROUP,
        handle=keeper.handle,
        idle=look,
    )
    recorder = keeper.start_recording(ack=consumer.ack)
    try:
        consumer.run()
    finally:
        recorder.finish()
