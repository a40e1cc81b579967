"""Lists of facts as files: whole, by the filters of their pages, streamed, recorded.

Each floor registers its own from AppConfig.ready(), because no import goes up. No role imports what makes them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from quantum import pages

if TYPE_CHECKING:
    from quantum.exports.declared import Export

_sources: list[Callable[[], list[Export]]] = []


def register(source: Callable[[], list[Export]]) -> None:
    """For the command, and as pages with the permissions of each."""
    _sources.append(source)
    pages.register(lambda: _pages(source))


def _pages(source: Callable[[], list[Export]]) -> list[pages.Page]:
    from quantum.exports import download

    return [page for export in source() for page in download.pages_of(export)]


def every() -> dict[str, Export]:
    return {export.name: export for source in _sources for export in source()}
