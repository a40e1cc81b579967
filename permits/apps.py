from django.apps import AppConfig

from quantum import roles


def _governor(watch: roles.Watch) -> None:
    from permits import governor

    governor.run(watch)


class PermitsConfig(AppConfig):
    name = "permits"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        roles.register(roles.Role(name="governor", metrics_index=1, run=_governor))
