"""Both locks: every pin with hashes, no address in them, the runtime lock wholly within the other."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNTIME, DEV = "requirements.lock", "requirements-dev.lock"
# A pin, its marker, its hashes. The marker is left out of the comparison: the development lock may need a
# package on more Pythons than the runtime lock does.
PIN = re.compile(
    r"^(?P<pin>[a-z0-9][\w.\[\]-]*==[^\s;\\]+)(?: ;[^\\\n]*)? *"
    r"(?P<hashes>(?:\\\n +--hash=sha256:[0-9a-f]{64} ?)*)$",
    re.MULTILINE,
)
# Whatever would tie the lock to one machine's idea of where packages are.
FORBIDDEN = re.compile(r"://|--(?:extra-)?index-url|--find-links|--trusted-host| @ ")


def pins(text: str) -> dict[str, str]:
    return {found["pin"]: found["hashes"] for found in PIN.finditer(text)}


def problems(runtime: str, dev: str) -> list[str]:
    found = []
    for name, text in ((RUNTIME, runtime), (DEV, dev)):
        tied = [at for at, line in enumerate(text.splitlines(), start=1) if FORBIDDEN.search(line)]
        found += [f"{name}:{at}: an address or an index option" for at in tied]
        found += [f"{name}: {pin} has no hash" for pin, hashes in pins(text).items() if not hashes]
        if not pins(text):
            found.append(f"{name}: no pins at all")
    missing = pins(runtime).keys() - pins(dev).keys()
    found += [f"{DEV}: lacks {pin} of {RUNTIME}" for pin in sorted(missing)]
    return found


def main() -> int:
    found = problems((ROOT / RUNTIME).read_text(), (ROOT / DEV).read_text())
    for problem in found:
        print(f"{problem}; run: make lock", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
