"""A mode that promises to send nothing must not start; and if it did, its orders must not leave."""

from __future__ import annotations

from typing import Any, cast

import pytest

from apply.acting import orders
from apply.checks import dry_run_is_not_built_yet
from tests.orders_by_hand import intended, pair_for, recorded


def test_dry_run_is_refused_with_the_remedy(settings: Any) -> None:
    assert dry_run_is_not_built_yet() == []
    settings.APPLY_MODE = "dry_run"
    [refused] = dry_run_is_not_built_yet()
    assert refused.id == "apply.E001"
    assert "APPLY_MODE=paper" in (refused.hint or "")


@pytest.mark.usefixtures("db", "keys")
def test_no_order_leaves_in_dry_run(settings: Any) -> None:
    plan = recorded()
    order, pair = intended(plan), pair_for(plan)
    settings.APPLY_MODE = "dry_run"
    with pytest.raises(orders.OutOfBounds):
        orders.send(cast("Any", None), pair, order)
