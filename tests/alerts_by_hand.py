"""An instance in calm weather, as the alerts see it, without any role running; and time that a test moves."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import pytest
from django.conf import settings

from apply.alerts import duties, targets
from apply.alerts.courier import Courier
from apply.alerts.duties import Watching
from permits.models import TradingState
from permits.state import trading
from positions.reconcile import reconcile
from quantum import clock, lease, redis_users
from quantum.redis import Client
from tests.receiver import Receiver

SECRET = "a-secret-of-a-webhook-" + "w" * 20
LIFE_MS = 600_000


@dataclass
class Clock:
    """Moved by hand; Redis keeps its own."""

    ahead_s: float = 0.0


def halt(reason: str = "strange prices") -> None:
    trading.change(state=TradingState.State.HALTED, by="nina", reason=reason)


def resume() -> None:
    trading.change(state=TradingState.State.ACTIVE, by="nina", reason="all is well")


class Calm:
    """Exits can leave: what the roles would have written stands in Redis, and is as fresh as the moved clock."""

    def __init__(self, redis: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        self.redis = redis
        self.time = Clock()
        real_now, real_boot_s, real_now_s, real_now_ms = clock.now, clock.boot_s, clock.now_s, clock.now_ms
        monkeypatch.setattr(clock, "now", lambda: real_now() + dt.timedelta(seconds=self.time.ahead_s))
        monkeypatch.setattr(clock, "boot_s", lambda: real_boot_s() + self.time.ahead_s)
        monkeypatch.setattr(clock, "now_s", lambda: real_now_s() + self.time.ahead_s)
        monkeypatch.setattr(clock, "now_ms", lambda: real_now_ms() + int(self.time.ahead_s * 1000))
        resume()
        self.breathe()
        self.warden()

    def breathe(self) -> None:
        for name in redis_users.ROLES:
            beat = settings.KEYS.heartbeat(name, settings.QUANTUM_HOST)
            self.redis.set(beat, "{}", px=lease.HEARTBEAT_LIFE_MS)
            self.redis.set(settings.KEYS.lease(name), f"{settings.QUANTUM_HOST}/1/x", px=LIFE_MS)
        self.redis.set(settings.KEYS.trading_state, trading.current().raw, px=LIFE_MS)
        for symbol in reconcile.symbols():
            now = f"{clock.now_s():.3f}"
            said = {
                "position_amt": "0",
                "ts_epoch": now,
                "seen_epoch": now,
                "lot_step": "0.001",
                "mark_price": "1",
            }
            self.redis.hset(settings.KEYS.snapshot(symbol), mapping=said)

    def warden(self) -> None:
        """A fresh one, as after a restart."""
        told = targets.configured()
        self.watching = Watching(client=self.redis, told=told)
        self.couriers = [Courier(target) for target in told]

    def later(self, seconds: float) -> None:
        self.time.ahead_s += seconds
        self.breathe()

    def after(self, seconds: float) -> None:
        """So much later the warden has had a turn, and every target what was due."""
        self.later(max(seconds, duties.TURN_S + 0.1))
        self.watching.tick()
        for each in self.couriers:
            each.turn()
            each.turn()


def aim(settings: object, receiver: Receiver, **more: object) -> None:
    """The settings a person would give; secrets are read from the environment."""
    for name, value in {"ALERT_WEBHOOK_URL": f"{receiver.url}/hook/very-private", **more}.items():
        setattr(settings, name, value)
