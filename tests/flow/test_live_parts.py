"""Parts that live: who makes one, who waits for it, and what the viewer may be shown."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import pytest
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import Group, Permission, User
from django.core.cache import caches
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from permits.models import TradingState
from permits.state import trading
from quantum import clock, live, second_factor
from quantum.live import Part
from quantum.redis import Client
from tests.flow.test_admin import someone, text_of

WITHIN_S = 10


@pytest.fixture
def made(redis: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Future[Part]]]:
    """Who looks at the part, each in his own thread. One was made long ago."""
    caches["pages"].clear()
    monkeypatch.setattr(live, "LIFE_S", 60)
    monkeypatch.setattr(live, "MAKING_S", 60)
    monkeypatch.setattr(live, "FRESH_MS", 60_000)  # whatever this machine does meanwhile
    caches["pages"].set("part:tests", (clock.now_ms() - 120_000, "before"), timeout=60)
    with ThreadPoolExecutor(6) as people:
        yield lambda make: people.submit(live.shared, "tests", make)


def never() -> str:
    raise AssertionError("two made it")


class Slow:
    """A making that ends when it is told to."""

    def __init__(self) -> None:
        self.began, self.may_end = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.began.set()
        assert self.may_end.wait(WITHIN_S)
        return "after"


def test_who_comes_while_one_is_made_gets_that_one(
    made: Callable[..., Future[Part]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LOOKS", 200)
    slow = Slow()
    maker = made(slow)
    assert slow.began.wait(WITHIN_S)
    other = made(never)
    threading.Timer(0.5, slow.may_end.set).start()
    assert maker.result(WITHIN_S).html == other.result(WITHIN_S).html == "after"


def test_a_making_that_takes_long_holds_two_at_most_and_nobody_forever(
    made: Callable[..., Future[Part]], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow()
    maker = made(slow)
    assert slow.began.wait(WITHIN_S)
    assert made(never).result(WITHIN_S).html == "before"
    monkeypatch.setattr(live, "LOOKS", 200)
    others = [made(never) for _ in range(3)]
    passed, _ = wait(others, WITHIN_S, FIRST_COMPLETED)
    assert [each.result().html for each in passed] == ["before"]
    slow.may_end.set()
    assert sorted(each.result(WITHIN_S).html for each in others) == ["after", "after", "before"]
    assert maker.result(WITHIN_S).html == "after"


# ---- what somebody may, asked with each look


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["himself", "group", "both", "nothing", "inactive", "superuser"])
def test_one_question_says_what_django_says_with_two(redis: Client, kind: str) -> None:
    user = User.objects.create_user("somebody", is_staff=True)
    view_hold = Permission.objects.get(codename="view_hold")
    for name, more in (("watch", "view_permit"), ("act", "lift"), ("others", "delete_user")):
        group = Group.objects.create(name=name)
        group.permissions.set([view_hold, Permission.objects.get(codename=more)])
    User.objects.create_user("another").groups.set(Group.objects.all())
    if kind in ("himself", "both", "inactive"):
        user.user_permissions.set([view_hold, Permission.objects.get(codename="view_plan")])
    if kind in ("group", "both", "inactive"):
        user.groups.set(Group.objects.exclude(name="others"))
    user.is_active, user.is_superuser = kind != "inactive", kind == "superuser"
    user.save()
    user, same = User.objects.get(pk=user.pk), User.objects.get(pk=user.pk)
    with CaptureQueriesContext(connection) as asked:
        found = user.get_all_permissions()
        assert user.has_perm("permits.view_hold") == ("permits.view_hold" in found)
    assert found == ModelBackend().get_all_permissions(same)
    assert bool(found) == (kind not in ("nothing", "inactive"))
    assert len(asked) == {"inactive": 0, "superuser": len(asked)}.get(kind, 1)


@pytest.mark.django_db(transaction=True)
def test_who_asks_is_read_as_django_reads_it() -> None:
    user = User.objects.create_user("somebody", email="s@example.org", is_staff=True, last_login=clock.now())
    django, ours = ModelBackend().get_user(user.pk), second_factor.Backend().get_user(user.pk)
    assert isinstance(django, User) and isinstance(ours, User)
    columns = [field.attname for field in User._meta.concrete_fields]
    assert [getattr(ours, name) for name in columns] == [getattr(django, name) for name in columns]
    User.objects.update(is_active=False)
    assert second_factor.Backend().get_user(user.pk) is None
    assert second_factor.Backend().get_user(user.pk + 1) is None


@pytest.mark.django_db(transaction=True)
def test_a_right_that_is_withdrawn_is_gone_with_the_next_look(redis: Client) -> None:
    caches["pages"].clear()
    trading.change(state=TradingState.State.HALTED, by="nina", reason="strange prices")
    web = someone("guest", "view_tradingstate")
    part = reverse("admin:home_part")
    assert "strange prices" in text_of(web.get(part))
    User.objects.get(username="guest").user_permissions.clear()
    assert "strange prices" not in text_of(web.get(part))
