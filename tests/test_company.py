"""A test passes in company as it does alone: whoever ran before it in its process, or runs beside it, is not seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from django.conf import settings
from django.contrib.auth.models import Group

from quantum import audit
from quantum.models import AuditEvent
from tests.emptying import FIRST_NUMBER
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


@pytest.mark.django_db
def test_no_number_of_a_row_is_one_that_a_test_writes_itself() -> None:
    audit.record(kind="plan_filled", actor="tests")
    assert AuditEvent.objects.get().pk > FIRST_NUMBER
    assert Group.objects.create(name="night").pk > FIRST_NUMBER
