"""Close everything now: one FULL_CLOSE per symbol, each through both gates like any other exit.

What is shown comes from the ledger and from what p33 told last; what is closed each gate judges by itself, from what
it reads then. A symbol that only one of the two knows, or that p33 did not tell lately, is asked for as well: better a
denial than a forgotten position.
"""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal

from django.conf import settings
from msgspec import Struct
from redis.exceptions import ResponseError

from apply.proposals import taking
from apply.proposals.proposal import Proposal
from apply.proposals.taking import Origin, Taken
from permits.policy import policies
from positions.models import Balance
from quantum import amounts, clock
from quantum.plan import Action
from quantum.redis import Client

KILL_SCORE = "1"
WAY = "flatten"


class Line(Struct, frozen=True):
    symbol: str
    ledger: Decimal | None
    """None: never entered."""
    exchange: Decimal | None
    """As p33 told last; None: not told, which is not flat."""
    age_s: Decimal | None
    allowed: bool

    @property
    def told(self) -> bool:
        """False: what the exchange holds is not known now, whatever was told once (I12)."""
        return (
            self.exchange is not None
            and self.age_s is not None
            and self.age_s <= settings.P33_STALE_THRESHOLD_SEC
        )

    @property
    def flat(self) -> bool:
        return not self.ledger and self.exchange == 0 and self.told


def preview(client: Client, *, symbols: Collection[str] = ()) -> list[Line]:
    """Those named, or every symbol that is not surely flat. Raises RedisError, DatabaseError, Nonsense."""
    balances = Balance.objects.filter(account=settings.ACCOUNT)
    ledger = dict(balances.values_list("symbol", "amount"))
    allowed = policies.copy().allowlist
    wanted = sorted(set(symbols) or {*ledger, *allowed})
    lines = [_line(client, symbol, ledger.get(symbol), allowed=symbol in allowed) for symbol in wanted]
    return lines if symbols else [line for line in lines if not line.flat]


def flatten(client: Client, lines: Collection[Line], *, by: str, reason: str) -> dict[str, Taken]:
    """Symbol -> what came of it. One moment for all of them; the same asked again is a new plan."""
    at_text = f"{clock.now_s():.3f}"
    origin = Origin(way=WAY, actor=by, why=reason)
    return {
        line.symbol: taking.take(
            client,
            Proposal(
                symbol=line.symbol,
                action=Action.FULL_CLOSE,
                kill_score_text=KILL_SCORE,
                computed_at_text=at_text,
                reason_codes="flatten",
                source=WAY,
            ),
            origin=origin,
        )
        for line in lines
    }


def _line(client: Client, symbol: str, ledger: Decimal | None, *, allowed: bool) -> Line:
    try:
        amount, seen = client.hmget(settings.KEYS.snapshot(symbol), "position_amt", "seen_epoch")
    except ResponseError:  # a key that is no hash: one of them must not keep the others open
        amount = seen = None
    seen_s = _number(seen)
    age_s = None if seen_s is None else max(Decimal(0), Decimal(f"{clock.now_s():.3f}") - seen_s)
    return Line(symbol=symbol, ledger=ledger, exchange=_number(amount), age_s=age_s, allowed=allowed)


def _number(raw: bytes | None) -> Decimal | None:
    return None if raw is None else amounts.parse(raw.decode(errors="replace"))
