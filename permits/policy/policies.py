"""The policy in the database: the first version from settings, then every change a new row with who and why.

Readers keep a copy that is at most a second old: a change reaches all of them within that time.
"""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from permits.models import PolicyVersion
from permits.policy import rules as rule_texts
from permits.policy.policy import Policy
from permits.policy.rules import Nonsense, Rules
from quantum import amounts, audit, clock

COPY_AGE_S = 1.0


class ChangedMeanwhile(Exception):
    """Somebody else made a version since this change was prepared."""

    def __init__(self, newest: int) -> None:
        super().__init__(f"the policy is at version {newest} by now; look at it and change that one")
        self.newest = newest


def seed() -> Rules:
    """The first version's rules, from GOV_*, P33_COOLDOWN_SEC, APPLY_ALLOWLIST and the profile."""
    quantity = settings.GOV_MAX_REDUCE_QTY_PER_DAY
    each: dict[str, Any] = {"cooldown_s": amounts.plain(settings.P33_COOLDOWN_SEC), "failures_in_a_row": 5}
    if quantity is not None:
        each["quantity_per_day"] = amounts.plain(quantity)
    return {
        "allowlist": sorted(settings.APPLY_ALLOWLIST),
        "total": {
            "permits_per_5min": settings.GOV_MAX_EXEC_PER_5MIN,
            "permits_per_hour": settings.GOV_MAX_EXEC_PER_HOUR,
            "notional_per_day_usd": amounts.plain(settings.GOV_MAX_REDUCE_NOTIONAL_PER_DAY_USD),
            "failures_in_a_row": 10,
        },
        "each": each,
    }


def newest() -> tuple[int, Rules]:
    """Version and rules that hold. Version 0: nobody has written any, and the settings hold."""
    row = PolicyVersion.objects.first()
    return (0, seed()) if row is None else (row.version, row.rules)


def current() -> Policy:
    version, rules = newest()
    return of(rules, version=version)


def of(rules: Rules, *, version: int) -> Policy:
    """Raises Nonsense: rules that were written past `change` must not be guessed at."""
    said = rule_texts.read(rules)
    return Policy(
        version=version,
        mode=settings.APPLY_MODE,
        allowlist=said.allowlist,
        plan_ttl_s=Decimal(settings.APPLY_PLAN_TTL_SEC),
        limits=said.limits,
        shadow=said.shadow,
    )


def ensure_first() -> None:
    """At the Governor's start. From then on the database wins, whatever the settings say."""
    if not PolicyVersion.objects.exists():
        try:
            change(rules=seed(), by="start", reason="first version, from the settings", expected_version=0)
        except ChangedMeanwhile:
            return  # another host's Governor was first


def change(*, rules: Rules, by: str, reason: str, expected_version: int) -> PolicyVersion:
    """One new version. Refused: Nonsense, a reason nobody can learn from, a policy that changed meanwhile."""
    rule_texts.read(rules)
    if len(reason.strip()) < audit.REASON_MIN:
        raise Nonsense(f"reason: must say why in at least {audit.REASON_MIN} characters")
    try:
        with transaction.atomic():
            version, before = newest()
            if version != expected_version:
                raise ChangedMeanwhile(version)
            row = PolicyVersion.objects.create(version=version + 1, rules=rules, by=by, reason=reason)
            audit.record(
                kind="policy_changed",
                actor=by,
                reason=reason,
                data={
                    "version": row.version,
                    "changes": rule_texts.difference(before if version else {}, rules),
                },
            )
    except IntegrityError:
        # Two changes at once: the primary key lets one win.
        raise ChangedMeanwhile(expected_version + 1) from None
    forget()
    return row


# ---- the copy of a process


class _Copy:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._policy: Policy | None = None
        self._read_boot_s = 0.0

    def get(self, *, age_s: float) -> Policy:
        policy = self._policy
        if policy is not None and clock.boot_s() - self._read_boot_s < age_s:
            return policy
        with self._lock:
            asked_boot_s = clock.boot_s()
            version = PolicyVersion.objects.values_list("version", flat=True).first() or 0
            # Version 0 is what the settings say, and those do not change while a process lives.
            if self._policy is None or version != self._policy.version or version == 0:
                self._policy = current()
            self._read_boot_s = asked_boot_s
            return self._policy

    def forget(self) -> None:
        self._policy = None


_copy = _Copy()


def copy(*, age_s: float = COPY_AGE_S) -> Policy:
    """At most that old; costs one look at a primary key where it is older."""
    return _copy.get(age_s=age_s)


def forget() -> None:
    """This process reads anew next time. Others learn of a change by themselves."""
    _copy.forget()


def allows(symbol: str, *, age_s: float = COPY_AGE_S) -> bool:
    """The allow-list, for apply: the same list that the Governor reads, so that the database wins there too."""
    return symbol in copy(age_s=age_s).allowlist
