"""What the Governor knows of limits: a copy of the policy, of what was used and of what is reserved."""

from __future__ import annotations

from django.db import Error as DatabaseError
from django.db import close_old_connections
from msgspec.structs import replace

from permits.desk import payloads
from permits.desk.reserved import Reservation
from permits.governor import usage
from permits.governor.reservations import Book, Held
from permits.governor.tally import Tally
from permits.policy import policies
from permits.policy.policy import TOTAL, Facts, Policy
from permits.policy.rules import Nonsense
from quantum import clock
from quantum.log import log
from quantum.plan import ExitPlan
from quantum.redis import Client

BOOKS_STALE_S = 10.0


class Books:
    """Errs on the safe side between two readings: what was reserved here it knows at once, what was released
    it learns later."""

    def __init__(self, *, client: Client) -> None:
        policies.ensure_first()
        self.policy: Policy = policies.copy(age_s=0)
        self.version = ""
        self._book = Book(client=client, gate=payloads.GOVERNOR)
        self._tally, self._reader = Tally(), usage.Reader()
        self._usage_id = 0
        self._book.rebuild([])
        self.read_anew()
        self._looked_s = clock.boot_s()

    def look(self, *, age_s: float) -> None:
        """The policy, and the usage where something moved. A database that fails leaves the copy to age."""
        asked_s = clock.boot_s()
        if asked_s - self._looked_s < age_s:
            return
        try:
            self.policy = policies.copy(age_s=0)
            if self._tally.reserved or self._reader.newest_id() != self._usage_id:
                self.read_anew()
            self._looked_s = asked_s
        except (DatabaseError, Nonsense) as error:
            log.warning("policy and usage cannot be read", error=type(error).__name__)
            close_old_connections()

    def read_anew(self) -> None:
        """Reservations first, usage last: a plan that ends in between is seen in both, and counts as what it
        came to. The other way round it would be seen in neither. One that no longer holds anything is let go of
        only with a look for what it came to, however old that row is by now (048)."""
        held = self._book.read()
        if self._is_lost(held):
            log.warning("reservations were lost, and are made anew", were=len(self._tally.reserved))
            self._book.rebuild(self._tally.reserved.values())
            held = self._book.read()
        freed = self._book.sweep(held)
        live = {plan_id: one for plan_id, one in held.reservations.items() if plan_id not in freed}
        newest_id = self._reader.newest_id()
        for charge in self._reader.new(left=self._tally.reserved.keys() - live.keys()):
            self._tally.charge(charge)
        self._usage_id = newest_id
        self._tally.replace_reserved(live.values())
        self._tally.unproven = self._book.unproven
        self.version = held.version

    def _is_lost(self, held: Held) -> bool:
        """Wiped, or put back to an earlier moment: a version only grows."""
        return not held.version or int(held.version) < int(self.version or 0)

    @property
    def too_old(self) -> bool:
        return clock.boot_s() - self._looked_s > BOOKS_STALE_S

    @property
    def moving(self) -> set[str]:
        """Symbols of which an exit was granted whose end we have not seen yet."""
        return self._tally.symbols_reserved()

    def reserved(self, reservation: Reservation) -> None:
        """A permit of ours was written with this; the script moved the version by one."""
        self._tally.reserve(reservation)
        self.version = str(int(self.version) + 1)

    def facts(self, plan: ExitPlan, facts: Facts) -> Facts:
        now_ms = int(clock.boot_s() * 1000)  # the clock of usage.Reader
        return replace(
            facts,
            of_symbol=self._tally.use(plan.symbol, now_ms=now_ms, without=plan.plan_id),
            in_total=self._tally.use(TOTAL, now_ms=now_ms, without=plan.plan_id),
        )
