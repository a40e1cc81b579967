"""System checks of the acting floor."""

from __future__ import annotations

from django.conf import settings
from django.core.checks import CheckMessage, Error, register


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
