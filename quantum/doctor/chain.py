"""Whether the audit chain is kept up: sealed, copied outside the database, and whole when it was last looked at."""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings

from quantum import clock
from quantum.chain import checkpoints, standing
from quantum.chain.standing import Standing
from quantum.chain.verify import OVERDUE_S, Outcome
from quantum.doctor import Finding, fail, ok, warn


def sealed() -> Iterator[Finding]:
    found = standing.now()
    said = [*_tail(found), *_copied(found), *_verified(found)]
    yield from said
    if not said and found.seal:
        yield ok(f"{found.seal.total} events in {found.seal.number} seals, head {found.seal.head[:16]}")
    elif not said:
        yield ok("nothing is sealed yet")


def _tail(found: Standing) -> Iterator[Finding]:
    if found.tail.behind:
        yield warn(
            f"{found.tail.count} audit events lie in no seal, the oldest for {found.tail.oldest_s:.0f} s",
            remedy="the warden seals: is it at work? Its log says why not; permit_keys make, if its key is missing",
        )


def _copied(found: Standing) -> Iterator[Finding]:
    if found.seal is None or clock.now_s() - int(found.seal.at_us) / 1e6 < OVERDUE_S:
        return
    path = settings.AUDIT_CHECKPOINTS
    try:
        last = checkpoints.last(path)
    except OSError as failure:
        yield warn(f"{path} cannot be read: {failure.strerror}", remedy="give this user the right to read it")
        return
    if last is None or last.head != found.seal.head:
        yield warn(
            f"{path} does not end with the last seal, {found.seal.number}",
            remedy="the warden writes it on its own host: look at its log there; then run manage.py audit_verify",
        )


def _verified(found: Standing) -> Iterator[Finding]:
    if found.verified is not None and found.verified.outcome == Outcome.BROKEN:
        yield fail(
            f"audit_verify found the chain broken: {found.verified.text}",
            remedy="keep a copy of the database as it is, then see docs/OPERATIONS.md, The audit chain",
        )
