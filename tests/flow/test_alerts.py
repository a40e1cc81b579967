"""Alerts, with a real receiver: one alert, one recovery, whatever the target or the warden does meanwhile."""

from __future__ import annotations

import datetime as dt
import json
import re
import threading
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.urls import reverse
from pytest_django.fixtures import Settings

from apply.alerts import beat, book, conditions, courier, duties, targets
from apply.alerts.lookout import Seen
from apply.models import Alert, Notice, Plan
from permits.state import holds
from quantum import clock
from quantum.redis import Client
from tests.alerts_by_hand import SECRET, Calm, halt, resume
from tests.flow.test_home import plans
from tests.house import House, wait_for
from tests.receiver import HANGS, Receiver, listening

ALERT, RECOVERY = ("alert", "halted"), ("recovery", "halted")


# ---- one alert, one recovery


def test_a_halt_is_told_once_and_its_end_once_signed_and_without_a_secret(
    calm: Calm, receiver: Receiver
) -> None:
    calm.after(5)
    assert receiver.got == []
    halt("the key api_key=4711hidden leaked\nsee redis://u:" + "hunter2" + "@host")
    for _ in range(5):
        calm.after(5)
    assert receiver.events == [ALERT]
    resume()
    for _ in range(30):
        calm.after(5)
    assert receiver.events == [ALERT, RECOVERY]
    first = receiver.got[0]
    assert first.said["severity"] == "critical"
    assert first.said["text"] == "HALTED for everything"
    assert first.said["link"] == "https://quantum.example/admin/oncall/"
    assert first.said["alert"] == receiver.got[1].said["alert"]
    assert first.headers["Idempotency-Key"] == first.said["id"] != receiver.got[1].said["id"]
    raw = str(first.headers) + first.body.decode()
    assert "leaked" in raw
    for secret in ("4711hidden", "hunter2", SECRET, "very-private"):
        assert secret not in raw
        assert secret not in json.dumps(list(Notice.objects.values()), default=str)


def test_the_check_that_the_documents_give_takes_ours_and_nothing_that_was_changed(
    calm: Calm, receiver: Receiver
) -> None:
    found = re.search(
        r"```python\n(.*?)```", (django_settings.BASE_DIR / "docs/alerts.md").read_text(), re.DOTALL
    )
    given: dict[str, Any] = {}
    exec(found[1] if found else "", given)  # noqa: S102  our own document
    halt()
    calm.after(5)
    resume()
    for _ in range(30):
        calm.after(5)
    assert receiver.events == [ALERT, RECOVERY]
    end = receiver.got[1]
    assert given["is_ours"](SECRET.encode(), end.headers["Quantum-Signature"], end.body, clock.now_s())
    assert end.headers["Quantum-Signature"] != receiver.got[0].headers["Quantum-Signature"]
    header, body = receiver.got[0].headers["Quantum-Signature"], receiver.got[0].body
    now_s = int(re.findall(r"t=(\d+)", header)[0])
    assert given["is_ours"](SECRET.encode(), header, body, now_s)
    assert not given["is_ours"](SECRET.encode(), header, body.replace(b"nina", b"omar"), now_s)
    assert not given["is_ours"](b"another secret", header, body, now_s)
    assert not given["is_ours"](SECRET.encode(), header, body, now_s + 301), "an old notice, sent again"
    later = re.sub(r"t=\d+", f"t={int(now_s) + 301}", header)
    assert not given["is_ours"](SECRET.encode(), later, body, now_s + 301), "the time is signed too"


def test_what_is_gone_before_its_time_is_never_told(calm: Calm, receiver: Receiver) -> None:
    holds.place(calm.redis, symbol="ETHUSDT", by="nina", reason="only a moment")
    calm.after(5)
    assert Alert.objects.get().told_at is None
    holds.lift(calm.redis, symbol="ETHUSDT", by="nina", reason="it was only a moment")
    for _ in range(20):
        calm.after(5)
    assert receiver.got == []
    assert not Alert.objects.exists()


def test_what_comes_and_goes_is_told_once(calm: Calm, receiver: Receiver) -> None:
    for _ in range(5):
        halt()
        calm.after(20)
        resume()
        calm.after(20)
        calm.after(20)
    assert receiver.events == [ALERT]


def test_what_flaps_slower_than_that_is_one_alert_from_the_second_time_on(
    calm: Calm, receiver: Receiver
) -> None:
    for _ in range(25):
        halt()
        calm.after(20)
        resume()
        for _ in range(4):
            calm.after(25)
    assert receiver.events == [ALERT, RECOVERY, ALERT]
    for _ in range(40):
        calm.after(25)
    assert receiver.events[-1] == RECOVERY


