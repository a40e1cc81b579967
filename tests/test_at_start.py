"""What p33 finds when it starts, where the owner lets it adopt little."""

from __future__ import annotations

from decimal import Decimal

import pytest
from pytest_django.fixtures import Settings

from positions.drift import incidents
from positions.models import Balance, LedgerEntry
from quantum.models import AuditEvent
from tests.drift_by_hand import Watched, balance, stranger

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture
def watched(settings: Settings) -> Watched:
    """BTCUSDT: 1 in the ledger, and the newest fill at 100."""
    settings.RECONCILE_AT_START_USD = Decimal(50)
    balance("1")
    return Watched()


def ours(symbol: str = "BTCUSDT") -> Decimal:
    found: Decimal = Balance.objects.get(symbol=symbol).amount
    return found


def causes() -> list[str]:
    return list(incidents.standing().values_list("cause", flat=True))


def test_little_that_changed_by_hand_while_p33_was_away_is_adopted_and_told(watched: Watched) -> None:
    stranger(1, "0.5", client_order_id="web_1")
    for _ in range(3):
        watched.look(BTCUSDT="1.5")
    assert (ours(), causes()) == (Decimal("1.5"), [])
    entry = LedgerEntry.objects.get()
    assert (entry.kind, entry.actor, entry.delta) == ("adopted", "p33", Decimal("0.5"))
    assert "manual trade: worth 50.00 USD" in entry.reason
    assert AuditEvent.objects.get(kind="ledger_adopted").actor == "p33"


def test_a_close_by_hand_is_priced_by_its_fill(watched: Watched) -> None:
    stranger(1, "-0.5", client_order_id="web_1")
    Balance.objects.update(amount=Decimal("0.5"))
    for _ in range(3):
        watched.look()
    assert (ours(), causes()) == (Decimal(0), [])


@pytest.mark.parametrize(
    ("exchange", "client_order_id", "cause"),
    [("1.501", "web_1", "manual_trade"), ("1.1", "q-0123456789abcdef-25", "foreign_prefix")],
    ids=["worth more", "our prefix"],
)
def test_what_is_worth_more_or_was_done_in_our_name_is_an_incident(
    watched: Watched, exchange: str, client_order_id: str, cause: str
) -> None:
    stranger(1, "0.5", client_order_id=client_order_id)
    for _ in range(3):
        watched.look(BTCUSDT=exchange)
    assert (ours(), causes()) == (Decimal(1), [cause])


def test_what_nobody_can_price_is_an_incident(watched: Watched) -> None:
    for _ in range(3):
        watched.look()
    assert (ours(), causes()) == (Decimal(1), ["unexplained"])


def test_what_changes_while_p33_runs_is_an_incident_however_little(watched: Watched) -> None:
    watched.look(BTCUSDT="1")
    stranger(1, "0.1", client_order_id="web_1")
    for _ in range(3):
        watched.look(BTCUSDT="1.1")
    assert (ours(), causes()) == (Decimal(1), ["manual_trade"])


def test_an_incident_that_stands_is_left_to_people_at_a_start_too(
    watched: Watched, settings: Settings
) -> None:
    stranger(1, "0.1", client_order_id="web_1")
    settings.RECONCILE_AT_START_USD = None
    for _ in range(3):
        watched.look(BTCUSDT="1.1")
    settings.RECONCILE_AT_START_USD = Decimal(50)
    watched.restart()
    for _ in range(3):
        watched.look(BTCUSDT="1.1")
    assert (ours(), causes()) == (Decimal(1), ["manual_trade"])
