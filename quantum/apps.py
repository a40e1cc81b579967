from __future__ import annotations

from typing import TYPE_CHECKING

from django.apps import AppConfig

# First of all apps: prometheus_client decides at its own import, once, whether values are shared
# between processes, and this module names the folder for them before anybody imports it.
from quantum import metrics  # noqa: F401

if TYPE_CHECKING:
    from quantum.pages import Page


def _pages() -> list[Page]:
    from quantum.pages import Page

    audit = Page(
        name="quantum_auditevent_changelist",
        words="Audit",
        place=90,
        key="a",
        needs=("quantum.view_auditevent",),
    )
    return [Page(name="index", words="Home", place=0, key="h"), audit]


class QuantumConfig(AppConfig):
    name = "quantum"
    default = True
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from axes.signals import user_locked_out

        from quantum import checks, entrance, gauges, pages  # noqa: F401  registers the system checks

        user_locked_out.connect(entrance.record_locked_out)
        gauges.register("stream", gauges.stream)
        pages.register(_pages)
