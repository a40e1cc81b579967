"""A chain in a database of its own test, with keys and a checkpoint file of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from quantum import signing
from quantum.chain import refusals
from quantum.models import SealedEvent
from tests.chain.hand import Chain, whole


@pytest.fixture(scope="session")
def key_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("keys")
    signing.ensure_keys(made)
    return made


@pytest.fixture
def place(settings: Settings, tmp_path: Path, key_folder: Path) -> Path:
    settings.PERMIT_KEYS_DIR = key_folder
    settings.AUDIT_CHECKPOINTS = tmp_path / "checkpoints"
    return tmp_path


@pytest.fixture
def chain(place: Path, db: None) -> Chain:
    return Chain()


@pytest.fixture
def sealed(chain: Chain) -> list[int]:
    """Seals of 2, 3 and 2 events; the numbers of all events."""
    chain.seal(2, 3, 2)
    whole()
    return list(SealedEvent.objects.order_by("seal", "position").values_list("event_id", flat=True))


@pytest.fixture(autouse=True)
def refused(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What would be recorded of refusals. Most tests here are one transaction, which another line would wait for."""
    found: list[dict[str, str]] = []
    monkeypatch.setattr(refusals, "_said", {})
    monkeypatch.setattr(refusals, "tell", found.append)
    return found
