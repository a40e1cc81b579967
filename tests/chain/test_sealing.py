"""Every event gets into one seal and only one, whenever it commits and whoever seals."""

from __future__ import annotations

import datetime as dt
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.db.utils import DatabaseError
from pytest_django.fixtures import Settings

from quantum import clock, signing
from quantum.chain import checkpoints, form, guards, reading
from quantum.chain import sealer as sealing
from quantum.chain.sealer import Sealer
from quantum.fault import FaultRaised
from quantum.models import AuditEvent, Instance, Seal, SealedEvent
from tests.chain.hand import Chain, command, during, found, lines, look, whole


def sizes() -> list[int]:
    return list(Seal.objects.order_by("number").values_list("events", flat=True))


def test_what_happened_is_sealed_once_and_the_chain_is_whole(chain: Chain) -> None:
    chain.seal(3, 1, 2)
    chain.tick()
    assert sizes() == [3, 1, 2]
    report = whole()
    assert (report.seals, report.events, report.unsealed, report.checkpoints) == (3, 6, 0, 3)
    assert command()[0] == 0


def test_a_quiet_house_makes_no_empty_seals(chain: Chain) -> None:
    chain.tick()
    assert sizes() == []
    assert whole().events == 0
    chain.seal(1)
    chain.tick()
    chain.tick()
    assert sizes() == [1]


def test_many_events_are_sealed_in_batches(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "BATCH", 4)
    chain.seal(10)
    assert sizes() == [4, 4, 2]
    assert whole().events == 10


def test_an_event_that_commits_after_a_later_one_was_sealed_is_in_the_next_seal(chain: Chain) -> None:
    """Its number is lower than one that lies in a seal already."""
    chain.seal(1)
    newest = AuditEvent.objects.latest("id").pk
    AuditEvent(id=newest + 3, kind="early", actor="tests").save(force_insert=True)
    chain.tick()
    AuditEvent(id=newest + 1, kind="late", actor="tests").save(force_insert=True)
    chain.tick()
    assert SealedEvent.objects.get(event_id=newest + 1).seal == 3
    assert whole().unsealed == 0


