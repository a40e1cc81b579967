"""The shipped scenarios, one per row of the list of what an exchange may do: each is also an acceptance test.

A shipped file says of itself which row it is and why it looks like that:

    {"row": "D1", "title": "...", "why": "...", "items": [...]}

A file of the user's own may be that, or the bare list of items (../scenario.py).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

FOLDER = Path(__file__).parent


class Shipped(Struct, frozen=True):
    name: str
    row: str
    title: str
    why: str
    items: list[object]


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load(name: str) -> Shipped:
    """OSError where no such scenario is shipped."""
    told = json.loads((FOLDER / f"{name}.json").read_text())
    return Shipped(name, told["row"], told["title"], told["why"], items_of(told))


def shipped() -> Iterator[Shipped]:
    return (load(name) for name in names())


def read(word: Path) -> list[object]:
    """A shipped one by its name, else a file of the user's. OSError, ValueError: it cannot be read."""
    path = FOLDER / f"{word}.json" if str(word) in names() else word
    return items_of(json.loads(path.read_text()))


def items_of(told: object) -> list[object]:
    """Played twice on one exchange, an act of a user's hand needs another client id: `web_*` gets an ending."""
    items = told.get("items") if isinstance(told, dict) else told
    if not isinstance(items, list):
        raise ValueError('a scenario is a list, or an object with a list of "items"')
    return [_unique(item) for item in items]


def _unique(item: object) -> object:
    client_id = item.get("client_order_id") if isinstance(item, dict) else None
    if not isinstance(item, dict) or not isinstance(client_id, str) or not client_id.endswith("*"):
        return item
    return {**item, "client_order_id": f"{client_id[:-1]}{secrets.token_hex(6)}"}
