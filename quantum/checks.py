"""System checks: what is wrong with the set-up and what to do, found before anything runs."""

from __future__ import annotations

from importlib import metadata

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.core.checks import Warning as Caution

OURS = "quantum"
"""Our commands look at these; Django's own hundred, of pages and models, are for `manage.py check` and `up`."""


@register(OURS)
def no_rival_of_python_binance(**_: object) -> list[CheckMessage]:
    """binance-futures-connector installs a package of the same name over python-binance."""
    try:
        metadata.version("binance-futures-connector")
    except metadata.PackageNotFoundError:
        return []
    return [
        Error(
            "binance-futures-connector is installed; it overwrites python-binance",
            hint="pip uninstall binance-futures-connector && pip install --force-reinstall python-binance",
            id="quantum.E001",
        )
    ]


@register(OURS)
def paper_stays_on_this_machine(**_: object) -> list[CheckMessage]:
    host = settings.PAPER_URL.split("://", 1)[1].split("/")[0].rsplit(":", 1)[0]
    if host in ("127.0.0.1", "localhost", "[::1]"):
        return []
    return [
        Error(
            "PAPER_URL does not point to this machine",
            hint="set PAPER_URL to http://127.0.0.1:<port>; the paper exchange is never reached over a network",
            id="quantum.E002",
        )
    ]


@register(OURS)
def a_secret_key_that_lasts(**_: object) -> list[CheckMessage]:
    if settings.SECRET_KEY_GIVEN:
        return []
    return [
        Caution(
            "SECRET_KEY is not set: this process made one of its own, so sessions end with it",
            hint="`manage.py up` makes one in var/quantum.env; elsewhere set SECRET_KEY or SECRET_KEY_FILE",
            id="quantum.W001",
        )
    ]
