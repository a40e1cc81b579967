"""What a scorer is compared with: holding to the end, and one fixed stop. Pure."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct

from apply.exits.score import Crossing, NoScore, Score, View
from quantum import amounts
from quantum.plan import Action


class HoldToTheEnd(Struct, frozen=True):
    name: str = "hold"

    def score(self, view: View) -> Score | NoScore:  # noqa: ARG002  whatever it sees
        return Score(
            value=Decimal(0), contributions={}, action=Action.HOLD, reason="it holds whatever comes."
        )


class FixedStop(Struct, frozen=True):
    """Closes everything once the price went one R against the position. Its score is how near that is."""

    name: str = "stop"

    def score(self, view: View) -> Score | NoScore:
        if view.risk is None:
            return NoScore("R is not known, so there is no stop")
        stop = view.entry_price - view.side * view.risk
        near = view.side * (view.entry_price - view.mark_price) / view.risk
        value = min(max(near, Decimal(0)), Decimal(1)).quantize(Decimal("0.0001"))
        past = view.side * (view.mark_price - stop) <= 0
        said = "crossed" if past else "has not crossed"
        return Score(
            value=value,
            contributions={"k_stop": value},
            action=Action.FULL_CLOSE if past else Action.HOLD,
            reason=f"the price {amounts.plain(view.mark_price)} {said} the fixed stop {amounts.plain(stop)}.",
            crossing=Crossing("fixed_stop") if past else None,
            standing=frozenset({"fixed_stop"}) if past else frozenset(),
            stop_proposed=stop,
        )
