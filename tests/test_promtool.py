"""Prometheus' own tool over the shipped rules. Debian has it in the package prometheus; where it is not, nothing of it
is shown here, and tests/flow/test_monitoring.py judges the rules by an evaluator of ours."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from django.conf import settings

FOLDER = settings.BASE_DIR / "docs/monitoring"
PROMTOOL = shutil.which("promtool")
pytestmark = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed (apt-get install prometheus)"
)


def promtool(*words: str) -> str:
    assert PROMTOOL
    done = subprocess.run(
        [PROMTOOL, *words], cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_reads_every_rule() -> None:
    rules = (FOLDER / "quantum.rules.yml").read_text().count("- alert: ")
    assert f"SUCCESS: {rules} rules found" in promtool("check", "rules", "quantum.rules.yml")


def test_prometheus_fires_and_rests_as_the_shipped_test_says() -> None:
    assert "SUCCESS" in promtool("test", "rules", "quantum.rules.test.yml")
