"""What both gates share: no permit for what closes nothing, and no signing without a record."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Any, cast

import pytest
from django.db import InterfaceError, OperationalError
from django.forms import model_to_dict

from permits.desk import records
from permits.desk.desk import Issued
from permits.desk.gatekeeper import Gatekeeper, Recorder, Written
from permits.models import Approval, Permit
from quantum.beside import Ended
from quantum.models import AuditEvent
from quantum.plan import Action
from quantum.redis import Client
from quantum.stream import Entry
from tests.house import House, wait_for
from tests.permits.desk_by_hand import issue
from tests.permits.governors import AtWork, arm, limit, snapshot
from tests.permits_by_hand import GOVERNOR, P33, permit


def keeper() -> Gatekeeper:
    """Without desk and decision: whoever asks them fails."""
    return Gatekeeper(desk=cast("Any", None), decide=cast("Any", None), announce=cast("Any", None))


@pytest.mark.parametrize("action", [Action.HOLD, Action.NONE, Action.UPDATE_SL])
def test_a_plan_that_closes_nothing_gets_no_permit(action: Action) -> None:
    fields = {name.encode(): value.encode() for name, value in House.make(action=action).fields().items()}
    assert keeper().handle(Entry(entry_id="1-0", fields=fields)) is True


def test_a_gate_whose_recorder_has_ended_ends_too() -> None:
    gate = keeper()
    recorder = gate.start_recording(ack=lambda *_: None)
    gate.check_recorder()
    recorder.finish()
    with pytest.raises(Ended):
        gate.check_recorder()


def test_bytes_of_a_stranger_under_our_key_leave_no_row_and_end_nothing() -> None:
    assert Written(raw=b"\xff\xfe", gate="p33", plan_id="0" * 16, entry_id="1-0").row() is None


@pytest.mark.parametrize("gate", [GOVERNOR, P33])
def test_a_row_made_of_what_was_said_is_the_row_of_the_bytes(redis: Client, keys: None, gate: str) -> None:
    """The recorder does not read what its own gate has just written."""
    plan = House.make()
    issued = issue(redis, plan, gate, quantity=Decimal("0.2500"), notional=Decimal("12.50"))
    assert isinstance(issued, Issued) and issued.said is not None
    row = partial(records.row_of, issued.raw, gate=gate, plan_id=plan.plan_id, fate=Permit.Fate.LIVE)
    told, read = (model_to_dict(each, exclude=["recorded_at"]) for each in (row(said=issued.said), row()))
    assert told == read
    assert (read["issuer"], read["raw"]) == (issued.said.issuer, issued.raw.decode())


def test_a_grant_is_recorded_although_the_database_was_gone_for_longer_than_it_lives(
    transactional_db: None, keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it stands in Redis by then, so an entry that comes again could not bring it back."""
    plan, acked = House.make(), list[str]()
    monkeypatch.setattr("permits.desk.gatekeeper.DATABASE_PAUSE_S", 0.05)
    write, failures = records.record_issued, [OperationalError("gone"), InterfaceError("gone")]

    def gone_at_first(rows: list[Permit], **more: Any) -> None:
        if failures:
            raise failures.pop()
        write(rows, **more)

    monkeypatch.setattr(records, "record_issued", gone_at_first)
    recorder = Recorder(ack=lambda *ids: acked.extend(ids))
    recorder.start()
    raw = permit(plan, GOVERNOR)
    for _ in range(2):
        recorder.put(Written(raw=raw, gate=GOVERNOR, plan_id=plan.plan_id, entry_id="1-0"))
    wait_for(lambda: acked == ["1-0"], what="the row of the grant")
    recorder.finish()
    assert Permit.objects.get().plan_id == plan.plan_id
    assert AuditEvent.objects.filter(kind="permit_granted").count() == 1


def test_every_entry_of_a_plan_that_was_added_ten_times_is_acknowledged(
    transactional_db: None, keys: None
) -> None:
    """All of them come to the one permit. Only the last was acknowledged: the others were claimed every 15 s, one less
    each time, and after five deliveries good entries lay among the dead letters (chaos seed 12)."""
    plan, acked = House.make(), list[str]()
    raw, entries = permit(plan, GOVERNOR), [f"{number}-0" for number in range(10)]
    recorder = Recorder(ack=lambda *ids: acked.extend(ids))
    for entry_id in entries:
        recorder.put(Written(raw=raw, gate=GOVERNOR, plan_id=plan.plan_id, entry_id=entry_id))
    recorder.start()
    recorder.finish()
    assert acked == entries
    assert Permit.objects.count() == 1


def test_a_plan_that_has_its_grant_is_not_asked_about_when_it_comes_again(
    transactional_db: None, redis: Client, keys: None
) -> None:
    """The Governor died before the record, and by now an exit of that size needs a yes: there would be two."""
    arm(redis)
    snapshot(redis)
    plan, first = House.make(), AtWork(redis)
    assert first.answer(plan).verdict
    first.end()
    Permit.objects.all().delete()
    limit("approval_above_usd=100")
    second = AtWork(redis)
    fields = {name.encode(): value.encode() for name, value in plan.fields().items()}
    assert not second.keeper.handle(Entry(entry_id="1-0", fields=fields))
    second.end()
    assert Permit.objects.get().verdict
    assert not Approval.objects.exists()
    asked = House.make()
    third, fourth = AtWork(redis), AtWork(redis)
    assert third.reason(asked) == "awaiting_approval"
    third.end()
    Approval.objects.all().delete()
    fields = {name.encode(): value.encode() for name, value in asked.fields().items()}
    assert not fourth.keeper.handle(Entry(entry_id="2-0", fields=fields))
    fourth.end()
    assert Approval.objects.get().asked_plan_id == asked.plan_id
