"""Live asks for a proof from the testnet with this very code, or for somebody's name."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError
from django.test import override_settings

from apply.proof_report import promoting, starts
from quantum import audit, clock, instance, version
from quantum.management.commands import qcluster
from quantum.models import AuditEvent, Promotion
from quantum.redis import Client
from tests.house import House
from tests.proof_report.by_hand import said

WHY = ("--by", "nina", "--reason", "the first live day")
CODE = version.of_the_code()


@pytest.fixture
def live(redis: Client, db: None) -> Iterator[None]:
    with override_settings(APPLY_MODE="live"):
        yield


def paper(**proof: Any) -> dict[str, Any]:
    exits = [f"{number:016x}" for number in range(proof.pop("n", 5))]
    said = {"mode": "testnet", "version": CODE, "outcome": "clean", "made_at": clock.now().isoformat(),
            "signatures_verified": 10}  # fmt: skip
    made = {"format": 1, "exits": exits, "seal": {}, "proof": {**said, **proof}}
    return {**made, "digest": promoting.digest_of(made)}


def on_file(tmp_path: Path, made: dict[str, Any]) -> Path:
    file = tmp_path / "paper.json"
    file.write_text(json.dumps(made))
    return file


def took(file: Path, *more: str) -> tuple[int, str]:
    code, _, err = said("promote", "--take", str(file), "--confirm", "main", *WHY, *more)
    return code, err


def test_live_does_not_start_with_code_that_nobody_promoted(live: None, redis: Client) -> None:
    with pytest.raises(
        instance.WrongInstance, match=f"version {CODE}: nobody has promoted it.*promote --check"
    ):
        instance.ensure(redis)
    with pytest.raises(instance.WrongInstance):
        instance.check(redis)
    code, out, _ = said("promote", "--check")
    assert (code, "5 clean exits on the testnet" in out) == (4, True)
    Promotion.objects.create(version="0" * 16, way="proof", by="nina", reason="another version")
    audit.record(kind="promoted", actor="nina", data={"version": "0" * 16, "way": "proof"})
    with pytest.raises(instance.WrongInstance):
        instance.ensure(redis)


def test_a_proof_from_the_testnet_promotes_exactly_this_code(
    live: None, redis: Client, tmp_path: Path
) -> None:
    made = paper()
    assert took(on_file(tmp_path, made))[0] == 0
    assert instance.ensure(redis).mode == "live"
    row = Promotion.objects.get()
    assert (row.version, row.way, row.by, row.proof["digest"]) == (CODE, "proof", "nina", made["digest"])
    event = AuditEvent.objects.get(kind="promoted")
    assert (event.actor, event.data["digest"]) == ("nina", made["digest"])
    assert said("promote", "--check")[0] == 0


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"mode": "paper"}, "it was made in paper"),
        ({"version": "0" * 16}, "it is of version 0000000000000000"),
        ({"outcome": "wrong"}, "its outcome is wrong"),
        ({"signatures_verified": None}, "no signature was verified in it"),
        ({"outcome": "cannot tell"}, "its outcome is cannot tell"),
        ({"n": 4}, "it shows 4 clean exits, and 5 are asked for"),
        ({"made_at": "2026-01-01T00:00:00+00:00"}, "the last 7 days are asked for"),
        ({"made_at": "2999-01-01T00:00:00+00:00"}, "the last 7 days are asked for"),
        ({"made_at": "2026-01-01T00:00:00"}, "the last 7 days are asked for"),
        ({"made_at": None}, "the last 7 days are asked for"),
    ],
)
def test_a_paper_that_proves_something_else_promotes_nothing(
    live: None, tmp_path: Path, wrong: dict[str, Any], told: str
) -> None:
    code, err = took(on_file(tmp_path, paper(**wrong)))
    assert (code, told in err) == (4, True)
    assert not Promotion.objects.exists()


def _deep(depth: int) -> bytes:
    """It can be read, but is too deep to be written again, which its digest asks for."""
    return b'{"format": 1, "digest": "", "proof": ' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"format": 1}',
        b'{"format": 2}',
        *map(_deep, range(300, 3000, 90)),
    ],
)
def test_a_file_that_is_no_paper_promotes_nothing(live: None, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "paper.json"
    file.write_bytes(content)
    assert took(file)[0] == 6
    assert took(tmp_path / "missing")[0] == 2
    assert not Promotion.objects.exists()


def test_a_paper_that_was_changed_is_refused(live: None, tmp_path: Path) -> None:
    made = paper(n=4)
    made["exits"].append("f" * 16)
    code, err = took(on_file(tmp_path, made))
    assert (code, "was changed after it was written" in err) == (6, True)


def test_one_exit_five_times_is_one_exit(live: None, tmp_path: Path) -> None:
    made = paper()
    made["exits"] = ["a" * 16] * 5
    made["digest"] = promoting.digest_of(made)
    assert "it shows 1 clean exits" in took(on_file(tmp_path, made))[1]


@pytest.mark.parametrize(
    "exits", [[[1]] * 5, [1, 2, 3, 4, 5], ["a", "b", "c", "d", "e"], [None, {}, 1.5, True, ""]]
)
def test_what_is_no_plan_is_no_exit(live: None, tmp_path: Path, exits: list[Any]) -> None:
    made = paper()
    made["exits"] = exits
    made["digest"] = promoting.digest_of(made)
    code, err = took(on_file(tmp_path, made))
    assert (code, "it shows 0 clean exits" in err) == (4, True)


def test_a_row_that_no_event_tells_of_promotes_nothing(live: None, redis: Client) -> None:
    """Whoever may write tables could leave out who did it; the event is in the chain."""
    Promotion.objects.create(version=CODE, way="override", by="nina", reason="nobody will see it")
    with pytest.raises(instance.WrongInstance, match="nobody has promoted it"):
        instance.ensure(redis)
    assert said("promote", "--check")[0] == 4
    promoting.override(by="otto", reason="the first live day")
    assert instance.ensure(redis).mode == "live"
    assert [row.by for row in [promoting.standing()] if row] == ["otto"]


def test_code_that_was_changed_under_a_running_process_does_not_run_live(
    live: None, redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upgrade without a restart: the cluster forks a role anew, which has modules of both."""
    promoting.override(by="nina", reason="the first live day")
    monkeypatch.setattr(version, "_on_disk", lambda: "f" * 16)
    with pytest.raises(
        instance.WrongInstance, match=f"{CODE}\\+ffffffffffffffff: the code was changed under"
    ):
        instance.ensure(redis)


