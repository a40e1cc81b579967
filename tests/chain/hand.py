"""What the tests of the chain do to it by hand."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection

from quantum import audit
from quantum.chain import sealer as sealing
from quantum.chain import verify
from quantum.chain.sealer import Sealer
from quantum.chain.verify import Outcome, Report
from quantum.models import Instance
from tests.unguarded import unguarded


class Chain:
    """A house with one sealer. Checkpoints come after each seal unless a test says otherwise."""

    def __init__(self) -> None:
        Instance.objects.get_or_create(id=1, defaults={"mode": "paper", "account": "main"})
        self.sealer = Sealer()
        self.told = 0

    def seal(self, *sizes: int) -> None:
        """One seal for each number of events."""
        for size in sizes:
            for _ in range(size):
                self.tell()
            self.tick()

    def tell(self, **said: Any) -> None:
        self.told += 1
        told = {
            "kind": "plan_filled",
            "actor": "apply",
            "plan_id": f"{self.told:016x}",
            "symbol": "BTCUSDT",
            "reason": "because",
            "data": {"from": "open", "n": self.told, "é": [1.5, None, True]},
        }
        audit.record(**{**told, **said})

    def tick(self) -> None:
        """Without the rest between two checkpoints."""
        self.sealer._copy_boot_s = 0.0
        self.sealer.tick()

    def by_hand(self, sql: str, *values: Any) -> None:
        """Past our code and past the database's guards. Something must have been changed."""
        with unguarded(), connection.cursor() as cursor:
            cursor.execute(sql, values)
            assert cursor.rowcount > 0


def look(*files: Path) -> Report:
    return verify.verify(files=list(files) or [settings.AUDIT_CHECKPOINTS], keys=settings.PERMIT_KEYS_DIR)


def found(*files: Path) -> set[tuple[str, int | None, int | None]]:
    """What is wrong, in which seal, with which event."""
    return {(str(problem.wrong), problem.seal, problem.event) for problem in look(*files).problems}


def whole(*files: Path) -> Report:
    report = look(*files)
    assert report.outcome is Outcome.WHOLE, (report.problems, report.doubts)
    return report


def command(*words: str) -> tuple[int, dict[str, Any]]:
    """audit_verify itself: its exit code and its JSON."""
    out = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("audit_verify", "--json", *words, stdout=out, stderr=io.StringIO())
    return int(ended.value.code or 0), json.loads(out.getvalue() or "{}")


def lines() -> list[bytes]:
    path: Path = settings.AUDIT_CHECKPOINTS
    return path.read_bytes().splitlines(keepends=True)


def write(*checkpoints: bytes) -> None:
    settings.AUDIT_CHECKPOINTS.write_bytes(b"".join(checkpoints))


def during(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Between a seal and its checkpoint, once."""
    left = [act]
    monkeypatch.setattr(sealing, "fault_point", lambda _name: left.pop()() if left else None)


def cut_after(chain: Chain, number: int) -> None:
    chain.by_hand(
        "DELETE FROM quantum_auditevent WHERE id IN (SELECT event_id FROM quantum_sealedevent WHERE seal > %s)",
        number,
    )
    chain.by_hand("DELETE FROM quantum_sealedevent WHERE seal > %s", number)
    chain.by_hand("DELETE FROM quantum_seal WHERE number > %s", number)
