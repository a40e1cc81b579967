"""Addresses of upper floors: registered from AppConfig.ready(), because no import goes up."""

from __future__ import annotations

from django.urls import URLPattern

_registered: list[URLPattern] = []


def register(*patterns: URLPattern) -> None:
    _registered.extend(patterns)


def registered() -> list[URLPattern]:
    return list(_registered)
