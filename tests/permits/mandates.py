"""No operator may sign and no hold may be passed: for attempts that are made by hand, without a database."""

from __future__ import annotations

from permits.policy.operator_rules import Operators
from quantum.redis import Client


def nobody(client: Client) -> Operators:
    return Operators(client=client, read=lambda: None)


def no_hold(*, hold_id: int, symbol: str) -> bytes:
    return b""
