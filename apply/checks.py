"""System checks of the acting floor."""

from __future__ import annotations

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from apply.exits import scorers


@register()
def the_exit_brain_has_a_scorer(**_: object) -> list[CheckMessage]:
    if settings.EXIT_BRAIN in ("off", "demo"):
        return []
    try:
        scorers.find(settings.EXIT_BRAIN)
    except scorers.NoSuchScorer as none:
        hint = f"set EXIT_BRAIN to off, to one of {', '.join(scorers.names())}, or to a dotted path"
        return [Error(f"EXIT_BRAIN: {none}", hint=hint, id="apply.E002")]
    return []
