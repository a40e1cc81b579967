"""Random sequences of everything that can happen to a pair of permits, against a model (I1, I2, I13).

The real desk, the real attempt and the real scripts on a real server; the model says at each spending
call what the script must answer, and at each attempt what it must tell. Between an attempt's look and
its spend anything else may happen, and the answer of the spend may be lost.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any, ClassVar

from django.conf import settings
from hypothesis import HealthCheck
from hypothesis import settings as HypothesisSettings  # noqa: N812
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from permits.desk.desk import PAIR_LIFE_MS, Desk, Finding, Issued, NotIssued
from permits.gate.attempt import Attempt
from permits.gate.judge import Judge
from permits.gate.outcome import Blocked, SpentPair, Verified
from permits.gate.spending import Spending
from permits.state import trading
from permits.state.trading import Projection
from quantum import clock
from quantum.plan import Action, ExitPlan
from quantum.plan import make as make_plan
from quantum.redis import Client
from quantum.signing import Signer, Verifier
from tests.contract.servers import lua
from tests.permits.gate_line import Line, dumped, restore
from tests.permits.gate_model import Database, Laid, Memory, attempt_says, script_says
from tests.permits.mandates import no_hold, nobody
from tests.permits_by_hand import GOVERNOR, P33, permit

SYMBOLS = ("BTCUSDT", "BTCUSDT", "ETHUSDT")
GATES = st.sampled_from((GOVERNOR, P33))
PLANS = st.integers(0, len(SYMBOLS) - 1)
TURNS_MAX = 6
STEPS = 24
WAIT_MS = 20_000
"""Longer than any sequence: no attempt of these ends by its deadline."""
WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "symbol": ("symbol_mismatch", {"symbol": "SOLUSDT"}),
    "other_plan": ("digest_mismatch", {"plan_id": "0" * 16}),
    "mode": ("mode_mismatch", {"mode": "live"}),
    "forged": ("bad_signature", {"signer": "operator"}),
    "consumed": ("already_consumed", {"consumed": True}),
    "old": ("expired_permit", {"age_s": 61, "life_s": 3600}),
}
REVOKE = lua("revoke")
MEANWHILE = ("halt", "hold", "revoke", "spend", "loss", "older", "lapse")


def _lays(kind: str) -> Callable[[GateMachine, int, str, bool], object]:
    return lambda machine, plan, gate, _: machine.lay_by_hand(plan, gate, kind)


UPSETS: dict[str, Callable[[GateMachine, int, str, bool], object]] = {
    **{f"lay_{kind}": _lays(kind) for kind in WRONG},
    "revoke": lambda m, plan, gate, _: m.revoke(plan, gate),
    "expire": lambda m, plan, gate, _: m.expire(plan, gate),
    "halt": lambda m, _plan, _gate, at_once: m.change_state(active=False, at_once=at_once),
    "resume": lambda m, _plan, _gate, at_once: m.change_state(active=True, at_once=at_once),
    "project": lambda m, *_: m.project(),
    "hold": lambda m, plan, _gate, at_once: m.hold(SYMBOLS[plan], at_once),
    "lift": lambda m, plan, *_: m.lift(SYMBOLS[plan]),
    "finish": lambda m, plan, *_: m.finish(plan),
    "lapse": lambda m, *_: m.lapse(),
    "lose_all": lambda m, *_: m.lose_all(),
    "keep": lambda m, *_: m.keep(),
    "restart_older": lambda m, *_: m.restart_older(),
}


class GateMachine(RuleBasedStateMachine):
    server: ClassVar[Client]
    judge: ClassVar[Judge]
    seen: ClassVar[Counter[str]] = Counter()

    # ---- the start of a sequence

    @initialize()
    def begin(self) -> None:
        self.server.flushall()
        self.memory, self.database = Memory(), Database()
        self.kept: tuple[Memory, dict[bytes, tuple[bytes, int]]] | None = None
        self.known = self.database.projection  # the copy that apply's mirror holds
        self.spends: Counter[str] = Counter()
        self.orders: Counter[str] = Counter()
        self.spenders: dict[str, Attempt] = {}
        self.plans = [_plan(symbol) for symbol in SYMBOLS]
        self.desks = {
            gate: Desk(gate=gate, signer=_signer(gate), client=self.server) for gate in (GOVERNOR, P33)
        }
        self.project()

    # ---- gates

    @rule(plan=PLANS, gate=GATES, verdict=st.sampled_from((True, True, True, False)))
    def issue(self, plan: int, gate: str, verdict: bool) -> None:
        self._issue(self.plans[plan], gate, verdict=verdict)

    def _issue(self, plan: ExitPlan, gate: str, *, verdict: bool) -> None:
        finding = Finding(verdict=verdict, reason="random", quantity=Decimal("0.1"), exchange_amt=Decimal(1))
        answer = self.desks[gate].issue(plan, finding)
        standing = self.memory.laid.get((plan.plan_id, gate))
        if plan.plan_id in self.memory.receipts:
            assert answer == NotIssued(reason="already_consumed"), "a spent plan got a permit"
            return
        if plan.plan_id in self.memory.revoked:
            assert answer == NotIssued(reason="revoked"), "a revoked plan got a permit"
            return
        assert isinstance(answer, Issued)
        if standing is not None and plan.plan_id in self.memory.pairs:
            assert (answer.raw, answer.fresh) == (standing.raw, False), "a standing permit was replaced"
            return
        wrong = "" if verdict else f"{gate}_denied"
        self.memory.laid[plan.plan_id, gate] = Laid(answer.raw, wrong)
        self.memory.pairs.add(plan.plan_id)

    def lay_by_hand(self, plan: int, gate: str, kind: str) -> None:
        """A stranger who can write to the server."""
        wrong, bent = WRONG[kind]
        raw = permit(self.plans[plan], gate, **bent)
        self.server.set(_key(self.plans[plan], gate), raw, px=60_000)
        self.memory.laid[self.plans[plan].plan_id, gate] = Laid(raw, wrong)

    def revoke(self, plan: int, gate: str) -> None:
        """As the desk does it, in its script: exactly the bytes that were looked at, and no permit afterwards."""
        asked, keys = self.plans[plan], settings.KEYS
        standing = self.memory.laid.get((asked.plan_id, gate))
        if standing is None:
            return
        wanted = [standing.raw if each == gate else b"" for each in (GOVERNOR, P33)]
        places = (
            _key(asked, GOVERNOR),
            _key(asked, P33),
            keys.pair(asked.plan_id),
            keys.receipt(asked.plan_id),
        )
        answer = REVOKE(self.server, keys=places, args=(*wanted, PAIR_LIFE_MS))
        if asked.plan_id in self.memory.receipts:
            assert answer[:2] == [0, b"already_consumed"], "a spent permit was taken back"
            return
        assert answer[0] == 1, f"not revoked: {answer}"
        del self.memory.laid[asked.plan_id, gate]
        self.memory.revoked.add(asked.plan_id)

    def expire(self, plan: int, gate: str) -> None:
        self.server.pexpire(_key(self.plans[plan], gate), 1)
        clock.sleep_s(0.003)
        self.memory.laid.pop((self.plans[plan].plan_id, gate), None)

    # ---- state and holds: the database first, the server now or later

    def change_state(self, active: bool, at_once: bool) -> None:
        self.database.active = active
        self.database.version += 1
        if at_once:
            self.project()

    def project(self) -> None:
        """The mirror's turn: holds, then the state."""
        for symbol in self.database.holds:
            self.server.set(settings.KEYS.hold(symbol), b'{"hold_id":1}')
        self.memory.holds |= self.database.holds
        self.known = self.database.projection
        newer = self.memory.state is not None and self.memory.state.version > self.known.version
        assert trading.project(self.server, self.known) is not newer, "a lower version overwrote"
        if not newer:
            self.memory.state = self.known

    def hold(self, symbol: str, at_once: bool) -> None:
        self.database.holds.add(symbol)
        if at_once:
            self.server.set(settings.KEYS.hold(symbol), b'{"hold_id":1}')
            self.memory.holds.add(symbol)

    def lift(self, symbol: str) -> None:
        self.database.holds.discard(symbol)
        self.server.delete(settings.KEYS.hold(symbol))
        self.memory.holds.discard(symbol)

    def lapse(self) -> None:
        """Nobody renewed the lease."""
        self.server.delete(settings.KEYS.trading_state)
        self.memory.state = None

    # ---- losses

    def lose_all(self) -> None:
        self.server.flushall()
        self._forgot(Memory())

    def keep(self) -> None:
        self.kept = self.memory.copied(), dumped(self.server)

    def restart_older(self) -> None:
        """The end of the append-only file is lost: spent permits come back, receipts go."""
        if self.kept is not None:
            memory, older = self.kept
            restore(self.server, older)
            self._forgot(memory.copied())

    def _forgot(self, memory: Memory) -> None:
        self.memory = memory
        self.spends.clear()
        self.spenders.clear()

    # ---- spending

    @rule(plan=PLANS, loses=st.booleans(), meanwhile=st.none() | st.sampled_from(MEANWHILE))
    def consume(self, plan: int, loses: bool, meanwhile: str | None) -> None:
        self._consume(self.plans[plan], loses=loses, meanwhile=meanwhile)

    def _consume(self, plan: ExitPlan, *, loses: bool = False, meanwhile: str | None = None) -> None:
        act = None if meanwhile is None else (lambda: self._meanwhile(meanwhile, plan))
        line = Line(self.server, meanwhile=act, loses=loses)
        must = attempt_says(self.memory, self.database, plan, known=self.known)
        attempt = self._attempt(plan, line)
        outcome = self._turned(attempt, plan)
        told = "spent" if isinstance(outcome, SpentPair) else outcome.reason.value if outcome else ""
        self.seen[told] += 1
        if meanwhile is None:
            assert told == must, f"told {told!r}, must be {must!r}"
        if isinstance(outcome, SpentPair):
            if self.memory.receipts.get(plan.plan_id) == outcome.token:
                self.spenders[plan.plan_id] = attempt
            if self.database.intend(plan, outcome.token):
                self.orders[plan.plan_id] += 1

    def _attempt(self, plan: ExitPlan, line: Line) -> Attempt:
        def expect(argv: list[Any]) -> None:
            pair, token, state = (argv[1], argv[2]), argv[0], argv[3]
            self.must_spend = script_says(self.memory, plan, token=token, pair=pair, state=state)

        def judge(argv: list[Any], answer: list[Any]) -> None:
            spent = answer[0] == 1
            assert spent is self.must_spend, f"the script said {answer[:2]}, the model {self.must_spend}"
            if spent and plan.plan_id not in self.memory.receipts:
                self._check_spend(plan, argv, answer)

        line.expect, line.judge = expect, judge
        spending = Spending(commands=line, blocking=self.server)
        return Attempt(plan, spending=spending, judge=self.judge, state=self._state_of, hold=no_hold)

    def _check_spend(self, plan: ExitPlan, argv: list[Any], answer: list[Any]) -> None:
        state = self.memory.state
        assert state is not None and state.active, "I13: spent while halted"
        assert plan.symbol not in self.memory.holds, "I13: spent while held"
        # The script's own answer names the bytes only from the receipt: else they are those it was given.
        for gate, raw in zip((GOVERNOR, P33), answer[2:] or argv[1:3], strict=True):
            laid = self.memory.laid[plan.plan_id, gate]
            assert (laid.raw, laid.wrong) == (raw, ""), f"I2: spent with a {gate} permit that is {laid.wrong}"
        self.spends[plan.plan_id] += 1
        self.memory.spent(plan, argv[0])

    def _state_of(self, *, fresh: bool) -> Projection:
        return self.database.projection if fresh else self.known

    def _turned(self, attempt: Attempt, plan: ExitPlan) -> SpentPair | Blocked | None:
        """Turns that need not wait: a wake-up lies there before each."""
        wake = settings.KEYS.wake(plan.plan_id)
        for _ in range(TURNS_MAX):
            if not self.server.exists(wake):
                self.server.rpush(wake, "1")
            outcome = attempt.turn(1)
            if outcome is not None:
                assert not isinstance(outcome, Verified)
                return outcome
        return None

    def _meanwhile(self, what: str, plan: ExitPlan) -> None:
        """Between the look and the spend of an attempt."""
        acts: dict[str, Callable[[], None]] = {
            "halt": lambda: self.change_state(active=False, at_once=True),
            "hold": lambda: self.hold(symbol=plan.symbol, at_once=True),
            "revoke": lambda: self.revoke(plan=self.plans.index(plan), gate=P33),
            "spend": lambda: self._consume(plan),
            "loss": self.lose_all,
            "older": self.restart_older,
            "lapse": self.lapse,
        }
        acts[what]()

    @rule(plan=PLANS)
    def ask_again(self, plan: int) -> None:
        """The same attempt, as after a lost answer: its first answer, whatever has happened since."""
        asked = self.plans[plan]
        attempt = self.spenders.get(asked.plan_id)
        if attempt is not None:
            again = self._turned(attempt, asked)
            assert isinstance(again, SpentPair), f"its own receipt was refused: {again}"

    def finish(self, plan: int) -> None:
        """The plan has ended: the symbol's slot is free again."""
        symbol = self.plans[plan].symbol
        self.server.delete(settings.KEYS.slot(symbol))
        self.memory.slots.pop(symbol, None)

    # ---- what random sequences are made of

    @rule(
        plan=PLANS, other=st.booleans(), loses=st.booleans(), meanwhile=st.none() | st.sampled_from(MEANWHILE)
    )
    def grant_and_consume(self, plan: int, other: bool, loses: bool, meanwhile: str | None) -> None:
        """What mostly happens: the symbol's last plan has ended, and both gates say yes."""
        self.finish(plan)
        if other:
            self.come_with_another_plan(plan)
        for gate in (GOVERNOR, P33):
            self._issue(self.plans[plan], gate, verdict=True)
        self._consume(self.plans[plan], loses=loses, meanwhile=meanwhile)

    @rule(plan=PLANS)
    def another_plan_passes(self, plan: int) -> None:
        self.calm_down()
        self.grant_and_consume(plan=plan, other=True, loses=False, meanwhile=None)

    @rule(plan=PLANS)
    def come_with_another_plan(self, plan: int) -> None:
        self.plans[plan] = _plan(SYMBOLS[plan])

    @rule()
    def calm_down(self) -> None:
        """Somebody mends everything: active, nothing held, no slot taken."""
        self.change_state(active=True, at_once=True)
        for symbol in set(SYMBOLS):
            self.lift(symbol)
            self.server.delete(settings.KEYS.slot(symbol))
        self.memory.slots.clear()

    @rule(what=st.sampled_from(sorted(UPSETS)), plan=PLANS, gate=GATES, at_once=st.booleans())
    def upset(self, what: str, plan: int, gate: str, at_once: bool) -> None:
        UPSETS[what](self, plan, gate, at_once)

    # ---- what must hold after every step

    @invariant()
    def one_order_and_one_spend(self) -> None:
        assert all(count <= 1 for count in getattr(self, "orders", Counter()).values()), "I1: a second order"
        assert all(count <= 1 for count in getattr(self, "spends", Counter()).values()), "I1: spent twice"

    @invariant()
    def the_server_holds_what_the_model_holds(self) -> None:
        if not hasattr(self, "plans"):
            return
        both = [(plan, gate) for plan in self.plans for gate in (GOVERNOR, P33)]
        found = self.server.mget([_key(plan, gate) for plan, gate in both])
        laid = [self.memory.laid.get((plan.plan_id, gate)) for plan, gate in both]
        assert found == [each and each.raw for each in laid]


