"""Whatever somebody does to events, seals or checkpoints is found, and named as exactly as can be known."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from nacl.signing import VerifyKey

from quantum.chain import form, reading
from quantum.models import AuditEvent, Seal, SealedEvent, Verification
from tests.chain.hand import Chain, command, cut_after, found, look

EVENT_FIELDS = {
    "id": "UPDATE quantum_auditevent SET id = id + 1000 WHERE id = %s",
    "at": "UPDATE quantum_auditevent SET at = %s WHERE id = %s",
    "kind": "UPDATE quantum_auditevent SET kind = 'plan_failed' WHERE id = %s",
    "plan_id": "UPDATE quantum_auditevent SET plan_id = '' WHERE id = %s",
    "symbol": "UPDATE quantum_auditevent SET symbol = 'ETHUSDT' WHERE id = %s",
    "actor": "UPDATE quantum_auditevent SET actor = 'appl' WHERE id = %s",
    "reason": "UPDATE quantum_auditevent SET reason = 'becausE' WHERE id = %s",
    "data": """UPDATE quantum_auditevent SET data = '{"from": "open"}' WHERE id = %s""",
}
SEAL_FIELDS = {
    "number": "number + 50",
    "format": "format + 1",
    "instance": "'00000000-0000-0000-0000-000000000000'",
    "events": "events + 1",
    "total": "total + 1",
    "at_us": "at_us + 1",
    "checkpointed": "checkpointed + 1",
    **dict.fromkeys(("root", "head"), f"'{'0' * 64}'"),
    "previous": f"'{'1' * 64}'",
    "key": "'0123456789abcdef'",
    "signature": f"'{'A' * 86}'",
}


# ---- every field of everything


def test_the_lists_here_name_every_column() -> None:
    """A new column is part of the chain, or this says so."""
    assert tuple(field.column for field in AuditEvent._meta.concrete_fields) == form.FIELDS
    assert set(EVENT_FIELDS) == set(form.FIELDS)
    assert set(SEAL_FIELDS) == {field.column for field in Seal._meta.concrete_fields}
    assert {field.column for field in SealedEvent._meta.concrete_fields} == {
        "event_id",
        "seal",
        "position",
        "leaf",
    }


@pytest.mark.parametrize("field", EVENT_FIELDS)
def test_c8_an_event_changed_in_any_field_is_named(chain: Chain, sealed: list[int], field: str) -> None:
    event = sealed[3]
    values = ("2026-01-01 00:00:00+00:00", event) if field == "at" else (event,)
    chain.by_hand(EVENT_FIELDS[field], *values)
    assert found() == {("row_missing" if field == "id" else "row_changed", 2, event)}
    code, told = command()
    assert (code, told["outcome"]) == (6, "broken")
    assert str(event) in told["problems"][0]["text"]


@pytest.mark.parametrize("field", SEAL_FIELDS)
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_seal_changed_in_any_field_is_named(
    chain: Chain, sealed: list[int], field: str, number: int
) -> None:
    chain.by_hand(f"UPDATE quantum_seal SET {field} = {SEAL_FIELDS[field]} WHERE number = %s", number)
    seals = {seal for _, seal, _ in found()}
    assert seals & {number, number + 50} or field == "number"
    assert command()[0] == 6


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ("event_id = event_id + 1000", {"row_missing"}),
        ("seal = 77", {"link_missing", "link_changed", "seal_changed"}),
        ("position = 9", {"link_missing", "row_inserted"}),
        ("leaf = %s", {"link_changed"}),
    ],
)
def test_a_link_changed_in_any_field_is_found(
    chain: Chain, sealed: list[int], change: str, wrong: set[str]
) -> None:
    values = (b"\0" * 32, sealed[4]) if "%s" in change else (sealed[4],)
    chain.by_hand(f"UPDATE quantum_sealedevent SET {change} WHERE event_id = %s", *values)
    assert {kind for kind, _, _ in found()} >= wrong
    assert command()[0] == 6


# ---- rows


def test_c8_an_event_that_was_deleted_is_named(chain: Chain, sealed: list[int]) -> None:
    chain.by_hand("DELETE FROM quantum_auditevent WHERE id = %s", sealed[2])
    assert found() == {("row_missing", 2, sealed[2])}


def test_an_event_deleted_with_its_place_is_missed_by_its_seal(chain: Chain, sealed: list[int]) -> None:
    chain.by_hand("DELETE FROM quantum_auditevent WHERE id = %s", sealed[3])
    chain.by_hand("DELETE FROM quantum_sealedevent WHERE event_id = %s", sealed[3])
    assert ("link_missing", 2, None) in found()
    assert "place 1" in look().problems[0].text


def test_an_event_put_into_an_old_seal_is_named(chain: Chain, sealed: list[int]) -> None:
    chain.tell()
    event = AuditEvent.objects.latest("id").pk
    SealedEvent.objects.create(event_id=event, seal=2, position=3, leaf=b"\1" * 32)
    assert ("row_inserted", 2, event) in found()


def test_an_event_hidden_from_the_sealer_is_named(chain: Chain, sealed: list[int]) -> None:
    """It is said to lie in a seal that there is not, so nobody would ever seal it."""
    chain.tell()
    event = AuditEvent.objects.latest("id").pk
    SealedEvent.objects.create(event_id=event, seal=99, position=0, leaf=b"\1" * 32)
    chain.tick()
    assert found() == {("link_changed", None, event)}


def test_two_events_that_changed_places_are_named(chain: Chain, sealed: list[int]) -> None:
    first, second = sealed[2], sealed[3]
    for event, position in ((first, 8), (second, 0), (first, 1)):
        chain.by_hand("UPDATE quantum_sealedevent SET position = %s WHERE event_id = %s", position, event)
    assert ("row_moved", 2, first) in found()


def test_two_events_that_changed_contents_are_named(chain: Chain, sealed: list[int]) -> None:
    first, second = sealed[2], sealed[3]
    for event, number in ((first, -1), (second, first), (-1, second)):
        chain.by_hand("UPDATE quantum_auditevent SET id = %s WHERE id = %s", number, event)
    assert found() == {("row_changed", 2, first), ("row_changed", 2, second)}


def test_several_wrongs_are_all_named(chain: Chain, sealed: list[int]) -> None:
    for event in (sealed[0], sealed[5]):
        chain.by_hand("UPDATE quantum_auditevent SET reason = '' WHERE id = %s", event)
    assert found() == {("row_changed", 1, sealed[0]), ("row_changed", 3, sealed[5])}


def test_a_row_that_is_no_text_any_more_is_named(chain: Chain, sealed: list[int]) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL keeps no broken text")
    chain.by_hand("UPDATE quantum_auditevent SET actor = CAST(x'ff00fe' AS TEXT) WHERE id = %s", sealed[1])
    chain.by_hand("UPDATE quantum_auditevent SET at = 'never' WHERE id = %s", sealed[4])
    assert found() == {("row_changed", 1, sealed[1]), ("row_changed", 2, sealed[4])}


def test_a_thousand_wrongs_are_counted_and_fifty_told(chain: Chain) -> None:
    chain.seal(60)
    chain.by_hand("UPDATE quantum_auditevent SET reason = ''")
    report = look()
    assert (len(report.problems), report.more_problems) == (50, 10)


# ---- seals


def test_a_seal_that_was_taken_out_is_missed(chain: Chain, sealed: list[int]) -> None:
    for sql in (
        "DELETE FROM quantum_sealedevent WHERE seal = 2",
        "DELETE FROM quantum_seal WHERE number = 2",
    ):
        chain.by_hand(sql)
    assert "seal 2 is gone" in {problem.text for problem in look().problems}


def test_a_seal_computed_anew_without_the_key_has_a_wrong_signature(chain: Chain, sealed: list[int]) -> None:
    """Everything fits together but what only the sealer can make."""
    chain.by_hand("UPDATE quantum_seal SET at_us = at_us + 1 WHERE number = 3")
    [changed] = reading.seals(after=2, until=3)
    head = form.head(form.seal_bytes(changed))
    chain.by_hand("UPDATE quantum_seal SET head = %s WHERE number = 3", head)
    assert ("signature", 3, None) in found()


def test_c8_an_end_that_was_cut_off_is_found_by_the_checkpoints(chain: Chain, sealed: list[int]) -> None:
    cut_after(chain, 1)
    report = look()
    assert {problem.wrong for problem in report.problems} == {"tail_cut"}
    assert "ends at seal 1 with 2 events" in report.problems[-1].text
    assert "holds seal 3 with 7" in report.problems[-1].text
    assert command()[0] == 6


def test_an_end_that_was_cut_off_and_grew_again_is_found_too(chain: Chain, sealed: list[int]) -> None:
    cut_after(chain, 1)
    Chain().seal(4, 1)
    assert ("seal_replaced", 2, None) in found()


def test_all_of_it_taken_away_is_found(chain: Chain, sealed: list[int]) -> None:
    cut_after(chain, 0)
    assert {kind for kind, _, _ in found()} == {"tail_cut"}


# ---- telling


def test_what_is_not_sealed_yet_is_told_with_its_age(chain: Chain, sealed: list[int]) -> None:
    chain.tell()
    code, told = command()
    assert (code, told["unsealed"]["events"]) == (0, 1)
    assert 0 <= told["unsealed"]["oldest_s"] < 60


def test_it_says_all_of_it_in_words_too(chain: Chain, sealed: list[int]) -> None:
    chain.tell()
    chain.by_hand("UPDATE quantum_auditevent SET reason = '' WHERE id = %s", sealed[2])
    out = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("audit_verify", stdout=out, stderr=io.StringIO())
    said = out.getvalue()
    assert re.search(r"broken: 7 events in 3 seals", said)
    assert f"BROKEN row_changed: event {sealed[2]} was changed after seal 2" in said
    assert "not sealed yet: 1 events" in said
    assert f"head {Seal.objects.get(number=3).head}" in said


def test_what_it_found_is_kept_for_the_pages(chain: Chain, sealed: list[int]) -> None:
    chain.by_hand("UPDATE quantum_auditevent SET reason = '' WHERE id IN (%s, %s)", sealed[2], sealed[3])
    command()
    kept = Verification.objects.get()
    assert (kept.outcome, kept.events) == ("broken", 7)
    assert kept.text == f"event {sealed[2]} was changed after seal 2 (and 1 more)"


def test_what_lies_in_memory_does_not_grow_with_the_chain(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows come in pieces, and a seal's are gone when the next one is looked at."""
    chain.seal(5, 5, 5, 5)
    monkeypatch.setattr(reading, "PIECE", 7)
    asked: list[int] = []
    fetch = reading._asked

    def counted(text: str, values: Sequence[Any]) -> list[Any]:
        got = fetch(text, values)
        asked.append(len(got))
        return got

    monkeypatch.setattr(reading, "_asked", counted)
    assert look().events == 20
    assert max(asked) <= 7


# ---- the bytes


def test_the_bytes_are_those_of_the_document(chain: Chain) -> None:
    """docs/audit.md holds a whole chain of two events; this is its example, computed."""
    example = json.loads(
        re.findall(r"```json\n(.*?)```", (settings.BASE_DIR / "docs/audit.md").read_text(), re.DOTALL)[0]
    )
    events = [[str(value).encode() for value in event.values()] for event in example["events"]]
    assert form.event_bytes(events[0]).hex() == example["first_event_bytes"]
    leaves = [form.leaf(form.event_bytes(event)) for event in events]
    assert [leaf.hex() for leaf in leaves] == example["leaves"]
    assert form.root(leaves) == example["root"]
    copy = form.read_line(example["checkpoint"].encode())
    assert copy is not None
    told = json.loads(copy.body)
    fields = {"number": told.pop("seal"), "format": told.pop("v"), **told}
    assert form.seal_bytes(form.Fields(**fields)) == copy.body
    assert (told["root"], told["events"]) == (example["root"], len(events))
    VerifyKey(bytes.fromhex(example["public_key"])).verify(
        copy.body, base64.urlsafe_b64decode(copy.signature + "==")
    )
