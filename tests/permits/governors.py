"""A Governor at work without a stream: real Redis, real rows, the real desk."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from permits.desk import payloads
from permits.desk.desk import Desk, Finding
from permits.desk.gatekeeper import Gatekeeper
from permits.governor.governor import Governor
from permits.policy import policies, rules
from quantum import clock
from quantum.plan import ExitPlan
from quantum.redis import Client
from quantum.signing import Signer
from quantum.stream import Entry
from tests.house import House

_numbers = itertools.count(1)


def arm(redis: Client) -> None:
    redis.set(settings.KEYS.trading_state, b'{"state":"ACTIVE","version":1}', px=60_000)


def snapshot(redis: Client, *, symbol: str = "BTCUSDT", age_s: float = 0, **bent: str) -> None:
    told = {"position_amt": "1", "mark_price": "50000", "seen_epoch": f"{clock.now_s() - age_s:.3f}"}
    redis.hset(settings.KEYS.snapshot(symbol), mapping=told | bent)


def limit(*words: str, symbol: str = "", shadow: bool = False) -> None:
    """Through the door that people use."""
    version, said = policies.newest()
    after = rules.changed(said, list(words), symbol=symbol, shadow=shadow)
    policies.change(rules=after, by="tests", reason="for this test", expected_version=version)


@dataclass
class AtWork:
    """One Governor process: what it decides, and what it says to whom."""

    redis: Client
    findings: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.governor = Governor()
        signer = Signer(name=payloads.GOVERNOR, directory=settings.PERMIT_KEYS_DIR)
        self.keeper = Gatekeeper(
            desk=Desk(gate=payloads.GOVERNOR, signer=signer, client=self.redis),
            decide=self.governor.decide,
            announce=self._issued,
            decide_anew=self.governor.decide_anew,
        )
        self.acked: list[str] = []
        self.recorder = self.keeper.start_recording(ack=lambda *ids: self.acked.extend(ids))

    def _issued(self, plan: ExitPlan, finding: Finding) -> None:
        self.findings.append(finding)
        self.governor.issued(plan, finding)

    def answer(self, plan: ExitPlan | None = None, **plan_of: Any) -> Finding:
        plan = plan or House.make(**plan_of)
        fields = {name.encode(): value.encode() for name, value in plan.fields().items()}
        assert not self.keeper.handle(Entry(entry_id=f"{next(_numbers)}-0", fields=fields))
        return self.findings[-1]

    def reason(self, plan: ExitPlan | None = None, **plan_of: Any) -> str:
        return self.answer(plan, **plan_of).reason

    def end(self) -> None:
        """Its rows are written; what it knew is gone."""
        self.recorder.finish()


Start = Callable[[], AtWork]
