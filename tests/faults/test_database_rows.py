"""C1 to C5 and C7 with real parts: a PostgreSQL that is stopped or meets a deadlock, a file that is locked or full.

C6 is in test_lost_commits.py. What a bent transaction shows (C1, C5 and C6 for both databases) is in
test_intent_failures.py.
"""

from __future__ import annotations

import resource
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.db.migrations.recorder import MigrationRecorder

from apply.acting import intent
from apply.models import Order, Plan
from permits.gate import spending
from quantum import health, instance, stream
from tests import own_postgres
from tests.faults.ends import ledger_agrees, told_once
from tests.house import House, wait_for
from tests.one_house import passes_again
from tests.own_postgres import needs_server
from tests.processes_by_hand import frozen

needs_file = pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL locks and grows elsewhere")
NOTHING_SENT = "permits spent, nothing sent"


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a failure left pending comes again after seven seconds instead of twenty."""
    monkeypatch.setattr(stream, "RECLAIM_EVERY_S", 1.0)
    monkeypatch.setitem(stream.Consumer.__init__.__kwdefaults__ or {}, "reclaim_idle_ms", 6000)


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[[str], bool]:
    """Whether a line with these words was logged since the test began."""
    lines = list[str]()

    def has(words: str) -> bool:
        lines.extend(capsys.readouterr().err.splitlines())
        return any(words in line for line in lines)

    return has


@pytest.fixture
def stoppable() -> Iterator[None]:
    yield
    own_postgres.start()


def at_the_consume(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Once: between the spent pair and its intent."""
    consume, left = spending._CONSUME, [happens]

    def then_it_happens(*args: Any, **more: Any) -> Any:
        answer = consume(*args, **more)
        if answer[0] == 1 and left:
            left.pop()()
        return answer

    monkeypatch.setattr(spending, "_CONSUME", then_it_happens)


@needs_server
@pytest.mark.usefixtures("soon", "stoppable")
def test_c1_a_server_that_is_stopped_before_the_intent_sends_nothing_and_says_so(
    house: House, monkeypatch: pytest.MonkeyPatch, told: Callable[[str], bool]
) -> None:
    house.start()
    at_the_consume(monkeypatch, own_postgres.stop)
    plan = house.publish()
    wait_for(lambda: told(NOTHING_SENT), what="apply to give up")
    assert told("reason=audit_unavailable")
    assert house.orders(plan) == []
    own_postgres.start()
    passes_again(house)
    told_once(house, plan, state="spent_unsent", error="audit_unavailable", orders=0, within_s=20)
    assert house.all_alive


@needs_server
@pytest.mark.slow
@pytest.mark.usefixtures("stoppable", "quick")
def test_c2_a_server_that_is_stopped_between_intent_and_outcome_learns_it_from_the_exchange(
    house: House,
) -> None:
    """A real process, frozen at the line between the two while the server goes; nobody starts it again."""
    house.start("p33", "governor", "warden")
    apply = house.spawn_role("apply", fault="order_intended:stop")
    plan = house.publish()
    wait_for(lambda: frozen(apply), what="apply to freeze after its intent")
    own_postgres.stop()
    apply.send_signal(signal.SIGCONT)
    wait_for(lambda: house.paper.accepted(prefix=f"q-{plan.plan_id}"), what="the order to leave")
    time.sleep(0.5)  # its answer finds no database
    own_postgres.start()
    assert Order.objects.get().answered_at is None, "the outcome was recorded: the server was not gone"
    told_once(house, plan, state="filled", within_s=20)
    ledger_agrees(house)
    passes_again(house)
    assert (apply.poll(), house.all_alive) == (None, True)


def collide(plan_id: str, begun: threading.Event) -> None:
    """Takes what the intent takes, the other way round: its insert waits for us, and then we for its row."""
    waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'apply_order'::regclass AND NOT granted"
    end_s = time.monotonic() + 5
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE apply_order IN EXCLUSIVE MODE")
        begun.set()
        waits = 0
        while not waits and time.monotonic() < end_s:
            time.sleep(0.01)
            cursor.execute(waiting)
            [waits] = cursor.fetchone()
        cursor.execute("SELECT id FROM apply_plan WHERE plan_id = %s FOR UPDATE", (plan_id,))
    connection.close()


