from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.apps import AppConfig
from prometheus_client import Metric

from quantum import doctor, exports, gauges, pages, roles

if TYPE_CHECKING:
    from quantum.exports.declared import Export


def _p33(watch: roles.Watch) -> None:
    from positions import brain
    from quantum import instance

    instance.ensure_here("p33")
    brain.run(watch)


def _gauges() -> Iterable[Metric]:
    from positions.reconcile import gauges as position_gauges

    return position_gauges.read()


def _stream_check() -> Iterable[doctor.Finding]:
    from positions.feed import silence

    return silence.examine()


def _pages() -> list[pages.Page]:
    from positions.pages import ledger, several, views

    sees = ("positions.view_incident", "positions.view_balance")
    return [
        pages.Page(
            name="positions_reconcile",
            words="Reconciliation",
            place=40,
            key="r",
            needs=sees,
        ),
        pages.Page(
            name="positions_reconcile_several",
            path="reconcile/several/",
            view=several.page,
            needs=("positions.reconcile", *sees),
        ),
        pages.Page(
            name="positions_reconcile_adopt_several",
            path="reconcile/several/adopt/",
            view=several.adopt,
            needs=("positions.reconcile", *sees),
            act=True,
        ),
        pages.Page(
            name="positions_reconcile_part", path="reconcile/part/", view=views.overview_part, needs=sees
        ),
        pages.Page(
            name="positions_reconcile_symbol_part",
            path="reconcile/<str:symbol>/part/",
            view=views.symbol_part,
            needs=sees,
        ),
        pages.Page(
            name="positions_ledger",
            words="Ledger",
            place=50,
            key="l",
            path="ledger/",
            view=ledger.page,
            needs=("positions.view_ledgerentry",),
        ),
    ]


def _exports() -> list[Export]:
    from positions.pages import ledger

    return [ledger.EXPORT]


class PositionsConfig(AppConfig):
    name = "positions"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        roles.register(roles.Role(name="p33", metrics_index=2, run=_p33))
        gauges.register("positions", _gauges)
        pages.register(_pages)
        exports.register(_exports)
        doctor.register("user stream", _stream_check)
