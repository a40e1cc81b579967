"""Is the chain whole? Everything is computed again from the rows; nothing that the database says of itself is believed
without it. Memory does not grow with the chain: seals, links and checkpoints are walked side by side.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from pathlib import Path

from msgspec import Struct

from quantum import clock
from quantum.chain import checkpoints, form, reading, standing
from quantum.chain.checkpoints import Line
from quantum.chain.form import Checkpoint
from quantum.chain.key import Believed
from quantum.chain.reading import Link, StoredSeal
from quantum.models import Instance

TOLD_MOST = 50
OVERDUE_S = 60.0
"""A last seal without its checkpoint for longer than this: nobody could tell whether there were more."""
Tell = Callable[[int, int], None]


class Outcome(StrEnum):
    WHOLE = "whole"
    BROKEN = "broken"
    CANNOT_TELL = "cannot tell"


class Wrong(StrEnum):
    ROW_CHANGED = "row_changed"
    ROW_MISSING = "row_missing"
    ROW_MOVED = "row_moved"
    ROW_INSERTED = "row_inserted"
    LINK_CHANGED = "link_changed"
    LINK_MISSING = "link_missing"
    SEAL_CHANGED = "seal_changed"
    SEAL_MISSING = "seal_missing"
    SEAL_REPLACED = "seal_replaced"
    SIGNATURE = "signature"
    OTHER_INSTANCE = "other_instance"
    TAIL_CUT = "tail_cut"
    CHECKPOINT_WRONG = "checkpoint_wrong"
    CHECKPOINT_MISSING = "checkpoint_missing"


class Problem(Struct, frozen=True):
    wrong: Wrong
    text: str
    seal: int | None = None
    event: int | None = None


@dataclass(slots=True)
class Report:
    seals: int = 0
    events: int = 0
    head: str = form.NO_HEAD
    unsealed: int = 0
    oldest_s: float | None = None
    files: list[Path] = field(default_factory=list)
    checkpoints: int = 0
    last_checkpoint: int = 0
    problems: list[Problem] = field(default_factory=list)
    more_problems: int = 0
    doubts: list[str] = field(default_factory=list)
    """Why nobody can tell, where nothing was found broken."""

    @property
    def outcome(self) -> Outcome:
        if self.problems:
            return Outcome.BROKEN
        return Outcome.CANNOT_TELL if self.doubts else Outcome.WHOLE


def verify(*, files: list[Path], keys: Path, tell: Tell = lambda _done, _all: None) -> Report:
    return _Walk(files=files, believed=Believed(directory=keys), tell=tell).go()


class _Walk:
    def __init__(self, *, files: list[Path], believed: Believed, tell: Tell) -> None:
        self._report = Report(files=files)
        self._believed = believed
        self._tell = tell
        self._instance = str(Instance.objects.values_list("uuid", flat=True).first() or "")
        self._unattested: set[int] = set()
        """Numbers of checkpoints that were met and that no seal has spoken of yet."""
        self._attested = 0
        self._all_files = True
        self._doubted_keys: set[str] = set()

    def go(self) -> Report:
        report, end = self._report, standing.last_number()
        self._ask_for_what_it_takes(end)
        lines = heapq.merge(*map(self._lines, report.files), key=lambda line: _number(line))
        links, line = reading.links(until=end), next(lines, None)
        link = next(links, None)
        expected, total, last = 1, standing.total_at(end), None
        for seal in reading.seals(until=end):
            while link is not None and link.seal < seal.number:
                self._astray(link.event, link.seal)
                link = next(links, None)
            mine: list[Link] = []
            while link is not None and link.seal == seal.number:
                if len(mine) <= reading.PIECE:
                    mine.append(link)
                link = next(links, None)
            if seal.number != expected:
                self._missing_seals(expected, seal.number - 1)
            while line is not None and _number(line) < seal.number:
                self._of_no_seal(line)
                line = next(lines, None)
            while line is not None and _number(line) == seal.number:
                self._compare(line, seal)
                line = next(lines, None)
            self._judge(seal, mine)
            self._attest(seal)
            expected, last = seal.number + 1, seal
            self._tell(report.events, total)
        while line is not None:
            self._beyond(line, last)
            line = next(lines, None)
        for event, number in reading.astray():
            self._astray(event, number)
        self._end(last)
        return report

    # ---- what it takes to tell

    def _ask_for_what_it_takes(self, end: int) -> None:
        report = self._report
        missing = [path for path in report.files if not path.is_file()]
        if missing and (end or standing.any_event()):
            report.doubts += [
                f"there is no checkpoint file {path}: a cut end would not show" for path in missing
            ]
        report.files = [path for path in report.files if path not in missing]
        self._all_files = not missing
        if end and not self._believed:
            report.doubts.append(
                "there is no public key of the sealer (audit.pub): no signature can be checked"
            )
        if not end and standing.any_event():
            report.doubts.append("nothing is sealed yet: the warden seals, and its log says why it does not")

    def _end(self, last: StoredSeal | None) -> None:
        report = self._report
        tail = standing.unsealed_in_all()
        report.unsealed, report.oldest_s = tail.count, tail.oldest_s
        if last is None or not report.files or report.last_checkpoint >= last.number:
            return
        since_s = clock.now_s() - _whole(last.at_us) / 1e6
        if since_s > OVERDUE_S:
            report.doubts.append(
                f"the checkpoints end at seal {report.last_checkpoint}, the database at seal {last.number}: "
                "either nobody could write them, or the file is an older one"
            )

    # ---- a seal and its events

    def _judge(self, seal: StoredSeal, links: list[Link]) -> None:
        report, before = self._report, len(self._report.problems) + self._report.more_problems
        self._judge_events(seal, links)
        body = form.seal_bytes(seal)
        held = None
        if form.head(body) != seal.head:
            self._found(
                Wrong.SEAL_CHANGED, f"seal {seal.number} was changed: its head is not its own", seal=seal
            )
        elif (held := self._holds(seal.key, body, seal.signature)) is False:
            self._found(Wrong.SIGNATURE, f"the signature of seal {seal.number} is wrong", seal=seal)
        elif held and seal.format != form.FORMAT:
            report.doubts.append(
                f"seal {seal.number} has format {seal.format}, which this version cannot check"
            )
        if seal.previous != report.head:
            self._found(
                Wrong.SEAL_CHANGED, f"seal {seal.number} does not follow on the one before it", seal=seal
            )
        if seal.total != report.events + _whole(seal.events):
            self._found(
                Wrong.SEAL_CHANGED, f"seal {seal.number} counts {seal.total} events in all", seal=seal
            )
        if seal.instance != self._instance:
            text = f"seal {seal.number} is of instance {seal.instance}, this database of {self._instance}"
            self._found(Wrong.OTHER_INSTANCE, text, seal=seal)
        report.seals += 1
        # After a break the walk goes on from what the seal says: one wrong shall not look like a thousand.
        same = len(report.problems) + report.more_problems == before
        report.events = report.events + len(links) if same else _whole(seal.total)
        report.head = seal.head

    def _judge_events(self, seal: StoredSeal, links: list[Link]) -> None:
        wanted = _whole(seal.events)
        have = [link.position for link in links]
        for position in sorted(set(range(min(wanted, reading.PIECE))) - set(have))[:TOLD_MOST]:
            self._found(
                Wrong.LINK_MISSING, f"seal {seal.number} has lost its event at place {position}", seal=seal
            )
        for link in links:
            if not 0 <= _whole(link.position) < wanted:
                text = f"event {link.event} was put into seal {seal.number}, which never held it"
                self._found(Wrong.ROW_INSERTED, text, seal=seal, event=link.event)
        for one, other in pairwise(links):
            if other.event <= one.event:
                text = f"event {other.event} has another place in seal {seal.number} than it had"
                self._found(Wrong.ROW_MOVED, text, seal=seal, event=other.event)
        for link in links:
            if link.found is None:
                text = f"event {link.event} of seal {seal.number} is gone"
                self._found(Wrong.ROW_MISSING, text, seal=seal, event=link.event)
        self._compare_leaves(seal, links)

    def _compare_leaves(self, seal: StoredSeal, links: list[Link]) -> None:
        """The root says who is right where an event and the leaf that was kept of it differ."""
        kept = [link.leaf for link in links]
        differ = [link for link in links if link.found is not None and link.found != link.leaf]
        kept_right = bool(kept) and form.root(kept) == seal.root
        found_right = bool(differ) and form.root([link.found or link.leaf for link in links]) == seal.root
        for link in differ:
            if found_right:
                text = f"what seal {seal.number} keeps of event {link.event} was changed, the event was not"
                self._found(Wrong.LINK_CHANGED, text, seal=seal, event=link.event)
            else:
                text = f"event {link.event} was changed after seal {seal.number}"
                self._found(Wrong.ROW_CHANGED, text, seal=seal, event=link.event)
        if not kept_right and not differ:
            text = f"the events of seal {seal.number} are not those it was made of"
            self._found(Wrong.SEAL_CHANGED, text, seal=seal)

    # ---- seals and their copies outside

    def _lines(self, path: Path) -> Iterator[Line]:
        """Those that are checkpoints of ours, ascending; what is not is told."""
        before = 0
        for line in checkpoints.lines(path):
            copy = line.checkpoint
            if copy is None:
                self._found(Wrong.CHECKPOINT_WRONG, f"{line.where} is no checkpoint")
            elif copy.instance != self._instance:
                text = f"{line.where} is of instance {copy.instance}, this database of {self._instance}"
                self._found(Wrong.OTHER_INSTANCE, text)
            elif copy.number <= before:
                self._found(Wrong.CHECKPOINT_WRONG, f"{line.where} stands in the wrong place")
            else:
                before = copy.number
                yield line

    def _compare(self, line: Line, seal: StoredSeal) -> None:
        copy = _copy(line)
        signed = form.signed(form.seal_bytes(seal), seal.signature)
        if copy.head == seal.head and form.signed(copy.body, copy.signature) == signed:
            self._met(copy)
        elif self._is_ours(line, copy):
            text = f"seal {seal.number} is not the one that {line.where} holds"
            self._found(Wrong.SEAL_REPLACED, text, seal=seal)
            self._met(copy)

    def _of_no_seal(self, line: Line) -> None:
        copy = _copy(line)
        if self._is_ours(line, copy):
            self._met(copy)
            text = f"{line.where} holds seal {copy.number}, which the database has lost"
            self._found(Wrong.SEAL_MISSING, text)

    def _beyond(self, line: Line, last: StoredSeal | None) -> None:
        """Made while we walked, or cut off."""
        copy = _copy(line)
        seal = reading.seal(copy.number)
        if seal is not None:
            self._compare(line, seal)
        elif self._is_ours(line, copy):
            self._met(copy)
            ends, events = (last.number, last.total) if last else (0, 0)
            text = (
                f"the end of the chain was cut: the database ends at seal {ends} with {events} events, "
                f"{line.where} holds seal {copy.number} with {copy.total}"
            )
            self._found(Wrong.TAIL_CUT, text)

    def _is_ours(self, line: Line, copy: Checkpoint) -> bool:
        """A line that agrees with no seal: is it the database that lies, or the file?"""
        held = self._holds(copy.key, copy.body, copy.signature)
        if held is False:
            self._found(Wrong.CHECKPOINT_WRONG, f"{line.where} is not signed by our key")
        return held is True

    def _met(self, copy: Checkpoint) -> None:
        self._unattested.add(copy.number)
        self._report.checkpoints += 1
        self._report.last_checkpoint = max(self._report.last_checkpoint, copy.number)

    def _attest(self, seal: StoredSeal) -> None:
        """A seal says which checkpoint had been written before it: a file that is older, or cut, does not have it."""
        said = _whole(seal.checkpointed)
        if not self._all_files or said <= self._attested:
            return
        if said not in self._unattested:
            text = (
                f"the checkpoint of seal {said} is missing; it had been written when seal {seal.number} was made: "
                "the file was cut, or is an older one"
            )
            self._found(Wrong.CHECKPOINT_MISSING, text, seal=seal)
        self._attested = said
        self._unattested = {number for number in self._unattested if number > said}

    def _holds(self, key: str, body: bytes, signature: str) -> bool | None:
        held = self._believed.holds(key=key, body=body, signature=signature)
        if held is None and self._believed and key not in self._doubted_keys:
            self._doubted_keys.add(key)
            self._report.doubts.append(f"no public key {key} lies here: what it has signed cannot be checked")
        return held

    # ---- telling

    def _missing_seals(self, first: int, last: int) -> None:
        which = f"seal {first} is" if first == last else f"seals {first} to {last} are"
        self._found(Wrong.SEAL_MISSING, f"{which} gone")

    def _astray(self, event: int, number: int) -> None:
        text = f"event {event} is said to lie in seal {number}, which there is not"
        self._found(Wrong.LINK_CHANGED, text, event=event)

    def _found(
        self, wrong: Wrong, text: str, *, seal: StoredSeal | None = None, event: int | None = None
    ) -> None:
        if len(self._report.problems) < TOLD_MOST:
            self._report.problems.append(Problem(wrong, text, seal.number if seal else None, event))
        else:
            self._report.more_problems += 1


def _copy(line: Line) -> Checkpoint:
    if line.checkpoint is None:
        raise ValueError(f"{line.where} is no checkpoint")
    return line.checkpoint


def _number(line: Line) -> int:
    return _copy(line).number


def _whole(value: object) -> int:
    """Of a column that somebody may have written anything into."""
    return value if isinstance(value, int) else 0
