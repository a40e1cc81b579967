"""What the user stream can be made to do wrong, as data; standing until it is cleared.

    {"do": "freeze"}                   lines stay open, events are lost
    {"do": "drop", "times": 3}         the next three events are lost
    {"do": "double"}                   every event comes twice
    {"do": "disorder", "times": 4}     the next four are gathered, then come backwards
    {"do": "delay", "ms": 800}         every event comes late
    {"do": "strip", "fields": ["n"]}   events lack these fields
    {"do": "refuse", "times": 2}       the next two connects are turned away with 503
    {"do": "clear"}                    all of that ends; what was gathered is sent

and at once: {"do": "cut"} the lines, {"do": "expire"} the listen key, {"do": "flood",
"times": 500} harmless events, {"do": "send", "body": ...} one message of the caller's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from quantum.exchange.paper.event_rows import Event

FIELDS_BY_DO: Mapping[str, frozenset[str]] = {
    "freeze": frozenset(),
    "drop": frozenset({"times"}),
    "double": frozenset(),
    "disorder": frozenset({"times"}),
    "delay": frozenset({"ms"}),
    "strip": frozenset({"fields"}),
    "refuse": frozenset({"times"}),
    "clear": frozenset(),
    "cut": frozenset(),
    "expire": frozenset(),
    "flood": frozenset({"times"}),
    "send": frozenset({"body"}),
}
TIMES_MAX = 100_000
MS_MAX = 60_000


class Lever(Struct, frozen=True):
    do: str
    times: int = 1
    ms: int = 0
    fields: Sequence[str] = ()
    body: object = None

    @classmethod
    def from_json(cls, row: Mapping[str, object]) -> Lever:
        do = row.get("do")
        if not isinstance(do, str) or do not in FIELDS_BY_DO:
            raise ValueError(f'"do" is one of {sorted(FIELDS_BY_DO)}')
        unknown = row.keys() - FIELDS_BY_DO[do] - {"do"}
        if unknown:
            raise ValueError(f"{do!r} does not take {sorted(unknown)}")
        lever = cls(**row)  # type: ignore[arg-type]  # checked on the next lines
        if type(lever.times) is not int or type(lever.ms) is not int:
            raise ValueError("times and ms are whole numbers")
        if not 1 <= lever.times <= TIMES_MAX or not 0 <= lever.ms <= MS_MAX:
            raise ValueError("times or ms is out of range")
        if not isinstance(lever.fields, list) and "fields" in row:
            raise ValueError("fields is a list of names")
        return lever


@dataclass(slots=True)
class StreamFaults:
    frozen: bool = False
    doubled: bool = False
    delay_ms: int = 0
    to_drop: int = 0
    to_refuse: int = 0
    stripped: frozenset[str] = frozenset()
    _to_gather: int = 0
    _gathered: list[Event] = field(default_factory=list)

    def pull(self, lever: Lever) -> list[Event]:
        """A standing lever. What is given back was held up and is to be sent now."""
        match lever.do:
            case "freeze":
                self.frozen = True
            case "double":
                self.doubled = True
            case "delay":
                self.delay_ms = lever.ms
            case "drop":
                self.to_drop = lever.times
            case "refuse":
                self.to_refuse = lever.times
            case "strip":
                self.stripped = frozenset(lever.fields)
            case "disorder":
                self._to_gather = lever.times
            case "clear":
                held = self._gathered[::-1]
                self.__init__()  # type: ignore[misc]
                return held
        return []

    def refuses(self) -> bool:
        if not self.to_refuse:
            return False
        self.to_refuse -= 1
        return True

    def passed_on(self, event: Event) -> list[Event]:
        """What becomes of one event on its way to the lines."""
        if self.frozen:
            return []
        if self.to_drop:
            self.to_drop -= 1
            return []
        event = _without(event, self.stripped)
        if self._to_gather:
            self._gathered.append(event)
            self._to_gather -= 1
            if self._to_gather:
                return []
            ready, self._gathered = self._gathered[::-1], []
        else:
            ready = [event]
        return [one for one in ready for _ in range(2 if self.doubled else 1)]


def _without(event: Event, names: frozenset[str]) -> Event:
    if not names:
        return event
    order = event.get("o")
    kept: dict[str, object] = {
        name: value for name, value in event.items() if name not in names or name == "o"
    }
    if isinstance(order, dict):
        kept["o"] = {name: value for name, value in order.items() if name not in names}
    return kept
