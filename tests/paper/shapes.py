"""The shape of a message: which fields it has and of which type. Numbers in text stay numbers in text."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal, InvalidOperation
from typing import Any


def differences(*, theirs: Any, ours: Any, besides: Collection[str] = (), path: str = "") -> list[str]:
    """What ours lacks or has in another type. Ours may have more; a null of theirs says nothing."""
    if theirs is None:
        return []
    if isinstance(theirs, dict) and isinstance(ours, dict):
        found = []
        for name in theirs.keys() - set(besides):
            here = f"{path}.{name}".lstrip(".")
            if name not in ours:
                found.append(f"{here}: missing")
            else:
                found += differences(theirs=theirs[name], ours=ours[name], besides=besides, path=here)
        return sorted(found)
    if isinstance(theirs, list) and isinstance(ours, list):
        if not theirs:
            return []
        if not ours:
            return [f"{path}: empty"]
        return differences(theirs=theirs[0], ours=ours[0], besides=besides, path=f"{path}[0]")
    if _kind(theirs) != _kind(ours):
        return [f"{path}: {_kind(theirs)}, ours is {type(ours).__name__}"]
    return []


def _kind(value: Any) -> str:
    if isinstance(value, str) and _is_number(value):
        return "a number in text"
    return type(value).__name__


def _is_number(text: str) -> bool:
    try:
        Decimal(text)
    except InvalidOperation:
        return False
    return True
