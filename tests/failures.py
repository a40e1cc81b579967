"""A pytest plugin for tools/suite.py: --failures=FILE gets a line for each failed test, with its time from and to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--failures", metavar="FILE", help="a JSON line for each failed test")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--failures")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Failures(Path(path)))


class _Failures:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._began: dict[str, float] = {}
        self._failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A stall while a test is set up may be why it fails in its call: its time begins with its setup."""
        began = self._began.setdefault(report.nodeid, report.start)
        if report.failed and report.nodeid not in self._failed:
            self._failed.add(report.nodeid)
            with self._path.open("a") as told:
                told.write(json.dumps({"test": report.nodeid, "began": began, "ended": report.stop}) + "\n")
