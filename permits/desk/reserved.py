"""A reservation, and its text in Redis. Pure."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct

from quantum import amounts

_FIELDS = 5


class Reservation(Struct, frozen=True):
    """What a grant holds of the limits until its plan ends."""

    plan_id: str
    symbol: str
    quantity: Decimal
    notional: Decimal
    issued_ms: int
    expires_ms: int

    def text(self) -> str:
        """`symbol notional quantity issued expires`; the symbol is on the allow-list and has no blank."""
        numbers = (amounts.plain(self.notional), amounts.plain(self.quantity))
        return " ".join((self.symbol, *numbers, str(self.issued_ms), str(self.expires_ms)))

    @classmethod
    def read(cls, plan_id: str, text: str) -> Reservation | None:
        """None: nobody of us wrote that."""
        parts = text.split(" ")
        if len(parts) != _FIELDS or not all(part.isascii() and part.isdigit() for part in parts[3:]):
            return None
        notional, quantity = amounts.parse(parts[1]), amounts.parse(parts[2])
        if notional is None or quantity is None or notional < 0 or quantity < 0:
            return None
        return cls(plan_id, parts[0], quantity, notional, int(parts[3]), int(parts[4]))
