"""A permit exactly as our desk writes it, taken apart in one step.

Every exit reads two while its position is open, and the careful reader (payloads) takes several times as long. These
layouts are narrower than what it takes: of bytes that match it makes the same permit, whatever they are. All else
(blanks, escapes, members that come rarely, a stranger's order) is left to it.
"""

from __future__ import annotations

import re

_GOVERNOR = (
    '{"v":1,"gate":"governor","plan_id":TEXT,"granted":TRUTH,"symbol":TEXT,"decision":WORD,"computed_qty":AMOUNT,'
    '"computed_notional":AMOUNT,"consumed":TRUTH,"reason":TEXT,"digest":TEXT,"mode":TEXT,"account":TEXT,'
    '"issuer":TEXT,"created_at":AMOUNT,"expires_at":AMOUNT,"sig":WORD}'
)
_P33 = (
    '{"v":1,"gate":"p33","plan_id":TEXT,"allow":TRUTH,"symbol":TEXT,"safe_close_qty":AMOUNT,'
    '"exchange_position_amt":SIGNED,"ledger_amt":NUMBER,"observed_at":NUMBER,"reason":TEXT,"digest":TEXT,'
    '"mode":TEXT,"account":TEXT,"issuer":TEXT,"created_at":AMOUNT,"expires_at":AMOUNT,"sig":WORD}'
)
_UNSIGNED = "(?:0|[1-9][0-9]{0,14})(?:[.][0-9]{1,18})?"
_WORDS = {
    "TEXT": r'"([ !#-\[\]-~]{0,400})"',
    "TRUTH": "(true|false)",
    "AMOUNT": f"({_UNSIGNED})",
    "SIGNED": f"(-?{_UNSIGNED})",
    # looked at, and not read
    "WORD": '"[A-Za-z0-9_-]{0,86}"',
    "NUMBER": f"-?{_UNSIGNED}",
}


def _pattern(layout: str) -> re.Pattern[bytes]:
    parts = re.split(f"({'|'.join(_WORDS)})", layout)
    return re.compile("".join(_WORDS.get(part) or re.escape(part) for part in parts).encode())


_PATTERNS = {"governor": _pattern(_GOVERNOR), "p33": _pattern(_P33)}
"""By gate."""


def texts_of(raw: bytes, gate: str) -> tuple[str, ...] | None:
    """What stands in the layout's places, in its order."""
    match = _PATTERNS[gate].fullmatch(raw)
    return match and tuple(map(bytes.decode, match.groups()))
