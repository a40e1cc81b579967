"""The way from the events of one plan to checkpoints, as a proof bundle carries it. docs/audit.md has the form."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from msgspec import Struct

from quantum.chain import checkpoints, form, reading
from quantum.chain.reading import Placed, StoredSeal

REACH = 20_000
"""Seals between an event and the checkpoint that a reader holds: days of them. Farther away asks for another one."""


class TooFar(Exception):
    """That checkpoint is no end of a chain from here. Says why."""


class Proved(Struct, frozen=True):
    events: list[dict[str, Any]]
    chains: list[list[str]]
    keys: set[str]
    """Of the seals in it."""
    unsealed: int


def of_plan(plan_id: str, *, file: Path, to: int | None = None) -> Proved:
    """`to` is the seal of a checkpoint that the reader holds; without it each chain ends at the first checkpoint."""
    placed = reading.of_plan(plan_id)
    numbers = sorted({each.seal for each in placed if each.seal is not None})
    chains = [_chain(first, last) for first, last in _spans(numbers, file, to)]
    leaves = {number: reading.leaves(number) for number in numbers}
    return Proved(
        events=[_event(each, leaves) for each in placed],
        chains=[[_line(seal) for seal in chain] for chain in chains],
        keys={seal.key for chain in chains for seal in chain},
        unsealed=sum(each.seal is None for each in placed),
    )


def _event(placed: Placed, leaves: dict[int, list[bytes]]) -> dict[str, Any]:
    path: list[str] = []
    if placed.seal is not None and placed.position is not None:
        path = form.path(leaves[placed.seal], placed.position)
    return {
        "bytes": base64.b64encode(placed.event).decode(),
        "seal": placed.seal,
        "position": placed.position,
        "path": path,
    }


def _spans(numbers: list[int], file: Path, to: int | None) -> list[tuple[int, int]]:
    """From which seal to which, ascending, those that touch made one."""
    spans: list[tuple[int, int]] = []
    if to is not None and numbers:
        if not numbers[-1] <= to <= numbers[0] + REACH:
            raise TooFar(
                f"the plan lies in seals {numbers[0]} to {numbers[-1]}; --to ends at one of the next {REACH:,}"
            )
        return [(numbers[0], to)]
    for number in numbers:
        end = _checkpoint(number, file)
        if spans and number <= spans[-1][1] + 1:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((number, end))
    return spans


def _checkpoint(number: int, file: Path) -> int:
    """The seal of the first one that holds this seal. Where there is none of ours yet the chain is the seal alone."""
    found = checkpoints.first_from(file, number)
    if found is None or found.number - number > REACH:
        return number
    stored = reading.seal(found.number)
    return found.number if stored is not None and stored.head == found.head else number


def _chain(first: int, last: int) -> list[StoredSeal]:
    chain = list(reading.seals(after=first - 1, until=last))
    if not chain or chain[-1].number != last:
        raise TooFar(f"there is no seal {last} here")
    return chain


def _line(seal: StoredSeal) -> str:
    """As a checkpoint has it, whatever stands in the row: it is the reader who judges."""
    signed = form.signed(form.seal_bytes(seal), seal.signature)
    return f"{seal.head} {signed.decode('utf-8', 'backslashreplace')}"
