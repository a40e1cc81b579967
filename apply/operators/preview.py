"""What a person sees before he breaks the glass, and what his act then stands on."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.conf import settings
from msgspec import Struct

from apply.models import Plan
from apply.operators import decided, outlook
from apply.operators.outlook import Outlook
from permits.desk import payloads
from permits.models import TradingState
from permits.policy import policies
from permits.policy.operator_rules import Operators
from permits.policy.policy import Policy
from permits.policy.rules import Nonsense
from permits.state import trading
from positions.reconcile import reconcile
from positions.reconcile.reconcile import Line, State
from quantum import amounts, clock
from quantum import plan as plans
from quantum.plan import STEPS, Action
from quantum.redis import Client

GATES = {
    "governor": (payloads.GOVERNOR,),
    "p33": (payloads.P33,),
    "both": (payloads.P33, payloads.GOVERNOR),
}
"""p33 first: the size that it signs bounds the other."""
ACTIONS = tuple(STEPS)
FULL_HALT = (
    "Trading is halted in full: that stops everything, this as well. Leave the halt first (trading_state resume); "
    "to keep automatic plans stopped, halt again with --scope automatic."
)


class Wanted(Struct, frozen=True):
    symbol: str
    action: Action
    gates: tuple[str, ...]

    @property
    def percent(self) -> int:
        return STEPS[self.action].percent


class Stood(Struct, frozen=True):
    """The moment that an act stands on. Plain values: a request and a page keep it as JSON."""

    exchange: str
    version: int | None
    hold_id: int | None
    state_version: int
    last_plan: int
    looked_ms: int

    @property
    def looked_at(self) -> dt.datetime:
        return clock.from_ms(self.looked_ms)

    @staticmethod
    def read(said: Mapping[str, Any]) -> Stood:
        """Raises KeyError."""
        return Stood(**{name: said[name] for name in Stood.__struct_fields__})

    def changed_from(self, before: Stood) -> str:
        """In words; empty: nothing that matters. Time and newer plans are looked at by decided()."""
        told = [
            (before.exchange != self.exchange, f"the exchange holds {self.exchange}, not {before.exchange}"),
            (before.version != self.version, "the ledger moved"),
            (before.hold_id != self.hold_id, f"{_hold(self.hold_id)}, before {_hold(before.hold_id)}"),
            (before.state_version != self.state_version, "the trading state was changed"),
        ]
        return "; ".join(text for changed, text in told if changed)


class Preview(Struct, frozen=True):
    wanted: Wanted
    line: Line
    stood: Stood
    state: TradingState | None
    outlooks: list[Outlook]
    limits: list[str]
    quantity: Decimal
    decided: Plan | None
    refusal: str
    """Empty: it may be asked for. Says what to do."""
    second_person: str
    """Why another person has to say yes; empty: one is enough."""

    @property
    def after(self) -> Decimal:
        """What the exchange would hold, were the most of it closed."""
        left = abs(self.line.exchange) - self.quantity
        return -left if self.line.exchange < 0 else left

    @property
    def notional(self) -> Decimal | None:
        return None if self.line.mark_price is None else self.quantity * self.line.mark_price

    @property
    def still_in_the_way(self) -> list[Outlook]:
        """Gates that would say no, and that are left to say it."""
        return [each for each in self.outlooks if not each.grants and each.gate not in self.wanted.gates]


def look(client: Client, wanted: Wanted, *, within_s: float) -> Preview:
    """Asks p33 for a fresh read and changes nothing. Raises Unreadable, RedisError, DatabaseError.

    The newest plan is read first: one that ends while the exchange is asked is one that was not seen."""
    last_plan, looked_ms = decided.newest_id(wanted.symbol), clock.now_ms()
    [line] = reconcile.look(client, names=[wanted.symbol], within_s=within_s)
    state = trading.newest()
    stood = Stood(
        exchange=amounts.plain(line.exchange),
        version=line.version,
        hold_id=line.hold.pk if line.hold else None,
        state_version=state.version if state else 0,
        last_plan=last_plan,
        looked_ms=looked_ms,
    )
    quantity = abs(line.exchange) * wanted.percent / 100
    before = decided.decided(wanted.symbol, after_id=last_plan, since=stood.looked_at)
    rules, unreadable = _policy()
    return Preview(
        wanted=wanted,
        line=line,
        stood=stood,
        state=state,
        outlooks=_outlooks(wanted, line, rules, quantity) if rules else [],
        limits=outlook.limits(rules, wanted.symbol) if rules else [],
        quantity=quantity,
        decided=before or _locked_by(line),
        refusal=unreadable or _refusal(client, wanted, line, rules, quantity),
        second_person=_second_person(wanted, quantity, line.mark_price),
    )


def _policy() -> tuple[Policy | None, str]:
    try:
        return policies.copy(age_s=0), ""
    except Nonsense as nonsense:
        return None, f"The policy cannot be read ({nonsense}), so nobody may sign. See policy_set."


def _outlooks(wanted: Wanted, line: Line, rules: Policy, quantity: Decimal) -> list[Outlook]:
    plan = plans.make(
        symbol=wanted.symbol,
        action=wanted.action,
        kill_score_text="1",
        timestamp_text=f"{clock.now_s():.3f}",
        mode=settings.APPLY_MODE,
        source="preview",
    )
    return outlook.of(plan, line, rules, quantity=quantity)


def _locked_by(line: Line) -> Plan | None:
    return Plan.objects.filter(plan_id=line.locked_by).first() if line.locked_by else None


def _refusal(client: Client, wanted: Wanted, line: Line, rules: Policy | None, quantity: Decimal) -> str:
    state = trading.current()
    if rules is None or wanted.symbol not in rules.allowlist:
        return (
            f"{wanted.symbol} is not on the policy's allow-list: no plan of it is executed. See policy_set."
        )
    if not state.lets_pass(by_operator=True):
        return FULL_HALT
    if line.state is State.STALE:
        return (
            f"What the exchange holds of {wanted.symbol} is not known: no fresh read. See doctor about p33."
        )
    if line.locked_by:
        return f"An order of plan {line.locked_by} has no end yet: see with plan_show what became of it."
    if line.exchange == 0:
        return f"The exchange holds nothing of {wanted.symbol}, so there is nothing to close."
    why = Operators(client=client).refusal(gates=wanted.gates, symbol=wanted.symbol, quantity=quantity)
    if not why:
        return ""
    way = "manage.py policy_set operator.gates=governor,p33 operator.max_notional=USD --reason '...'"
    return f"The policy does not leave this to operators: {why}. Who may set limits gives it by {way}."


def _second_person(wanted: Wanted, quantity: Decimal, price: Decimal | None) -> str:
    """What nobody can price is above every limit."""
    limit: Decimal | None = settings.BREAK_GLASS_SECOND_PERSON_USD
    if len(wanted.gates) > 1:
        return "both gates would be passed"
    if settings.APPROVERS_REQUIRED > 1:
        return f"APPROVERS_REQUIRED is {settings.APPROVERS_REQUIRED}"
    if limit is not None and (price is None or quantity * price > limit):
        worth = "its price is not known" if price is None else f"it is worth {quantity * price:.2f} USD"
        return f"{worth}, the limit is {amounts.plain(limit)}"
    return ""


def _hold(hold_id: int | None) -> str:
    return "no hold" if hold_id is None else f"hold {hold_id}"
