"""What an answer to an order means: the outcome table as data, and the one function that reads it.

Three classes only: the order is known (Answered), it surely did not execute (Refused),
or nobody can tell yet (FateUnknown). Whatever is not in the table is FateUnknown: a
wrong "unknown" costs a look-up, a wrong "not executed" costs a second order (I1, I5).
Matching goes by code. Texts decide in one place only: the two documented 503 messages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from quantum.exchange import answers
from quantum.exchange.types import (
    Answered,
    FateUnknown,
    LocalCode,
    OrderRequest,
    OrderState,
    RefusalKind,
    Refused,
    SendOutcome,
)

TEXT_CHARS_MAX = 300
REST_MS_MAX = 3 * 24 * 3600 * 1000
"""Binance's longest ban is three days; a longer time in an answer is nonsense."""
REST_MS_DEFAULT: Final[Mapping[int, int]] = MappingProxyType({429: 10_000, 418: 120_000})
"""How long to be silent where 429 or 418 names no time (bans start at two minutes)."""


class Reply(Struct, frozen=True):
    """An HTTP answer, whatever it was."""

    status: int
    body: bytes
    retry_after: str | None = None


class NoReply(Struct, frozen=True):
    """No HTTP answer. connected is False only where no connection came about at all."""

    text: str
    connected: bool


_UNKNOWN = None
OUTCOME_BY_CODE: Final[Mapping[int, RefusalKind | None]] = MappingProxyType(
    {
        # unknown: the exchange itself does not say whether it happened
        -1000: _UNKNOWN,
        -1006: _UNKNOWN,
        -1007: _UNKNOWN,
        # surely not executed: be silent for a while
        -1001: RefusalKind.BACK_OFF,
        -1003: RefusalKind.BACK_OFF,
        -1008: RefusalKind.BACK_OFF,
        -1015: RefusalKind.BACK_OFF,
        -1021: RefusalKind.CLOCK,
        -4116: RefusalKind.DUPLICATE,
        # the position or a resting order is not what we thought
        -2011: RefusalKind.CONFLICT,
        -2022: RefusalKind.CONFLICT,
        -4118: RefusalKind.CONFLICT,
        # our request is wrong (the whole range -1100..-1199 as well)
        -1013: RefusalKind.REQUEST,
        -4003: RefusalKind.REQUEST,
        -4004: RefusalKind.REQUEST,
        -4005: RefusalKind.REQUEST,
        -4015: RefusalKind.REQUEST,
        -4023: RefusalKind.REQUEST,
        -4061: RefusalKind.REQUEST,
        -4120: RefusalKind.REQUEST,
        -4164: RefusalKind.REQUEST,
        # the account or its keys
        -1022: RefusalKind.ACCOUNT,
        -2014: RefusalKind.ACCOUNT,
        -2015: RefusalKind.ACCOUNT,
        -4109: RefusalKind.ACCOUNT,
        # the market will not take it now
        -2019: RefusalKind.MARKET,
        -2020: RefusalKind.MARKET,
        -2021: RefusalKind.MARKET,
        -4131: RefusalKind.MARKET,
        -4400: RefusalKind.MARKET,
        -4401: RefusalKind.MARKET,
    }
)
REQUEST_CODES = range(-1199, -1099)
RULES_CODES: Final = frozenset({-1013, -1111, -1121, -4003, -4004, -4005, -4023, -4164})
"""Refusals that old symbol rules can cause: precision, step, least and most quantity, a symbol gone."""
SILENCING_STATUS = (429, 418)
TOO_MANY_REQUESTS = -1003
UNKNOWN_STATUS = (408, 502, 504)
"""Whatever code such an answer carries: somebody between us and the engine gave up waiting."""
SURELY_UNAVAILABLE = "Service Unavailable"
_EPOCH_MS = re.compile(r"\b(1[0-9]{12})\b")


