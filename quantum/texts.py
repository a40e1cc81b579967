"""Texts that strangers wrote. Pure."""

from __future__ import annotations


def storable(text: str) -> bool:
    """Whether every database can keep it: PostgreSQL refuses NUL, and a lone surrogate is no character."""
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
