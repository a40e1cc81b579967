"""Every row of the list of faults has a test that carries its number.

The list: A1-A18 deaths of processes, C1-C10 the database, D1-D28 the exchange, E13-E27 plans and streams, F1-F19
settings and bad people.
(B, the server, is in tests/permits/faults/, each row in the head of its test; E1-E12 in test_wrong_permits.py.)
"""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROWS = [
    f"{letter}{number}"
    for letter, first, last in (("A", 1, 18), ("C", 1, 10), ("D", 1, 28), ("E", 13, 27), ("F", 1, 19))
    for number in range(first, last + 1)
]


@functools.cache
def named() -> dict[str, list[str]]:
    """Row -> its tests, read from the source: nothing is imported, so nothing that is skipped is missed."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            row = re.match(r"test_([a-f])0?(\d+)_", node.name) if isinstance(node, ast.FunctionDef) else None
            if row is not None:
                name = f"{row.group(1).upper()}{row.group(2)}"
                found.setdefault(name, []).append(f"{path.relative_to(TESTS.parent)}::{row.string}")
    return found


@pytest.mark.parametrize("row", ROWS)
def test_a_row_of_the_list_has_a_test_that_carries_its_number(row: str) -> None:
    assert named().get(row), f"no test is called test_{row.lower()}_..."
