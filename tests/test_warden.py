"""The warden's round: duties one after the other, and the lease kept between them."""

from __future__ import annotations

import time

import pytest
from django.conf import settings

from apply import warden
from quantum.lease import Lease, Watch
from quantum.redis import Client


@pytest.mark.django_db(transaction=True)
def test_slow_duties_do_not_cost_the_warden_its_lease(redis: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two duties of 1.3 s and the pause are longer than a lease may go without renewal (2 s)."""
    done: list[float] = []

    def slow() -> None:
        time.sleep(1.3)
        done.append(time.monotonic())

    monkeypatch.setattr(warden, "duties_of", lambda _client: [slow, slow])
    lease = Lease(client=redis, keys=settings.KEYS, role="warden", host="here", pid=1, versions={})
    assert lease.take() is None
    watch = Watch(lease=lease, consumer="warden-here", told_to_stop=lambda: len(done) == 4)
    warden.run(watch)
    assert watch.why == "told to stop"
