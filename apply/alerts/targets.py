"""Who is told. The addresses may be as good as a password: no answer, no log line and no page shows one."""

from __future__ import annotations

from typing import Protocol

from django.conf import settings

HOOK, ESCALATION = "webhook", "escalation webhook"


class NotTold(Exception):
    """What may be shown of why, and whether another attempt can help."""

    def __init__(self, words: str, *, permanent: bool) -> None:
        super().__init__(words)
        self.permanent = permanent


class Target(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def escalations_only(self) -> bool: ...

    def tell(self, body: str, *, mark: str) -> str:
        """What it answered, in a few words. Raises NotTold."""


def names() -> list[str]:
    """As set, without a secret: for pages, in a process that tells nobody anything."""
    apprise = [f"apprise-{number} ({scheme})"[:40] for number, scheme in enumerate(_schemes(), start=1)]
    hooks = [(settings.ALERT_WEBHOOK_URL, HOOK), (settings.ALERT_ESCALATION_URL, ESCALATION)]
    return [*(name for url, name in hooks if url), *apprise]


def configured() -> list[Target]:
    from apply.alerts import by_apprise, webhook

    secret = settings.ENVIRONMENT.secret
    found: list[Target] = []
    for url, name in ((settings.ALERT_WEBHOOK_URL, HOOK), (settings.ALERT_ESCALATION_URL, ESCALATION)):
        if url:
            key = secret("ALERT_WEBHOOK_SECRET").encode()
            found.append(webhook.Webhook(name=name, url=url, secret=key, escalations_only=name == ESCALATION))
    addresses = secret("ALERT_APPRISE_URLS").split() if settings.ALERT_APPRISE_SCHEMES else []
    left = names()[len(found) :]
    return [
        *found,
        *(
            by_apprise.ByApprise(name=name, address=address)
            for name, address in zip(left, addresses, strict=True)
        ),
    ]


def _schemes() -> tuple[str, ...]:
    found: tuple[str, ...] = settings.ALERT_APPRISE_SCHEMES
    return found
