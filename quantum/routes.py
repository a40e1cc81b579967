"""Addresses of upper floors: registered from AppConfig.ready(), because no import goes up. Asked for by the web process
alone, so that no role imports views."""

from __future__ import annotations

from collections.abc import Callable

from django.urls import URLPattern

_sources: list[Callable[[], list[URLPattern]]] = []


def register(source: Callable[[], list[URLPattern]]) -> None:
    _sources.append(source)


def registered() -> list[URLPattern]:
    return [pattern for source in _sources for pattern in source()]
