"""The storm's own process speaks for people and bots: its environment is the product's and nobody else's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from pathlib import Path
from tests.chaos.stage import Stage
stage = Stage(Path(sys.argv[1]))
stage.be_django()
from django.conf import settings
print(settings.PAPER_URL == f"http://127.0.0.1:{stage.paper_port}")
stage.end()
"""


def test_names_that_the_product_refuses_may_be_exported_by_whoever_calls_the_storm(tmp_path: Path) -> None:
    asked = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env={**os.environ, "QUANTUM_REQUIRE_BROWSER": "1", "QUANTUM_FIXTURES": "/nowhere", "SECRET_KEY": ""},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert asked.stdout == "True\n", asked.stderr
