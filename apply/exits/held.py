"""What was already said of one position: one proposal per crossing, and a stop that is kept. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from apply.exits.score import Crossing, Score
from quantum.plan import STEPS


@dataclass(slots=True)
class Held:
    """One position's life: another side or another entry price begins another one. A partial close does not."""

    side: int
    entry_price: Decimal
    is_first: bool = False
    """Of its symbol in this brain: another brain may have spoken of it."""
    stop_locked: Decimal | None = None
    levels: dict[str, int] = field(default_factory=dict)
    """Of every crossing that was told and stands: the highest level."""

    @classmethod
    def of(cls, *, amount: Decimal, entry_price: Decimal, is_first: bool = False) -> Held:
        return cls(side=1 if amount > 0 else -1, entry_price=entry_price, is_first=is_first)

    def is_of(self, *, amount: Decimal, entry_price: Decimal) -> bool:
        return self.side * amount > 0 and self.entry_price == entry_price

    def is_due(self, score: Score) -> bool:
        """Whether this score asks for something that was not asked for yet. Arms again what no longer stands."""
        self.stop_locked = score.stop_proposed
        self.levels = {name: level for name, level in self.levels.items() if name in score.standing}
        crossing = score.crossing
        if score.action not in STEPS or crossing is None:
            return False
        return crossing.level > self.levels.get(crossing.name, 0)

    def note(self, crossing: Crossing) -> None:
        self.levels[crossing.name] = max(crossing.level, self.levels.get(crossing.name, 0))
