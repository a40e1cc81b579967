"""A connection to the database is tried before work that may find it dead, and not before every piece of it."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connections

from quantum import rows

pytestmark = pytest.mark.usefixtures("transactional_db")


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    line: Any = connections["default"]
    line.ensure_connection()
    line.looked_after_s = 0.0
    made: list[int] = []
    usable = line.is_usable

    def is_usable() -> bool:
        made.append(1)
        return bool(usable())

    monkeypatch.setattr(line, "is_usable", is_usable)
    return made


def work() -> None:
    rows.look_after_line()
    assert rows.first("SELECT %s", ["x"]) == ("x",)


def test_a_line_in_use_is_tried_once_and_not_before_each_work(tried: list[int]) -> None:
    for _ in range(5):
        work()
    assert len(tried) == 1


def test_a_line_that_rested_is_tried_before_the_next_work(
    tried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    work()
    monkeypatch.setattr(rows, "LOOK_EVERY_S", 0.0)
    work()
    assert len(tried) == 2


def test_a_line_that_failed_is_tried_at_once(tried: list[int]) -> None:
    work()
    connections["default"].errors_occurred = True
    work()
    assert len(tried) == 2


def test_a_line_that_is_dead_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    line: Any = connections["default"]
    work()
    dead = line.connection
    line.looked_after_s = 0.0
    with monkeypatch.context() as patch:
        patch.setattr(line, "is_usable", lambda: False)
        work()
    assert line.connection is not dead
