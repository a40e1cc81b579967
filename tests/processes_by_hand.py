"""What a test can see of a process that it started."""

from __future__ import annotations

import subprocess
from pathlib import Path


def frozen(process: subprocess.Popen[bytes]) -> bool:
    """By SIGSTOP, until somebody sends SIGCONT."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
