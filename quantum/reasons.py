"""Why something was refused: closed lists. The same token stands in Redis, log, result,
metric, page and docs/OPERATIONS.md (a test compares)."""

from __future__ import annotations

from enum import StrEnum


class GateReason(StrEnum):
    """Why a pair of permits was not spent."""

    MISSING_BOTH = "missing_both"
    MISSING_GOVERNOR = "missing_governor"
    MISSING_P33 = "missing_p33"
    SYMBOL_BUSY = "symbol_busy"
    GOVERNOR_DENIED = "governor_denied"
    P33_DENIED = "p33_denied"
    MALFORMED_GOVERNOR = "malformed_governor"
    MALFORMED_P33 = "malformed_p33"
    SYMBOL_MISMATCH = "symbol_mismatch"
    DIGEST_MISMATCH = "digest_mismatch"
    MODE_MISMATCH = "mode_mismatch"
    ACCOUNT_MISMATCH = "account_mismatch"
    BAD_SIGNATURE = "bad_signature"
    OPERATOR_REFUSED = "operator_refused"
    NO_EXPIRY = "no_expiry"
    EXPIRED_PERMIT = "expired_permit"
    ALREADY_CONSUMED = "already_consumed"
    EXPIRED_PLAN = "expired_plan"
    HALTED = "halted"
    NOT_ARMED = "not_armed"
    HOLD = "hold"
    REDIS_UNAVAILABLE = "redis_unavailable"
    REDIS_REFUSED = "redis_refused"


WORTH_WAITING_FOR = frozenset(
    {GateReason.MISSING_BOTH, GateReason.MISSING_GOVERNOR, GateReason.MISSING_P33, GateReason.SYMBOL_BUSY}
)


class ApplyReason(StrEnum):
    """Why apply did not execute a plan, or what became of its order."""

    INVALID_PLAN = "invalid_plan"
    CONFLICT = "conflict"
    DUPLICATE = "duplicate"
    STALE_PLAN = "stale_plan"
    FUTURE_PLAN = "future_plan"
    SYMBOL_NOT_ALLOWED = "symbol_not_allowed"
    SYMBOL_LOCKED = "symbol_locked"
    POSITION_CHANGED = "position_changed"
    BELOW_MIN = "below_min"
    LIMIT_EXCEEDED = "limit_exceeded"
    AUDIT_UNAVAILABLE = "audit_unavailable"
    EXCHANGE_UNREACHABLE = "exchange_unreachable"
    RATE_LIMITED = "rate_limited"
    CLOCK_SKEW = "clock_skew"
    REJECTED_REQUEST = "rejected_request"
    REJECTED_ACCOUNT = "rejected_account"
    REJECTED_MARKET = "rejected_market"
    REJECTED_CONFLICT = "rejected_conflict"
    UNKNOWN_OUTCOME = "unknown_outcome"
    SPENT_UNSENT = "spent_unsent"
    NOT_AT_EXCHANGE = "not_at_exchange"
    ACTION_UNSUPPORTED = "action_unsupported"
    DECISION_SKIP = "decision_skip"
    DRY_RUN = "dry_run"
    CANCELLED = "cancelled"
    RESOLVED_BY_PERSON = "resolved_by_person"


class BrainReason(StrEnum):
    """The Brain's answer."""

    SANITY_CHECKS_PASSED = "sanity_checks_passed"
    NO_EXCHANGE_SNAPSHOT = "no_exchange_snapshot"
    STALE_EXCHANGE_STATE = "stale_exchange_state"
    POSITION_UNREADABLE = "position_unreadable"
    NO_POSITION = "no_position"
    LEDGER_MISSING = "ledger_missing"
    SIDE_MISMATCH = "reconcile_required_side_mismatch"
    QTY_MISMATCH = "reconcile_required_qty_mismatch"
    COOLDOWN_IN_FLIGHT = "cooldown_in_flight"
    ORDER_IN_FLIGHT = "order_in_flight"
    HOLD_ACTIVE = "reconcile_hold_active"
    BELOW_MIN_QUANTITY = "below_min_quantity"
    HEDGE_MODE = "hedge_mode_unsupported"
    STALE_PLAN = "stale_plan"


class GovernorReason(StrEnum):
    """The Governor's answer."""

    APPROVED = "approved"
    MODE = "mode"
    NOT_IN_ALLOWLIST = "not_in_allowlist"
    STALE_PLAN = "stale_plan"
    HALTED = "halted"
    BURST_LIMIT = "burst_limit"
    HOURLY_LIMIT = "hourly_limit"
    DAILY_NOTIONAL_LIMIT = "daily_notional_limit"
    DAILY_QUANTITY_LIMIT = "daily_quantity_limit"
    COOLDOWN = "cooldown"
    CIRCUIT_OPEN = "circuit_open"
    AWAITING_APPROVAL = "awaiting_approval"
    INPUTS_UNAVAILABLE = "inputs_unavailable"


class ProposalReason(StrEnum):
    """Why a proposal made no plan."""

    MALFORMED_PROPOSAL = "malformed_proposal"
    UNKNOWN_ACTION = "unknown_action"
    MISSING_STOP = "missing_stop"
    STALE_PROPOSAL = "stale_proposal"
    FUTURE_PROPOSAL = "future_proposal"
    SYMBOL_NOT_ALLOWED = "symbol_not_allowed"
