"""What is at work: roles, queue, groups, dead letters, trading state, and the exchange as p33 last saw it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from django.conf import settings

from quantum import amounts, backlog, clock, keys, roles
from quantum import dead_letters as letters
from quantum.doctor import Finding, fail, ok, warn
from quantum.lease import who
from quantum.log import safe
from quantum.redis import Client, command_client
from quantum.stream import RECLAIM_IDLE_MS, group_lag

CANARY_SILENT_MS = 30_000
GROUPS = (keys.GOVERNOR_GROUP, keys.P33_GROUP, keys.APPLY_GROUP, keys.INTAKE_GROUP)


def at_work() -> Iterator[Finding]:
    with command_client() as client:
        for role in roles.registered():
            yield _role(client, role.name)


def _role(client: Client, name: str) -> Finding:
    """Alive is: the lease exists. The heartbeat only tells when a dead one was last seen."""
    token = client.get(settings.KEYS.lease(name))
    holder = safe(who(bytes(token))) if isinstance(token, bytes) else ""
    host = holder.partition("/")[0] or settings.QUANTUM_HOST
    beat_ms = _members(client.get(settings.KEYS.heartbeat(name, host))).get("at_ms")
    age = _age(clock.now_ms() - beat_ms) if isinstance(beat_ms, int) else "never"
    if holder:
        return ok(f"{name} runs as {holder}, last heartbeat {age}")
    return fail(
        f"{name} is run by nobody, last seen on {host}: {age}",
        remedy=f"start manage.py up, qcluster, or consume {name}; if it ends again, its log says why",
    )


def queue() -> Iterator[Finding]:
    with command_client() as client:
        raw = client.get(settings.KEYS.canary)
    age_ms = clock.now_ms() - int(raw) if raw and raw.isdigit() else None
    if age_ms is not None and age_ms <= CANARY_SILENT_MS:
        yield ok(f"the last canary came through {_age(age_ms)}")
        return
    yield warn(
        f"the last canary came through {_age(age_ms)}" if age_ms is not None else "no canary is known",
        remedy="`up` sends one every 10 s; the queue carries no plans, so exits go on without it",
    )


def groups() -> Iterator[Finding]:
    with command_client() as client:
        for group in GROUPS:
            intake = group == keys.INTAKE_GROUP
            stream = settings.KEYS.proposal_stream if intake else settings.KEYS.plan_stream
            behind = group_lag(client, stream=stream, group=group)
            if behind is None:
                yield warn(f"group {group} does not exist yet", remedy=f"it is made when {group} first runs")
            else:
                yield _waiting(client, stream=stream, group=group, behind=behind)


def _waiting(client: Client, *, stream: str, group: str, behind: int) -> Finding:
    """The age of the oldest entry that was read and not acknowledged, by the stream's own clock."""
    oldest = client.xpending(stream, group)["min"]
    age_ms = clock.now_ms() - int(bytes(oldest).partition(b"-")[0]) if oldest else 0
    text = f"{group}: {behind} waiting" + (f", oldest read {_age(age_ms)}" if oldest else "")
    if age_ms <= 2 * RECLAIM_IDLE_MS:
        return ok(text)
    return warn(
        text,
        remedy=f"see in {group}'s log why it is not acknowledged; a plan older than "
        f"{settings.APPLY_PLAN_TTL_SEC} s is refused in any case",
    )


def dead_letters() -> Iterator[Finding]:
    with command_client() as client:
        count, newest = backlog.dead_letters(client), letters.newest(client)
    if not newest:
        yield ok("none")
        return
    yield warn(
        f"{count} entries were parked, the newest: {newest[0].error[:120]}",
        remedy="mend the program that wrote them (manage.py dead_letters shows what they said); they block nobody",
    )


def trading() -> Iterator[Finding]:
    with command_client() as client:
        raw = client.get(settings.KEYS.trading_state)
        left_ms = client.pttl(settings.KEYS.trading_state)
    if raw is None:
        yield fail(
            "not armed: no state in Redis, which is HALTED",
            remedy="it is written by the role apply; start that, then look at its log",
        )
        return
    found = _members(raw)
    text = f"{found.get('state')} by {found.get('by')}: {found.get('reason')} (lease {left_ms} ms)"
    if found.get("state") == "ACTIVE" and left_ms > 0:
        yield ok(safe(text))
    else:
        yield warn(safe(text), remedy="nothing leaves until a person makes it ACTIVE (docs/OPERATIONS.md)")


def exchange() -> Iterator[Finding]:
    """The oldest snapshot of an allowed symbol. Only p33 asks the exchange, and only it holds the key."""
    with command_client() as client:
        times = {
            symbol: client.hget(settings.KEYS.snapshot(symbol), "ts_epoch")
            for symbol in settings.APPLY_ALLOWLIST
        }
    missing = sorted(symbol for symbol, raw in times.items() if _epoch_s(raw) is None)
    if missing:
        yield fail(
            f"p33 has read no position of {', '.join(missing[:5])} ({len(missing)} of {len(times)})",
            remedy="start p33; see its log for the exchange's answer; is the symbol traded there?",
            dependency=True,
        )
        return
    now_s = Decimal(clock.now_ms()) / 1000
    age_s = max(now_s - (_epoch_s(raw) or Decimal(0)) for raw in times.values())
    limit_s = settings.P33_STALE_THRESHOLD_SEC
    if age_s <= limit_s:
        yield ok(f"positions read {_age(int(age_s * 1000))}")
        return
    yield fail(
        f"positions read {_age(int(age_s * 1000))}; the limit is {limit_s} s",
        remedy="see p33's log: the exchange does not answer, refuses the key, or asked for silence",
        dependency=True,
    )


def _epoch_s(raw: bytes | str | None) -> Decimal | None:
    return amounts.parse(raw.decode(errors="replace")) if isinstance(raw, bytes) else None


def _members(raw: bytes | str | None) -> dict[str, Any]:
    """Anybody may have written these bytes; what cannot be read says nothing."""
    try:
        found = json.loads(raw or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _age(ms: int) -> str:
    if ms < 60_000:
        return f"{max(ms, 0) / 1000:.1f} s ago"
    return f"{ms // 60_000} min ago" if ms < 3_600_000 else f"{ms // 3_600_000} h ago"
