"""A policy that does not hold yet: words that change the one that does, or a whole one in a file."""

from __future__ import annotations

import json
from pathlib import Path

from permits.policy import rules
from permits.policy.rules import Nonsense, Rules

BYTES_MAX = 1_000_000
OPTIONS = ("words", "draft", "symbol", "shadow")
"""Of a command that takes one."""
HELP = "all rules in a JSON file, as policy_show --json tells them; the words change those"


def after(before: Rules, *, words: list[str], draft: str | None, symbol: str, shadow: bool) -> Rules:
    """Raises Nonsense with every problem."""
    return rules.changed(_file(draft) if draft else before, words, symbol=symbol, shadow=shadow)


def _file(path: str) -> Rules:
    try:
        with Path(path).open(encoding="utf-8") as file:
            said = json.loads(file.read(BYTES_MAX))
    except (OSError, ValueError, RecursionError) as error:
        raise Nonsense(f"--draft: {path} is no JSON file that can be read ({type(error).__name__})") from None
    found: Rules = said.get("rules", said) if isinstance(said, dict) else {}
    rules.read(found)
    return found
