"""What the commands that compare exchange and ledger share: symbols that exist, a fresh read, one way to tell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from django.db import Error as DatabaseError

from permits.management.acting import ActCommand
from permits.management.tables import table
from positions.books.ledger import LedgerChanged
from positions.reconcile import reconcile
from positions.reconcile.reconcile import Line, State, Unreadable
from quantum import amounts
from quantum.commands import Exit
from quantum.log import safe
from quantum.redis import RedisError, command_client

WITHIN_S = 5.0
HEADINGS = ("symbol", "state", "exchange", "ledger", "difference", "tolerance", "age", "incident", "hold")


class LookCommand(ActCommand):
    def look(self, asked: list[str]) -> list[Line]:
        """Fresh lines of these symbols, without any of all that are known; else leaves with 2 or 5."""
        with self.reading():
            known = reconcile.symbols()
            names = sorted({symbol.strip().upper() for symbol in asked}) or sorted(known)
            for name in names:
                if name not in known:
                    self.leave(
                        Exit.USAGE,
                        f"{safe(name[:40])} has no ledger and is not on APPLY_ALLOWLIST: add it there and restart, "
                        f"or correct the name. Known: "
                        f"{safe(', '.join(sorted(known)))}",
                    )
            return reconcile.look(command_client(), names=names, within_s=WITHIN_S)

    def look_again(self, lines: list[Line]) -> list[Line]:
        """For somebody who thought about it for a while: the same numbers, fresh; else leaves with 4 or 5."""
        with self.reading():
            seen = [line.seen for line in lines]
            return reconcile.look_again(command_client(), seen=seen, within_s=WITHIN_S)

    @contextmanager
    def reading(self) -> Iterator[None]:
        try:
            yield
        except Unreadable as unreadable:
            self.leave(
                Exit.DEPENDENCY_DOWN,
                f"{unreadable}. Nothing was changed. Ask `doctor` what is wrong with p33.",
            )
        except LedgerChanged as changed:
            self.leave(Exit.BLOCKED, f"{safe(str(changed))} Nothing was changed.")
        except RedisError as error:
            self.leave(
                Exit.DEPENDENCY_DOWN, f"Redis gave no answer ({type(error).__name__}). Nothing was changed."
            )
        except DatabaseError as error:
            self.leave(
                Exit.DEPENDENCY_DOWN, f"The database refuses ({type(error).__name__}). Nothing was changed."
            )


def state_of(line: Line) -> str:
    """In what they differ, where they do and both can be compared."""
    if line.state is State.DRIFT and line.difference is not None:
        return line.difference.kind.value
    return line.state.value


def told(line: Line) -> dict[str, Any]:
    return {
        "symbol": line.symbol,
        "state": state_of(line),
        "exchange_amt": amounts.plain(line.exchange),
        "ledger_amt": None if line.ledger is None else amounts.plain(line.ledger),
        "diff": amounts.plain(line.exchange - (line.ledger or 0)),
        "tolerance": amounts.plain(line.tolerance),
        "age_s": f"{max(line.age_s, Decimal(0)):.3f}",
        "version": line.version,
        "locked_by": line.locked_by,
        "locked_s": f"{line.locked_s:.0f}" if line.locked_by else None,
        "incidents": [
            {
                "id": each.pk,
                "kind": each.kind,
                "cause": each.cause,
                "opened_at": each.opened_at,
                "acked_by": each.acked_by,
                "evidence": each.evidence,
            }
            for each in line.incidents
        ],
        "hold": None
        if line.hold is None
        else {"id": line.hold.pk, "by": line.hold.by, "reason": line.hold.reason},
    }


def shown(lines: list[Line]) -> str:
    return table(HEADINGS, [_row(told(line)) for line in lines])


def _row(line: dict[str, Any]) -> tuple[str, ...]:
    return (
        line["symbol"],
        line["state"].replace("_", " ") + _order(line),
        line["exchange_amt"],
        line["ledger_amt"] or "never entered",
        line["diff"],
        line["tolerance"],
        f"{line['age_s']} s",
        ", ".join(f"{each['id']} {each['cause'].replace('_', ' ')}" for each in line["incidents"]) or "-",
        f"{line['hold']['id']} by {line['hold']['by']}" if line["hold"] else "-",
    )


def _order(line: dict[str, Any]) -> str:
    return f" (order of {line['locked_by']}, {line['locked_s']} s)" if line["locked_by"] else ""
