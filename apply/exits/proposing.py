"""The way out of the exit brain: a score becomes a proposal, a proposal becomes a plan for both gates."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from apply.exits.score import Score
from apply.proposals.proposal import Proposal
from apply.proposals.taking import Origin, take
from quantum import amounts
from quantum.redis import Client

CODES_CHARS_MAX = 400
ACTOR = "exit-brain"
PLACES, PRICE_PLACES = Decimal("0.0001"), Decimal("0.00000001")
"""A plug-in may divide as it likes; what is told has a length that every reader takes."""


Propose = Callable[[Proposal, str], None]
"""What, and why in one sentence. Raises DatabaseError where it could not be said: it is said again at the next look."""
FIELDS = ("k_regime_flip", "k_sigma_spike", "k_ts_drop", "k_age_penalty")


def proposal_of(symbol: str, score: Score, *, scorer: str, at_s: float) -> Proposal:
    known = {name: part.quantize(PLACES) for name, part in score.contributions.items() if name in FIELDS}
    stop = score.stop_proposed
    return Proposal(
        symbol=symbol,
        action=score.action,
        kill_score_text=_plain(score.value, PLACES),
        computed_at_text=f"{at_s:.3f}",
        new_sl_proposed=None if stop is None else stop.quantize(PRICE_PLACES),
        R_net=None if score.r_net is None else score.r_net.quantize(PLACES),
        reason_codes=codes_of(score),
        source=f"{ACTOR}:{scorer}"[:80],
        **known,
    )


def codes_of(score: Score) -> str:
    """What was crossed comes first: a brain that starts again reads it back. Then every number, as long as they fit."""
    crossed = [score.crossing.code] if score.crossing else []
    numbers = [f"{name}={_plain(part, PLACES)}" for name, part in score.contributions.items()]
    profit = [f"R_net={_plain(score.r_net, PLACES)}"] if score.r_net is not None else []
    rest = [code for code in score.reason_codes if code not in score.contributions]
    told = ""
    for code in (*crossed, *rest, *profit, *numbers):
        longer = f"{told},{code}" if told else code
        if len(longer) > CODES_CHARS_MAX:
            break
        told = longer
    return told


def _plain(value: Decimal, places: Decimal) -> str:
    return amounts.plain(value.quantize(places))


def to_the_gates(client: Client) -> Propose:
    """A refusal is recorded and told where every proposal's is, and is not asked again."""

    def propose(said: Proposal, why: str) -> None:
        take(client, said, origin=Origin(way="brain", actor=ACTOR, why=why))

    return propose