# ---- exits that stay blocked


def test_an_exit_blocked_too_long_is_told_with_its_plan_then_escalated_to_more_people(
    calm: Calm, receiver: Receiver, settings: Settings
) -> None:
    with listening() as chief:
        settings.ALERT_ESCALATION_URL = chief.url
        calm.warden()
        (plan_id,) = plans(1, state="blocked", error="hold", minutes_ago=0)
        calm.after(5)
        calm.after(110)
        assert receiver.got == []
        calm.after(10)
        assert receiver.events == [("alert", "exit_blocked")]
        said = receiver.got[0].said
        assert (said["plan_id"], said["about"], said["severity"]) == (plan_id, "BTCUSDT", "warning")
        assert said["link"] == "https://quantum.example" + reverse("admin:apply_plan_change", args=[plan_id])
        calm.after(470)
        assert chief.got == []
        for _ in range(3):
            calm.after(20)
        assert receiver.events == [("alert", "exit_blocked"), ("escalation", "exit_blocked")]
        assert chief.events == [("escalation", "exit_blocked")]
        assert chief.got[0].said["severity"] == "critical"
        plans(1, first=9, minutes_ago=-15)
        for _ in range(20):
            calm.after(5)
        assert chief.events[1:] == receiver.events[2:] == [("recovery", "exit_blocked")]


def test_a_stranger_cannot_make_an_alert_for_each_symbol(calm: Calm, receiver: Receiver) -> None:
    plans(5, state="blocked", error="symbol_not_allowed", minutes_ago=0)
    for number, plan in enumerate(Plan.objects.all()):
        Plan.objects.filter(pk=plan.pk).update(symbol=f"X{number}USDT")
    calm.after(5)
    calm.after(125)
    assert [each.said["about"] for each in receiver.got] == ["other"]


def test_the_role_itself_does_it(house: House, calm: Calm, receiver: Receiver) -> None:
    halt()
    house.begin("warden")
    wait_for(lambda: receiver.got, what="the alert")
    house.stop()
    assert receiver.events == [ALERT]


# ---- wardens that end, and two of them


def test_a_warden_that_is_started_again_goes_on_where_it_was(calm: Calm, receiver: Receiver) -> None:
    halt()
    calm.after(5)
    calm.warden()
    calm.after(5)
    assert receiver.events == [ALERT]
    resume()
    calm.after(5)
    calm.warden()
    calm.after(61)
    calm.warden()
    calm.after(61)
    assert receiver.events == [ALERT, RECOVERY]


def test_what_a_warden_held_when_it_died_is_told_by_the_next_one(calm: Calm, receiver: Receiver) -> None:
    halt()
    calm.couriers, couriers = [], calm.couriers
    calm.after(5)
    assert couriers[0]._claimed() is not None  # and there it died
    calm.warden()
    calm.after(5)
    assert receiver.got == []
    calm.after(courier.HELD_S)
    assert receiver.events == [ALERT]


