"""The list of guards fits the source: one that was rewritten is found again by a person, not by chance."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GUARDS = [
    guard
    for path in sorted((ROOT / "tests" / "mutants").glob("*.toml"))
    for guard in tomllib.loads(path.read_text())["mutant"]
]


def test_every_guard_has_a_name_of_its_own() -> None:
    names = [guard["name"] for guard in GUARDS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard["name"])
def test_a_guard_stands_once_in_its_file_and_names_a_test_that_exists(guard: dict[str, str]) -> None:
    assert (ROOT / guard["file"]).read_text().count(guard["find"]) == 1
    path, _, name = guard["test"].partition("::")
    assert f"def {name.partition('[')[0]}(" in (ROOT / path).read_text() if name else (ROOT / path).is_file()
