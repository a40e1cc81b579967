"""What the documents tell people to type exists and runs; what they link to is there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import ManagementUtility, get_commands

from tests.test_tidy import SECTIONS, table_rows

ROOT: Path = settings.BASE_DIR
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
TEXT = "\n".join(document.read_text() for document in DOCUMENTS)
COMMANDS = sorted(set(re.findall(r"manage\.py ([a-z_]+)", TEXT)))
TARGETS = sorted(set(re.findall(r"(?:`|^    )(?:[A-Z_]+=\S+ )*make ([a-z-]+)", TEXT, flags=re.MULTILINE)))
OURS = ("quantum", "permits", "positions", "apply")


def test_the_documents_were_read() -> None:
    assert {"up", "propose", "plan_show", "doctor"} <= set(COMMANDS)
    assert {"run", "test", "help"} <= set(TARGETS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_is_named_exists_and_explains_itself(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command in get_commands(), f"the documents name manage.py {command}, and there is no such command"
    with pytest.raises(SystemExit) as ended:
        ManagementUtility().fetch_command(command).run_from_argv(["manage.py", command, "--help"])
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_every_command_of_ours_is_in_the_readme() -> None:
    owned = {name for name, app in get_commands().items() if app in OURS}
    listed = {row.split()[1] for row in table_rows((ROOT / "README.md").read_text(), "Commands")}
    assert listed == owned, "mend the table under Commands in README.md"


@pytest.mark.parametrize("target", TARGETS)
def test_a_make_target_that_is_named_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_a_link_inside_the_project_leads_somewhere(document: Path) -> None:
    links = re.findall(r"(?<!!)\[[^\]]+\]\(([^)#]+)", document.read_text())
    for link in links:
        if "://" not in link:
            assert (document.parent / link).exists(), f"{document.name} links to {link}"


def test_a_page_that_is_shown_is_there_in_both_themes_and_in_words() -> None:
    shown = re.findall(
        r'srcset="([^"]+)-dark\.png">\s*<img src="([^"]+)-light\.png"[^>]* alt="([^"]{40,})"',
        (ROOT / "README.md").read_text(),
    )
    names = {Path(light).name for dark, light, _ in shown if dark == light}
    assert names == {"home", "plan", "plans", "permits", "reconcile", "oncall"}
    files = [ROOT / f"docs/pictures/{name}-{theme}.png" for name in names for theme in ("light", "dark")]
    assert sum(file.stat().st_size for file in files) < 1_500_000


def test_the_readme_names_the_defaults_that_hold() -> None:
    """In a process of its own: here the tests have set half of them."""
    program = (
        "import json; from quantum import settings as s; "
        "print(json.dumps({n: str(getattr(s, n)) for n in s.ENVIRONMENT.names() if hasattr(s, n)}))"
    )
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    place = {"QUANTUM_VAR_DIR": str(settings.VAR_DIR / "nothing-here")}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env={**kept, **place}, capture_output=True, timeout=60
    )
    defaults = json.loads(done.stdout)
    rows = table_rows((ROOT / "README.md").read_text(), "Configuration")
    told = {name: cells[0].strip("`") for name, cells in rows.items() if cells[0].startswith("`")}
    places = {"PERMIT_KEYS_DIR", "QUANTUM_VAR_DIR", "AUDIT_CHECKPOINTS"}  # told relative to the project
    lists = {"APPLY_ALLOWLIST": "('BTCUSDT',)", "ALLOWED_HOSTS": "['127.0.0.1', 'localhost', '[::1]']"}
    for name in set(told) - places:
        assert defaults[name] == lists.get(name, told[name]), f"{name}: mend its default in README.md"


def test_the_readmes_reasons_are_the_operators_own_rows() -> None:
    """Ten of them, word for word: whoever changes a row in docs/OPERATIONS.md changes it here too."""
    shown = table_rows((ROOT / "README.md").read_text(), "When something was refused")
    assert len(shown) == 10
    written = [table_rows((ROOT / "docs/OPERATIONS.md").read_text(), heading) for heading in SECTIONS]
    for reason, cells in shown.items():
        assert any(reason in {known.value for known in enum} for enum in SECTIONS.values()), (
            f"{reason} is no reason"
        )
        assert cells in [rows.get(reason) for rows in written], f"mend the row {reason} in README.md"


def test_every_decision_has_a_number_of_its_own_and_its_parts() -> None:
    records = sorted((ROOT / "docs/decisions").glob("*.md"))
    numbers = [int(record.name[:3]) for record in records]
    assert numbers == list(range(1, len(records) + 1))
    for record in records:
        text = record.read_text()
        assert text.count("\n") < 40, f"{record.name} is too long for anybody to read"
        for part in ("**Decided.**", "**Why.**", "**Rejected.**"):
            assert part in text, f"{record.name} lacks {part}"
