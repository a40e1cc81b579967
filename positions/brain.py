"""The Position State Brain, P3.3: do our ledger and the exchange agree, and how much may be closed?"""

from __future__ import annotations

from decimal import Decimal

from django.conf import settings
from prometheus_client import Counter

from permits.desk import payloads
from permits.desk.desk import Desk, Finding
from permits.desk.gatekeeper import Gatekeeper
from positions.books import ledger
from positions.feed.ear import Ear
from positions.feed.feed import Feed
from positions.judging import verdict
from positions.judging.verdict import Bounds, Observed, Verdict
from quantum import clock, keys, metrics
from quantum.exchange import connect
from quantum.exchange.types import SymbolRules
from quantum.log import log
from quantum.plan import ExitPlan
from quantum.reasons import BrainReason
from quantum.redis import command_client
from quantum.roles import Watch
from quantum.signing import Signer
from quantum.stream import Consumer

ALLOWED = Counter("p33_permit_allow_total", "Plans the Brain allowed", ["symbol"])
DENIED = Counter("p33_permit_deny_total", "Plans the Brain denied", ["symbol", "reason"])

WORTH_A_SECOND_LOOK = frozenset(
    {
        BrainReason.QTY_MISMATCH,
        BrainReason.SIDE_MISMATCH,
        BrainReason.NO_POSITION,
        BrainReason.STALE_EXCHANGE_STATE,
        BrainReason.NO_EXCHANGE_SNAPSHOT,
    }
)


class Brain:
    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def decide(self, plan: ExitPlan) -> Finding:
        if self._feed.hedged:
            return _denied(BrainReason.HEDGE_MODE, {})
        now_s, expiry_s = Decimal(clock.now_ms()) / 1000, plan.expiry_s(ttl_s=settings.APPLY_PLAN_TTL_SEC)
        if now_s >= expiry_s:
            return _denied(BrainReason.STALE_PLAN, {"expired_at": expiry_s, "now": now_s})
        rules = self._feed.rules(plan.symbol)
        if rules is None or plan.step is None:
            return _denied(BrainReason.NO_EXCHANGE_SNAPSHOT, {"symbol_rules": "not read"})
        found, observed = self._judge(plan.symbol, plan.step.percent, rules)
        return Finding(
            verdict=found.allowed,
            reason=found.reason.value,
            quantity=found.safe_quantity,
            exchange_amt=_amount(found, "exchange_amt"),
            ledger_amt=_amount(found, "ledger_amt"),
            observed_at=observed.observed_at,
            context=None if found.allowed else dict(found.compared),
        )

    def _judge(self, symbol: str, percent: int, rules: SymbolRules) -> tuple[Verdict, Observed]:
        """A snapshot older than our newest movement compares two different moments: read again first."""
        bounds = _bounds(rules)
        book = ledger.view(symbol)
        observed = self._feed.observed(symbol, not_before_ms=book.moved_ms)
        found = verdict.evaluate(percent=percent, observed=observed, ledger=book, bounds=bounds)
        if found.reason in WORTH_A_SECOND_LOOK:
            observed = self._feed.look_again(symbol)
            found = verdict.evaluate(
                percent=percent, observed=observed, ledger=ledger.view(symbol), bounds=bounds
            )
        return found, observed


def _bounds(rules: SymbolRules) -> Bounds:
    return Bounds(
        lot_step=rules.lot_step,
        market_step=rules.market_step,
        market_min=rules.market_min,
        market_max=rules.market_max,
        tolerance_pct=settings.P33_QTY_TOLERANCE_PCT,
        stale_after_s=settings.P33_STALE_THRESHOLD_SEC,
        cooldown_s=settings.P33_COOLDOWN_SEC,
    )


def _denied(reason: BrainReason, compared: dict[str, Decimal | str]) -> Finding:
    return Finding(verdict=False, reason=reason.value, context=compared or None)


def _amount(found: Verdict, name: str) -> Decimal:
    value = found.compared.get(name)
    return value if isinstance(value, Decimal) else Decimal(0)


def announce(plan: ExitPlan, finding: Finding) -> None:
    symbol = metrics.symbol_label(plan.symbol)
    if finding.verdict:
        ALLOWED.labels(symbol=symbol).inc()
        log.info(f"{plan.symbol}: P3.3 ALLOW plan {plan.plan_id}", safe_qty=f"{finding.quantity:f}")
        return
    DENIED.labels(symbol=symbol, reason=finding.reason).inc()
    log.info(
        f"{plan.symbol}: P3.3 DENY plan {plan.plan_id}", reason=finding.reason, **(finding.context or {})
    )


class FeedEnded(Exception):
    """A thread of the feed ended although nobody told it to: the role starts anew."""


def run(watch: Watch) -> None:
    reader = connect.reader()
    stream = connect.user_stream(reader)
    feed = Feed(
        reader=reader,
        stopping=lambda: watch.stopping,
        doubt=lambda since_ms: stream.doubt(since_ms=since_ms),
        is_behind=lambda: ear.is_behind,
    )
    ear = Ear(stream=stream, feed=feed, stopping=lambda: watch.stopping)
    signer = Signer(name=payloads.P33, directory=settings.PERMIT_KEYS_DIR)
    desk = Desk(gate=payloads.P33, signer=signer, client=command_client())
    keeper = Gatekeeper(desk=desk, decide=Brain(feed).decide, announce=announce)

    def check_feed() -> None:
        keeper.check_recorder()
        ended = [thread.name for thread in (feed, ear, stream) if not thread.is_alive()]
        if ended and not watch.stopping:
            raise FeedEnded(ended)

    consumer = Consumer(
        terms=watch,
        stream=settings.KEYS.plan_stream,
        group=keys.P33_GROUP,
        handle=keeper.handle,
        idle=check_feed,
    )
    for thread in (feed, ear, stream):
        thread.start()
    recorder = keeper.start_recording(ack=consumer.ack)
    try:
        consumer.run()
    finally:
        recorder.finish()
        stream.stop()
