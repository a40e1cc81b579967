"""Look for secrets in every file that git tracks. A match is printed by place, never by content."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Hashes of public packages, by the thousand; tools/locks.py reads these files line by line.
UNREAD = {"requirements.lock", "requirements-dev.lock"}
SIZE_BYTES_MAX = 1_000_000

PRIVATE_KEY = re.compile(r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{16}")
# A word for a secret, then within the same statement a quoted or bare run of key material.
NAMED = re.compile(
    r"(?i)(?:api_?key|secret|passw(?:or)?d|private_?key|signing_?key|token|credential)\w*[\"']?\s*"
    r"(?::\s*\w+\s*)?[=:]\s*(?:\w+\()?[rbf]?[\"']?(?P<value>[A-Za-z0-9+/_-]{24,}={0,2})"
)
ADDRESS = re.compile(r"\w+://[^\s/:@\"'{}<>$]+:(?P<value>[^\s/@\"'{}<>$]{6,})@")
# Printed in the exchange's public documents, to check a signature with.
PUBLISHED = {"2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9"}
# A line that shows a made-up value on purpose says so.
ALLOWED = "not-a-secret"


def material(value: str) -> bool:
    """Tell key material from a long name: it mixes digits with letters of many kinds."""
    if value in PUBLISHED:
        return False
    digits = sum(character.isdigit() for character in value)
    return digits >= 4 and len(set(value)) >= 10 and not re.fullmatch(r"[a-z_]+\d*|[A-Z_]+\d*", value)


def findings(text: str) -> Iterator[tuple[int, str]]:
    for found in PRIVATE_KEY.finditer(text):
        yield text.count("\n", 0, found.start()) + 1, "a private key"
    for at, line in enumerate(text.splitlines(), start=1):
        if ALLOWED in line:
            continue
        if any(material(found["value"]) for found in NAMED.finditer(line)):
            yield at, "key material beside a word for a secret"
        if ADDRESS.search(line):
            yield at, "a password in an address"


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607
    return [name for name in listed.stdout.split("\0") if name and Path(name).name not in UNREAD]


def main() -> int:
    count = 0
    for name in tracked():
        path = ROOT / name
        if not path.is_file() or path.stat().st_size > SIZE_BYTES_MAX:
            continue
        for at, what in findings(path.read_text(encoding="utf-8", errors="ignore")):
            count += 1
            print(f"{name}:{at}: {what}; take it out (and change it, if it was real)", file=sys.stderr)
    return 1 if count else 0


if __name__ == "__main__":
    raise SystemExit(main())
