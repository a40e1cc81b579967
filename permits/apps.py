from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.apps import AppConfig
from prometheus_client import Metric

from quantum import doctor, exports, gauges, pages, roles

if TYPE_CHECKING:
    from quantum.exports.declared import Export


def _governor(watch: roles.Watch) -> None:
    from permits.governor import governor
    from quantum import instance

    instance.ensure_here("governor")
    governor.run(watch)


def _gauges() -> Iterable[Metric]:
    from permits.state import gauges as permit_gauges

    return permit_gauges.read()


def _policy_check() -> Iterable[doctor.Finding]:
    from permits.policy import policy_check

    return policy_check.examine()


def _pages() -> list[pages.Page]:
    from permits.pages import pages as permit_pages
    from permits.pages import permit_list, policy_page, policy_pages

    return [
        pages.Page(
            name="permits_permit_changelist",
            words="Permits",
            place=20,
            key="e",
            needs=("permits.view_permit",),
        ),
        pages.Page(
            name="permits_live_part",
            path="permits/live/part/",
            view=permit_list.fragment,
            needs=("permits.view_permit",),
        ),
        pages.Page(
            name="permits_permit_part",
            path="permits/of/<str:plan_id>/part/",
            view=permit_pages.fragment,
            needs=("permits.view_permit",),
        ),
        pages.Page(
            name="permits_approval_vote",
            path="permits/approvals/<int:number>/vote/",
            view=policy_pages.vote,
            needs=("permits.approve", "permits.view_approval"),
            act=True,
        ),
        pages.Page(
            name="permits_policyversion_changelist",
            words="Policy",
            place=70,
            key="y",
            needs=("permits.view_policyversion",),
        ),
        pages.Page(
            name="permits_policy_set",
            path="permits/policy/set/",
            view=policy_page.set_policy,
            needs=("permits.set_policy", "permits.view_policyversion"),
            act=True,
        ),
    ]


def _exports() -> list[Export]:
    from permits.pages import permit_list

    return [permit_list.EXPORT]


class PermitsConfig(AppConfig):
    name = "permits"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        roles.register(roles.Role(name="governor", metrics_index=1, run=_governor))
        gauges.register("permits", _gauges)
        pages.register(_pages)
        exports.register(_exports)
        doctor.register("policy", _policy_check, doctor.Needs.DATABASE)
