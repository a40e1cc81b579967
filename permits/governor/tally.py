"""What was used of the limits, per symbol and in total: charges of fills, and reservations that live. Pure."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from msgspec import Struct

from permits.desk.reserved import Reservation
from permits.policy.policy import TOTAL, Use

FIVE_MIN_MS, HOUR_MS, DAY_MS = 300_000, 3_600_000, 86_400_000


class Charge(Struct, frozen=True):
    """What a spent permit came to, or that it came to nothing."""

    plan_id: str
    symbol: str
    at_ms: int
    quantity: Decimal = Decimal(0)
    notional: Decimal = Decimal(0)
    failed: bool = False


class Tally:
    """Running sums: a decision costs the same after ten exits and after ten thousand."""

    def __init__(self) -> None:
        self._scopes = defaultdict[str, _Scope](_Scope)
        self._reserved: dict[str, Reservation] = {}
        self._charged: dict[str, None] = {}
        self._day: deque[Charge] = deque()
        self.unproven: frozenset[str] = frozenset()
        """Reserved plans of unknown outcome: they hold their size until there is proof, but an exit of hours ago
        is neither one of this moment nor a probe. Its own symbol is locked anyway (I5), others must go on (I8)."""

    @property
    def reserved(self) -> dict[str, Reservation]:
        return dict(self._reserved)

    def symbols_reserved(self) -> set[str]:
        return {one.symbol for one in self._reserved.values()}

    def charge(self, charge: Charge) -> None:
        """Once per plan, as they are seen. Usage wins over a reservation that was not yet released."""
        if charge.plan_id in self._charged:
            return
        self.release(charge.plan_id)
        self._charged[charge.plan_id] = None
        self._day.append(charge)
        for scope in self._of(charge.symbol):
            scope.charge(charge)

    def reserve(self, reservation: Reservation) -> None:
        self.release(reservation.plan_id)
        if reservation.plan_id in self._charged:
            return
        self._reserved[reservation.plan_id] = reservation
        for scope in self._of(reservation.symbol):
            scope.hold(reservation, sign=1)

    def release(self, plan_id: str) -> None:
        reservation = self._reserved.pop(plan_id, None)
        if reservation is not None:
            for scope in self._of(reservation.symbol):
                scope.hold(reservation, sign=-1)

    def replace_reserved(self, reservations: Iterable[Reservation]) -> None:
        """Only what differs is touched: most of them are the same from one reading to the next."""
        now = {reservation.plan_id: reservation for reservation in reservations}
        for plan_id in self._reserved.keys() - now.keys():
            self.release(plan_id)
        for plan_id, reservation in now.items():
            if self._reserved.get(plan_id) != reservation:
                self.reserve(reservation)

    def use(self, scope: str, *, now_ms: int, without: str = "") -> Use:
        """Of a symbol, or TOTAL. `without`: a plan that is judged again does not stand in its own way."""
        self._forget(now_ms)
        own = self._reserved.get(without)
        found = self._scopes[scope]
        own = own if own and scope in (TOTAL, own.symbol) else None
        held = (self._reserved.get(plan_id) for plan_id in self.unproven)
        late = [one for one in held if one is not None and one is not own and scope in (TOTAL, one.symbol)]
        return found.use(now_ms, own, unproven=len(late))

    def _of(self, symbol: str) -> tuple[_Scope, _Scope]:
        return self._scopes[symbol], self._scopes[TOTAL]

    def _forget(self, now_ms: int) -> None:
        while self._day and self._day[0].at_ms <= now_ms - DAY_MS:
            self._charged.pop(self._day.popleft().plan_id, None)


class _Window:
    """Executions of the last so many milliseconds. What lies exactly that far back is outside."""

    def __init__(self, length_ms: int) -> None:
        self._length_ms = length_ms
        self._charges: deque[Charge] = deque()
        self.quantity = self.notional = Decimal(0)

    def add(self, charge: Charge) -> None:
        self._charges.append(charge)
        self.quantity += charge.quantity
        self.notional += charge.notional

    def count(self, now_ms: int) -> int:
        while self._charges and self._charges[0].at_ms <= now_ms - self._length_ms:
            gone = self._charges.popleft()
            self.quantity -= gone.quantity
            self.notional -= gone.notional
        return len(self._charges)


@dataclass(slots=True)
class _Scope:
    five_min: _Window = field(default_factory=lambda: _Window(FIVE_MIN_MS))
    hour: _Window = field(default_factory=lambda: _Window(HOUR_MS))
    day: _Window = field(default_factory=lambda: _Window(DAY_MS))
    exit_ms: int | None = None
    failures: int = 0
    failed_ms: int | None = None
    held: int = 0
    held_quantity: Decimal = Decimal(0)
    held_notional: Decimal = Decimal(0)

    def charge(self, charge: Charge) -> None:
        if charge.failed:
            self.failures += 1
            self.failed_ms = _later(charge.at_ms, self.failed_ms)
            return
        self.failures, self.exit_ms = 0, _later(charge.at_ms, self.exit_ms)
        for window in (self.five_min, self.hour, self.day):
            window.add(charge)

    def hold(self, reservation: Reservation, *, sign: int) -> None:
        self.held += sign
        self.held_quantity += sign * reservation.quantity
        self.held_notional += sign * reservation.notional

    def use(self, now_ms: int, own: Reservation | None, *, unproven: int) -> Use:
        held = self.held - (own is not None)
        self.day.count(now_ms)
        return Use(
            permits_5min=self.five_min.count(now_ms) + held,
            permits_hour=self.hour.count(now_ms) + held,
            notional_day=self.day.notional + self.held_notional - (own.notional if own else 0),
            quantity_day=self.day.quantity + self.held_quantity - (own.quantity if own else 0),
            since_exit_s=_since_s(now_ms, self.exit_ms),
            failures_in_a_row=self.failures,
            since_failure_s=_since_s(now_ms, self.failed_ms),
            in_flight=held - unproven,
        )


def _later(at_ms: int, before_ms: int | None) -> int:
    """Since the machine started: of the day before that they are below zero."""
    return at_ms if before_ms is None else max(at_ms, before_ms)


def _since_s(now_ms: int, then_ms: int | None) -> Decimal | None:
    return None if then_ms is None else Decimal(now_ms - then_ms) / 1000
