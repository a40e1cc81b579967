"""What several stories share: a target of alerts, and an instance in calm weather."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.conf import settings as django_settings
from pytest_django.fixtures import Settings

from apply.alerts import asking
from quantum.redis import Client
from tests.alerts_by_hand import SECRET, Calm, aim
from tests.receiver import Receiver, listening


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with listening() as found:
        yield found


@pytest.fixture
def secrets_given(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    given = {"ALERT_WEBHOOK_SECRET": SECRET}
    read = django_settings.ENVIRONMENT.secret
    monkeypatch.setattr(django_settings.ENVIRONMENT, "secret", lambda name: given.get(name) or read(name))
    return given


@pytest.fixture
def calm(
    redis: Client, transactional_db: None, receiver: Receiver, settings: Settings,
    secrets_given: dict[str, str], monkeypatch: pytest.MonkeyPatch,
) -> Calm:  # fmt: skip
    aim(settings, receiver, PUBLIC_URL="https://quantum.example")
    monkeypatch.setattr(asking, "STEP_S", 0.2)
    monkeypatch.setattr(asking, "WHOLE_S", 0.3)
    return Calm(redis, monkeypatch)
