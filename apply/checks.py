"""System checks of the acting floor."""

from __future__ import annotations

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from apply.exits import scorers


@register()
def dry_run_is_not_built_yet(**_: object) -> list[CheckMessage]:
    """A mode that promises to send nothing must not start before that promise is kept."""
    if settings.APPLY_MODE != "dry_run":
        return []
    return [
        Error(
            "APPLY_MODE=dry_run is not built yet and would send orders",
            hint="use APPLY_MODE=paper; dry_run comes with a later version",
            id="apply.E001",
        )
    ]


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
