from django.apps import AppConfig

from quantum import roles


def _p33(watch: roles.Watch) -> None:
    from positions import brain
    from quantum import instance

    instance.ensure_here()
    brain.run(watch)


class PositionsConfig(AppConfig):
    name = "positions"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        roles.register(roles.Role(name="p33", metrics_index=2, run=_p33))
