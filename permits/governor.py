"""The Governor: is this exit allowed by policy? The role's consumer."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from decimal import Decimal

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections, models
from prometheus_client import Counter

from permits import inputs, payloads, policies, policy, trading, usage
from permits.desk import Desk, Finding
from permits.gatekeeper import Gatekeeper
from permits.models import Approval
from permits.policy import TOTAL, Facts, Policy, Verdict
from permits.reservations import Book
from permits.reserved import Reservation
from permits.rules import Nonsense
from permits.tally import Tally
from quantum import amounts, audit, clock, keys, metrics
from quantum.log import log
from quantum.plan import ExitPlan
from quantum.reasons import GovernorReason
from quantum.redis import Client, RedisError, command_client
from quantum.roles import Watch
from quantum.signing import Signer
from quantum.stream import Consumer

ALLOWED = Counter("quantum_govern_allow_total", "Plans the Governor granted")
BLOCKED = Counter("quantum_govern_block_total", "Plans the Governor denied", ["symbol", "reason"])


STATE_AGE_S = 1.0
BOOKS_AGE_S = 1.0
WARM_AGE_S = 0.5
BOOKS_STALE_S = 10.0
APPROVAL_LIFE = dt.timedelta(minutes=15)


class Books:
    """The Governor's copy of policy, usage and reservations. It errs on the safe side between two readings:
    what it reserved itself it knows at once, what was released it learns later."""

    def __init__(self, *, client: Client) -> None:
        policies.ensure_first()
        self.policy: Policy = policies.copy(age_s=0)
        self.version = ""
        self._book = Book(client=client, gate=payloads.GOVERNOR)
        self._tally, self._reader = Tally(), usage.Reader()
        self._usage_id = 0
        self.read_anew()
        self._looked_s = clock.boot_s()

    def look(self, *, age_s: float) -> None:
        """The policy, and the usage where something moved. A database that fails leaves the copy to age."""
        asked_s = clock.boot_s()
        if asked_s - self._looked_s < age_s:
            return
        try:
            self.policy = policies.copy(age_s=0)
            if self._tally.reserved or self._reader.newest_id() != self._usage_id:
                self.read_anew()
            self._looked_s = asked_s
        except (DatabaseError, Nonsense) as error:
            log.warning("policy and usage cannot be read", error=type(error).__name__)
            close_old_connections()

    def read_anew(self) -> None:
        """Reservations first, usage last: a plan that ends in between is seen in both, and counts as what it
        came to. The other way round it would be seen in neither."""
        held = self._book.read()
        if not held.version:
            self._book.rebuild(self._tally.reserved.values())
            held = self._book.read()
        freed = self._book.sweep(held)
        self._usage_id = self._reader.newest_id()
        for charge in self._reader.new():
            self._tally.charge(charge)
        self._tally.replace_reserved(
            one for plan_id, one in held.reservations.items() if plan_id not in freed
        )
        self.version = held.version

    @property
    def too_old(self) -> bool:
        return clock.boot_s() - self._looked_s > BOOKS_STALE_S

    def reserved(self, reservation: Reservation) -> None:
        """A permit of ours was written with this; the script moved the version by one."""
        self._tally.reserve(reservation)
        self.version = str(int(self.version) + 1)

    def facts(self, plan: ExitPlan, facts: Facts) -> Facts:
        now_ms = int(facts.now_s * 1000)
        return replace(
            facts,
            of_symbol=self._tally.use(plan.symbol, now_ms=now_ms, without=plan.plan_id),
            in_total=self._tally.use(TOTAL, now_ms=now_ms, without=plan.plan_id),
        )


class Governor:
    def __init__(self) -> None:
        self._client = command_client()
        self._books = Books(client=self._client)
        self._active: bool | None = None
        self._looked_s = 0.0

    def look(self) -> None:
        """Between plans: what a decision needs is kept warm."""
        self.look_at_state()
        self._books.look(age_s=WARM_AGE_S)

    def decide(self, plan: ExitPlan) -> Finding:
        self.look_at_state()
        self._books.look(age_s=BOOKS_AGE_S)
        rules = self._books.policy
        facts = self._plain_facts(plan, rules)
        if self._books.too_old:
            verdict = Verdict(GovernorReason.INPUTS_UNAVAILABLE, {"missing": "policy and usage"})
            return self._finding(plan, facts, verdict)
        facts = self._books.facts(plan, facts)
        verdict = policy.evaluate(plan, rules, facts)
        if verdict.reason in policy.OF_USE and self._read_anew():
            facts = self._books.facts(plan, facts)
            verdict = policy.evaluate(plan, rules, facts)
        if verdict.reason is GovernorReason.AWAITING_APPROVAL and _is_approved(plan):
            facts = replace(facts, approved=True)
            verdict = policy.evaluate(plan, rules, facts)
        return self._finding(plan, facts, verdict)

    def decide_anew(self) -> None:
        """Another Governor has reserved since: its reservations count before ours."""
        self._read_anew()

    def issued(self, plan: ExitPlan, finding: Finding) -> None:
        """A fresh permit stands in Redis."""
        if finding.verdict:
            now_ms = clock.now_ms()
            life_ms = int(settings.PERMIT_TTL_SEC * 1000)
            self._books.reserved(
                Reservation(
                    plan.plan_id, plan.symbol, finding.quantity, finding.notional, now_ms, now_ms + life_ms
                )
            )
        announce(plan, finding)

    def _read_anew(self) -> bool:
        try:
            self._books.read_anew()
        except (DatabaseError, RedisError) as error:
            log.warning("usage cannot be read anew", error=type(error).__name__)
            close_old_connections()
            return False
        return True

    def _plain_facts(self, plan: ExitPlan, rules: Policy) -> Facts:
        size = inputs.size_of(plan, client=self._client) if rules.needs_size(plan.symbol) else inputs.Size()
        return Facts(
            now_s=Decimal(clock.now_ms()) / 1000,
            trading_active=self._active,
            quantity=size.quantity,
            notional=size.notional,
            missing=size.missing,
        )

    def _finding(self, plan: ExitPlan, facts: Facts, verdict: Verdict) -> Finding:
        beside: list[models.Model] = []
        if verdict.reason is GovernorReason.AWAITING_APPROVAL:
            beside.append(_parked(plan, verdict))
        beside += _shadow(plan, self._books.policy, facts, verdict)
        return Finding(
            verdict=verdict.approved,
            reason=verdict.reason.value,
            quantity=facts.quantity or Decimal(0),
            notional=facts.notional or Decimal(0),
            context=dict(verdict.rule) or None,
            usage_version=self._books.version,
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


def _is_approved(plan: ExitPlan) -> bool:
    """People said yes to exactly this plan: the one that was made of what they were asked."""
    try:
        return Approval.objects.filter(
            plan_id=plan.plan_id, plan_digest=plan.digest, state=Approval.State.APPROVED
        ).exists()
    except DatabaseError:
        close_old_connections()
        return False


def _parked(plan: ExitPlan, verdict: Verdict) -> Approval:
    return Approval(
        asked_plan_id=plan.plan_id,
        symbol=plan.symbol,
        fields=plan.fields(),
        rule=str(verdict.rule.get("rule", f"exits above {verdict.rule.get('limit')} USD"))[:60],
        compared=_texts(verdict),
        expires_at=clock.now() + APPROVAL_LIFE,
    )


def _shadow(plan: ExitPlan, rules: Policy, facts: Facts, verdict: Verdict) -> list[models.Model]:
    """What the shadow rules would have denied, recorded and nothing else."""
    if rules.shadow is None or not verdict.approved:
        return []
    found = policy.within(plan.symbol, rules.shadow, facts)
    if found.approved:
        return []
    event = audit.event(
        kind="governor_shadow",
        actor=payloads.GOVERNOR,
        plan_id=plan.plan_id,
        symbol=plan.symbol,
        reason=found.reason.value,
        data={"policy": rules.version, **_texts(found)},
    )
    return [event]


def _texts(verdict: Verdict) -> dict[str, str]:
    """Numbers in their exact decimal text: JSON has no other exact ones."""
    return {
        name: amounts.plain(value) if isinstance(value, Decimal) else value
        for name, value in verdict.rule.items()
    }


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
