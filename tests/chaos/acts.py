"""What each act of a script does to the running product, and what the run remembers of it."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from decimal import ROUND_DOWN, Decimal
from typing import Any

from tests.chaos.evidence import Row
from tests.chaos.gathering import PREFIX, STREAM
from tests.chaos.stage import POSITIONS, Stage

WHO, WHY = "chaos", "a drill: the seeded chaos run"
PUBLIC = ("plan_id", "symbol", "action", "kill_score", "decision", "timestamp")
PERMITS = (f"{PREFIX}:permit:", f"{PREFIX}:permit:p33:")
DRIFT_TAIL_S = 8.0
"""How long after a hand's trade was adopted the product may still be looking at it."""
GLOBAL = None


class Acts:
    """`do` runs one act by its name. What it remembers is the run's own record, for the checker."""

    def __init__(self, stage: Stage, seed: int) -> None:
        from django.conf import settings

        from quantum.redis import command_client

        self.stage = stage
        self.client = command_client()
        self.published: list[Row] = []
        self.faults: list[Row] = []
        self.poisons: list[Row] = []
        self.frozen: set[int] = set()
        self._plans: list[Any] = []
        self._numbers = itertools.count(1)
        self._seed = seed
        self._mode = settings.APPLY_MODE

    def do(self, what: str, words: dict[str, Any]) -> str:
        """Empty, or why it could not be done: in a storm much cannot, and the storm goes on."""
        act: Callable[..., None] = getattr(self, f"do_{what}")
        try:
            act(**words)
        except Exception as failure:  # noqa: BLE001  whatever it was, the record tells it
            return f"{type(failure).__name__}: {failure}"[:200]
        return ""

    def begin_fault(self, kind: str, words: dict[str, Any], *, episode: int) -> None:
        """Open until `end_faults`. Of one symbol where only that one can be met."""
        symbols = [words["symbol"]] if kind in OF_ONE_SYMBOL else GLOBAL
        row: Row = {"kind": kind, "symbols": symbols, "plans": [], "from": time.time() - 0.02}
        self.faults.append({**row, "until": None, "episode": episode, "words": str(words)})

    def end_faults(self) -> None:
        for fault in self.faults:
            if fault["until"] is None:
                tail = DRIFT_TAIL_S if fault["kind"] in MOVES_BY_HAND else 0.0
                fault["until"] = time.time() + tail

    def touch(self, symbols: list[str], kind: str, *, for_s: float) -> None:
        now = time.time()
        self.faults.append({"kind": kind, "symbols": symbols, "plans": [], "from": now, "until": now + for_s,
                            "episode": -1, "words": ""})  # fmt: skip

    # ---- plans

    def make(self, symbol: str, action: str, **more: Any) -> Any:
        from quantum import plan as plans

        said = {"kill_score_text": f"0.{self._seed}{next(self._numbers):05d}",
                "timestamp_text": f"{time.time():.3f}", "mode": self._mode, "source": "chaos", **more}  # fmt: skip
        return plans.make(symbol=symbol, action=plans.Action(action), **said)

    def do_plan(self, symbol: str, action: str, way: str, *, probe: bool = False) -> None:
        plan = self.make(symbol, action)
        row: Row = {
            "plan_id": plan.plan_id,
            "symbol": symbol,
            "action": action,
            "way": way,
            "at": time.time(),
        }
        with suppress(Exception):
            row["trouble"] = self.stage.troubled().get(symbol, "")
        if not probe:
            self.published.append({"trouble": "not known", **row})
        self._plans.append(plan)
        if way == "xadd":
            self.add({name: value for name, value in plan.fields().items() if name in PUBLIC})
        else:
            from apply.plans import publish

            publish.publish(self.client, plan, actor="chaos")

    def newest(self) -> str:
        return str(self._plans[-1].plan_id)

    def add(self, fields: dict[Any, Any]) -> str:
        entry: Any = self.stage.valkey.xadd(STREAM, fields)
        return str(entry.decode())

    def _of(self, back: int) -> Any:
        return self._plans[max(-len(self._plans), -1 - back)]

    # ---- replays

    def do_again(self, back: int, times: int) -> None:
        for _ in range(times):
            self.add(self._of(back).fields())

    def do_conflict(self, back: int) -> None:
        plan = self._of(back)
        other = "PARTIAL_75" if plan.action.value != "PARTIAL_75" else "PARTIAL_25"
        self.add({**{name: plan.fields()[name] for name in PUBLIC}, "action": other})

    def do_copied_permits(self, symbol: str, back: int) -> None:
        """A pair that was made for one plan under the keys of another."""
        pair = self._pair_of(self._of(back).plan_id)
        plan = self.make(symbol, "PARTIAL_50")
        self._lay(plan.plan_id, pair)
        self._plans.append(plan)
        self.add(plan.fields())

    def do_spent_again(self, back: int, forget: bool) -> None:
        """What an order has spent lies there once more, and its plan comes again; Redis may even have forgotten."""
        plan = self._of(back)
        pair = self._pair_of(plan.plan_id)
        if forget:
            self.stage.valkey.delete(
                f"{PREFIX}:receipt:{plan.plan_id}", f"{PREFIX}:apply:result_published:none"
            )
        self._lay(plan.plan_id, pair)
        self.add(plan.fields())

    def _pair_of(self, plan_id: str) -> tuple[bytes, bytes]:
        rows = self.stage.ask(
            "SELECT governor_permit, p33_permit FROM apply_order WHERE plan_id = ?", plan_id
        )
        if not rows:
            rows = self.stage.ask(
                "SELECT governor_permit, p33_permit FROM apply_order ORDER BY id DESC LIMIT 1"
            )
        return rows[0]["governor_permit"].encode(), rows[0]["p33_permit"].encode()

    def _lay(self, plan_id: str, pair: tuple[bytes, bytes]) -> None:
        for start, raw in zip(PERMITS, pair, strict=True):
            self.stage.valkey.set(f"{start}{plan_id}", raw, px=20_000)

    def do_senseless(self, kind: str, symbol: str) -> None:
        at = {"stale": -60.0, "future": 60.0}.get(kind, 0.0)
        if kind == "not_allowed":
            symbol = "DOGEUSDT"
        action = "UPDATE_SL" if kind == "skip" else "PARTIAL_25"
        plan = self.make(symbol, action, timestamp_text=f"{time.time() + at:.3f}")
        self.add(plan.fields())

    def do_crowd(self, symbol: str, plans: int) -> None:
        for _ in range(plans):
            self.add(self.make(symbol, "PARTIAL_50").fields())

    def do_poison(self, kind: str) -> None:
        poison: dict[str, dict[Any, Any]] = {
            "binary": {b"\xff\xfe": b"\x80\x81", b"plan_id": b"\xc3\x28"},
            "no fields": {"hello": "there"},
            "deep": {"plan_id": "0" * 16, "steps": "[" * 3000},
            "large": {"plan_id": "1" * 16, "reason_codes": "x" * 100_000},
            "injection": {
                "plan_id": "2" * 16,
                "symbol": "BTCUSDT\n2026 INFO \x1b[31mall is well",
                "action": "'; DROP",
            },
        }
        entry = self.add(poison[kind])
        self.poisons.append({"entry": entry, "at": time.time(), "kind": kind})

    # ---- processes

    def do_signal(self, role: str, signal: str) -> None:
        os.kill(self.stage.holders()[role], _number(signal))

    def do_freeze(self, role: str) -> None:
        pid = self.stage.holders()[role]
        os.kill(pid, signal.SIGSTOP)
        self.frozen.add(pid)

    def do_thaw(self, role: str = "") -> None:
        for pid in self.frozen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.frozen.clear()

    def do_kill_frame(self, whom: str) -> None:
        os.kill({"main": self.stage.main, "sentinel": self.stage.sentinel}[whom](), signal.SIGKILL)

    # ---- Redis and the lines

    def do_valkey_signal(self, signal: str) -> None:
        os.kill(self.stage.valkey_pid(), _number(signal))

    def do_wipe(self) -> None:
        self.stage.valkey.flushdb()

    def do_group_gone(self, group: str) -> None:
        self.stage.valkey.xgroup_destroy(STREAM, group)

    def _line(self, line: str) -> Any:
        return self.stage.redis_line if line == "redis" else self.stage.paper_line

    def do_cut(self, line: str) -> None:
        self._line(line).cut()

    def do_shut(self, line: str) -> None:
        self._line(line).shut()

    def do_open(self, line: str) -> None:
        self._line(line).open()

    def do_lose(self, line: str, needle: str, times: int) -> None:
        self._line(line).lose_answers(needle, times=times)

    # ---- the exchange

    def do_weather(self, items: list[Row]) -> None:
        self.stage.exchange.push_scenario(*items)

    def do_weather_ends(self) -> None:
        self.stage.exchange.clear_scenario()

    def do_latency(self, ms: int) -> None:
        self.stage.exchange.set_latency(ms=ms)

    def do_stream(self, lever: Row) -> None:
        self.stage.exchange.control("POST", "/paper/stream", lever)

    def do_paper_kill(self) -> None:
        os.kill(self.stage.paper_pid(), signal.SIGKILL)

    def do_hand(self, symbol: str, share: float) -> None:
        """The user trades in the exchange's own app: closed, halved, turned round, grown."""
        amount = Decimal(self.stage.held(symbol)) * Decimal(str(share))
        amount = amount.quantize(Decimal(POSITIONS[symbol]), rounding=ROUND_DOWN)  # to as many places
        client_id = f"web_{os.urandom(6).hex()}"
        self.stage.exchange.set_position(symbol=symbol, amount=f"{amount:f}", client_order_id=client_id)

    def do_seize(self, symbol: str, kind: str) -> None:
        self.stage.exchange.seize(symbol=symbol, kind=kind)

    def do_enter(self, symbol: str) -> None:
        self.touch([symbol], "entry", for_s=2.5)
        self.stage.enter(symbol)

    # ---- people

    def do_halt(self, scope: str) -> None:
        from permits.state import trading

        trading.halt(cause=trading.PERSON, by=WHO, reason=WHY, scope=trading.Scope(scope))
        trading.arm(self.client, actor=WHO)

    def do_ask_resume(self) -> None:
        from permits.state import resuming

        _refuse(resuming.request(by=WHO, reason=WHY))

    def do_resume(self) -> None:
        from permits.state import resuming, trading

        _refuse(resuming.confirm(by=WHO, reason=WHY, account="main"))
        trading.arm(self.client, actor=WHO)

    def do_hold(self, symbol: str) -> None:
        from permits.state import holds

        holds.place(self.client, symbol=symbol, by=WHO, reason=WHY)

    def do_lift(self, symbol: str) -> None:
        from permits.state import holds

        holds.lift(self.client, symbol=symbol, by=WHO, reason=WHY)

    def do_adopt(self, symbol: str) -> None:
        """By the command a person types: the exchange's amount becomes the ledger's."""
        done = self.stage.start(
            "reconcile", symbol, "--adopt", "--yes", "--reason", WHY, "--by", WHO, **self.stage.env
        )
        done.wait(15)


OF_ONE_SYMBOL = ("hold", "hand_trade", "seizure", "crowd", "copied_permits")
MOVES_BY_HAND = ("hand_trade", "seizure")


def _number(name: str) -> signal.Signals:
    return signal.Signals[f"SIG{name}"]


def _refuse(answer: object) -> None:
    from permits.state import resuming

    if isinstance(answer, resuming.Refused):
        raise RuntimeError(answer.text)
