from __future__ import annotations

import pytest
from django.core.cache import cache
from django.test import Client as WebClient

from quantum.exports import download
from quantum.redis import Client
from tests.flow.test_admin import someone


@pytest.fixture(autouse=True)
def given(redis: Client, transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's turn."""
    cache.clear()
    monkeypatch.setattr(download, "TURNS", download.Turns())


@pytest.fixture
def web() -> WebClient:
    return someone("root", superuser=True)
