"""What a permit's page says was compared."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from permits.pages import story
from tests.house import House
from tests.permits_by_hand import P33, permit


@pytest.mark.parametrize(
    ("compared", "told"),
    [
        ({"hold": "drift"}, {"hold": "drift"}),
        (
            {"exchange_amt": "3", "ledger_amt": "1"},
            {"exchange amt": "3", "ledger amt": "1"},
        ),
    ],
)
def test_a_denial_tells_no_amount_that_it_never_looked_at(
    keys: None, compared: dict[str, Any], told: dict[str, str]
) -> None:
    """Its members say 0 and 0: by them both sides would be flat, and agree."""
    said: dict[str, Any] = {
        "exchange_position_amt": 0,
        "ledger_amt": 0,
        "observed_at": ...,
        "context": compared,
    }
    raw = permit(House.make(), P33, allow=False, **said)
    assert json.loads(raw)["ledger_amt"] == 0
    found = dict(story.numbers(raw.decode()))
    assert {name: found[name] for name in found if name != "safe close qty"} == told


def test_a_grant_tells_both_sides(keys: None) -> None:
    found = dict(story.numbers(permit(House.make(), P33, position="1", safe="0.25").decode()))
    assert Decimal(found.pop("observed at")) > 0
    assert {name: Decimal(value) for name, value in found.items()} == {
        "safe close qty": Decimal("0.25"),
        "exchange position amt": 1,
        "ledger amt": 1,
    }
