"""Plays a script: storm, coming back, calm; then a quiet phase in which everything must come to rest."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal

from tests.chaos import gathering
from tests.chaos.acts import WHO, Acts
from tests.chaos.evidence import Row
from tests.chaos.script import Act, Episode
from tests.chaos.stage import POSITIONS, SYMBOLS, Stage

BACK_S = 10.0
ONE_PROBE_S = 2.0
CALM_ENDS_S = 1.6
REST_S = 45.0
"""An acknowledgement that was lost is made good after 15 to 20 s; the rest is for a busy machine."""
SMALL_PART = 40
"""What is below this part of the first position is entered anew, lest exits end below the least quantity."""
Say = Callable[[str], None]


class Player:
    def __init__(self, stage: Stage, acts: Acts, say: Say) -> None:
        self.stage, self.acts, self._say = stage, acts, say
        self.probes: list[Row] = []
        self.unable: list[str] = []
        self.restless: list[str] = []
        self._turn = 0

    def play(self, episodes: list[Episode]) -> None:
        for number, episode in enumerate(episodes):
            began = time.monotonic()
            self._run(episode.acts, number)
            self._all_clear()
            took_s = self._come_back(" + ".join(episode.faults))
            self.acts.end_faults()
            self._run(episode.calm, number)
            self._let_them_end()
            back = "never" if took_s is None else f"{took_s:.1f} s"
            said = f"  {number + 1}/{len(episodes)} {' + '.join(episode.faults)}: back after {back}"
            self._say(f"{said}, {time.monotonic() - began:.1f} s in all")

    def _run(self, acts: tuple[Act, ...], number: int) -> None:
        began = time.monotonic()
        for act in acts:
            time.sleep(max(0.0, began + act.at_s - time.monotonic()))
            if act.fault:
                self.acts.begin_fault(act.fault.partition(" ")[0], act.words, episode=number)
            self._do(act.what, **act.words)

    def _do(self, what: str, **words: object) -> None:
        failed = self.acts.do(what, words)
        if failed:
            self.unable.append(f"{what} {words}: {failed}")

    # ---- after each storm

    def _all_clear(self) -> None:
        """Whatever an act could not end, because another fault was in its way, ends here."""
        self.acts.do_thaw()
        for line in ("redis", "paper"):
            self.acts.do_lose(line, "-", 0)
            self.acts.do_open(line)
        for what, words in (
            ("weather_ends", {}),
            ("latency", {"ms": 0}),
            ("stream", {"lever": {"do": "clear"}}),
        ):
            self._until_done(what, **words)
        self._leave_halt()
        for hold in self.stage.ask("SELECT symbol FROM permits_hold WHERE lifted_at IS NULL AND by = ?", WHO):
            self._until_done("lift", symbol=hold["symbol"])

    def _until_done(self, what: str, **words: object) -> None:
        """The exchange may be starting anew."""
        end = time.monotonic() + BACK_S
        while (failed := self.acts.do(what, words)) and time.monotonic() < end:
            time.sleep(0.1)
        if failed:
            self.unable.append(f"{what}: {failed}")

    def _leave_halt(self) -> None:
        rows = self.stage.ask(
            "SELECT state, by, reason FROM permits_tradingstate ORDER BY version DESC LIMIT 1"
        )
        if rows[0]["state"] != "HALTED":
            return
        if rows[0]["by"] != WHO:
            self.restless.append(f"halted by {rows[0]['by']}: {rows[0]['reason']}")
        self._until_done("ask_resume")
        time.sleep(3.1)
        self._until_done("resume")

    def _come_back(self, after: str) -> float | None:
        """I8: fresh plans until one fills. None: not within 10 s."""
        began = time.monotonic()
        self._refill()
        last = ""
        while time.monotonic() - began < BACK_S:
            free = self._free()
            if not free:
                self.probes.append({"after": after, "took_s": 0.0, "last": "every symbol is locked or held"})
                return 0.0
            self._turn += 1
            plan_id = self._probe(free[self._turn % len(free)])
            last = self._ended_within(plan_id, ONE_PROBE_S)
            if last == "filled":
                took_s = time.monotonic() - began
                self.probes.append({"after": after, "took_s": took_s, "plan_id": plan_id, "last": last})
                return took_s
        self.probes.append({"after": after, "took_s": None, "last": last})
        return None

    def _probe(self, symbol: str) -> str:
        with suppress(Exception):  # what keeps it from being published keeps it from passing
            self.acts.do_plan(symbol, "PARTIAL_25", "publish", probe=True)
        return self.acts.newest()

    def _ended_within(self, plan_id: str, seconds: float) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if state := self._ended(plan_id):
                return state
            time.sleep(0.03)
        return "without an end"

    def _ended(self, plan_id: str) -> str:
        with suppress(sqlite3.Error):
            return self.stage.ended(plan_id)
        return ""

    def _free(self) -> list[str]:
        troubled = self.stage.troubled()
        return [symbol for symbol in SYMBOLS if symbol not in troubled and self._is_large(symbol)]

    def _is_large(self, symbol: str) -> bool:
        return abs(Decimal(self.stage.held(symbol))) * SMALL_PART > abs(Decimal(POSITIONS[symbol]))

    def _refill(self) -> None:
        troubled = self.stage.troubled()
        for symbol in SYMBOLS:
            if symbol not in troubled and not self._is_large(symbol):
                self._do("enter", symbol=symbol)

    def _let_them_end(self) -> None:
        end = time.monotonic() + CALM_ENDS_S
        waiting = [row["plan_id"] for row in self.acts.published[-4:]]
        while waiting and time.monotonic() < end:
            waiting = [plan_id for plan_id in waiting if not self._ended(plan_id)]
            time.sleep(0.05)

    # ---- the quiet phase

    def rest(self) -> None:
        """Every symbol free, one fresh exit of each filled, every plan ended and told, nothing left in the stream."""
        self._all_clear()
        self._fill_what_rests()
        self._refill()
        quiet = _Quiet(self)
        end = time.monotonic() + REST_S
        while time.monotonic() < end:
            quiet.turn()
            if quiet.all_passed and not self._waits():
                break
            time.sleep(0.1)
        self.probes += quiet.rows()
        self.acts.end_faults()
        self.restless += self._waits()

    def _fill_what_rests(self) -> None:
        """A counterparty comes for what stayed NEW."""
        for row in self.stage.ask("SELECT symbol, client_order_id FROM apply_order WHERE settled_at IS NULL"):
            with suppress(Exception):
                self.stage.exchange.fill(symbol=row["symbol"], client_order_id=row["client_order_id"])

    def _waits(self) -> list[str]:
        rows = self.stage.ask(
            "SELECT plan_id, state, result_id FROM apply_plan "
            "WHERE result_id = '' OR state IN ('open', 'intended', 'unknown')"
        )
        found = [f"plan {row['plan_id']} {row['state']} result={row['result_id'] or '-'}" for row in rows]
        for group in gathering.groups(self.stage.valkey):
            if group["pending"] or group["lag"]:
                found.append(f"group {group}")
        return found


class _Quiet:
    """Probes all symbols side by side, each from the moment on when nothing holds it any more."""

    def __init__(self, player: Player) -> None:
        self._player = player
        self._free_since: dict[str, float] = {}
        self._asked: dict[str, tuple[str, float]] = {}
        self._last: dict[str, str] = {}
        self._took_s: dict[str, float] = {}
        self._adopted: dict[str, float] = {}

    @property
    def all_passed(self) -> bool:
        return len(self._took_s) == len(SYMBOLS)

    def turn(self) -> None:
        troubled = self._player.stage.troubled()
        for symbol in SYMBOLS:
            if symbol in self._took_s:
                continue
            if symbol in troubled:
                self._free_since.pop(symbol, None)
                self._last[symbol] = troubled[symbol]
                self._ask_a_person(symbol, troubled[symbol])
            else:
                self._free_since.setdefault(symbol, time.monotonic())
                self._try(symbol)

    def _ask_a_person(self, symbol: str, why: str) -> None:
        """Drift is a person's to end; a lock is the resolver's."""
        if why != "locked" and time.monotonic() - self._adopted.get(symbol, -5.0) >= 5.0:
            self._adopted[symbol] = time.monotonic()
            self._player._do("adopt", symbol=symbol)

    def _try(self, symbol: str) -> None:
        plan_id, asked = self._asked.get(symbol, ("", 0.0))
        state = self._player._ended(plan_id) if plan_id else ""
        if state == "filled":
            self._took_s[symbol] = time.monotonic() - self._free_since[symbol]
        elif state or not plan_id or time.monotonic() - asked > ONE_PROBE_S:
            self._last[symbol] = state or ("without an end" if plan_id else "")
            self._player._refill()
            self._asked[symbol] = (self._player._probe(symbol), time.monotonic())

    def rows(self) -> list[Row]:
        return [
            {"after": f"the storm, {symbol}", "took_s": self._took_s.get(symbol),
             "plan_id": self._asked.get(symbol, ("",))[0], "last": self._last.get(symbol, "")}
            for symbol in SYMBOLS
        ]  # fmt: skip
