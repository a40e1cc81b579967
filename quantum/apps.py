from django.apps import AppConfig


class QuantumConfig(AppConfig):
    name = "quantum"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from quantum import checks  # noqa: F401  registers the system checks