@needs_server
def test_c5_a_deadlock_is_the_servers_to_end_and_the_intents_to_try_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.start()
    whole, made = intent.make, list[Order | str]()

    def make(*args: Any, **more: Any) -> Order | str:
        made.append(whole(*args, **more))
        return made[-1]

    monkeypatch.setattr(intent, "make", make)
    plan, begun = house.make(), threading.Event()
    rival = threading.Thread(target=collide, args=(plan.plan_id, begun))

    def meets_its_rival() -> None:
        rival.start()
        assert begun.wait(1)

    at_the_consume(monkeypatch, meets_its_rival)
    house.publish(plan)
    told_once(house, plan, state="filled")
    rival.join(5)
    assert [str(each) for each in made[:-1]] == ["audit_unavailable"]


def lock_for(seconds: float) -> threading.Timer:
    """Another program writes into the same file."""
    writer = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None, check_same_thread=False)
    writer.execute("BEGIN IMMEDIATE")

    def ends() -> None:
        writer.execute("ROLLBACK")
        writer.close()

    timer = threading.Timer(seconds, ends)
    timer.start()
    return timer


@needs_file
def test_c3_a_lock_that_ends_in_time_costs_the_plan_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.start()
    at_the_consume(monkeypatch, lambda: lock_for(1.2))
    began = time.monotonic()
    assert house.exit().state == "filled"
    assert time.monotonic() - began > 1.2, "nobody was in the way"


@needs_file
@pytest.mark.usefixtures("soon")
def test_c3_a_lock_that_lasts_sends_nothing_and_says_so(
    house: House, monkeypatch: pytest.MonkeyPatch, told: Callable[[str], bool]
) -> None:
    house.start()
    locks = list[threading.Timer]()
    at_the_consume(monkeypatch, lambda: locks.append(lock_for(3.5)))
    plan = house.publish()
    wait_for(lambda: told(NOTHING_SENT), what="apply to give up", within_s=3)
    assert told("reason=audit_unavailable")
    locks[0].join()
    passes_again(house)
    told_once(house, plan, state="spent_unsent", error="audit_unavailable", orders=0, within_s=20)


@needs_file
@pytest.mark.slow
def test_c4_a_full_disk_sends_nothing_health_is_red_and_exits_flow_again_when_there_is_room(
    house: House,
) -> None:
    """The one process that sends can write nothing more into any file: no record, and no line of its log."""
    house.start("p33", "governor", "warden")
    apply = house.spawn_role("apply")
    assert house.exit("ETHUSDT").state == "filled"
    _, most = resource.prlimit(apply.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(apply.pid, resource.RLIMIT_FSIZE, (0, most))
    plan = house.publish()
    wait_for(lambda: states_of("apply") == ["FAILING"], what="health to be red")
    assert not health.look().ok
    assert Plan.objects.get(plan_id=plan.plan_id).state == "open"
    assert house.orders(plan) == []
    resource.prlimit(apply.pid, resource.RLIMIT_FSIZE, (most, most))
    told_once(house, plan, state="spent_unsent", error="audit_unavailable", orders=0, within_s=30)
    passes_again(house)
    assert apply.poll() is None


def states_of(role: str) -> list[str]:
    return [each.state for each in health.look().roles if each.name == role]


NEEDED = ("apply", "0002_inquiries_and_dry_run")
OF_NEWER_CODE = ("apply", "9999_of_newer_code")


@pytest.fixture
def migrations(transactional_db: None) -> Iterator[MigrationRecorder]:
    """What the database says was done to its tables; no test's flush puts that back."""
    recorder = MigrationRecorder(connection)
    yield recorder
    recorder.record_unapplied(*OF_NEWER_CODE)
    if NEEDED not in recorder.applied_migrations():
        recorder.record_applied(*NEEDED)


def test_c7_a_role_does_not_start_on_tables_of_other_code_and_says_what_to_do(
    house: House, migrations: MigrationRecorder, capfd: pytest.CaptureFixture[str]
) -> None:
    instance.ensure_here()
    migrations.record_applied(*OF_NEWER_CODE)
    with pytest.raises(instance.WrongInstance, match=r"apply\.9999_of_newer_code.*newer code"):
        instance.ensure_here()
    migrations.record_unapplied(*OF_NEWER_CODE)
    migrations.record_unapplied(*NEEDED)
    governor = house.spawn("consume", "governor")
    wait_for(lambda: governor.poll() is not None, what="the role to refuse")
    assert governor.returncode == 1
    assert f"lacks {'.'.join(NEEDED)}: run manage.py migrate first" in capfd.readouterr().err
    assert not house.redis.exists(settings.KEYS.lease("governor"))
