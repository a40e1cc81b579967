from django.apps import AppConfig

from quantum import roles


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


class ApplyConfig(AppConfig):
    name = "apply"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apply import checks  # noqa: F401  registers the system checks
        from apply.approved import Approved
        from permits import approvals

        roles.register(roles.Role(name="apply", metrics_index=0, run=_apply))
        roles.register(roles.Role(name="warden", metrics_index=3, run=_warden))
        approvals.register(Approved())
