"""The whole product under measurement: started by `up`, fed through apply.publish, judged by the exchange's log."""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from bench import parts

SYMBOLS = tuple(f"B{number:03d}USDT" for number in range(50))
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class House:
    """A running product. Made only after Django has read the bench's environment."""

    def __init__(self, up_pid: int, symbols: Sequence[str] = SYMBOLS) -> None:
        from django.conf import settings

        from quantum.exchange.paper.auth import PaperKeys
        from quantum.exchange.paper.process import PaperExchangeProcess
        from quantum.redis import command_client

        self._up_pid = up_pid
        self._settings = settings
        self._client = command_client()
        secrets = [settings.ENVIRONMENT.secret(f"BINANCE_{use}_{part}") for use in ("READ", "TRADE")
                   for part in ("KEY", "SECRET")]  # fmt: skip
        port = int(settings.PAPER_URL.rsplit(":", 1)[1])
        # Only its control plane is used: `up` runs the process.
        self._paper = PaperExchangeProcess(data_path=Path("unused"), keys=PaperKeys(*secrets), port=port)
        self._numbers = itertools.count()
        self._last: dict[str, tuple[int, int]] = {}
        self._held = symbols
        self._symbols = itertools.cycle(symbols)

    def wait(self, *, position: str = "100000", gap_s: float = 0.02) -> None:
        keys = self._settings.KEYS
        # Of a second start Redis remembers the state of the first: it says nothing about the other processes.
        parts.wait_until(self._paper_listens, what="the paper exchange")
        parts.wait_until(lambda: self._armed(keys.trading_state), what="the product to be armed")
        self.fill_up(position)
        self.exits(30, gap_s=gap_s)  # warm: connections, threads, caches

    def fill_up(self, position: str) -> None:
        for symbol in self._held:
            entry = f"entry-{time.time_ns()}"
            self._paper.set_position(symbol=symbol, amount=position, client_order_id=entry)
        parts.wait_until(lambda: self._agreed(position), what="ledger and exchange to agree")

    def _paper_listens(self) -> bool:
        try:
            return self._paper.log() is not None
        except OSError:
            return False

    def _armed(self, key: str) -> bool:
        from redis.exceptions import RedisError

        try:
            return bool(self._client.exists(key))
        except RedisError:
            return False

    def _agreed(self, position: str) -> bool:
        from positions.models import Balance

        booked = Balance.objects.filter(symbol__in=self._held, amount=position).count() == len(self._held)
        # The stream may move the books before the first read has shown all positions to the Governor.
        keys = self._settings.KEYS
        return booked and all(
            self._client.hget(keys.snapshot(symbol), "position_amt") == position.encode()
            for symbol in self._held
        )

    def paper_latency(self, ms: int) -> None:
        self._paper.set_latency(ms=ms)

    def exits(self, n: int, *, gap_s: float, ask: Callable[[], str] | None = None) -> list[float]:
        """n exits over all symbols; milliseconds from the call to the order's arrival. ask: makes one and names its
        order; without it a plan is published."""
        asked_us: dict[str, int] = {}
        seen = len(self._paper.log())
        for _ in range(n):
            at_us = time.time_ns() // 1000
            asked_us[ask() if ask else self._publish_next()] = at_us
            time.sleep(gap_s)
        received = self._received(asked_us, seen)
        missing = len(asked_us) - len(received)
        if missing:
            parts.say(f"bench: {missing} of {n} exits never reached the exchange")
            raise RuntimeError(f"{missing} exits are missing: {self._why(asked_us.keys() - received.keys())}")
        self._last = {one: (at, received[one]) for one, at in asked_us.items()}
        return [(received[one] - at) / 1000 for one, at in asked_us.items()]

    def stages_ms(self) -> dict[str, float]:
        """Where the time of the last exits went: medians from the call to each moment that the product noted itself.
        A permit's and a receipt's time are whole milliseconds of the server's."""
        from apply.models import Order
        from permits.models import Permit

        moments: dict[str, list[float]] = {}
        began = {one.split("-")[1]: asked_us / 1e6 for one, (asked_us, _) in self._last.items()}
        for gate, plan_id, at in Permit.objects.filter(plan_id__in=began).values_list(
            "gate", "plan_id", "issued_at"
        ):
            moments.setdefault(f"{gate}_permit", []).append(at.timestamp() - began[plan_id])
        for order in Order.objects.filter(plan_id__in=began):
            for name in ("consumed_at", "intended_at", "sent_at"):
                moments.setdefault(name, []).append(getattr(order, name).timestamp() - began[order.plan_id])
        moments["received"] = [(received - at) / 1e6 for at, received in self._last.values()]
        return {name: round(1000 * statistics.median(each), 2) for name, each in moments.items()}

    def _publish_next(self) -> str:
        return f"q-{self.publish(self.next_symbol())}-25"

    def next_number(self) -> int:
        return next(self._numbers)

    def next_symbol(self) -> str:
        return next(self._symbols)

    def lift_limits(self) -> None:
        """Of the paper exchange: a real one takes 1200 orders a minute of an account, which is less than we ask for."""
        parts.wait_until(self._paper_listens, what="the paper exchange")
        self._paper.set_limits(weight_1m=10**9, orders_10s=10**9, orders_1m=10**9)

    def publish(self, symbol: str) -> str:
        from apply.plans import publish

        plan = self._make_plan(symbol)
        publish.publish(self._client, plan, actor="bench")
        return str(plan.plan_id)

    def last_result(self) -> bytes:
        newest: Any = self._client.xrevrange(self._settings.KEYS.result_stream, count=1)
        return newest[0][0] if newest else b"0-0"

    def results_after(self, after: bytes) -> list[tuple[bytes, dict[str, str]]]:
        answer: Any = self._client.xread({self._settings.KEYS.result_stream: after}, count=100, block=100)
        entries = answer[0][1] if answer else []
        return [
            (entry_id, {name.decode(): value.decode() for name, value in said.items()})
            for entry_id, said in entries
        ]

    def _make_plan(self, symbol: str) -> Any:
        from quantum import clock
        from quantum import plan as plans
        from quantum.plan import Action

        number = next(self._numbers)
        return plans.make(
            symbol=symbol,
            action=Action.PARTIAL_25,
            kill_score_text=f"0.{number + 1}",
            timestamp_text=f"{clock.now_s():.3f}",
            mode=self._settings.APPLY_MODE,
            source="bench",
        )

    def visible(self, n: int, *, gap_s: float) -> list[float]:
        """Milliseconds from each permit's own time (whole ones) until row and audit event can be read from here."""
        took: list[float] = []
        for _ in range(n):
            plan_id = self.publish(self.next_symbol())
            seen: dict[str, float] = {}
            end = time.monotonic() + 5
            while len(seen) < 2 and time.monotonic() < end:
                seen |= {gate: ms for gate, ms in self._rows_of(plan_id) if gate not in seen}
                time.sleep(0.002)
            if len(seen) < 2:
                raise RuntimeError(f"plan {plan_id}: {sorted(seen)} only; {self._told(plan_id)}")
            took += seen.values()
            time.sleep(gap_s)
        return took

    def _told(self, plan_id: str) -> dict[str, Any]:
        """All that the database knows of it, for whoever must find out what went wrong."""
        from apply.models import Plan
        from permits.models import Permit
        from quantum.models import AuditEvent

        return {
            "plan": list(Plan.objects.filter(plan_id=plan_id).values_list("state", "error", "gate_reason")),
            "permits": list(Permit.objects.filter(plan_id=plan_id).values_list("gate", "verdict", "reason")),
            "events": list(AuditEvent.objects.filter(plan_id=plan_id).values_list("kind", "actor")),
        }

    def _rows_of(self, plan_id: str) -> list[tuple[str, float]]:
        from permits.models import Permit
        from quantum.models import AuditEvent

        told = AuditEvent.objects.filter(plan_id=plan_id, kind="permit_granted").values_list(
            "data", flat=True
        )
        gates = {data["gate"] for data in told}
        rows = list(Permit.objects.filter(plan_id=plan_id).values_list("gate", "issued_at"))
        now_ms = time.time() * 1000
        return [(gate, now_ms - issued.timestamp() * 1000) for gate, issued in rows if gate in gates]

    def _received(self, asked: dict[str, int], seen: int) -> dict[str, int]:
        end = time.monotonic() + 5
        while True:
            rows = self._paper.log()[seen:]
            found = {row["client_id"]: row["received_us"] for row in rows if row["client_id"] in asked}
            if len(found) == len(asked) or time.monotonic() > end:
                return found
            time.sleep(0.2)

    def _why(self, client_ids: set[str]) -> list[Any]:
        return [self._told(one.split("-")[1]) for one in list(client_ids)[:5]]


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []


