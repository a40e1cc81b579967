"""Which scorer a name leads to, what a plug-in may answer, and what a wrong one costs."""

from __future__ import annotations

import itertools
import textwrap
from decimal import Decimal
from importlib import metadata
from typing import Any, cast

import pytest
from msgspec.structs import replace

from apply.checks import a_stop_knows_where_it_is, the_exit_brain_has_a_scorer
from apply.exits import scorers
from apply.exits.score import Crossing, fault_of
from quantum.plan import Action
from tests.exits.by_hand import Eager, a_score, view


def test_ours_and_dotted_paths_are_found() -> None:
    assert [scorers.find(name).name for name in ("rules", "stop", "hold")] == ["rules", "stop", "hold"]
    assert scorers.find("tests.exits.by_hand.Eager").name == "eager"
    assert scorers.find("tests.exits.by_hand:Eager").name == "eager"


def test_an_entry_point_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    point = metadata.EntryPoint("mine", "tests.exits.by_hand:Eager", scorers.GROUP)
    monkeypatch.setattr(metadata, "entry_points", lambda **_: metadata.EntryPoints([point]))
    assert isinstance(scorers.find("mine"), Eager)
    assert "mine" in scorers.names()


@pytest.mark.parametrize(
    "name",
    [
        "nobody",
        "no.such.module",
        "tests.exits.by_hand.Nobody",
        "tests.exits.by_hand.klines",
        "decimal.Decimal",
        "tests.exits.by_hand.Nameless",
    ],
)
def test_a_name_that_leads_nowhere_refuses_to_start_with_a_remedy(settings: Any, name: str) -> None:
    settings.EXIT_BRAIN = name
    [refused] = the_exit_brain_has_a_scorer()
    assert refused.id == "apply.E002"
    assert "rules" in (refused.hint or "")


@pytest.mark.parametrize("name", ["off", "demo", "rules", "tests.exits.by_hand.Eager"])
def test_a_good_name_passes(settings: Any, name: str) -> None:
    settings.EXIT_BRAIN = name
    assert the_exit_brain_has_a_scorer() == []


def test_a_stop_that_would_close_nothing_refuses_to_start(settings: Any) -> None:
    """Whoever sets one believes that he has one."""
    settings.EXIT_BRAIN, settings.EXIT_RISK_PCT = "stop", None
    [refused] = a_stop_knows_where_it_is()
    assert "EXIT_RISK_PCT" in refused.msg and "percent" in (refused.hint or "")
    settings.EXIT_RISK_PCT = Decimal(2)
    assert a_stop_knows_where_it_is() == []
    settings.EXIT_BRAIN, settings.EXIT_RISK_PCT = "rules", None
    assert a_stop_knows_where_it_is() == []


@pytest.mark.parametrize(
    "wrong",
    [
        None, 0.5, a_score(value=0.5), a_score(value=Decimal("NaN")), a_score(value=Decimal("1.01")),
        a_score(contributions={"k_x": Decimal("-0.1")}), a_score(r_net=Decimal("Infinity")),
        a_score(stop_proposed=Decimal("NaN")), a_score(Action.FULL_CLOSE), a_score(cast("Any", "SELL")),
        a_score(reason=""), a_score(reason="two\nlines"), a_score(reason="x" * 301), a_score(reason_codes=("a b",)),
        a_score(reason_codes=("a",) * 9), a_score(Action.FULL_CLOSE, Crossing("Quantum,x")),
        a_score(Action.FULL_CLOSE, Crossing("ema20")), a_score(Action.FULL_CLOSE, Crossing("ema", 0)),
        a_score(Action.FULL_CLOSE, Crossing("ema", cast("Any", "2"))),
        replace(a_score(Action.FULL_CLOSE, Crossing("ema")), crossing=cast("Any", "ema")),
        a_score(standing=cast("Any", None)),
    ],
    ids=range(21),
)  # fmt: skip
def test_an_answer_that_breaks_the_contract_is_found_out(wrong: Any) -> None:
    assert fault_of(wrong)


def test_an_answer_that_keeps_it_passes() -> None:
    assert fault_of(a_score()) == ""
    assert fault_of(a_score(Action.PARTIAL_50, Crossing("profit_r", 4))) == ""


def test_the_scorer_in_the_documents_runs_and_keeps_the_contract(settings: Any) -> None:
    text = (settings.BASE_DIR / "docs/exits.md").read_text().partition("## A scorer of your own")[2]
    lines = itertools.dropwhile(lambda line: not line.startswith("    "), text.splitlines())
    code = itertools.takewhile(lambda line: line.startswith("    ") or not line, lines)
    found: dict[str, Any] = {}
    exec(textwrap.dedent("\n".join(code)), found)  # noqa: S102  our own document
    said = [found["HalfAfterAnHour"]().score(view(age_s=Decimal(age_s))) for age_s in (3599, 3600)]
    assert [one.action for one in said] == [Action.HOLD, Action.PARTIAL_50]
    assert [fault_of(one) for one in said] == ["", ""]