def _plan(symbol: str) -> ExitPlan:
    return make_plan(
        symbol=symbol,
        action=Action.PARTIAL_25,
        kill_score_text=f"0.{secrets.randbelow(10**12):012d}",
        timestamp_text=f"{clock.now_s():.3f}",
        mode=settings.APPLY_MODE,
        source="tests",
    )


def _key(plan: ExitPlan, gate: str) -> str:
    keys = settings.KEYS
    return keys.governor_permit(plan.plan_id) if gate == GOVERNOR else keys.p33_permit(plan.plan_id)


def _signer(gate: str) -> Signer:
    return Signer(name=gate, directory=settings.PERMIT_KEYS_DIR)


def machine_on(server: Client) -> type[GateMachine]:
    """A class of its own, so that two runs do not share what they saw."""
    judge = Judge(Verifier(directory=settings.PERMIT_KEYS_DIR), operators=nobody(server))
    return type("GateMachine", (GateMachine,), {"server": server, "judge": judge, "seen": Counter()})


def terms(*, sequences: int, derandomize: bool) -> HypothesisSettings:
    """derandomize: the same sequences each time, for the suite; otherwise they follow from the seed."""
    return HypothesisSettings(
        max_examples=sequences,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        derandomize=derandomize,
        suppress_health_check=list(HealthCheck),
    )
