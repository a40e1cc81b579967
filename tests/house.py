"""The house in one process: the roles' own run functions in threads, under terms that a test ends."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar, cast
from urllib.parse import urlsplit

from django.conf import settings
from django.db import connection

from apply import warden
from apply.models import PENDING_STATES, Plan
from apply.plans import publish, timeline
from apply.proposals import intake
from permits.state.trading import LEASE_MS
from positions.feed import ear
from positions.models import Balance
from quantum import clock, roles
from quantum import plan as plans
from quantum.exchange.paper import scenarios
from quantum.exchange.paper.process import PaperExchangeProcess
from quantum.plan import Action, ExitPlan
from quantum.redis import Client, RedisError

SHIPPED_LOOK_S = intake.LOOK_EVERY_S
# A house ends hundreds of times in a suite, and would wait for each of these to look up.
warden.TURN_S = 0.25
intake.BLOCK_MS, intake.LOOK_EVERY_S = 500, 0.2
ear.TAKE_S = 0.1
PATIENCE_S = 10.0
MARGIN_S = 1.0
"""What a machine that is busy with the rest of the suite may add to a time that the product promises."""
START_S = 20.0
END_S = 8.0
ADOPTED_S = 0.05


class Terms:
    """What a role needs of roles.Watch, without a lease: there is only this process."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.consumer = f"{role}-test"
        self.stopping = False

    def keep(self) -> bool:
        return not self.stopping


def wait_for(condition: Callable[[], Any], *, what: str, within_s: float = PATIENCE_S) -> Any:
    """The condition's first true answer; fails the test with `what` when there is none."""
    began = time.monotonic()
    while (waited_s := time.monotonic() - began) < within_s:
        found = condition()
        if found:
            return found
        # What takes seconds may be seen some hundredths later: others want the processors.
        time.sleep(min(0.01 + waited_s / 20, 0.05))
    raise AssertionError(f"waited {within_s} s for {what}")


def database_url() -> str:
    """The test's own database, as a process of ours is told of it."""
    name = connection.settings_dict["NAME"]
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()


