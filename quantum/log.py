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
from collections.abc import MutableMapping
from functools import cache
from typing import Any, cast

import structlog

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


def _render(_logger: object, method: str, event: MutableMapping[str, Any]) -> str:
    at = clock.now().isoformat(timespec="milliseconds")[:-6]
    text = safe(masked(str(event.pop("event"))))
    failure = event.pop("exc_info", None)
    parts = [f"{at}Z {method.upper():<7} {text}", *(_field(name, value) for name, value in event.items())]
    if failure:
        parts.append("traceback=" + _trace(failure))
    return " ".join(parts)


def _trace(failure: object) -> str:
    error = failure if isinstance(failure, BaseException) else sys.exc_info()[1]
    text = "".join(traceback.format_exception(error)) if error else ""
    return safe(masked(text))


class _Lines:
    """Writes a whole line at once, so that lines of several processes do not mix. Where a line cannot be written (the
    disk of the log is full, whoever read it is gone) the work goes on: the records prove it, a log only tells of it."""

    def msg(self, line: str) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    debug = info = warning = error = critical = msg


class _ForeignLines(logging.Handler):
    """Lines of Django, django-q2 and others take the same shape."""

    def emit(self, record: logging.LogRecord) -> None:
        event: dict[str, Any] = {"event": f"{record.name}: {record.getMessage()}"}
        if record.exc_info:
            event["exc_info"] = record.exc_info[1]
        _Lines().msg(_render(None, record.levelname.lower(), event))


def configure(options: dict[str, Any]) -> None:
    """Django's LOGGING_CONFIG hook."""
    level = logging.getLevelName(str(options["level"]))
    structlog.configure(
        processors=[_render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Lines(),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [_ForeignLines()]
    root.setLevel(max(level, logging.WARNING))


class Log:
    """The logger of the house: `log.info("[PERMIT_WAIT] OK", plan=..., wait_ms=7)`."""

    def __init__(self) -> None:
        self._logger = cast("Any", structlog.get_logger())

    def debug(self, event: str, **fields: object) -> None:
        self._logger.debug(event, **fields)

    def info(self, event: str, **fields: object) -> None:
        self._logger.info(event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        self._logger.warning(event, **fields)

    def error(self, event: str, **fields: object) -> None:
        self._logger.error(event, **fields)

    def failure(self, event: str, error: BaseException, **fields: object) -> None:
        self._logger.error(event, exc_info=error, **fields)


log = Log()
