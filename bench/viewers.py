"""What it costs that five people keep home open: its part, asked again and again by five browsers. What the same
processes spend while nobody looks is not theirs."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import fmean
from typing import Any

from bench.parts import ROOT, Row, say, spread, wait_until
from bench.product import Cost, parent_of
from bench.steady import Stolen, steady

VIEWERS = 5
EVERY_S = 3.0
"""As the page says (data-live-every-ms)."""
TICK_S, AGAIN_S = 0.25, 0.5
APART_S = 0.57
"""They came at moments of their own, which no tick divides."""
FOR_S, TURNS = 12, 3
"""Short turns find a quiet moment of the host's sooner than one of half a minute."""
WARM_S = 6
CPU_PERCENT = 2.0
Turn = tuple[dict[str, float], list[float], float]
"""What each process spent, how long each answer took, how old what was shown became."""


def row(client: Any, more: dict[str, Any]) -> Row:
    """On the server and the database that the pages were looked at on: what all three spend."""
    from django.db import connection
    from django.urls import reverse

    say(f"bench: {VIEWERS} viewers of home, {TURNS} times {FOR_S} s")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        database = parent_of(cursor.fetchone()[0])
    with _web() as web:
        pids = {"web": web, "valkey": int(client.info("server")["process_id"]), "postgres": database}
        viewers = [_Viewer(cookie, reverse("admin:home_part")) for cookie in _cookies()]
        wait_until(viewers[0].answers, what="the web process")
        idle = _spent(pids)
        with _all_look(viewers):

            def turn() -> tuple[Turn, float]:
                for each in viewers:
                    each.forget()
                stolen, used = Stolen(), _spent(pids)
                took = [ms for each in viewers for ms in each.took_ms]
                return (used, took, max(ms for each in viewers for ms in each.ages_ms)), stolen.percent()

            turns = [steady(turn, "viewers") for _ in range(TURNS)]
    counted = [tries[0][0] for tries in turns]
    used = {name: round(fmean(used[name] for used, _, _ in counted), 2) for name in pids}
    took = [ms for _, each, _ in counted for ms in each]
    cost = round(sum(used.values()) - sum(idle.values()), 2)
    more = {**more, "viewers": VIEWERS, "every_s": EVERY_S, "cpu_percent_of_a_core": cost, "by": used,
            "by_without_viewers": idle,
            "oldest_shown_ms": round(max(oldest_ms for _, _, oldest_ms in counted)), "tries": [
                {"cpu_percent_of_a_core": round(sum(each.values()), 2), "stolen_percent": stolen}
                for tries in turns for (each, _, _), stolen in tries
            ]}  # fmt: skip
    target = f"< {CPU_PERCENT:.0f} % of a core"
    return Row(
        "live_five_viewers", len(took), **spread(took), target=target, met=cost < CPU_PERCENT, more=more
    )


def _spent(pids: dict[str, int]) -> dict[str, float]:
    """Of one core, while FOR_S pass."""
    cost = Cost(pids)
    started = time.monotonic()
    time.sleep(FOR_S)
    return cost.percent(time.monotonic() - started)


@contextmanager
def _all_look(viewers: list[_Viewer]) -> Iterator[None]:
    """They keep the page open; first until each thread of the server's has its connection."""
    ended = threading.Event()
    started = time.monotonic()
    threads = [
        threading.Thread(target=each.look, args=(started + number * APART_S, ended))
        for number, each in enumerate(viewers)
    ]
    for thread in threads:
        thread.start()
    try:
        time.sleep(WARM_S)
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


@contextmanager
def _web() -> Iterator[int]:
    """The web process as `up` starts it."""
    from quantum.up import web_arguments

    process = subprocess.Popen(web_arguments(), env=dict(os.environ), cwd=ROOT, stdout=sys.stderr)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(10)


def _cookies() -> list[str]:
    """Of people in the group that sees everything and does nothing."""
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.contrib.auth.models import Group
    from django.test import Client

    group, found = Group.objects.get(name="viewer"), []
    for number in range(VIEWERS):
        user = get_user_model().objects.create_user(f"viewer-{number}", is_staff=True)
        user.groups.add(group)
        web = Client(SERVER_NAME="127.0.0.1")
        web.force_login(user)
        name = settings.SESSION_COOKIE_NAME
        found.append(f"{name}={web.cookies[name].value}")
    return found


class _Viewer:
    """As live.js asks: at a tick, once what it shows is so old."""

    def __init__(self, cookie: str, address: str) -> None:
        self._cookie, self._address = cookie, address
        self.took_ms: list[float] = []
        self.ages_ms: list[float] = []
        """Of what was shown, at its oldest."""

    def look(self, start_s: float, ended: threading.Event) -> None:
        tick_s, looked_s, next_s = start_s, start_s - EVERY_S, start_s
        while not ended.is_set():
            time.sleep(max(0.0, tick_s - time.monotonic()))
            tick_s += TICK_S
            if time.monotonic() < next_s:
                continue
            started_s = time.monotonic()
            age_s = self._ask()
            now_s = time.monotonic()
            self.took_ms.append((now_s - started_s) * 1000)
            self.ages_ms.append((now_s - looked_s) * 1000)
            looked_s = now_s - age_s
            next_s = max(looked_s + EVERY_S, now_s + AGAIN_S)

    def forget(self) -> None:
        self.took_ms.clear()
        self.ages_ms.clear()

    def answers(self) -> bool:
        try:
            return self._ask() >= 0
        except OSError:
            return False

    def _ask(self) -> float:
        """How old the look is that it is given."""
        from django.conf import settings

        line = http.client.HTTPConnection("127.0.0.1", settings.QUANTUM_WEB_PORT, timeout=10)
        try:
            line.request("GET", self._address, headers={"Cookie": self._cookie})
            answer = line.getresponse()
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"the part answers {answer.status}")
            return int(answer.headers["X-Age-Ms"]) / 1000
        finally:
            line.close()
