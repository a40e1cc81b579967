"""What a process imports before it does anything: each of ours pays for it at every start, and after every kill."""

from __future__ import annotations

import os
import subprocess
import sys

from django.conf import settings

ROLES = """
import sys, django
django.setup()
from django.contrib import admin
from django.core import checks
from quantum.checks import OURS
checks.run_checks(tags=[OURS])
import apply.warden, apply.acting.role, permits.governor.governor, positions.brain
ours = [name for name in sys.modules if name.split(".")[0] in ("quantum", "permits", "positions", "apply")]
print(*(name for name in ours if ".pages." in name or name.endswith((".admin", ".urls"))))
checks.run_checks(tags=[checks.Tags.admin])
print(len(admin.site._registry))
"""


def test_a_role_is_ready_without_a_page_and_the_check_of_pages_still_finds_them() -> None:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", ROLES],
        cwd=settings.BASE_DIR,
        env=kept,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    pages, registered = done.stdout.splitlines()
    assert pages == ""
    assert int(registered) > 10
