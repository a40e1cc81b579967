"""Leaving a halt: asked for, then confirmed; or, where it was given an end, ended by the warden.

A request is an audit event that names the version it wants to leave; nothing else has to be kept. With one approver
the same person confirms, a few seconds later and by typing the account; with two another person does.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator

from django.conf import settings
from msgspec import Struct

from permits.models import TradingState
from permits.state import trading
from permits.state.trading import StateChanged
from quantum import audit, clock, people
from quantum.log import log
from quantum.models import AuditEvent
from quantum.redis import Client

REQUEST_LIFE_S = 900
DELAY_S = 3.0
REQUESTED = "resume_requested"
UNTIL = "until"


class Refused(Struct, frozen=True):
    """Nothing was changed; the text says why and what to do."""

    text: str


def request(*, by: str, reason: str) -> TradingState | Refused:
    """The state that is to be left."""
    row = trading.newest()
    if row is None or row.state != TradingState.State.HALTED:
        return Refused("trading is not halted")
    audit.record(kind=REQUESTED, actor=by, reason=reason, data={"version": row.version})
    return row


def confirm(*, by: str, reason: str, account: str) -> TradingState | Refused:
    """The new ACTIVE version. Only on top of the version that was asked for: a halt that came since then stays."""
    row = trading.newest()
    if row is None or row.state != TradingState.State.HALTED:
        return Refused("trading is not halted")
    if account != settings.ACCOUNT:
        return Refused(f"type the account to confirm: {settings.ACCOUNT}")
    asked = next((each for each in requests(row) if _may_confirm(each, by)), None)
    if asked is None:
        return Refused(_what_is_missing())
    # By the database's numbers: each time is by the clock of whoever wrote it. A host that is behind stamps a cause
    # before the request that it came after, and one that is ahead stamps it after each request of the next hour.
    told_again = AuditEvent.objects.filter(id__gt=asked.pk, kind="halt_repeated", data__version=row.version)
    try:
        with trading.alone_on(row):
            if told_again.exists():
                return Refused(
                    "another cause to halt came since this was asked for: look at it, then ask again"
                )
            return trading.change(
                state=TradingState.State.ACTIVE, by=by, reason=reason, cause=trading.PERSON, on=row.version
            )
    except StateChanged:
        return Refused("the trading state was changed meanwhile: look at it, then ask again")


def requests(row: TradingState) -> Iterator[AuditEvent]:
    """To leave that version, the newest first, while they may be confirmed."""
    since = clock.now() - dt.timedelta(seconds=REQUEST_LIFE_S)
    found = AuditEvent.objects.filter(at__gte=since, kind=REQUESTED).order_by("-id")
    return (each for each in found if each.data.get("version") == row.version)


def _may_confirm(asked: AuditEvent, by: str) -> bool:
    if settings.APPROVERS_REQUIRED > 1:
        return not people.is_same_person(asked.actor, by)
    return (clock.now() - asked.at).total_seconds() >= DELAY_S


def _what_is_missing() -> str:
    if settings.APPROVERS_REQUIRED > 1:
        return "another person must have asked for this within the last 15 minutes"
    return f"ask first, then confirm after {DELAY_S:.0f} s and within 15 minutes"


class EndOfHalt:
    """The warden's duty: a halt that was given an end is left by a new version, and by nothing less.

    Three clocks must agree, for a jump of one must not arm anything: this host's, the time since boot counted from
    when the halt was first seen here, and Redis'. A clock that is set back only keeps the halt longer.
    """

    def __init__(self, *, client: Client) -> None:
        self._client = client
        self._seen: tuple[int, float] | None = None

    def tick(self) -> None:
        row = trading.newest()
        if row is None or row.state != TradingState.State.HALTED or row.until is None:
            self._seen = None
            return
        left_s = (row.until - clock.now()).total_seconds()
        if self._seen is None or self._seen[0] != row.version:
            self._seen = (row.version, clock.boot_s() + left_s)
        if left_s > 0 or clock.boot_s() < self._seen[1] or self._server_time() < row.until:
            return
        with contextlib.suppress(StateChanged):  # a person was faster
            trading.change(
                state=TradingState.State.ACTIVE,
                by=UNTIL,
                reason=f"the halt of version {row.version} by {row.by} has ended as it said"[:400],
                cause=UNTIL,
                on=row.version,
            )
            log.info("a halt has ended as it said", version=row.version)

    def _server_time(self) -> dt.datetime:
        seconds, _ = self._client.time()
        return clock.from_ms(int(seconds) * 1000)
