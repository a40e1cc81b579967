"""A pytest plugin for tools/suite.py: --failures=FILE gets a line for each failed test, with its time from and to,
--only=TEST runs this one (or several) and nothing else. And it says at the end which files took the most time."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--failures", metavar="FILE", help="a JSON line for each failed test")
    parser.addoption(
        "--only", action="append", default=[], metavar="TEST", help="this test, by its whole name"
    )


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--failures")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Failures(Path(path)))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    only = set(config.getoption("--only"))
    if not only:
        return
    missing = only - {item.nodeid for item in items}
    if missing:
        raise pytest.UsageError(f"no such test: {', '.join(sorted(missing))}")
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in only])
    items[:] = [item for item in items if item.nodeid in only]


def _name(nodeid: str) -> str:
    """Without the group that xdist writes behind it, as the test is called when it runs alone."""
    return nodeid[: nodeid.rfind("@")] if nodeid.rfind("@") > nodeid.rfind("]") else nodeid


SHOWN = 20


class _Failures:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._began: dict[str, float] = {}
        self._failed: set[str] = set()
        self._took_s = defaultdict[str, float](float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A stall while a test is set up may be why it fails in its call: its time begins with its setup. Of a worker
        that died xdist says no time: what it had in hand ends now."""
        test = _name(report.nodeid)
        self._took_s[test.partition("::")[0]] += report.duration
        began = self._began.setdefault(test, report.start or time.time())
        if report.failed and test not in self._failed:
            self._failed.add(test)
            with self._path.open("a") as told:
                ended = report.stop or time.time()
                told.write(json.dumps({"test": test, "began": began, "ended": ended}) + "\n")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section(f"of {sum(self._took_s.values()):.0f} s of all workers the most for")
        for path, seconds in sorted(self._took_s.items(), key=lambda one: -one[1])[:SHOWN]:
            terminalreporter.write_line(f"{seconds:6.0f} s  {path}")
