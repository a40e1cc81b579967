"""What the warden does about alerts: nothing at all where no target and no heartbeat is set."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from django.conf import settings

from apply.alerts import book, targets
from apply.alerts.beat import Beat
from apply.alerts.courier import Courier
from apply.alerts.lookout import Lookout
from apply.alerts.targets import Target
from apply.exits.apart import Apart
from quantum import clock
from quantum.redis import Client

TURN_S = 5.0


class Watching:
    """In the warden's round: it asks what others ask too, and waits for no target."""

    def __init__(self, *, client: Client, told: Sequence[Target]) -> None:
        self.lookout = Lookout(client=client)
        self._targets = told
        self._next_boot_s = 0.0
        self._forgotten = False

    def tick(self) -> None:
        if clock.boot_s() < self._next_boot_s:
            return
        self._next_boot_s = clock.boot_s() + TURN_S
        if not self._forgotten:
            book.forget(self._targets)
            self._forgotten = True
        seen = self.lookout.look()
        if seen is not None and book.take(seen, targets=self._targets):
            self.lookout.restless = True


def of(client: Client) -> list[Callable[[], None]]:
    told = targets.configured()
    if not told and not settings.ALERT_HEARTBEAT_URL:
        return []
    watching = Watching(client=client, told=told)
    duties = [watching.tick]
    duties += [Apart(Courier(target).turn, name=f"alerts to {target.name}").tick for target in told]
    if settings.ALERT_HEARTBEAT_URL:
        beat = Beat(
            url=settings.ALERT_HEARTBEAT_URL,
            every_s=float(settings.ALERT_HEARTBEAT_SEC),
            flows=lambda: watching.lookout.flows,
        )
        duties.append(Apart(beat.turn, name="heartbeat").tick)
    return duties
