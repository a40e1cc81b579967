from collections.abc import Iterable

from django.apps import AppConfig
from prometheus_client import Metric

from quantum import doctor, gauges, roles


def _governor(watch: roles.Watch) -> None:
    from permits.governor import governor
    from quantum import instance

    instance.ensure_here()
    governor.run(watch)


def _gauges() -> Iterable[Metric]:
    from permits.state import gauges as permit_gauges

    return permit_gauges.read()


def _policy_check() -> Iterable[doctor.Finding]:
    from permits.policy import policy_check

    return policy_check.examine()


class PermitsConfig(AppConfig):
    name = "permits"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        roles.register(roles.Role(name="governor", metrics_index=1, run=_governor))
        gauges.register("permits", _gauges)
        doctor.register("policy", _policy_check, doctor.Needs.DATABASE)
