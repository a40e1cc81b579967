from django.apps import AppConfig

# First of all apps: prometheus_client decides at its own import, once, whether values are shared
# between processes, and this module names the folder for them before anybody imports it.
from quantum import metrics  # noqa: F401


class QuantumConfig(AppConfig):
    name = "quantum"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from quantum import checks, gauges  # noqa: F401  registers the system checks

        gauges.register("stream", gauges.stream)
