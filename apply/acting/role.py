"""The role apply: opens the trading desk, arms the state, runs the consumer, drains."""

from __future__ import annotations

from django.conf import settings

from apply.acting import orders
from apply.acting.executor import Executor
from apply.acting.mirror import StateMirror
from apply.acting.told import WITHIN_S, Told
from permits.gate.gate import SLOW_STEP_MS, Gate
from permits.policy.operator_rules import Operators
from permits.state import trading
from quantum import clock, keys
from quantum.exchange.reading import ReadFailed
from quantum.exchange.types import SymbolRules
from quantum.log import log
from quantum.redis import blocking_client, command_client
from quantum.roles import Watch
from quantum.signing import Verifier
from quantum.stream import Consumer


def run(watch: Watch) -> None:
    desk = orders.open_desk()
    rules = _first_rules(watch, desk)
    if rules is None:
        return
    trading.ensure_first_state()
    mirror = StateMirror(stopping=lambda: watch.stopping)
    mirror.start()
    client = command_client()
    step_s = max(SLOW_STEP_MS, settings.APPLY_PERMIT_STEP_MS) / 1000
    gate = Gate(
        commands=client,
        blocking=blocking_client(block_s=step_s),
        verifier=Verifier(directory=settings.PERMIT_KEYS_DIR),
        state=mirror.state,
        hold=mirror.hold,
        operators=Operators(client=client, read=mirror.operator_rule),
    )
    executor = Executor(
        gate=gate,
        desk=desk,
        rules=rules,
        client=client,
        stopping=lambda: watch.stopping,
        told=Told(wakes=blocking_client(block_s=WITHIN_S)),
    )

    def idle() -> None:
        mirror.check()
        executor.idle()

    consumer = Consumer(
        terms=watch,
        stream=settings.KEYS.plan_stream,
        group=keys.APPLY_GROUP,
        handle=executor.handle,
        holds=executor.holds,
        idle=idle,
    )
    executor.ack = consumer.ack
    try:
        consumer.run()
    finally:
        executor.drain()


def _first_rules(watch: Watch, desk: orders.Desk) -> dict[str, SymbolRules] | None:
    """Without the symbol rules no permit may be spent, so nothing is read before they are there."""
    told = False
    while watch.keep():
        try:
            desk.reader.sync_clock()
            return desk.reader.symbol_rules()
        except ReadFailed as failed:
            if not told:
                log.warning("waiting for the exchange", error=str(failed))
                told = True
            clock.sleep_s(0.5)
    return None
