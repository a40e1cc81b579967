"""Whole, or recognisably not; and nobody holds the web's threads."""

from __future__ import annotations

import gc
import json

import pytest
from django.db import connection
from django.test import Client as WebClient

from apply.models import Order, Plan
from permits.models import Permit
from positions.models import Fill, LedgerEntry
from quantum import lists
from quantum.exports import download
from quantum.exports.running import Cut
from quantum.models import AuditEvent
from tests.exports.by_hand import KINDS, NAMES, address, ended, failing_after, read, rows, stream
from tests.flow.test_admin import plan_row, someone
from tests.unguarded import unguarded

OF_LISTS = (AuditEvent, Fill, LedgerEntry, Order, Permit, Plan)


def test_rows_that_come_while_it_streams_neither_repeat_nor_shift(
    web: WebClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "AT_ONCE", 4)
    rows(11)
    before = list(Plan.objects.order_by("-id").values_list("id", flat=True))
    found = []
    for number, chunk in enumerate(stream(web, "plans").streaming_content):
        found += [json.loads(line) for line in chunk.decode().splitlines()]
        plan_row(1000 + number)
    *read_rows, end = found
    assert [row["id"] for row in read_rows] == before
    assert end == {"end": True, "rows": 11}
    assert Plan.objects.count() > 13


def test_a_rare_row_is_found_however_far_back_it_lies(
    web: WebClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "LOOKED_THROUGH", 7)
    monkeypatch.setattr(lists, "AT_ONCE", 2)
    rows(30)
    Plan.objects.filter(plan_id__in=[f"{1:016x}", f"{16:016x}"]).update(source="bot")
    found = read(web.get(address("plans", query="?source=bot")))
    assert [row["plan_id"] for row in found] == [f"{16:016x}", f"{1:016x}"]
    assert len(read(web.get(address("plans")))) == 30


def test_a_row_that_was_written_late_is_in_its_span(web: WebClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times follow numbers only roughly: a writer that was held up has an older time and a newer number, or the
    reverse."""
    monkeypatch.setattr(lists, "LOOKED_THROUGH", 2)
    rows(9)
    ids = list(Plan.objects.order_by("id").values_list("id", flat=True))
    with unguarded():
        for minutes, pk in zip((0, 20, 0, 80, 30, 10, 40, 20, 119), ids, strict=True):
            at = f"2026-01-31T{22 + minutes // 60}:{minutes % 60:02}:00Z"
            Plan.objects.filter(pk=pk).update(created_at=at)
    query = "?until=2026-01-31T23:15:00&span=1h"
    assert [row["id"] for row in read(web.get(address("plans", query=query)))] == [
        ids[7], ids[6], ids[4], ids[1],
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_row_that_was_given_is_let_go_of(
    name: str, web: WebClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the collector: rows that hold each other in a ring wait for a full collection, by the thousand."""
    monkeypatch.setattr(lists, "AT_ONCE", 2)
    rows(9)
    answer = stream(web, name)
    gc.disable()
    gc.freeze()  # what other tests of this process still hold: neither looked at nor counted
    try:
        most = max(_alive() for _ in answer.streaming_content)
    finally:
        gc.unfreeze()
        gc.enable()
        answer.close()
    assert most <= 2 * lists.AT_ONCE


def _alive() -> int:
    """Rows of the lists, and of what lies beside them. By their type: `isinstance` would wake whatever is lazy."""
    return sum(type(each) in OF_LISTS for each in gc.get_objects())


@pytest.mark.parametrize("kind", KINDS)
def test_who_stops_reading_has_a_file_without_its_last_line(
    kind: str, web: WebClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "AT_ONCE", 2)
    rows(6)
    answer = stream(web, "plans", kind)
    got = b"".join(next(answer.streaming_content) for _ in range(2)).decode()
    answer.close()
    assert not got.splitlines()[-1].startswith(("end", '{"end"'))
    assert [(outcome, why) for outcome, _, why in ended()] == [("cut", "it was not read to its end")]
    assert 0 < ended()[0][1] < 6


@pytest.mark.parametrize("kind", KINDS)
def test_a_database_that_dies_in_the_middle_cuts_the_line(
    kind: str, web: WebClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure leaves through the server, which closes the connection without the end that HTTP knows."""
    monkeypatch.setattr(lists, "AT_ONCE", 2)
    rows(6)
    answer = stream(web, "plans", kind)
    got = [next(answer.streaming_content), next(answer.streaming_content)]
    with connection.execute_wrapper(failing_after(0)), pytest.raises(Cut):
        got += list(answer.streaming_content)
    answer.close()
    assert b'"end"' not in b"".join(got) and b"\nend," not in b"".join(got)
    assert ended() == [], "begun and never ended: it could not be recorded either"
    assert len(read(web.get(address("plans")))) == 6, "and the next one has its turn"


def test_an_export_whose_end_cannot_be_recorded_does_not_end_well(
    web: WebClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows(1)
    chunks = stream(web, "plans").streaming_content
    assert b'"end"' not in next(chunks) and b'"end"' in next(chunks)
    with connection.execute_wrapper(failing_after(0)), pytest.raises(Cut):
        next(chunks)


# ---- nobody holds the web's threads


def test_one_at_a_time_for_each_person_and_so_many_in_all(web: WebClient) -> None:
    rows(1)
    nina, omar = someone("nina", "export", "view_plan"), someone("omar", "export", "view_plan")
    first = web.get(address("plans"))
    again = web.get(address("orders", "csv"))
    assert again.status_code == 429 and "An export of yours is running" in again.content.decode()
    second = nina.get(address("plans"))
    third = omar.get(address("plans"))
    assert third.status_code == 429 and "2 exports are running" in third.content.decode()
    read(first)
    assert len(read(omar.get(address("plans")))) == 1
    second.close()
    assert len(read(nina.get(address("plans")))) == 1


def test_an_export_that_takes_too_long_is_cut(web: WebClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "LIMIT_S", -1)
    rows(1)
    with pytest.raises(Cut):
        list(stream(web, "plans").streaming_content)
    assert ended() == [("cut", 0, "it took more than -1 s")]


def test_a_turn_that_nobody_gave_back_is_over_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr("quantum.clock.boot_s", lambda: now_s)
    turns = download.Turns()
    assert turns.take("nina") == ""
    now_s += download.LIMIT_S
    assert turns.take("nina")
    now_s += 2 * download.STALL_S + 1
    assert turns.take("nina") == ""


def test_a_reader_that_stalls_is_given_up_and_the_line_is_as_before(web: WebClient) -> None:
    """The web server's socket, of which it makes a blocking one: without a limit a reader that stops holds a thread."""
    limits: list[float | None] = []

    class Line:
        def settimeout(self, limit_s: float | None) -> None:
            limits.append(limit_s)

    rows(1)
    web.defaults["gunicorn.socket"] = Line()  # type: ignore[assignment]
    read(web.get(address("plans")))
    assert limits == [download.STALL_S, None]