class House:
    POSITIONS: ClassVar = {"BTCUSDT": "1.000", "ETHUSDT": "-8.000", "SOLUSDT": "120.00"}
    _numbers = itertools.count(int(time.time() * 1000))

    def __init__(self, *, redis: Client, paper: PaperExchangeProcess) -> None:
        self.redis = redis
        self.paper = paper
        self._running: dict[str, tuple[Terms, threading.Thread]] = {}
        self._processes: list[subprocess.Popen[bytes]] = []

    @classmethod
    def entry_id(cls) -> str:
        """A client id of the user's own entry bot, as LEDGER_SOURCES declares it."""
        return f"entry-{next(cls._numbers)}"

    # ---- roles

    def start(self, *names: str) -> House:
        """Without names all four; returns when they are ready to work."""
        self.begin(*names)
        if "apply" in self._running:
            wait_for(
                lambda: self.redis.exists(settings.KEYS.trading_state), what="the trading state to be armed"
            )
        if "p33" in self._running:
            wait_for(self._adopted, what="the positions to be adopted", within_s=START_S)
            # What trades within the error of the exchange's clock (tens of ms on a busy machine) counts as adopted.
            time.sleep(ADOPTED_S)
        return self

    def begin(self, *names: str) -> None:
        """Start and wait for nothing: what they need may not be there yet."""
        for name in names or ("p33", "governor", "apply", "warden"):
            terms = Terms(name)
            thread = threading.Thread(target=self._run, args=(terms,), name=f"role-{name}", daemon=True)
            self._running[name] = (terms, thread)
            thread.start()

    @property
    def all_alive(self) -> bool:
        return all(thread.is_alive() for _, thread in self._running.values())

    @staticmethod
    def _adopted() -> bool:
        return Balance.objects.filter(symbol__in=settings.APPLY_ALLOWLIST).count() == len(
            settings.APPLY_ALLOWLIST
        )

    def _run(self, terms: Terms) -> None:
        roles.find(terms.role).run(cast("roles.Watch", terms))
        connection.close()

    def stop(self, *names: str) -> None:
        for process in [] if names else self._processes:
            process.kill()
            process.wait(5)
        chosen = names or tuple(self._running)
        for name in chosen:
            self._running[name][0].stopping = True
        if not names:
            self._nothing_comes([thread for _, thread in self._running.values()])
        for name in chosen:
            _, thread = self._running.pop(name)
            thread.join(END_S)
            assert not thread.is_alive(), f"{name} did not end"
        if not names:  # what a gate's threads still write must not fall into the next test
            for thread in threading.enumerate():
                if thread.name in ("feed", "ear"):
                    thread.join(END_S)

    def _nothing_comes(self, ending: list[threading.Thread]) -> None:
        """Everybody ends: whoever is blocked at the server is answered as if its time were over."""
        end = time.monotonic() + END_S
        while any(thread.is_alive() for thread in ending) and time.monotonic() < end:
            with suppress(RedisError, OSError):
                for row in self.redis.client_list():
                    if "b" in row["flags"]:
                        self.redis.client_unblock(int(row["id"]))
            time.sleep(0.01)

    # ---- processes, for kills

    def spawn(self, *command: str, fault: str = "") -> subprocess.Popen[bytes]:
        """A command of ours as a process on this test's own database and Redis."""
        for marker in settings.VAR_DIR.glob("fault-*"):
            marker.unlink()
        process = subprocess.Popen(
            [sys.executable, str(settings.BASE_DIR / "manage.py"), *command],
            env=os.environ
            | {"DATABASE_URL": database_url(), "REDIS_URL": settings.REDIS_URL, "QUANTUM_FAULT": fault},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        self._processes.append(process)
        return process

    def spawn_role(self, role: str, *, fault: str = "") -> subprocess.Popen[bytes]:
        process = self.spawn("consume", role, fault=fault)
        mine = f"/{process.pid}/".encode()
        wait_for(
            lambda: mine in (self.redis.get(settings.KEYS.lease(role)) or b""),
            what=f"{role} to take its lease",
            within_s=START_S,
        )
        if role == "apply":
            wait_for(self._armed_just_now, what="the trading state to be armed")
        if role == "p33":
            wait_for(self._adopted, what="the positions to be adopted")
        return process

    def _armed_just_now(self) -> bool:
        """What a dead apply left may stand there still, and end before its successor has armed anything."""
        return int(self.redis.pttl(settings.KEYS.trading_state)) > LEASE_MS - 1000

    # ---- the exchange

    def play(self, name: str) -> None:
        """A shipped scenario, from now on."""
        self.paper.push_scenario(*scenarios.load(name).items)  # type: ignore[arg-type]

    # ---- plans

    @classmethod
    def next_number(cls) -> int:
        return next(cls._numbers)

    @staticmethod
    def make(symbol: str = "BTCUSDT", action: Action = Action.PARTIAL_25, **more: Any) -> ExitPlan:
        """A plan that differs from every other: its score carries a running number."""
        said = {
            "kill_score_text": f"0.{next(House._numbers)}",
            "timestamp_text": f"{clock.now_s():.3f}",
            "mode": settings.APPLY_MODE,
            "source": "tests",
            **more,
        }
        return plans.make(symbol=symbol, action=action, **said)

    def publish(self, plan: ExitPlan | None = None) -> ExitPlan:
        plan = plan or self.make()
        publish.publish(self.redis, plan, actor="tests")
        return plan

    def ended(self, plan: ExitPlan, *, within_s: float = PATIENCE_S) -> Plan:
        """The plan's row once it is final and its result was told."""

        def final() -> Plan | None:
            return (
                Plan.objects.filter(plan_id=plan.plan_id)
                .exclude(state__in=PENDING_STATES, result_id="")
                .first()
            )

        def told() -> Plan | None:
            row = final()
            return row if row is not None and row.state not in PENDING_STATES and row.result_id else None

        found: Plan = wait_for(told, what=f"the end of plan {plan.plan_id}", within_s=within_s)
        return found

    def exit(self, symbol: str = "BTCUSDT", action: Action = Action.PARTIAL_25) -> Plan:
        return self.ended(self.publish(self.make(symbol, action)))

    # ---- what came of it

    def orders(self, plan: ExitPlan | None = None) -> list[dict[str, Any]]:
        """In the exchange's own log: what it received from us, refused or not."""
        prefix = f"q-{plan.plan_id}" if plan else "q-"
        return [
            row for row in self.paper.log() if row["client_id"].startswith(prefix) and row["source"] == "api"
        ]

    def results(self, plan: ExitPlan) -> list[dict[str, str]]:
        entries = self.redis.xrange(settings.KEYS.result_stream)
        rows = [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in entries]
        return [row for row in rows if row["plan_id"] == plan.plan_id]

    def story(self, plan: ExitPlan) -> dict[str, Any]:
        found = timeline.of(plan.plan_id)
        assert found is not None
        data: dict[str, Any] = json.loads(json.dumps(timeline.as_data(found)))
        return data