def classify(*, reply: Reply | NoReply, request: OrderRequest | None = None, now_ms: int) -> SendOutcome:
    """The meaning of an answer to an order (or to a cancel, then without request)."""
    if isinstance(reply, NoReply):
        if reply.connected:
            return FateUnknown(text=reply.text)
        return Refused(RefusalKind.BACK_OFF, LocalCode.UNREACHABLE, reply.text)
    value = error = None
    try:
        value = answers.parsed(reply.body)
        error = answers.error_of(value)
        what = f"code {error[0]}: {error[1]}" if error else "no error code"
    except answers.Malformed as why:
        what = str(why) if reply.body else "an empty answer"
    text = one_line(f"HTTP {reply.status}, {what}")
    if reply.status in UNKNOWN_STATUS:
        return FateUnknown(text=text, code=error[0] if error else None)
    if wants_silence(reply):
        code = error[0] if error else reply.status
        return Refused(RefusalKind.BACK_OFF, code, text, silent_until_ms(reply=reply, now_ms=now_ms))
    if error:
        return _by_code(status=reply.status, code=error[0], msg=error[1], text=text)
    if 200 <= reply.status < 300:
        return _answered(value=value, request=request, text=text)
    return FateUnknown(text=text)


def rules_may_be_old(outcome: SendOutcome) -> bool:
    """True: read the symbol rules again before the next plan of this symbol is sized."""
    return isinstance(outcome, Refused) and outcome.code in RULES_CODES


def wants_silence(reply: Reply) -> bool:
    """429 and 418 by their status; the code for "too many requests" whatever status it came with.

    An answer of somebody in between is not the exchange's word, except for those two.
    """
    if reply.status in SILENCING_STATUS:
        return True
    if reply.status in UNKNOWN_STATUS or b"-1003" not in reply.body[:1000]:  # most answers are not read twice
        return False
    try:
        error = answers.error_of(answers.parsed(reply.body))
    except answers.Malformed:
        return False
    return error is not None and error[0] == TOO_MANY_REQUESTS


def silent_until_ms(*, reply: Reply, now_ms: int) -> int:
    """When we may call again: Retry-After, else the time in a ban's text, else a default."""
    rest_ms: int | None = None
    if reply.retry_after and reply.retry_after.isascii() and reply.retry_after.isdigit():
        rest_ms = int(reply.retry_after[:9]) * 1000
    elif named := _EPOCH_MS.search(reply.body[:1000].decode("utf-8", "replace")):
        rest_ms = int(named.group(1)) - now_ms
    if rest_ms is None or not 0 <= rest_ms <= REST_MS_MAX:
        rest_ms = REST_MS_DEFAULT.get(reply.status, REST_MS_DEFAULT[429])
    return now_ms + rest_ms


def _by_code(*, status: int, code: int, msg: str, text: str) -> SendOutcome:
    # "Service Unavailable" is documented as never executed, "Unknown error" as unknown, and
    # both come as 503. Only the JSON form counts: a proxy's HTML page says the same words.
    if status == 503 and msg.strip().rstrip(".") == SURELY_UNAVAILABLE:
        return Refused(RefusalKind.BACK_OFF, code, text)
    kind = OUTCOME_BY_CODE.get(code)
    if code in REQUEST_CODES:
        kind = RefusalKind.REQUEST
    return Refused(kind, code, text) if kind else FateUnknown(text=text, code=code)


def _answered(*, value: object, request: OrderRequest | None, text: str) -> SendOutcome:
    try:
        order = answers.order_state(answers.as_object(value))
    except answers.Malformed as why:
        return FateUnknown(text=one_line(f"{text}, not an order: {why}"))
    if request is not None and not _is_ours(order, request):
        return FateUnknown(text="the answer is about another order than the one sent")
    return Answered(order)


def _is_ours(order: OrderState, request: OrderRequest) -> bool:
    """Also bounds what was executed: more than we asked for cannot be our order (I3)."""
    return (
        order.client_order_id == request.client_order_id
        and order.symbol == request.symbol
        and order.side is request.side
        and order.executed_quantity <= request.quantity
    )


def one_line(text: str) -> str:
    """Foreign text made safe for a log line: one line, printable ASCII, cut."""
    return "".join(c if " " <= c <= "~" else "?" for c in text[:TEXT_CHARS_MAX])
