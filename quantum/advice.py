"""What a reason means and what to do next, in the words of docs/OPERATIONS.md: one text, wherever it is read."""

from __future__ import annotations

import re
from functools import cache

from django.conf import settings
from msgspec import Struct

_ROW = re.compile(r"^\| `([a-z0-9_]+)` \| (.+?) \| (.+?) \|$", re.MULTILINE)
_SECTION = re.compile(r"^## Reasons of (.+)$", re.MULTILINE)


class Advice(Struct, frozen=True):
    means: str
    next: str


def of(reason: str, *, gate: str = "") -> Advice | None:
    """The gate's own words where it said the reason: the same token may mean another thing elsewhere.
    None where nothing is written, or the documents were not installed."""
    found = _all()
    return found.get((_CHAPTERS.get(gate, ""), reason)) or next(
        (advice for (_, token), advice in found.items() if token == reason), None
    )


_CHAPTERS = {"governor": "the Governor", "p33": "the Brain"}


@cache
def _all() -> dict[tuple[str, str], Advice]:
    try:
        text = (settings.BASE_DIR / "docs" / "OPERATIONS.md").read_text(encoding="utf-8")
    except OSError:
        return {}
    heads, *parts = _SECTION.split(text)
    chapters = [("", heads), *zip(parts[::2], parts[1::2], strict=True)]
    return {
        (chapter, token): Advice(means.replace("`", ""), then.replace("`", ""))
        for chapter, body in chapters
        for token, means, then in _ROW.findall(body)
    }
