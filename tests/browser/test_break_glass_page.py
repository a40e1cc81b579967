"""The break-glass page in a real browser: it fits and is accessible. Its stories: test_stories_halts, _phone."""

from __future__ import annotations

from typing import Any

import pytest

from permits.models import TradingState
from tests.browser.test_pages import findings
from tests.flow.test_halts_and_holds import halt, leave_to_operators, told
from tests.flow.test_reconcile import incident_of, trade_by_hand
from tests.glass_by_hand import asked, url
from tests.house import House

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def halted(house: House) -> House:
    leave_to_operators()
    house.start()
    halt(TradingState.Scope.AUTOMATIC)
    told(house)
    return house


def test_it_is_quiet_fits_and_is_accessible(halted: House, visit: Any) -> None:
    trade_by_hand(halted, "BTCUSDT", "0.750")
    incident_of()
    asked()
    troubles: list[str] = []
    for theme, width_px in (("light", 1200), ("dark", 390), ("light", 390), ("dark", 1200)):
        visitor = visit(theme=theme, width_px=width_px)
        for query in ("?symbol=BTCUSDT&action=PARTIAL_50&gate=governor", "?symbol=none"):
            shown = visitor.open(url() + query)
            if visitor.scrolls_sideways():
                visitor.troubles.append(f"{query}: scrolls sideways at {width_px} px")
            visitor.troubles.extend(findings(shown))
        troubles += visitor.troubles
    assert not troubles, "\n".join(sorted(set(troubles)))
