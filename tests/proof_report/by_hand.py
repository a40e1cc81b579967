"""A command's exit code, what it printed, and the findings of a proof by their names."""

from __future__ import annotations

import io
import json
from typing import Any

from django.core.management import call_command


def said(*command: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command(*command, stdout=out, stderr=err)
    except SystemExit as left:
        return int(left.code or 0), out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


def proved(*options: str) -> tuple[int, dict[str, Any]]:
    code, out, _ = said("proof", "--json", *options)
    found: dict[str, Any] = json.loads(out)
    return code, found


def wrongs(found: dict[str, Any]) -> dict[str, list[str]]:
    """wrong -> the texts."""
    named: dict[str, list[str]] = {}
    for part in found["parts"].values():
        for each in part["findings"]:
            named.setdefault(each["wrong"], []).append(each["text"])
    return named


def figure(found: dict[str, Any], part: str, name: str) -> Any:
    return found["parts"][part]["figures"][name]["value"]