def test_an_event_that_commits_after_everybody_stopped_waiting_is_found_by_the_sweep(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.seal(1)
    newest = AuditEvent.objects.latest("id").pk
    AuditEvent(id=newest + 5_000, kind="early", actor="tests").save(force_insert=True)
    chain.tick()
    chain.tick()  # the sweep of the beginning is over
    AuditEvent(id=newest + 7, kind="very late", actor="tests").save(force_insert=True)
    chain.tick()
    assert look().unsealed == 1
    now_s = clock.boot_s() + sealing.SWEEP_EVERY_S
    monkeypatch.setattr(clock, "boot_s", lambda: now_s)
    chain.tick()
    assert whole().unsealed == 0


def test_a_sweep_goes_through_all_rows_in_parts(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    chain.seal(1)
    newest = AuditEvent.objects.latest("id").pk
    for number in range(newest + 100, newest + 130):
        AuditEvent(id=number, kind="x", actor="tests").save(force_insert=True)
    chain.tick()
    AuditEvent(id=newest + 50, kind="late", actor="tests").save(force_insert=True)
    monkeypatch.setattr(sealing, "SWEPT", 10)
    fresh = Sealer()
    left = []
    for _ in range(6):
        fresh.tick()
        left.append(look().unsealed)
    assert left[0] == 1, "in one turn it has looked through all"
    assert left[-1] == 0
    assert whole().events == 32


def test_a_restart_goes_on_where_the_chain_ends(chain: Chain) -> None:
    chain.seal(2)
    again = Chain()
    again.seal(3)
    assert sizes() == [2, 3]
    assert whole().checkpoints == 2


def test_a_house_that_never_started_seals_nothing(chain: Chain) -> None:
    Instance.objects.all().delete()
    chain.seal(1)
    assert sizes() == []
    assert look().doubts


# ---- two sealers


def test_of_two_sealers_one_seals_and_the_other_goes_on_behind_it(chain: Chain) -> None:
    chain.seal(1)
    other = Chain()
    other.tick()
    chain.seal(2)  # the other does not know of it
    other.seal(1)
    other.tick()
    assert sizes() == [1, 2, 1]
    assert whole().events == 4


def test_a_sealer_that_was_frozen_does_not_write_its_old_checkpoint_behind_newer_ones(chain: Chain) -> None:
    """It wakes up with a copy in hand, and another one has gone on meanwhile."""
    chain.seal(1)
    chain.tell()
    chain.sealer.tick()  # seal 2; its checkpoint has to wait
    Chain().seal(1, 1)
    chain.tick()
    chain.seal(1)  # finds that it is behind
    chain.tick()
    assert [number_of(line) for line in lines()] == [1, 3, 4, 5]
    whole()


def number_of(line: bytes) -> int:
    copy = form.read_line(line)
    assert copy is not None
    return copy.number


@pytest.mark.django_db(transaction=True)
def test_two_sealers_at_the_same_moment_seal_nothing_twice(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "BATCH", 4)
    chain = Chain()
    for _ in range(40):
        chain.tell()
    sealers = [chain.sealer, Sealer()]
    ready = threading.Barrier(2)

    def work(sealer: Sealer) -> None:
        ready.wait(60)
        for _ in range(6):
            with suppress(DatabaseError):  # SQLite: the other one writes
                sealer.tick()
        connection.close()

    threads = [threading.Thread(target=work, args=(sealer,)) for sealer in sealers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    chain.tick()
    report = look()
    assert not report.problems
    assert (report.events, report.unsealed) == (40, 0)
    assert sum(sizes()) == SealedEvent.objects.count() == 40


def test_a_seal_whose_events_lie_elsewhere_is_not_made(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """A seal without its events would be for ever broken."""
    chain.seal(1)
    monkeypatch.setattr(reading, "unsealed", lambda *_, **__: [(sealed_event(), b"\0" * 32)])
    chain.tick()
    assert sizes() == [1]
    monkeypatch.undo()
    whole()


def sealed_event() -> int:
    return SealedEvent.objects.get().event_id


# ---- what goes wrong beside it


def test_a_sealer_killed_between_a_seal_and_its_checkpoint_leaves_no_gap(
    chain: Chain, settings: Settings
) -> None:
    chain.seal(2)
    settings.QUANTUM_FAULT = "audit_sealed:raise"
    chain.tell()
    with pytest.raises(FaultRaised):
        chain.tick()
    settings.QUANTUM_FAULT = ""
    assert (sizes(), len(lines())) == ([2, 1], 1)
    again = Chain()
    again.tick()
    assert len(lines()) == 2
    again.seal(1)
    assert whole().last_checkpoint == 3


def test_c10_a_clock_that_is_set_back_changes_nothing(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    chain.seal(2)
    earlier = clock.now() - dt.timedelta(days=400)
    monkeypatch.setattr(clock, "now", lambda: earlier)
    monkeypatch.setattr(clock, "now_ms", lambda: int(earlier.timestamp() * 1000))
    monkeypatch.setattr(clock, "now_s", earlier.timestamp)
    chain.seal(2)
    first, second = Seal.objects.order_by("number")
    assert second.at_us < first.at_us
    assert whole().events == 4


def test_without_its_key_nothing_is_sealed_and_it_is_told(
    chain: Chain, settings: Settings, tmp_path: Path
) -> None:
    settings.PERMIT_KEYS_DIR = tmp_path / "no keys"
    chain.seal(1)
    assert sizes() == []
    settings.PERMIT_KEYS_DIR = signing_folder(tmp_path)
    chain.sealer._rest_until_s = 0.0
    chain.tick()
    assert sizes() == [1]
    whole()


def signing_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "new keys"
    signing.ensure_keys(folder)
    return folder


def test_a_new_key_goes_on_and_the_old_seals_are_still_believed(
    chain: Chain, settings: Settings, tmp_path: Path
) -> None:
    settings.PERMIT_KEYS_DIR = signing_folder(tmp_path)
    chain.seal(1)
    (settings.PERMIT_KEYS_DIR / "audit.key").unlink()
    assert signing.ensure_keys(settings.PERMIT_KEYS_DIR) == ["audit"]
    Chain().seal(1)
    assert len(set(Seal.objects.values_list("key", flat=True))) == 2
    whole()
    for old in settings.PERMIT_KEYS_DIR.glob("audit-*.pub"):
        old.unlink()
    assert "no public key" in look().doubts[0]
    assert command()[0] == 7


def test_a_checkpoint_file_that_cannot_be_written_stops_no_seal(
    chain: Chain, settings: Settings, tmp_path: Path
) -> None:
    path, settings.AUDIT_CHECKPOINTS = settings.AUDIT_CHECKPOINTS, tmp_path
    chain.seal(1, 1)
    assert sizes() == [1, 1]
    settings.AUDIT_CHECKPOINTS = path
    chain.seal(1)
    assert len(lines()) == 1
    assert whole().last_checkpoint == 3


def test_checkpoints_are_written_at_most_every_ten_seconds(chain: Chain) -> None:
    for _ in range(3):
        chain.tell()
        chain.sealer.tick()
    assert (sizes(), len(lines())) == ([1, 1, 1], 1)
    chain.tick()
    assert whole().last_checkpoint == 3


def test_a_half_written_checkpoint_is_taken_away_before_the_next(chain: Chain) -> None:
    chain.seal(1)
    with settings.AUDIT_CHECKPOINTS.open("ab") as file:
        file.write(lines()[0][:100])
    whole()
    Chain().seal(1)
    assert len(lines()) == 2
    assert whole().checkpoints == 2


def test_a_sealer_that_finds_a_strangers_checkpoints_writes_its_own(chain: Chain) -> None:
    chain.seal(1)
    settings.AUDIT_CHECKPOINTS.write_bytes(b"nothing of ours\n")
    Chain().seal(1)
    last = checkpoints.last(settings.AUDIT_CHECKPOINTS)
    assert last is not None and last.number == 2
    assert ("checkpoint_wrong", None, None) in found()


def test_a_row_that_is_changed_while_it_is_sealed_shows(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.tell()
    during(monkeypatch, lambda: chain.by_hand("UPDATE quantum_auditevent SET actor = 'nobody'"))
    chain.tick()
    assert {wrong for wrong, _, _ in found()} == {"row_changed"}


# ---- the database's own guards


@pytest.mark.parametrize("table", ["quantum_auditevent", "quantum_seal", "quantum_sealedevent"])
@pytest.mark.parametrize("act", ["UPDATE {table} SET {column} = {column}", "DELETE FROM {table}"])
def test_the_database_refuses_to_change_or_delete(chain: Chain, table: str, act: str) -> None:
    chain.seal(1)
    column = {"quantum_auditevent": "kind", "quantum_seal": "root", "quantum_sealedevent": "seal"}[table]
    with (
        pytest.raises(DatabaseError, match="never changed"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(act.format(table=table, column=column))
    whole()


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite knows no rights")
def test_the_owner_of_the_tables_has_given_up_the_rights(chain: Chain) -> None:
    chain.seal(1)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        superuser = cursor.fetchone()[0]
        cursor.execute("CREATE ROLE keeper NOLOGIN")
        cursor.execute("GRANT ALL ON SCHEMA public TO keeper")
        for table in ("quantum_auditevent", "quantum_seal", "quantum_sealedevent"):
            cursor.execute(f"ALTER TABLE {table} OWNER TO keeper")
        cursor.execute("ALTER FUNCTION quantum_audit_stays OWNER TO keeper")
        cursor.execute("SET LOCAL ROLE keeper")
        guards.install(using="default")
        for act in ("UPDATE", "DELETE", "TRUNCATE"):
            cursor.execute("SELECT has_table_privilege('quantum_seal', %s)", [act])
            assert cursor.fetchone() == (False,)
        cursor.execute("SELECT has_table_privilege('quantum_seal', 'SELECT, INSERT')")
        assert cursor.fetchone() == (True,)
        cursor.execute(f'SET LOCAL ROLE "{superuser}"')
        transaction.set_rollback(True)
