"""The second factor of a login: a code from a person's authenticator (TOTP, RFC 6238), or a recovery code.

It is asked for where the password is, by the same backend: a wrong code is a failed login like any other, counted by
the same rules, and says nothing about the password. A code is taken once.
"""

from __future__ import annotations

import base64
import contextlib
import re
import secrets
from typing import Any, cast

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.contrib.sessions.backends.cached_db import SessionStore
from django.core.cache import cache
from django.db import IntegrityError, connection, transaction
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare, salted_hmac
from django.utils.safestring import SafeString
from msgspec import Struct

from quantum import audit, clock, rows
from quantum.log import log
from quantum.models import RecoveryCode, SecondFactor

STEP_S = 30
DIGITS = 6
DRIFT_STEPS = 1
"""A clock may be so many steps early or late."""
SECRET_BYTES = 20
RECOVERY_CODES = 8
RECOVERY_BYTES = 10
OFFER_LIFE_S = 900
GUESSES_MAX, GUESSES_LIFE_S = 20, 24 * 3600
"""Wrong codes with the right password, whatever addresses they come from. Beyond that only a recovery code lets in."""
_SALT = "quantum.second_factor"
_MAY = """SELECT type.app_label, permission.codename FROM auth_permission permission
JOIN django_content_type type ON type.id = permission.content_type_id WHERE permission.id IN (
SELECT permission_id FROM auth_user_user_permissions WHERE user_id = %s
UNION SELECT of_group.permission_id FROM auth_group_permissions of_group
JOIN auth_user_groups mine ON mine.group_id = of_group.group_id WHERE mine.user_id = %s)"""
_RECOVERY = re.compile("[A-Z2-7]{16}")
OWN = "quantum_second_factor"
SET_UP = (OWN, f"{OWN}_begin", f"{OWN}_confirm")
"""Pages: all that somebody can open who has to have one and has none yet."""


class Backend(ModelBackend):
    """The password and, where the account has a second factor, its code. `token` is what Django masks in signals."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        token: str = "",
        **more: Any,
    ) -> User | None:
        user = super().authenticate(request, username=username, password=password, **more)
        return user if isinstance(user, User) and _lets_in(user, token) else None

    def get_user(self, user_id: int) -> User | None:
        """As Django's own, by a statement that is not built anew each time: every request asks who it is."""
        person = rows.one(User, where={"id": user_id})
        return person if person and self.user_can_authenticate(person) else None

    def get_all_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        """Of a request's user, once: by one question where Django's own asks two, built anew each time. Each look at a
        part that lives asks it."""
        if obj is not None or user_obj.is_anonymous or not user_obj.is_active or user_obj.is_superuser:
            return set(super().get_all_permissions(user_obj, obj))
        if not hasattr(user_obj, "_perm_cache"):
            with connection.cursor() as cursor:
                cursor.execute(_MAY, [user_obj.pk, user_obj.pk])
                user_obj._perm_cache = {f"{label}.{name}" for label, name in cursor.fetchall()}
        return cast("set[str]", user_obj._perm_cache)


# ---- asking


def of(user: User) -> SecondFactor | None:
    """The one that is asked for."""
    return SecondFactor.objects.filter(user=user, confirmed_at__isnull=False).first()


def _lets_in(user: User, token: str) -> bool:
    factor = of(user)
    if factor is None:
        return True
    guesses = f"second_factor_guesses:{factor.pk}"
    if not _RECOVERY.fullmatch(_said(token)) and cache.get(guesses, 0) >= GUESSES_MAX:
        return False
    if _takes(factor, token):
        cache.delete(guesses)
        return True
    _guessed(user, guesses)
    return False


def _guessed(user: User, guesses: str) -> None:
    """Counted by account: a lock by address alone leaves whoever has a million addresses a million guesses, and he
    knows the password already. Nobody without it can lock anybody out."""
    cache.add(guesses, 0, timeout=GUESSES_LIFE_S)
    if cache.incr(guesses) == GUESSES_MAX:
        audit.record(kind="second_factor_guessed", actor=_name(user), data={"wrong_codes": GUESSES_MAX})


def _takes(factor: SecondFactor, token: str) -> bool:
    """Whether this code counts, and it counts once: of two at the same moment the database lets one change the row."""
    said = _said(token)
    step = _step_of(factor, said)
    if step is not None:
        mine = SecondFactor.objects.filter(pk=factor.pk, confirmed_at__isnull=False)
        return mine.filter(last_step__lt=step).update(last_step=step) == 1
    return bool(_RECOVERY.fullmatch(said)) and _takes_recovery(factor, said)


def _said(token: str) -> str:
    return re.sub(r"[\s-]", "", token[:80]).upper()


def _takes_recovery(factor: SecondFactor, said: str) -> bool:
    with transaction.atomic():
        taken, _ = RecoveryCode.objects.filter(factor=factor, digest=_digest(factor, said)).delete()
        if taken:
            data = {"left": factor.recovery_codes.count()}
            audit.record(kind="recovery_code_used", actor=_name(factor.user), data=data)
    return taken == 1


def _step_of(factor: SecondFactor, said: str) -> int | None:
    """The step of time that this code is of, where it is one of ours and about now."""
    secret = _opened(factor)
    if secret is None or not re.fullmatch(rf"[0-9]{{{DIGITS}}}", said):
        return None
    now = int(clock.now_s()) // STEP_S
    steps = range(now - DRIFT_STEPS, now + DRIFT_STEPS + 1)
    return next((step for step in steps if constant_time_compare(code_at(secret, step), said)), None)


