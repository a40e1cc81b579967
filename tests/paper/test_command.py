"""`manage.py paper_exchange --scenario FILE`: a mistake in the file is said before anything listens."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.management import call_command


@pytest.mark.parametrize(
    "text", ["[", "{}", '[{"now": "no such act"}]', '[{"next": 7, "nonsense": true}]', None]
)
def test_a_scenario_that_cannot_be_read_starts_nothing(
    tmp_path: Path, text: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "night.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SystemExit) as left:
        call_command("paper_exchange", scenario=file, data=tmp_path / "paper.sqlite3")
    assert left.value.code == 2
    assert "night.json" in capsys.readouterr().err
