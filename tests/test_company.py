"""A test passes in company as it does alone: whoever ran before it in its process, or runs beside it, is not seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from django.conf import settings

from tests.environment import VAR_DIR

SETS_UP = "import os, sys, tests.environment; import django; django.setup()"
STARTS_A_WORKER = f"""{SETS_UP}
import subprocess
worker = "{SETS_UP}; import json; print(json.dumps([str(tests.environment.VAR_DIR), dict(os.environ)]))"
subprocess.run([sys.executable, "-c", worker], check=True)
"""


def test_a_worker_of_the_suite_shares_no_place_with_who_started_it() -> None:
    """As pytest-xdist does it: Django is set up there, and then again in the process that it starts."""
    ran = subprocess.run(
        [sys.executable, "-c", STARTS_A_WORKER], check=True, cwd=settings.BASE_DIR, capture_output=True, timeout=60,
        env={"PATH": os.environ["PATH"], "DJANGO_SETTINGS_MODULE": "quantum.settings"},
    )  # fmt: skip
    place, environment = json.loads(ran.stdout)
    shared = VAR_DIR.name[: len("quantum-tests-")]
    assert [name for name, value in environment.items() if shared in value.replace(place, "")] == []
    assert environment["PROMETHEUS_MULTIPROC_DIR"].startswith(place)
