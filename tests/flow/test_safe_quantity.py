"""Two figures of a result, and the line of the wait: what the permits let be closed, and what was closed of it."""

from __future__ import annotations

import pytest
from django.conf import settings

from apply.models import Order, Plan
from apply.plans import results
from tests.house import House
from tests.orders_by_hand import intended
from tests.permits_by_hand import GOVERNOR, P33, lay, permit

GENEROUS, HELD = "0.4", 0.3
"""More than the quarter that the plan asks for; and what the Governor held of its limits."""


@pytest.mark.parametrize("mode", ["paper", "dry_run"])
@pytest.mark.parametrize(("held", "safe"), [(0.0, "0.4"), (HELD, "0.3")])
def test_safe_qty_is_what_both_permits_allow_and_quantity_what_leaves(
    house: House,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    mode: str,
    held: float,
    safe: str,
) -> None:
    monkeypatch.setattr(settings, "APPLY_MODE", mode)
    house.start("apply")
    plan = house.publish()
    governor = permit(plan, GOVERNOR, computed_qty=held)
    lay(house.redis, plan, governor=governor, p33=permit(plan, P33, safe=GENEROUS))
    house.ended(plan)
    [result] = house.results(plan)
    assert (result["safe_qty"], result["quantity"]) == (safe, "0.25")
    waited = [line for line in capsys.readouterr().err.splitlines() if "[PERMIT_WAIT] OK" in line]
    assert f"safe_qty={safe} " in waited[-1] + " "


@pytest.mark.usefixtures("db", "keys")
@pytest.mark.parametrize("bent", ["", "no permit", '{"allow":true}'])
def test_a_permit_that_somebody_bent_in_the_orders_row_keeps_no_result_back(bent: str) -> None:
    order = intended()
    Order.objects.update(p33_permit=bent)
    order.refresh_from_db()
    said = results.result_fields(Plan.objects.get(), order)
    assert (said["safe_qty"], said["quantity"]) == ("", "0.25")