def code_at(secret: bytes, step: int) -> str:
    return _totp(secret).generate(step * STEP_S).decode()


def _totp(secret: bytes) -> TOTP:
    return TOTP(secret, DIGITS, SHA1(), STEP_S)  # noqa: S303  what every authenticator speaks


# ---- turning it on


class Offer(Struct, frozen=True):
    """Shown once, to the person whose it is."""

    text: str
    address: str

    @property
    def picture(self) -> SafeString:
        """Dark on light in both themes: cameras want it so. Attributes only, which the policy lets pass."""
        import segno  # by the page alone: every role imports this module

        drawn = segno.make(self.address, error="m").svg_inline(border=4, light="#fff", omitsize=True)
        return SafeString(drawn)  # made of squares by segno; no text of anybody is in it


def offer(user: User) -> Offer | None:
    """A new secret. None: one is on already, and is turned off first."""
    sealed = _sealed(secrets.token_bytes(SECRET_BYTES))
    with contextlib.suppress(IntegrityError), transaction.atomic():
        SecondFactor.objects.filter(user=user, confirmed_at__isnull=True).delete()
        return _offer_of(SecondFactor.objects.create(user=user, sealed=sealed))
    return None


def is_offered(user: User) -> bool:
    """Whether something waits for its first code. What it is, was shown."""
    return _waiting(user) is not None


def _waiting(user: User) -> SecondFactor | None:
    factor = SecondFactor.objects.filter(user=user, confirmed_at__isnull=True).first()
    fresh = factor is not None and (clock.now() - factor.offered_at).total_seconds() < OFFER_LIFE_S
    return factor if fresh else None


def _offer_of(factor: SecondFactor) -> Offer | None:
    secret = _opened(factor)
    if secret is None:
        return None
    text = base64.b32encode(secret).decode()
    issuer = f"Quantum-{settings.ACCOUNT}-{settings.APPLY_MODE}"
    address = _totp(secret).get_provisioning_uri(factor.user.get_username(), issuer)
    return Offer(text=" ".join(re.findall("....", text)), address=address)


def confirm(user: User, token: str) -> list[str] | None:
    """Turns it on, if this code is of what was offered: the recovery codes, to be shown once."""
    factor = _waiting(user)
    step = _step_of(factor, re.sub(r"\s", "", token[:80])) if factor else None
    if factor is None or step is None:
        return None
    codes = [base64.b32encode(secrets.token_bytes(RECOVERY_BYTES)).decode() for _ in range(RECOVERY_CODES)]
    with transaction.atomic():
        waiting = SecondFactor.objects.filter(pk=factor.pk, confirmed_at__isnull=True)
        if waiting.update(confirmed_at=clock.now(), last_step=step) != 1:
            return None
        RecoveryCode.objects.bulk_create(
            RecoveryCode(factor=factor, digest=_digest(factor, code)) for code in codes
        )
        audit.record(kind="second_factor_on", actor=_name(user))
    return ["-".join(re.findall("....", code)) for code in codes]


# ---- turning it off


def turn_off(user: User) -> bool:
    """By the person whose it is, who has just said password and code."""
    return _removed(user, kind="second_factor_off", by=_name(user), reason="")


def reset(user: User, *, by: str, reason: str, seen: SecondFactor | None = None) -> bool:
    """By somebody else, for a person who has lost it. False: there is none, or not the one that was seen."""
    done = _removed(user, kind="second_factor_reset", by=by, reason=reason, seen=seen)
    if done:
        end_sessions(user)
    return done


def _removed(user: User, *, kind: str, by: str, reason: str, seen: SecondFactor | None = None) -> bool:
    mine = SecondFactor.objects.filter(user=user, confirmed_at__isnull=False)
    with transaction.atomic():
        taken = mine.filter(pk=seen.pk).delete()[0] if seen else mine.delete()[0]
        if taken:
            audit.record(kind=kind, actor=by, reason=reason, data={"person": _name(user)})
    return taken > 0


def end_sessions(user: User, *, but: str | None = None) -> None:
    """A login that was made with the password alone, or by whoever took the phone, ends here. Sessions are few: each
    is a person who logged in within twelve hours."""
    found = SessionStore.get_model_class().objects.filter(expire_date__gt=clock.now())
    for row in found.exclude(session_key=but or ""):
        if row.get_decoded().get(SESSION_KEY) == str(user.pk):
            SessionStore(row.session_key).delete()


# ---- secrets


def _cipher() -> Fernet:
    """Of SECRET_KEY: who has the database alone has no secret. With another SECRET_KEY none can be read: reset it."""
    return Fernet(base64.urlsafe_b64encode(salted_hmac(_SALT, "sealed", algorithm="sha256").digest()))


def _sealed(secret: bytes) -> str:
    return _cipher().encrypt(secret).decode()


def _opened(factor: SecondFactor) -> bytes | None:
    try:
        return _cipher().decrypt(factor.sealed.encode())
    except InvalidToken:
        log.error("[WEB] second factor unreadable: SECRET_KEY was changed", person=_name(factor.user))
        return None


def _digest(factor: SecondFactor, code: str) -> str:
    """80 bits of chance need no slow hash; the key of this server makes them useless elsewhere."""
    return salted_hmac(_SALT, f"{factor.pk}:{code}", algorithm="sha256").hexdigest()


def _name(user: User) -> str:
    return user.get_username()[:80]
