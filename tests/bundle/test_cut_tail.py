"""The end of the database is cut off, and then a bundle is made: the verifier that needs no database finds it, with a
checkpoint that a reader has held since before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.test import override_settings

from apply.bundle import making
from quantum.chain import checkpoints, form, reading
from quantum.chain.sealer import Sealer
from quantum.models import AuditEvent, SealedEvent
from tests.bundle.conftest import Left
from tests.house import wait_for
from tests.unguarded import unguarded
from tools import verify_bundle
from tools.verify_bundle import BROKEN, CANNOT_TELL, WHOLE, Given, Report

EVENTS = (
    "DELETE FROM quantum_auditevent WHERE id IN (SELECT event_id FROM quantum_sealedevent WHERE seal >= %s)"
)
PLACES = "DELETE FROM quantum_sealedevent WHERE seal >= %s"
SEALS = "DELETE FROM quantum_seal WHERE number >= %s"


@pytest.fixture(autouse=True)
def undone(left: Left, tmp_path: Path) -> Iterator[None]:
    """Whatever is cut is there again afterwards, and the reader's checkpoints are a copy that nobody here can reach."""
    held = tmp_path / "checkpoints"
    held.write_bytes(left.checkpoints.read_bytes())
    with override_settings(AUDIT_CHECKPOINTS=held), transaction.atomic():
        yield
        transaction.set_rollback(True)


def last_event(plan_id: str) -> AuditEvent:
    """That tells its end; a gate's own may come after it."""
    return AuditEvent.objects.get(plan_id=plan_id, kind="plan_filled")


def seal_of(event: AuditEvent) -> int:
    return SealedEvent.objects.get(event_id=event.pk).seal


def cut(*what: str, seal: int) -> None:
    with unguarded(), connection.cursor() as cursor:
        for sql in what:
            cursor.execute(sql, [seal])
            assert cursor.rowcount > 0


def asked(left: Left, held: Given) -> Report:
    made = making.of(left.filled)
    assert made is not None
    return verify_bundle.check(made.raw, held)


def reader_at(seal: int, left: Left, tmp_path: Path) -> Given:
    """Who was here when that seal was the last. The house copies the last of those that it makes at once."""
    row = reading.seal(seal)
    assert row is not None
    copy = form.copy_of(head=row.head, body=form.seal_bytes(row), signature=row.signature)
    assert copy is not None and checkpoints.append(tmp_path / "of_the_reader", copy)
    return Given(left.given().keys, set(), [tmp_path / "of_the_reader"])


def regrow() -> None:
    """By the house itself, with its own key: each of its signatures is good. Where an event of a higher number lies in
    a seal that stayed, the others are come across by the sweep, some ticks later."""
    sealer, sealed = Sealer(), SealedEvent.objects.values("event_id")

    def grown() -> bool:
        sealer.tick()
        return not AuditEvent.objects.exclude(id__in=sealed).exists()

    wait_for(grown, what="every event in a seal")


def test_events_and_their_seals_that_were_cut_off_are_missed(left: Left) -> None:
    seal = seal_of(last_event(left.filled))
    assert asked(left, left.given()).exit_code == WHOLE
    cut(EVENTS, PLACES, SEALS, seal=seal)
    report = asked(left, left.given())
    assert report.exit_code == BROKEN
    assert any("where there must be one" in each for each in report.wrong), (
        "whichever of its events lay there first"
    )


def test_a_tail_that_was_cut_off_and_grew_again_is_another_than_the_readers(
    left: Left, tmp_path: Path
) -> None:
    """The events are all there and every signature is the house's: the checkpoint alone tells."""
    seal = seal_of(last_event(left.filled))
    reader = reader_at(seal, left, tmp_path)
    cut(PLACES, SEALS, seal=seal)
    regrow()
    report = asked(left, reader)
    assert report.exit_code == BROKEN
    assert report.wrong == [f"seal {seal} is not the one of your checkpoint"]
    nothing_held = Given(left.given().keys, set(), None)
    assert asked(left, nothing_held).exit_code == WHOLE, "so it is the checkpoint that found it"


def test_a_tail_that_grew_again_without_an_event_is_found(left: Left, tmp_path: Path) -> None:
    seal = seal_of(last_event(left.filled))
    moved = AuditEvent.objects.get(plan_id=left.filled, kind="ledger_moved")
    reader = reader_at(seal, left, tmp_path)
    cut(PLACES, SEALS, seal=seal)
    cut("DELETE FROM quantum_auditevent WHERE id = %s", seal=moved.pk)
    regrow()
    report = asked(left, reader)
    assert report.exit_code == BROKEN
    assert f"seal {seal} is not the one of your checkpoint" in report.wrong
    assert len(report.wrong) > 1, "the ledger stands without its event, too"


def test_seals_alone_that_were_cut_off_leave_nothing_whole(left: Left) -> None:
    """With their places the events lie in no seal, which may be so for a second, and is never whole."""
    seal = seal_of(last_event(left.filled))
    cut(PLACES, SEALS, seal=seal)
    report = asked(left, left.given())
    assert report.exit_code == CANNOT_TELL
    assert any("(plan_filled) was in no seal yet" in doubt for doubt in report.doubts)


@pytest.mark.parametrize("house_holds", ["its checkpoints", "nothing"])
def test_events_whose_seal_is_gone_get_no_bundle_that_is_whole(left: Left, house_holds: str) -> None:
    seal = seal_of(last_event(left.filled))
    cut(SEALS, seal=seal)
    if house_holds == "nothing":
        settings.AUDIT_CHECKPOINTS.write_bytes(b"")
    with pytest.raises(making.NoBundle, match=r"there is no seal \d+ here"):
        asked(left, left.given())
