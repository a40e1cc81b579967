"""Four roles that do nothing but live, for tests of the processes around them."""

from __future__ import annotations

import sys
import time

from django.apps import AppConfig
from django.conf import settings

from quantum import roles

NAMES = ("governor", "p33", "apply", "warden")


def live(watch: roles.Watch) -> None:
    """Turns as a consumer's reading loop does, unless a file named stuck-<role> holds it."""
    stuck = settings.VAR_DIR / f"stuck-{watch.role}"
    while watch.keep():
        while stuck.exists():
            time.sleep(0.1)
        time.sleep(0.9)  # as long as a consumer's blocking read


class StandInsConfig(AppConfig):
    name = "tests.stand_ins"

    def ready(self) -> None:
        """A role for which a file named absent-<role> lies there is awaited by `up`, and no worker knows of it."""
        in_qcluster = sys.argv[1:2] == ["qcluster"]
        for index, name in enumerate(NAMES):
            if in_qcluster and (settings.VAR_DIR / f"absent-{name}").exists():
                continue
            roles.register(roles.Role(name=name, metrics_index=index, run=live))
