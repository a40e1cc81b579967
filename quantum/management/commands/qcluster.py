"""django-q2's command, same name and options, with our cluster: `quantum` precedes it in INSTALLED_APPS."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from importlib import import_module
from typing import Any

from django.core.management.base import BaseCommand

from quantum import version
from quantum.checks import OURS
from quantum.redis import HOST, log_in_as

PRELOAD = (
    "cryptography.hazmat.primitives.asymmetric.ed25519",
    "django.contrib.auth.models",
    "quantum.sqlite.base",
    "hiredis",
    "http.server",
    "redis.asyncio",
)
"""Imported before the fork, so that the workers share the pages. Not python-binance: two roles use it."""


class Command(BaseCommand):
    help = "Starts the cluster: every role, and the workers of the queue."
    requires_system_checks = (OURS,)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--run-once", action="store_true", help="Do what waits in the queue, then stop; no roles."
        )
        parser.add_argument("-n", "--name", dest="cluster_name", help="Another cluster (and queue) name.")

    def handle(self, *_: Any, run_once: bool, cluster_name: str | None, **__: Any) -> None:
        log_in_as(HOST)
        if cluster_name:
            os.environ["Q_CLUSTER_NAME"] = cluster_name
        for module in PRELOAD:
            import_module(module)
        version.of_the_code()  # every worker is forked from the code as it is now
        from quantum.cluster import Cluster  # django-q2 reads the name above when it is imported

        cluster = Cluster(hosts_roles=not run_once)
        sys.exit(cluster.run_once() if run_once else cluster.run())
