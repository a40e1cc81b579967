"""Tells one target what waits for it, oldest first, on a thread of its own: at least once, the same id each time."""

from __future__ import annotations

import datetime as dt

from apply.alerts.targets import NotTold, Target
from apply.models import Alert, Notice
from quantum import clock
from quantum.log import log

LOOKS_EVERY_S = 2.0
HELD_S = 30.0
"""For one attempt. Who died in the middle of it has not told: then it is another's."""
ATTEMPTS_MAX = 10
"""Of what is over. What still stands is worth telling however late."""
FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 300.0


class Courier:
    def __init__(self, target: Target) -> None:
        self._target = target
        self._next_boot_s = 0.0

    def turn(self) -> None:
        if clock.boot_s() < self._next_boot_s:
            return
        self._next_boot_s = clock.boot_s() + LOOKS_EVERY_S
        notice = self._claimed()
        if notice is not None:
            self._tell(notice)
            self._next_boot_s = 0.0  # where one waited, others may

    def _claimed(self) -> Notice | None:
        """The oldest, and no other before it: nobody is to hear of an end before the beginning."""
        now = clock.now()
        waiting = Notice.objects.filter(target=self._target.name, told_at=None, given_up_at=None)
        notice = waiting.order_by("id").first()
        if notice is None or _waits(notice, now):
            return None
        # Two wardens see the same row: the number of the attempt is whose it is.
        mine = waiting.filter(pk=notice.pk, attempts=notice.attempts)
        notice.attempts += 1
        held_until = now + dt.timedelta(seconds=HELD_S)
        return notice if mine.update(attempts=notice.attempts, next_at=held_until) else None

    def _tell(self, notice: Notice) -> None:
        row = Notice.objects.filter(pk=notice.pk, told_at=None)
        try:
            answer = self._target.tell(notice.body, mark=notice.mark)
        except NotTold as failed:
            over = failed.permanent or (notice.attempts >= ATTEMPTS_MAX and _is_over(notice))
            wait_s = min(FIRST_WAIT_S * 2 ** (notice.attempts - 1), LONGEST_WAIT_S)
            now = clock.now()
            row.update(
                answer=str(failed)[:120],
                next_at=now + dt.timedelta(seconds=wait_s),
                given_up_at=now if over else None,
            )
            if over:
                log.error(
                    "[ALERT] given up", target=self._target.name, alert=notice.alert_id, answer=str(failed)
                )
        else:
            row.update(told_at=clock.now(), answer=answer[:120])


def _is_over(notice: Notice) -> bool:
    return not Alert.objects.filter(pk=notice.alert_id, ended_at=None).exists()


def _waits(notice: Notice, now: dt.datetime) -> bool:
    """None waits longer than this: what lies further ahead was written before the clock was set back."""
    return 0 < (notice.next_at - now).total_seconds() <= LONGEST_WAIT_S
