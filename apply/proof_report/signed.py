"""Every permit's signature, and its bytes against its row and its plan. 0.1 ms each: only where it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.conf import settings
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery

from apply.models import Order, Plan
from apply.proof_report.report import Part, Span
from permits.desk import payloads
from permits.models import Permit
from quantum import signing

TELL_EVERY = 5000
Tell = Callable[[int, int], None]
_NAMES = ("plan_id", "gate", "symbol", "digest", "mode", "account", "verdict", "quantity", "raw")


def of_signatures(span: Span, tell: Tell | None = None) -> Part:
    part = Part("signatures", "Signatures of permits")
    keys = {name: signing.kept(name, settings.PERMIT_KEYS_DIR) for name in signing.SIGNERS}
    permits = _permits(span)
    n, total = 0, permits.count()
    for row in _rows(permits):
        _look(part, row, keys)
        n += 1
        if tell and (n % TELL_EVERY == 0 or n == total):
            tell(n, total)
    part.figure("permits", n, of=n)
    part.figure("keys", sum(map(len, keys.values())), of=n)
    part.figure("found", part.wrongs, of=n)
    return part


def _permits(span: Span) -> QuerySet[Permit]:
    """By their orders as well: a forged row bears whatever time its writer liked."""
    orders = Order.objects.filter(intended_at__range=span.both, plan_id=OuterRef("plan_id"))
    return Permit.objects.filter(Q(issued_at__range=span.both) | Exists(orders)).order_by()


def _rows(permits: QuerySet[Permit]) -> Iterator[dict[str, Any]]:
    plan = Plan.objects.filter(plan_id=OuterRef("plan_id"))
    meant = permits.annotate(
        plan_digest=Subquery(plan.values("digest")[:1]), plan_symbol=Subquery(plan.values("symbol")[:1])
    )
    names = (*_NAMES, "plan_digest", "plan_symbol")
    rows = meant.values_list(*_NAMES, F("plan_digest"), F("plan_symbol")).iterator()
    return (dict(zip(names, row, strict=True)) for row in rows)


def _look(part: Part, row: dict[str, Any], keys: dict[str, signing.Kept]) -> None:
    gate, plan_id, raw = row["gate"], row["plan_id"], row["raw"].encode()
    named = {"plan_id": plan_id, "symbol": row["symbol"]}
    try:
        permit = payloads.read(raw, gate=gate, all_fields=True)
    except payloads.Malformed as why:
        part.wrong("permit_unreadable", f"{gate}'s permit of plan {plan_id} is none: {why}", **named)
        return
    signer = payloads.OPERATOR if payloads.claims_operator(permit) else gate
    if not signing.is_signed_by(keys.get(signer, ()), raw):
        text = f"{gate}'s permit of plan {plan_id} is signed by no key of {signer} that was ever kept here"
        part.wrong("permit_signature_wrong", text, **named)
    said = {name: getattr(permit, name) for name in _NAMES[:-1]}
    if other := [name for name, value in said.items() if value != row[name]]:
        text = f"the row of {gate}'s permit of plan {plan_id} has another {', '.join(other)} than was signed"
        part.wrong("permit_row_changed", text, **named)
    if row["plan_digest"] is not None and (permit.digest, permit.symbol) != (
        row["plan_digest"],
        row["plan_symbol"],
    ):
        text = f"{gate}'s permit of plan {plan_id} was signed for other content than the plan's"
        part.wrong("permit_of_another_plan", text, **named)
