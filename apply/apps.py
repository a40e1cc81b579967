from collections.abc import Iterable

from django.apps import AppConfig
from prometheus_client import Metric

from quantum import gauges, roles


def _apply(watch: roles.Watch) -> None:
    from apply import role
    from quantum import instance

    instance.ensure_here()
    role.run(watch)


def _warden(watch: roles.Watch) -> None:
    from apply import warden
    from quantum import instance

    instance.ensure_here()
    warden.run(watch)


def _gauges() -> Iterable[Metric]:
    from apply import blocked

    return blocked.read()


class ApplyConfig(AppConfig):
    name = "apply"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apply import checks  # noqa: F401  registers the system checks

        roles.register(roles.Role(name="apply", metrics_index=0, run=_apply))
        roles.register(roles.Role(name="warden", metrics_index=3, run=_warden))
        gauges.register("exits", _gauges)
