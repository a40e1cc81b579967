"""Whoever tries to change audit events through a connection of ours is refused, and that is recorded (FAULTS C9)."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, connection, transaction

from quantum import audit, clock, rows
from quantum.chain import guards, refusals
from quantum.models import AuditEvent
from tests.house import wait_for

CHANGES = "UPDATE quantum_auditevent SET kind = 'my-secret'"
REAL_TELL = refusals.tell


def attempt(statement: str) -> None:
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


def recorded() -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(kind="audit_change_refused"))


@pytest.mark.usefixtures("transactional_db")
def test_c9_a_change_that_the_database_refuses_is_an_audit_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a transaction that goes back: the event is there all the same."""
    monkeypatch.setattr(refusals, "tell", REAL_TELL)
    monkeypatch.setattr(refusals, "WAIT_S", 0.05)
    audit.record(kind="trading_state", actor="nina", reason="to be falsified")
    attempt(CHANGES)
    wait_for(recorded, what="the event")
    (event,) = recorded()
    assert (event.data["table"], event.data["statement"]) == ("quantum_auditevent", "UPDATE")
    assert event.actor, "which program it was"
    assert "my-secret" not in str(event.data)
    assert AuditEvent.objects.filter(kind="trading_state", actor="nina").count() == 1


@pytest.mark.parametrize("table", guards.TABLES)
@pytest.mark.usefixtures("db")
def test_c9_each_table_and_each_kind_of_statement_is_named(table: str, refused: list[dict[str, str]]) -> None:
    audit.record(kind="x", actor="nina")
    if connection.vendor == "sqlite" and table != "quantum_auditevent":
        pytest.skip("SQLite's triggers speak for each row, and there is none here")
    attempt(f"DELETE FROM {table}")
    assert [(one["table"], one["statement"]) for one in refused] == [(table, "DELETE")]


@pytest.mark.usefixtures("db")
def test_c9_a_role_without_the_right_is_recorded_too(refused: list[dict[str, str]]) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite knows no rights")
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("CREATE ROLE onlooker NOLOGIN")
            cursor.execute("GRANT SELECT, INSERT ON quantum_auditevent TO onlooker")
            cursor.execute("SET ROLE onlooker")
        attempt(CHANGES)
        transaction.set_rollback(True)
    assert [(one["table"], one["statement"], one["by"]) for one in refused] == [
        ("quantum_auditevent", "UPDATE", "right")
    ]


@pytest.mark.usefixtures("db")
def test_c9_the_line_that_roles_use_is_watched_too(refused: list[dict[str, str]]) -> None:
    audit.record(kind="x", actor="nina")
    with pytest.raises(DatabaseError), transaction.atomic():
        rows.run(CHANGES, [])
    assert [one["statement"] for one in refused] == ["UPDATE"]


@pytest.mark.usefixtures("db")
def test_whoever_tries_again_and_again_does_not_fill_the_table(
    refused: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    audit.record(kind="x", actor="nina")
    now_s = [1000.0]
    monkeypatch.setattr(clock, "boot_s", lambda: now_s[0])
    for _ in range(5):
        attempt(CHANGES)
    assert len(refused) == 1
    now_s[0] += refusals.SAID_EVERY_S
    attempt(CHANGES)
    assert len(refused) == 2


@pytest.mark.usefixtures("db")
def test_other_errors_are_none_of_it(refused: list[dict[str, str]]) -> None:
    attempt("SELECT nonsense FROM quantum_auditevent")
    attempt("INSERT INTO quantum_auditevent (id) VALUES (1)")
    assert refused == []
