"""The last mark of an exit that was settled here: its result is told at once, and noted in its rows beside the path."""

from __future__ import annotations

from django.db import Error as DatabaseError
from django.db import close_old_connections

from apply.acting.settle import End
from apply.models import Order, Plan
from apply.plans import results
from apply.plans.results import Result
from permits.gate.outcome import SpentPair
from quantum import ailing, rows
from quantum.beside import Beside
from quantum.log import log
from quantum.redis import Client, RedisError


class Marks(Beside[Result]):
    """What is lost with the process or the database the janitor tells and notes again: the same id comes back."""

    def __init__(self, *, client: Client) -> None:
        super().__init__(name="result-marks")
        self._client = client

    def tell(self, pair: SpentPair, order: Order, end: End | None) -> None:
        """By what this process knows: what its settlement wrote need not be read back. Any other end is in the rows."""
        if end is None:
            results.finish_if_final(self._client, pair.plan.plan_id, token=pair.token)
            return
        row = rows.new(
            Plan,
            plan_id=pair.plan.plan_id,
            symbol=pair.plan.symbol,
            action=pair.plan.action.value,
            decision=pair.plan.decision.value,
            state=end.state,
            error=end.error,
            wait_ms=pair.wait_ms,
        )
        self.put(results.tell(self._client, row, order, token=pair.token))

    def write(self, batch: list[Result]) -> None:
        rows.look_after_line()
        try:
            results.note(self._client, batch)
        except DatabaseError as error:
            ailing.note(error)
            log.warning(
                "results are told but not noted in their plans' rows, the warden does it soon",
                n=len(batch),
                error=type(error).__name__,
            )
            close_old_connections()
        except RedisError as error:
            log.warning(
                "the ledger's copy in Redis is late, the next beat writes it", error=type(error).__name__
            )
