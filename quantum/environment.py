"""Reads environment variables strictly: a wrong value names its variable and never its content.

Values come from the process environment first, then from one env file
(QUANTUM_ENV_FILE, else <var>/quantum.env where it exists). Any X may come from X_FILE.
os.environ itself is left alone: what was read here is not inherited by children.
"""

from __future__ import annotations

import os
import re
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeVar

import environ
from django.core.exceptions import ImproperlyConfigured
from environ.fileaware_mapping import FileAwareMapping

T = TypeVar("T")

OWN_PREFIXES = (
    *("ALERT_", "APPLY_", "APPROVER", "BREAK_GLASS_", "GOV_", "LEDGER_SOURCE", "P33_", "PERMIT_", "QUANTUM_"),
    *("RECONCILE_", "RESOLVER_"),
)
"""An unknown name that begins so is a typing error, and is refused. BINANCE_, WEB_, LEDGER_ and the like are not ours
alone."""

_SYMBOL = re.compile(r"[A-Z0-9]{2,20}")


class Environment:
    """Typed access; collects every problem so that one start shows them all."""

    def __init__(self, values: dict[str, str]) -> None:
        self._values = FileAwareMapping(env=values)
        self._known: set[str] = set()
        self._problems: list[str] = []

    @classmethod
    def load(cls, *, default_env_file: Path) -> Environment:
        values = dict(os.environ)
        named = values.get("QUANTUM_ENV_FILE")
        env_file = Path(named) if named else default_env_file
        if named and not env_file.is_file():
            raise ImproperlyConfigured(f"QUANTUM_ENV_FILE: there is no file {env_file}; correct the path")
        if env_file.is_file():
            reader: Any = type("_Reader", (environ.Env,), {"ENVIRON": values})
            reader.read_env(str(env_file))
        return cls(values)

    # ---- readers; each marks its name as known

    def text(self, name: str, *, default: str = "", pattern: str | None = None, right: str = "") -> str:
        value = self._raw(name)
        if value is None:
            return default
        if pattern is not None and not re.fullmatch(pattern, value):
            return self._wrong(name, right or f"a value that matches {pattern}", default)
        return value

    def choice(self, name: str, *, default: str, among: tuple[str, ...]) -> str:
        value = self._raw(name)
        if value is None:
            return default
        return value if value in among else self._wrong(name, "one of " + ", ".join(among), default)

    def integer(self, name: str, *, default: int, least: int, most: int) -> int:
        value = self._raw(name)
        if value is None:
            return default
        right = f"a whole number from {least} to {most}"
        if not re.fullmatch(r"[0-9]{1,12}", value) or not least <= int(value) <= most:
            return self._wrong(name, right, default)
        return int(value)

    def number(self, name: str, *, default: str, least: str, most: str) -> Decimal:
        found = self._decimal(name, least=Decimal(least), most=Decimal(most))
        return Decimal(default) if found is None else found

    def optional_number(self, name: str, *, least: str, most: str) -> Decimal | None:
        return self._decimal(name, least=Decimal(least), most=Decimal(most))

    def words(self, name: str, *, default: tuple[str, ...], pattern: str, right: str) -> tuple[str, ...]:
        value = self._raw(name)
        if value is None:
            return default
        found = tuple(word.strip() for word in value.split(",") if word.strip())
        if not found or not all(re.fullmatch(pattern, word) for word in found):
            return self._wrong(name, right, default)
        return found

    def symbols(self, name: str, *, default: tuple[str, ...]) -> tuple[str, ...]:
        return self.words(
            name,
            default=default,
            pattern=_SYMBOL.pattern,
            right="symbols separated by commas, e.g. BTCUSDT,ETHUSDT",
        )

    def url(self, name: str, *, default: str, schemes: tuple[str, ...]) -> str:
        value = self._raw(name)
        if value is None:
            return default
        right = "a URL that begins with one of " + ", ".join(f"{scheme}://" for scheme in schemes)
        return (
            value
            if value.split("://")[0] in schemes and "://" in value
            else self._wrong(name, right, default)
        )

    def path(self, name: str, *, default: Path) -> Path:
        value = self._raw(name)
        return default if value is None else Path(value).resolve()

    def secret(self, name: str) -> str:
        """Read when it is needed and by whom it is needed; settings keep no exchange key."""
        return self.text(name)

    def given(self, name: str) -> bool:
        return name in self._values

    def names(self) -> tuple[str, ...]:
        """Every setting that was asked for so far."""
        return tuple(sorted(self._known))

    # ---- the verdict

    def finish(self) -> None:
        """Refuse to start on anything wrong or unknown, in one message, without any value."""
        for name in sorted(self._values.env):
            base = name.removesuffix("_FILE")
            if name.startswith(OWN_PREFIXES) and name not in self._known and base not in self._known:
                self._problems.append(
                    f"{name}: unknown setting; correct the name or remove it (README lists all)"
                )
        if self._problems:
            raise ImproperlyConfigured("\n".join(self._problems))

    def refuse(self, name: str, right: str) -> None:
        """For a rule between settings; `right` says what would be right."""
        self._problems.append(f"{name}: {right}")

    # ---- inside

    def _raw(self, name: str) -> str | None:
        self._known.add(name)
        try:
            value = str(self._values[name])
        except KeyError:
            return None
        except (OSError, UnicodeDecodeError):
            return self._wrong(f"{name}_FILE", "the path of a file that can be read", None)
        return value.strip() or None

    def _decimal(self, name: str, *, least: Decimal, most: Decimal) -> Decimal | None:
        value = self._raw(name)
        if value is None:
            return None
        try:
            found = Decimal(value)
        except InvalidOperation:
            found = Decimal("NaN")
        if not found.is_finite() or not least <= found <= most:
            return self._wrong(name, f"a number from {least} to {most}", None)
        return found

    def _wrong(self, name: str, right: str, default: T) -> T:
        self._problems.append(f"{name}: wrong value; it must be {right}")
        return default
