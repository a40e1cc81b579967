"""A pytest plugin for tools/suite.py: --failures=FILE gets a line for each failed test, with its time from and to. And
it says at the end which files took the most time."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--failures", metavar="FILE", help="a JSON line for each failed test")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--failures")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Failures(Path(path)))


SHOWN = 20


class _Failures:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._began: dict[str, float] = {}
        self._failed: set[str] = set()
        self._took_s = defaultdict[str, float](float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A stall while a test is set up may be why it fails in its call: its time begins with its setup."""
        self._took_s[report.nodeid.partition("::")[0]] += report.duration
        began = self._began.setdefault(report.nodeid, report.start)
        if report.failed and report.nodeid not in self._failed:
            self._failed.add(report.nodeid)
            with self._path.open("a") as told:
                told.write(json.dumps({"test": report.nodeid, "began": began, "ended": report.stop}) + "\n")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section(f"of {sum(self._took_s.values()):.0f} s of all workers the most for")
        for path, seconds in sorted(self._took_s.items(), key=lambda one: -one[1])[:SHOWN]:
            terminalreporter.write_line(f"{seconds:6.0f} s  {path}")