def parent_of(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _cpu_s(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S if fields else 0.0


def _name(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return "gone"
    return " ".join(word.rsplit("/", 1)[-1] for word in words[:3])[:40]


def _pss_mb(pid: int) -> float:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return round(int(line.split()[1]) / 1024, 1)
    except OSError:
        pass
    return 0.0


class Watched:
    """The processor time of a running product's processes from now on."""

    def __init__(self, up_pid: int) -> None:
        self._before = {pid: _cpu_s(pid) for pid in [*_tree(up_pid), os.getpid()]}

    def cpu_s(self) -> dict[str, float]:
        """By name and pid, what was worth mentioning."""
        used = {f"{_name(pid)}:{pid}": _cpu_s(pid) - before for pid, before in self._before.items()}
        return {name: spent for name, spent in sorted(used.items(), key=lambda one: -one[1]) if spent > 0.05}


class Cost:
    """The processor time of some processes with their children from now on."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._before = {name: {each: _cpu_s(each) for each in _tree(pid)} for name, pid in pids.items()}
        self._pids = pids

    def percent(self, took_s: float) -> dict[str, float]:
        """Of one core. Who was born meanwhile counts whole; who died is forgotten."""
        return {
            name: round(
                100 * sum(_cpu_s(each) - before.get(each, 0.0) for each in _tree(self._pids[name])) / took_s,
                2,
            )
            for name, before in self._before.items()
        }


def _tree(up_pid: int) -> list[int]:
    parents = {
        pid: parent_of(pid)
        for pid in [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    }
    family = {up_pid}
    while True:
        more = {pid for pid, parent in parents.items() if parent in family} - family
        if not more:
            return sorted(family)
        family |= more


class Idle:
    """The product as the demo runs it, with the exit feed off: what it costs when nothing happens."""

    def __init__(self, *, up_pid: int, socket: Path) -> None:
        self._up_pid = up_pid
        self._client: Any = redis.Redis(unix_socket_path=str(socket), protocol=2)

    def wait(self) -> None:
        parts.wait_until(self._is_armed, what="the product to be armed")

    def _is_armed(self) -> bool:
        try:
            return bool(self._client.exists("quantum:state:trading"))
        except redis.RedisError:
            return False

    def watch(self, seconds: float) -> dict[str, Any]:
        time.sleep(5)
        pids = _tree(self._up_pid)
        commands, busy = self._commands(), {pid: _cpu_s(pid) for pid in pids}
        started = time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - started
        used = {pid: _cpu_s(pid) - before for pid, before in busy.items()}
        named = {f"{_name(pid)}:{pid}": round(100 * spent / took, 2) for pid, spent in used.items()}
        sizes = [_pss_mb(pid) for pid in pids if "qcluster" in _name(pid)]
        return {
            "redis_commands_per_s": round((self._commands() - commands - 1) / took, 1),
            "cpu_percent_of_a_core": round(100 * sum(used.values()) / took, 2),
            "worker_pss_mb_max": max(sizes),
            "processes": len(pids),
            "pss_mb_all": round(sum(_pss_mb(pid) for pid in pids), 1),
            "cpu_by_process": dict(sorted(named.items(), key=lambda item: -item[1])[:12]),
        }

    def _commands(self) -> int:
        return int(self._client.info("stats")["total_commands_processed"])


def prepare(folder: Path) -> dict[str, str]:
    """One environment for every start: this process reads its settings once."""
    env = parts.environment(folder)
    os.environ.update({name: value for name, value in env.items() if os.environ.get(name) != value})
    os.environ["DJANGO_SETTINGS_MODULE"] = "quantum.settings"
    return env


@contextmanager
def running(env: dict[str, str]) -> Iterator[House]:
    import django

    with parts.product(env) as process:
        django.setup()
        house = House(process.pid)
        house.wait()
        yield house


@contextmanager
def idling(folder: Path) -> Iterator[Idle]:
    env = parts.environment(folder) | {"POLICY_PROFILE": "demo"}
    with parts.product(env) as process:
        idle = Idle(up_pid=process.pid, socket=folder / "valkey.sock")
        idle.wait()
        yield idle
