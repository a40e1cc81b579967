"""The pages of policy versions and approvals: what changed, what is asked, what to do."""

from __future__ import annotations

import pytest
from django.core.cache import caches
from django.test import Client as WebClient
from django.urls import reverse

from permits.models import Approval, Hold, PolicyVersion, TradingState
from permits.state import trading
from quantum import clock
from quantum.redis import Client
from tests.flow.test_admin import lived_in, someone, text_of, url


@pytest.fixture
def web(redis: Client, transactional_db: None) -> WebClient:
    return someone("root", superuser=True)


def test_a_policy_version_says_what_it_changed_and_whether_it_holds(web: WebClient) -> None:
    for number, limit in ((1, "100"), (2, None)):
        PolicyVersion.objects.create(
            version=number, rules={"total": {"notional_per_day_usd": limit}}, by="nina", reason="a calm week"
        )
    newest = text_of(web.get(url(PolicyVersion, "change", 2)))
    row = '<td>total.notional_per_day_usd</td><td class="num quiet">100</td><td class="num">no limit</td>'
    assert row in newest
    assert "holds now" in newest
    assert "replaced" in text_of(web.get(url(PolicyVersion, "change", 1)))


def test_a_question_shows_both_numbers_the_answers_and_how_to_answer(web: WebClient) -> None:
    lived_in(1)
    approval = Approval.objects.get()
    shown = text_of(web.get(url(Approval, "change", approval.pk)))
    for told in (
        ">9000<",
        ">5000<",
        "I looked at it",
        f"manage.py approve {approval.pk} ",
        "--confirm BTCUSDT",
    ):
        assert told in shown, told
    assert "1 waiting" in text_of(web.get(reverse("admin:index")))
    Approval.objects.update(expires_at=clock.now())
    caches["pages"].clear()  # home is made once a second
    shown = text_of(web.get(url(Approval, "change", approval.pk)))
    assert "</span> expired</span>" in shown
    assert "manage.py approve" not in shown
    assert "1 waiting" not in text_of(web.get(reverse("admin:index")))


def test_holds_are_chosen_by_whether_they_freeze(web: WebClient) -> None:
    Hold.objects.create(symbol="ETHUSDT", by="nina", reason="a drift of two")
    Hold.objects.create(symbol="SOLUSDT", by="omar", reason="it was a typo", lifted_at=clock.now())
    frozen = text_of(web.get(url(Hold, "changelist"), {"state": "frozen"}))
    assert "a drift of two" in frozen and "it was a typo" not in frozen
    lifted = text_of(web.get(url(Hold, "changelist"), {"state": "lifted"}))
    assert "it was a typo" in lifted and "a drift of two" not in lifted


def test_what_is_active_names_no_scope(web: WebClient) -> None:
    trading.change(state=TradingState.State.ACTIVE, by="nina", reason="all is well")
    assert "verything</td>" not in text_of(web.get(url(TradingState, "changelist")))
    trading.change(state=TradingState.State.HALTED, by="nina", reason="strange prices")
    assert "verything</td>" in text_of(web.get(url(TradingState, "changelist")))