def test_two_wardens_at_once_tell_it_once(calm: Calm, receiver: Receiver) -> None:
    seen = Seen([conditions.Condition(key="halted:", text="HALTED", after_s=0)], redis_answers=True)
    found = targets.configured()
    together = threading.Barrier(2)

    def one() -> None:
        try:
            together.wait(5)
            for _ in range(3):
                book.take(seen, targets=found)
                courier.Courier(found[0]).turn()
        finally:
            connection.close()

    both = [threading.Thread(target=one) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join(20)
    assert Alert.objects.count() == Notice.objects.count() == 1
    calm.after(40)
    assert [each.said["event"] for each in receiver.got if each.said["kind"] == "halted"] == ["alert"]


def test_of_two_that_saw_the_same_row_one_tells(calm: Calm) -> None:
    halt()
    calm.couriers = []
    calm.after(5)
    stale, again = Alert.objects.get(), Alert.objects.get()
    for row in (stale, again):
        row.told_at = None
        book._tell(row, Notice.Event.RECOVERY, clock.now(), to=["webhook"])
    assert Notice.objects.filter(event="recovery").count() == 1


def test_of_two_that_saw_the_same_notice_one_tells_it(calm: Calm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look of the first and its claim the second one looks and claims."""
    halt()
    calm.couriers = []
    calm.after(5)
    first, second = (courier.Courier(targets.configured()[0]) for _ in range(2))
    claimed: list[Notice | None] = []

    class Between:
        def timedelta(self, **fields: float) -> dt.timedelta:
            if not claimed:
                claimed.append(None)  # once: the second one comes by here as well
                claimed[0] = second._claimed()
            return dt.timedelta(**fields)

    monkeypatch.setattr(courier, "dt", Between())
    assert first._claimed() is None
    assert claimed[0] is not None


def test_a_clock_that_is_set_back_delays_no_alert_no_notice_and_no_recovery(
    calm: Calm, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot_s, steady = clock.boot_s, [0.0]
    monkeypatch.setattr(clock, "boot_s", lambda: boot_s() + steady[0])

    def set_back() -> None:
        steady[0] += 3600
        calm.later(-3600)

    holds.place(calm.redis, symbol="ETHUSDT", by="nina", reason="to see its alert")
    calm.after(5)
    set_back()
    calm.warden()
    calm.after(5)
    calm.after(61)
    assert receiver.events == [("alert", "hold")], "it lasted since an hour ahead"
    halt()
    calm.couriers = []
    calm.after(5)
    set_back()
    calm.warden()
    calm.after(5)
    assert receiver.events[1:] == [ALERT], "its notice was to go out an hour ahead"
    resume()
    calm.after(5)
    set_back()
    calm.warden()
    calm.after(5)
    calm.after(61)
    assert receiver.events[2:] == [RECOVERY], "it was gone an hour ahead"


def test_what_only_redis_tells_is_not_over_while_redis_is_silent(calm: Calm) -> None:
    silent = conditions.Condition(key="role:p33", text="p33 is silent", after_s=0)
    book.take(Seen([silent], redis_answers=True), targets=[])
    book.take(Seen([], redis_answers=False), targets=[])
    assert Alert.objects.get().gone_at is None
    book.take(Seen([], redis_answers=True), targets=[])
    assert Alert.objects.get().gone_at is not None


# ---- what it costs, and that nothing is missed


def test_at_idle_it_asks_redis_less_than_once_in_five_seconds_and_still_sees_a_role_end(
    calm: Calm, receiver: Receiver
) -> None:
    asked = 0
    calm.after(5)
    for _ in range(120):
        calm.time.ahead_s += duties.TURN_S + 0.001
        calm.breathe()
        before = calm.redis.info("stats")["total_commands_processed"]
        calm.watching.tick()
        asked += calm.redis.info("stats")["total_commands_processed"] - before - 1
    assert asked <= 0.2 * 120 * duties.TURN_S, asked
    assert calm.watching.lookout.flows
    for key in (
        django_settings.KEYS.lease("p33"),
        django_settings.KEYS.heartbeat("p33", django_settings.QUANTUM_HOST),
    ):
        calm.redis.delete(key)
    for _ in range(8):
        calm.time.ahead_s += duties.TURN_S + 0.001
        calm.watching.tick()
        calm.couriers[0].turn()
    assert ("alert", "role") in receiver.events
    assert not calm.watching.lookout.flows


def test_every_trouble_that_home_can_show_has_its_time() -> None:
    source = (django_settings.BASE_DIR / "apply/glance/glance.py").read_text()
    kinds = set(re.findall(r'kind="([a-z_]+)"', source))
    assert kinds | {"behind"} == set(conditions.AFTER_S)
    assert set(conditions.TOLD_BY_REDIS) <= set(conditions.AFTER_S)


def test_the_links_are_the_routers() -> None:
    assert reverse("admin:apply_oncall") == book.ON_CALL_PAGE
    assert reverse("admin:apply_plan_change", args=["0" * 16]) == book.PLAN_PAGE.format("0" * 16)


def test_nothing_set_is_nothing_done(redis: Client) -> None:
    assert duties.of(redis) == []


# ---- the heartbeat


def test_the_heartbeat_goes_out_while_exits_can_leave_and_fails_without_noise(
    calm: Calm, receiver: Receiver, settings: Settings
) -> None:
    heart = beat.Beat(url=receiver.url + "/beat", every_s=60, flows=lambda: calm.watching.lookout.flows)
    heart.turn()
    assert receiver.got == [], "nobody has looked yet"
    calm.couriers = []
    calm.after(5)
    heart.turn()
    heart.turn()
    assert [(each.method, each.path) for each in receiver.got] == [("GET", "/beat")]
    receiver.answer = HANGS
    calm.after(61)
    heart.turn()
    assert len(receiver.got) == 2
    halt()
    calm.after(61)
    heart.turn()
    assert len(receiver.got) == 2, "no exit can leave: whoever waits for it is to notice"
    resume()
    calm.after(61)
    assert calm.watching.lookout.flows
    calm.time.ahead_s += 31
    assert not calm.watching.lookout.flows, "nobody has looked since"
