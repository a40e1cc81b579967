"""The Governor: is this exit allowed by policy? The role's consumer."""

from __future__ import annotations

from decimal import Decimal

from django.conf import settings
from prometheus_client import Counter

from permits import payloads, policy, trading
from permits.desk import Desk, Finding
from permits.gatekeeper import Gatekeeper
from quantum import clock, keys, metrics
from quantum.log import log
from quantum.plan import ExitPlan
from quantum.redis import RedisError, command_client
from quantum.roles import Watch
from quantum.signing import Signer
from quantum.stream import Consumer

ALLOWED = Counter("quantum_govern_allow_total", "Plans the Governor granted")
BLOCKED = Counter("quantum_govern_block_total", "Plans the Governor denied", ["symbol", "reason"])


STATE_AGE_S = 1.0


class Governor:
    def __init__(self) -> None:
        self._client = command_client()
        self._policy = policy.Policy(
            mode=settings.APPLY_MODE,
            allowlist=frozenset(settings.APPLY_ALLOWLIST),
            plan_ttl_s=settings.APPLY_PLAN_TTL_SEC,
        )
        self._active: bool | None = None
        self._looked_s = 0.0

    def decide(self, plan: ExitPlan) -> Finding:
        now_s = Decimal(clock.now_ms()) / 1000
        self.look_at_state()
        verdict = policy.evaluate(plan, self._policy, trading_active=self._active, now_s=now_s)
        context = dict(verdict.rule) or None
        return Finding(verdict=verdict.approved, reason=verdict.reason.value, context=context)

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
    keeper = Gatekeeper(desk=desk, decide=governor.decide, announce=announce)

    def look() -> None:
        governor.look_at_state()
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