def test_another_release_of_what_it_rests_on_is_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version
    assert version._read() == CODE
    for name, release in (("python-binance", "9.9.9"), ("urllib3", "9.9.9")):
        monkeypatch.setattr(
            metadata, "version", lambda asked, n=name, r=release: r if asked == n else real(asked)
        )
        assert version._read() != CODE
    monkeypatch.setattr(metadata, "version", lambda asked: "9.9.9" if asked == "pytest" else real(asked))
    assert version._read() == CODE, "what stands beside it decides nothing"


def test_code_is_read_again_once_it_was_written_and_not_before(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each role asks at its start; a tenth of a second is much of the one in which another takes over."""
    settings.BASE_DIR = tmp_path
    site = tmp_path / "site-packages"
    for folder in (tmp_path / "apply", site):
        folder.mkdir()
    code = tmp_path / "apply" / "size.py"
    code.write_text("at most 100")
    (tmp_path / "requirements.lock").write_text("urllib3==2.0.0")
    (tmp_path / "apply" / ".#size.py").symlink_to("nina@desk.4711")
    monkeypatch.setattr(sys, "path", [*sys.path, str(site), f"{code}/in an archive"])
    read: list[str] = []
    real = version._read

    def counted() -> str:
        read.append(real())
        return read[-1]

    monkeypatch.setattr(version, "_read", counted)
    first = version._on_disk()
    assert version._on_disk() == first
    assert len(read) == 1
    time.sleep(0.02)  # a kernel's stamps are some milliseconds apart
    was = code.stat()
    code.write_text("at most 900")
    os.utime(code, ns=(was.st_atime_ns, was.st_mtime_ns))
    second = version._on_disk()
    assert second != first
    (site / "urllib3-9.9.9.dist-info").mkdir()
    version._on_disk()
    assert len(read) == 3
    (tmp_path / "permits").mkdir()
    (tmp_path / "permits" / "more.lua").write_text("")
    assert version._on_disk() != second


def test_a_role_of_changed_code_proves_neither_version(
    db: None, redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for role in ("governor", "p33", "apply"):
        instance.ensure_here(role)
    assert starts.runs_since(CODE) is not None
    monkeypatch.setattr(version, "_on_disk", lambda: "f" * 16)
    instance.ensure_here("apply")
    assert (starts.runs_since(CODE), starts.runs_since("f" * 16)) == (None, None)


def test_the_cluster_knows_its_code_before_it_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A role that asked first after an upgrade would call itself the new code, and be the old one."""
    known: list[int] = []

    class Forks:
        def __init__(self, **_: object) -> None:
            known.append(version.of_the_code.cache_info().currsize)

        def run(self) -> int:
            return 0

    monkeypatch.setattr("quantum.cluster.Cluster", Forks)
    monkeypatch.setattr(qcluster, "log_in_as", lambda _user: None)
    version.of_the_code.cache_clear()
    assert said("qcluster")[0] == 0
    assert known == [1]


def test_an_override_bears_a_name_and_a_reason(live: None, redis: Client) -> None:
    asked = ("promote", "--override", "--confirm", "main")
    assert said(*asked, "--by", "nina", "--reason", "short")[0] == 2
    assert said("promote", "--override", *WHY)[0] == 2  # the account was not typed
    assert not Promotion.objects.exists()
    code, _, err = said(*asked, *WHY)
    assert (code, "WITHOUT a proof" in err) == (0, True)
    row, event = Promotion.objects.get(), AuditEvent.objects.get(kind="promoted")
    assert (row.way, row.by, row.reason) == ("override", "nina", "the first live day")
    assert (event.actor, event.reason, event.data) == (
        "nina",
        row.reason,
        {"version": CODE, "way": "override"},
    )
    assert instance.ensure(redis).mode == "live"


@pytest.mark.django_db
def test_only_live_is_promoted_and_only_the_testnet_writes(tmp_path: Path) -> None:
    assert said("promote", "--override", "--confirm", "main", *WHY)[0] == 2
    assert said("promote", "--write", str(tmp_path / "paper.json"), *WHY)[0] == 2
    assert not Promotion.objects.exists()


def started(role: str, code: str = CODE) -> None:
    AuditEvent.objects.create(kind=instance.STARTED, actor=role, data={"version": code})


@pytest.mark.django_db
def test_exits_count_from_when_all_three_roles_run_this_code() -> None:
    for role in ("governor", "p33"):
        started(role)
    assert starts.runs_since(CODE) is None
    started("apply", "0" * 16)
    assert starts.runs_since(CODE) is None
    started("apply")
    last = AuditEvent.objects.latest("id").at
    started("governor")
    assert starts.runs_since(CODE) == last
    started("p33", "0" * 16)
    assert starts.runs_since(CODE) is None


def _database_fails(**_: object) -> None:
    raise OperationalError("gone")


def test_five_clean_exits_are_written_down_and_carried_over(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way with real parts; only that the paper exchange may stand for the testnet is the test's."""
    monkeypatch.setattr(promoting, "FROM", settings.APPLY_MODE)
    file = tmp_path / "paper.json"
    house.start()
    plans = [house.exit(symbol) for symbol in house.POSITIONS]
    code, out, _ = said("promote", "--check")
    assert (code, "it shows 3 clean exits" in out) == (4, True)
    assert said("promote", "--write", str(file), *WHY)[0] == 4
    assert not file.exists()
    monkeypatch.setattr(promoting, "EXITS_LEAST", len(plans))
    with monkeypatch.context() as failing:
        failing.setattr(audit, "record", _database_fails)
        assert said("promote", "--write", str(file), *WHY)[0] == 5
    assert not file.exists(), "a paper whose digest is in no chain"
    assert said("promote", "--write", str(file), *WHY)[0] == 0
    made = json.loads(file.read_text())
    assert made["exits"] == [plan.plan_id for plan in plans]
    assert AuditEvent.objects.get(kind="proof_written").data["digest"] == made["digest"]
    code, out, _ = said("promote", "--known", str(file))
    assert (code, "by nina" in out) == (0, True)
    forged = {**made, "exits": [*made["exits"], "f" * 16]}
    code, _, err = said(
        "promote", "--known", str(on_file(tmp_path.parent, {**forged, "digest": promoting.digest_of(forged)}))
    )
    assert (code, "No event of this house tells of digest" in err) == (6, True)
    house.stop()
    house.paper.set_position(symbol="BTCUSDT", amount="0.100", client_order_id=f"web_{House.next_number()}")
    code, out, _ = said("promote", "--check")
    assert (code, "missing: order_by_hand" in out) == (4, True)
    with override_settings(APPLY_MODE="live"):
        assert took(file)[0] == 0
