"""A proposal: what an exit brain suggests for a symbol, read strictly from whatever a stranger wrote. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal

from msgspec import Struct

from quantum import amounts, texts
from quantum import plan as plans
from quantum.plan import FUTURE_TOLERANCE_S, Action, ExitPlan, MalformedPlan
from quantum.reasons import ProposalReason

BYTES_MAX = 4096
FIELDS_MAX = 32
REASON_CODES_MAX = 400
SOURCE_MAX = 80
CONTRIBUTIONS = ("k_regime_flip", "k_sigma_spike", "k_ts_drop", "k_age_penalty")
AMOUNTS = (*CONTRIBUTIONS, "new_sl_proposed", "R_net")
FIELDS = ("symbol", "harvest_action", "kill_score", "computed_at_utc", *AMOUNTS,
          "last_update_epoch", "reason_codes", "source")  # fmt: skip
"""All that a proposal may say; what else stands in a hash or on the stream is not ours and is not read."""
QUIET = (Action.HOLD, Action.NONE)
"""They ask for nothing, so nothing comes of them."""
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)


class Refused(Exception):
    """No plan comes of it, and why: a token and a text that is safe to show."""

    def __init__(self, reason: ProposalReason, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text


class Proposal(Struct, frozen=True):
    symbol: str
    action: Action
    kill_score_text: str
    computed_at_text: str
    """Epoch seconds, plain. With symbol, action, score and stop it is what makes two proposals the same one."""
    k_regime_flip: Decimal | None = None
    k_sigma_spike: Decimal | None = None
    k_ts_drop: Decimal | None = None
    k_age_penalty: Decimal | None = None
    new_sl_proposed: Decimal | None = None
    R_net: Decimal | None = None
    reason_codes: str = ""
    source: str = ""

    def plan(self, *, mode: str) -> ExitPlan:
        """Raises Refused for what no plan can say."""
        stop = self.new_sl_proposed
        try:
            return plans.make(
                symbol=self.symbol,
                action=self.action,
                kill_score_text=self.kill_score_text,
                timestamp_text=self.computed_at_text,
                stop_proposed="" if stop is None else amounts.plain(stop),
                mode=mode,
                source=self.source[:SOURCE_MAX],
                reason_codes=self.reason_codes[:REASON_CODES_MAX],
            )
        except MalformedPlan as malformed:
            raise Refused(ProposalReason.MALFORMED_PROPOSAL, str(malformed)) from None


def judge(proposal: Proposal, *, now_s: Decimal, ttl_s: Decimal, allowed: bool) -> None:
    """Raises Refused. Holds for what our own scorers make just as for what a stranger wrote."""
    for name in AMOUNTS:
        value = getattr(proposal, name)
        if value is not None and not (value.is_finite() and abs(value) <= amounts.LARGEST):
            raise Refused(ProposalReason.MALFORMED_PROPOSAL, f"{name} is no plain number of sane size")
    stop = proposal.new_sl_proposed
    if stop is not None and stop <= 0:
        raise Refused(ProposalReason.MALFORMED_PROPOSAL, "new_sl_proposed is not above zero")
    if proposal.action is Action.UPDATE_SL and stop is None:
        raise Refused(ProposalReason.MISSING_STOP, "UPDATE_SL needs new_sl_proposed")
    if not allowed:
        raise Refused(ProposalReason.SYMBOL_NOT_ALLOWED, "the symbol is not on the policy's allow-list")
    computed_s = Decimal(proposal.computed_at_text)
    if computed_s > now_s + FUTURE_TOLERANCE_S:
        raise Refused(
            ProposalReason.FUTURE_PROPOSAL, f"computed {computed_s - now_s:.3f} s ahead of this clock"
        )
    if now_s >= computed_s + ttl_s:
        raise Refused(
            ProposalReason.STALE_PROPOSAL, f"computed {now_s - computed_s:.3f} s ago; a plan lives {ttl_s} s"
        )


def read_bytes(raw: Mapping[bytes, bytes], *, symbol: str = "") -> Proposal:
    """symbol: where the key names it, as a hash's does."""
    if len(raw) > FIELDS_MAX or sum(len(name) + len(value) for name, value in raw.items()) > BYTES_MAX:
        raise Refused(
            ProposalReason.MALFORMED_PROPOSAL, f"larger than {BYTES_MAX} bytes or over {FIELDS_MAX} fields"
        )
    try:
        said = {name.decode(): value.decode() for name, value in raw.items()}
    except UnicodeDecodeError:
        raise Refused(ProposalReason.MALFORMED_PROPOSAL, "not UTF-8 text") from None
    if symbol and said.setdefault("symbol", symbol) != symbol:
        raise Refused(ProposalReason.MALFORMED_PROPOSAL, "names another symbol than its key")
    return read(said)


def read(said: Mapping[str, str]) -> Proposal:
    """Every failure is Refused, whatever the texts are."""
    for name in FIELDS:
        if not texts.storable(said.get(name, "")):
            raise Refused(ProposalReason.MALFORMED_PROPOSAL, f"{name} contains what no database keeps")
    try:
        action = Action(_required(said, "harvest_action"))
    except ValueError:
        raise Refused(
            ProposalReason.UNKNOWN_ACTION, f"harvest_action is not one of {', '.join(Action)}"
        ) from None
    read_amounts = {name: _amount(said[name], name) for name in AMOUNTS if said.get(name)}
    proposal = Proposal(
        symbol=_required(said, "symbol"),
        action=action,
        kill_score_text=_one_spelling(_required(said, "kill_score")),
        computed_at_text=_moment(_required(said, "computed_at_utc")),
        reason_codes=_short(said, "reason_codes", REASON_CODES_MAX),
        source=_short(said, "source", SOURCE_MAX),
        **read_amounts,
    )
    proposal.plan(mode="")  # what it says must fit a plan, even where none is made of it
    return proposal


def _required(said: Mapping[str, str], name: str) -> str:
    text = said.get(name, "")
    if not text:
        raise Refused(ProposalReason.MALFORMED_PROPOSAL, f"field {name} is missing")
    return text


def _one_spelling(text: str) -> str:
    """0.50 in a hash and 0.5 by HTTP are one word: two plans of it would close twice. What is no number stays."""
    value = amounts.parse(text)
    return text if value is None else amounts.plain(value)


def _short(said: Mapping[str, str], name: str, most: int) -> str:
    text = said.get(name, "")
    if len(text) > most:
        raise Refused(ProposalReason.MALFORMED_PROPOSAL, f"{name} is longer than {most} characters")
    return text


def _amount(text: str, name: str) -> Decimal:
    value = amounts.parse(text)
    if value is None:
        raise Refused(ProposalReason.MALFORMED_PROPOSAL, f"{name} is no plain decimal number")
    return value


def _moment(text: str) -> str:
    """Epoch seconds, or an ISO time brought to them exactly; without a zone it is UTC."""
    if amounts.parse(text) is not None:
        return _one_spelling(text)
    try:
        at = dt.datetime.fromisoformat(text)
        since = (at if at.tzinfo else at.replace(tzinfo=dt.UTC)) - _EPOCH
    except (ValueError, OverflowError):
        raise Refused(
            ProposalReason.MALFORMED_PROPOSAL, "computed_at_utc is neither epoch seconds nor an ISO time"
        ) from None
    return amounts.plain(Decimal(since // _MICROSECOND) / 1_000_000)
