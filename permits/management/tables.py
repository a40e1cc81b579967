"""Tables of our commands: on a terminal as wide as it is, elsewhere wide enough for whole ids."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from quantum.log import safe

WIDE = 240


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> str:
    made = Table(title=escape(safe(title)) or None, title_justify="left")
    for heading in headings:
        made.add_column(heading, no_wrap=heading in ("plan", "fingerprint"), overflow="fold")
    for row in rows:
        made.add_row(*(escape(safe(cell)) for cell in row))
    text = io.StringIO()
    Console(file=text, width=None if sys.stdout.isatty() else WIDE).print(made)
    return text.getvalue()
