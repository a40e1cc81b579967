"""One event, one line: UTC milliseconds, level, the names of CONTRACT first, fields after.

Control, ANSI and bidirectional characters are escaped, so that no plan can write a line of
its own; values of names that mean a secret are masked, in tracebacks as well.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import traceback
import unicodedata
from collections.abc import Mapping
from functools import cache
from typing import Any

from quantum import clock

_SECRET_NAME = re.compile(
    r"secret|password|passwd|token|signature|listen_?key|api_?key|private", re.IGNORECASE
)
_SECRET_IN_TEXT = re.compile(
    r"(?i)((?:signature|listenkey|api_?key|apikey|secret(?:_key)?|password)[\"']?\s*[=:]\s*[\"']?)[^\s&\"',}]+"
)
_USERINFO = re.compile(r"(://[^:/@\s]*):[^@/\s]+@")
MASK = "***"


def safe(text: str) -> str:
    """Escape what could start a new line, colour a terminal or turn the reading direction."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(character if _harmless(character) else _escape(character) for character in text)


def _harmless(character: str) -> bool:
    return character.isprintable() and unicodedata.category(character) != "Cf"


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def masked(text: str) -> str:
    if (
        "=" not in text and ":" not in text
    ):  # neither a name with its value nor an address: most values of a field
        return text
    return _USERINFO.sub(rf"\1:{MASK}@", _SECRET_IN_TEXT.sub(rf"\1{MASK}", text))


@cache
def is_secret(name: str) -> bool:
    """Of the names of fields, which are written in our code."""
    return _SECRET_NAME.search(name) is not None


def _field(name: str, value: object) -> str:
    if is_secret(name):
        return f"{name}={MASK}"
    return f"{name}={safe(masked(str(value)))}"


def _rendered(level: str, event: str, fields: Mapping[str, object], failure: BaseException | None) -> str:
    at = clock.now().isoformat(timespec="milliseconds")[:-6]
    parts = [f"{at}Z {level:<7} {safe(masked(event))}"]
    parts += [_field(name, value) for name, value in fields.items()]
    if failure is not None:
        parts.append("traceback=" + safe(masked("".join(traceback.format_exception(failure)))))
    return " ".join(parts)


def _write(line: str) -> None:
    """A whole line at once, so that lines of several processes do not mix. Where a line cannot be written (the disk of
    the log is full, whoever read it is gone) the work goes on: the records prove it, a log only tells of it."""
    with contextlib.suppress(OSError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


class _ForeignLines(logging.Handler):
    """Lines of Django, django-q2 and others take the same shape."""

    def emit(self, record: logging.LogRecord) -> None:
        failure = record.exc_info[1] if record.exc_info else None
        because: dict[str, object] = {}
        if (
            failure is not None and record.levelno < logging.ERROR
        ):  # a page that was refused is no fault of the code
            because, failure = {"because": repr(failure)}, None
        _write(_rendered(record.levelname, f"{record.name}: {record.getMessage()}", because, failure))


def configure(options: dict[str, Any]) -> None:
    """Django's LOGGING_CONFIG hook."""
    level = logging.getLevelName(str(options["level"]))
    log.least = level
    root = logging.getLogger()
    root.handlers[:] = [_ForeignLines()]
    root.setLevel(max(level, logging.WARNING))


class Log:
    """The logger of the house: `log.info("[PERMIT_WAIT] OK", plan=..., wait_ms=7)`."""

    least = logging.INFO

    def debug(self, event: str, **fields: object) -> None:
        if self.least <= logging.DEBUG:
            _write(_rendered("DEBUG", event, fields, None))

    def info(self, event: str, **fields: object) -> None:
        if self.least <= logging.INFO:
            _write(_rendered("INFO", event, fields, None))

    def warning(self, event: str, **fields: object) -> None:
        if self.least <= logging.WARNING:
            _write(_rendered("WARNING", event, fields, None))

    def error(self, event: str, **fields: object) -> None:
        _write(_rendered("ERROR", event, fields, None))

    def failure(self, event: str, error: BaseException, **fields: object) -> None:
        _write(_rendered("ERROR", event, fields, error))


log = Log()
