"""Take the guards out of the product one by one; each must turn its named test red.

The files of tests/mutants list them: find is exact text that occurs once in its file; change a guard, and its
entry changes with it. Works on a copy of the tree, so a run that is cut short leaves nothing
mutated behind. Arguments: parts of names, to run only some. Exit 1 when a mutant survives or when the
list no longer fits the source. A guard that only PostgreSQL needs says database = 'postgres'.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LISTS = sorted((ROOT / "tests" / "mutants").glob("*.toml"))
ONE_RUN_S_MAX = 120
EACH_S_MAX = 10
"""A test that is named may be a file of them."""
TESTS_FAILED = 1
"""pytest's exit codes: 0 passed, 1 failed; anything else says nothing about the guard."""


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    file: str
    find: str
    replace: str
    test: str
    database: str = "sqlite"

    def applied(self, text: str) -> str:
        return text.replace(self.find, self.replace)


def main(wanted: list[str]) -> int:
    everyone = [Mutant(**entry) for path in LISTS for entry in tomllib.loads(path.read_text())["mutant"]]
    mutants = [each for each in everyone if not wanted or any(part in each.name for part in wanted)]
    if not mutants:
        return _fail(f"no mutant is called {' or '.join(wanted)}; the names are in tests/mutants")
    misfits = _misfits(mutants)
    if misfits:
        return _fail("tests/mutants no longer fits the source:", *misfits)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="quantum-mutants-") as folder:
        tree = Path(folder)
        _copy_to(tree)
        for database in sorted({each.database for each in mutants}):
            tests = sorted({each.test for each in mutants if each.database == database})
            seconds_max = ONE_RUN_S_MAX + len(tests) * EACH_S_MAX
            if _run(tree, tests, database=database, seconds_max=seconds_max) != 0:
                return _fail("the named tests are not green without any mutant; run them first")
        print(f"{len(mutants)} guards; all named tests are green with every guard in place", flush=True)
        survivors = [each for each in mutants if not _is_killed(tree, each)]
    print(f"{len(mutants) - len(survivors)} of {len(mutants)} killed in {time.monotonic() - started:.0f} s")
    if survivors:
        return _fail("survived:", *(f"{each.name}  {each.file}  {each.test}" for each in survivors))
    return 0


def _misfits(mutants: list[Mutant]) -> list[str]:
    """A guard that was rewritten must be found again by a person; a test that is gone guards nothing."""
    found = []
    for each in mutants:
        path = ROOT / each.file
        times = path.read_text().count(each.find) if path.exists() else 0
        if times != 1:
            found.append(f"{each.name}: `{each.find.strip()}` occurs {times} times in {each.file}")
        if each.find == each.replace:
            found.append(f"{each.name}: changes nothing")
    return found


def _copy_to(tree: Path) -> None:
    """What git knows or would know: no environments, no var/."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)


def _is_killed(tree: Path, mutant: Mutant) -> bool:
    path = tree / mutant.file
    whole = path.read_text()
    path.write_text(mutant.applied(whole))
    started = time.monotonic()
    try:
        code = _run(tree, [mutant.test], database=mutant.database, seconds_max=ONE_RUN_S_MAX)
    finally:
        path.write_text(whole)
    killed = code == TESTS_FAILED
    said = "killed  " if killed else "SURVIVED" if code == 0 else f"BROKEN ({code})"
    print(f"  {said} {time.monotonic() - started:5.1f} s  {mutant.name}", flush=True)
    return killed


def _run(tree: Path, tests: list[str], *, database: str, seconds_max: int) -> int | None:
    """pytest's exit code; None when it did not end in time. No bytecode: a mutant may have the same size
    and second as what stood there before, and Python would run the old one."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "QUANTUM_TEST_DATABASE": database}
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=seconds_max
        )
    except subprocess.TimeoutExpired:
        return None
    if done.returncode not in (0, TESTS_FAILED) or (len(tests) > 1 and done.returncode):
        print(done.stdout[-3000:], done.stderr[-1000:], file=sys.stderr)
    return done.returncode


def _fail(*lines: str) -> int:
    print(*lines, sep="\n  ", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
