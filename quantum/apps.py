from __future__ import annotations

from typing import TYPE_CHECKING

from django.apps import AppConfig
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate

# First of all apps: prometheus_client decides at its own import, once, whether values are shared
# between processes, and this module names the folder for them before anybody imports it.
from quantum import metrics  # noqa: F401

if TYPE_CHECKING:
    from quantum.exports.declared import Export
    from quantum.pages import Page


def _pages() -> list[Page]:
    from quantum.chain import page
    from quantum.pages import Page

    audit = Page(
        name="quantum_audit",
        words="Audit",
        place=90,
        key="a",
        path="audit/",
        view=page.page,
        needs=("quantum.view_auditevent",),
    )
    return [Page(name="index", words="Home", place=0, key="h"), audit]


def _second_factor() -> list[Page]:
    from quantum import second_factor_pages

    return second_factor_pages.declared()


def _exports() -> list[Export]:
    from quantum.chain import page

    return [page.EXPORT]


class QuantumConfig(AppConfig):
    name = "quantum"
    default = True
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from axes.signals import user_locked_out

        from quantum import checks, entrance, exports, gauges, pages  # noqa: F401  registers the system checks
        from quantum.chain import guards, refusals, standing

        user_locked_out.connect(entrance.record_locked_out)
        gauges.register("stream", gauges.stream)
        gauges.register("roles", gauges.silent_roles)
        gauges.register("audit", standing.gauges)
        post_migrate.connect(guards.install, sender=self)
        connection_created.connect(refusals.watch)
        pages.register(_pages)
        exports.register(_exports)
        pages.register(_second_factor)
