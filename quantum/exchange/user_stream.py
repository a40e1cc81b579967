"""The user stream: one thread that keeps a line to the exchange alive and says so when it could not.

It holds the listen key, reads the messages, pings the line, and builds everything anew from outside
whenever anything is wrong: nothing is left to the reconnecting of the library below. It never gives
up by itself; how long to wait between tries grows, and a silence the exchange asked for is kept.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol, TypeVar

from msgspec.structs import replace
from prometheus_client import Counter, Gauge

from quantum.exchange.answers import Malformed
from quantum.exchange.events import IgnoredEvent, ListenKeyExpired, UnknownEvent, read_event
from quantum.exchange.inbox import GAP_MARGIN_MS, Gap, GapReason, Inbox, Item, Received
from quantum.exchange.outcomes import one_line
from quantum.exchange.reading import ReadFailed
from quantum.log import log

T = TypeVar("T")
ITEMS_MAX = 10_000
PAUSE_S_MIN, PAUSE_S_MAX = 0.2, 30.0
STEADY_MS = 10_000
"""A line that lived this long was a good one: the next pause is short again."""
CLOSE_S = 1.0
STOP_S = 2.0

LIVE_SINCE = Gauge(
    "quantum_user_stream_live_since_epoch", "0: the stream is down", multiprocess_mode="mostrecent"
)
LAST_EVENT = Gauge(
    "quantum_user_stream_last_event_epoch", "When an event last came", multiprocess_mode="mostrecent"
)
GAPS = Counter("quantum_user_stream_gaps_total", "Times in which events may be missing", ["reason"])
EVENTS = Counter("quantum_user_stream_events_total", "Messages of the user stream", ["kind"])


class LineBroken(Exception):
    """The line is of no use any more."""

    def __init__(self, reason: GapReason, text: str = ""):
        super().__init__(text or reason)
        self.reason = reason


class Line(Protocol):
    """One connection with one key. Every method raises LineBroken where it cannot do its work."""

    async def open(self, key: str) -> None: ...

    async def next_message(self) -> str | bytes: ...

    async def ping(self) -> None:
        """Returns when the other side has answered."""
        ...

    async def close(self) -> None: ...


class KeySource(Protocol):
    """The reader's part in it: BinanceReader. Raises ReadFailed."""

    def now_ms(self) -> int: ...

    def listen_key(self) -> str: ...

    def keep_listen_key(self, key: str) -> bool: ...


class UserStream(threading.Thread):
    """Start it, take() from its inbox, stop() it. Everything else is for looking at."""

    def __init__(
        self,
        *,
        keys: KeySource,
        make_line: Callable[[], Line],
        items_max: int = ITEMS_MAX,
        ping_s: float = 5.0,
        silence_s: float = 5.0,
        keep_s: float = 300.0,
    ):
        super().__init__(name="user-stream", daemon=True)
        self._keys = keys
        self._make_line = make_line
        self._inbox = Inbox(items_max=items_max)
        self._ping_s, self._silence_s, self._keep_s = ping_s, silence_s, keep_s
        self._guard = threading.Lock()
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Future[None] | None = None
        self._doubts: asyncio.Queue[int] | None = None
        self._aside = ThreadPoolExecutor(max_workers=1, thread_name_prefix="listen-key")
        self._heard_ms = self._key_good_ms = 0
        self.live_since_ms: int | None = None
        self.last_event_ms: int | None = None
        self.gaps = 0

    # ---- for its consumer, from any thread

    def take(self, *, timeout_s: float) -> Item | None:
        return self._inbox.take(timeout_s=timeout_s)

    @property
    def waiting(self) -> int:
        """How much of it nobody has taken yet."""
        return len(self._inbox)

    def doubt(self, *, since_ms: int) -> None:
        """REST told something the stream kept to itself. A frozen stream still answers pings."""
        with self._guard:
            if self._loop is not None and self._doubts is not None:
                self._loop.call_soon_threadsafe(self._doubts.put_nowait, since_ms)

    def stop(self, *, within_s: float = STOP_S) -> bool:
        """True: the thread has ended."""
        with self._guard:
            self._stopping = True
            if self._loop is not None and self._ending is not None:
                self._loop.call_soon_threadsafe(_settle, self._ending)
        if self.is_alive():
            self.join(within_s)
        return not self.is_alive()

    # ---- the thread

    def run(self) -> None:
        try:
            asyncio.run(self._live())
        finally:
            self._set_live(None)
            self._aside.shutdown(wait=False, cancel_futures=True)

    async def _live(self) -> None:
        loop = asyncio.get_running_loop()
        ending, doubts = loop.create_future(), asyncio.Queue[int]()
        with self._guard:
            if self._stopping:
                return
            self._loop, self._ending, self._doubts = loop, ending, doubts
        try:
            keeping = asyncio.ensure_future(self._keep_connected(doubts))
            await asyncio.wait({keeping, ending}, return_when=asyncio.FIRST_COMPLETED)
            if keeping.done():
                keeping.result()  # it only ends by an error nobody expected, which ends the thread
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping
        finally:
            with self._guard:
                self._loop = self._ending = self._doubts = None

    async def _keep_connected(self, doubts: asyncio.Queue[int]) -> None:
        gap, pause_s = Gap(self._keys.now_ms() - GAP_MARGIN_MS, GapReason.STARTED), PAUSE_S_MIN
        self._tell(gap)
        while True:
            opened_ms, line = self._keys.now_ms(), self._make_line()
            try:
                key = await self._ask_aside(self._keys.listen_key)
                await line.open(key)
                opened_ms = self._opened(_with_doubts(gap, doubts))
                gap = await self._until_broken(line, key, doubts)
                log.warning("the user stream broke", reason=str(gap.reason), since_ms=gap.since_ms)
            except (ReadFailed, LineBroken) as failed:
                log.warning("the user stream cannot be opened", error=one_line(str(failed)))
                named_ms = getattr(failed, "retry_at_ms", None) or 0
                pause_s = max(pause_s, min(PAUSE_S_MAX, (named_ms - self._keys.now_ms()) / 1000))
            finally:
                await _closed(line)
            if self._keys.now_ms() - opened_ms > STEADY_MS:
                pause_s = PAUSE_S_MIN
            await asyncio.sleep(pause_s)
            pause_s = min(PAUSE_S_MAX, pause_s * 2)

    def _opened(self, gap: Gap) -> int:
        now_ms = self._keys.now_ms()
        self._heard_ms = self._key_good_ms = now_ms
        self._set_live(now_ms)
        self._put(Gap(gap.since_ms, gap.reason, now_ms))  # before any event of this line
        log.info("the user stream is live", after=str(gap.reason))
        return now_ms

    async def _until_broken(self, line: Line, key: str, doubts: asyncio.Queue[int]) -> Gap:
        """Whichever of the four ends first tells why. The gap is told before anything is tidied up."""
        works: list[Coroutine[None, None, None]] = [
            self._read(line),
            self._ping(line),
            self._keep_key(key),
            self._heed_doubts(doubts),
        ]
        tasks = [asyncio.ensure_future(work) for work in works]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            raise LineBroken(GapReason.LOST)
        except LineBroken as broken:
            gap = Gap(self._missing_since_ms(broken), broken.reason)
            self._set_live(None)
            self._tell(gap)
            return gap
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _missing_since_ms(self, broken: LineBroken) -> int:
        if isinstance(broken, _Doubted):
            return min(broken.since_ms, self._heard_ms - GAP_MARGIN_MS)
        # A line whose key has ended stands and answers pings: only the key's last yes counts.
        good_ms = self._key_good_ms if broken.reason is GapReason.KEY_EXPIRED else self._heard_ms
        return good_ms - GAP_MARGIN_MS

    # ---- the four that run while the line is live; they end by LineBroken only

    async def _read(self, line: Line) -> None:
        while True:
            message = await line.next_message()
            now_ms = self._keys.now_ms()
            try:
                event = read_event(message)
            except Malformed as why:
                log.warning("a message of the user stream makes no sense", error=str(why))
                self._tell(Gap(self._heard_ms - GAP_MARGIN_MS, GapReason.UNREADABLE, now_ms))
                continue
            self._heard_ms = self.last_event_ms = now_ms
            LAST_EVENT.set(now_ms / 1000)
            EVENTS.labels("unknown" if isinstance(event, UnknownEvent) else type(event).__name__).inc()
            if isinstance(event, ListenKeyExpired):
                raise LineBroken(GapReason.KEY_EXPIRED)
            if isinstance(event, UnknownEvent):
                log.warning("the user stream told a kind we do not know", kind=one_line(event.name))
            if not isinstance(event, IgnoredEvent):
                self._put(Received(event, now_ms))

    async def _ping(self, line: Line) -> None:
        while True:
            await asyncio.sleep(self._ping_s)
            asked_ms = self._keys.now_ms()
            try:
                async with asyncio.timeout(self._silence_s):
                    await line.ping()
            except TimeoutError:
                raise LineBroken(GapReason.SILENT) from None
            # What was sent before the answer came before it; what we had not yet read may still wait.
            self._heard_ms = max(self._heard_ms, asked_ms)

    async def _keep_key(self, key: str) -> None:
        """At once too: a line opened with a key that had just ended would be silent for ever."""
        while True:
            asked_ms = self._keys.now_ms()
            try:
                good = await self._ask_aside(lambda: self._keys.keep_listen_key(key))
            except ReadFailed as failed:  # a key lives an hour: there is time to ask again
                log.warning("the listen key could not be kept", error=one_line(str(failed)))
            else:
                if not good:
                    raise LineBroken(GapReason.KEY_EXPIRED)
                self._key_good_ms = asked_ms
            await asyncio.sleep(self._keep_s)

    async def _heed_doubts(self, doubts: asyncio.Queue[int]) -> None:
        raise _Doubted(await doubts.get())

    # ---- small parts

    async def _ask_aside(self, call: Callable[[], T]) -> T:
        """A REST call, up to its time limit, while the loop goes on. Not the loop's own pool: a stop
        would wait for that one."""
        return await asyncio.get_running_loop().run_in_executor(self._aside, call)

    def _tell(self, gap: Gap) -> None:
        self.gaps += 1
        GAPS.labels(str(gap.reason)).inc()
        self._put(gap)

    def _put(self, item: Item) -> None:
        overflow = self._inbox.put(item)
        if overflow is not None and overflow.reason is GapReason.OVERFLOW:
            self.gaps += 1
            GAPS.labels(str(GapReason.OVERFLOW)).inc()
            log.warning("nobody takes what the user stream tells", waiting=len(self._inbox))

    def _set_live(self, since_ms: int | None) -> None:
        self.live_since_ms = since_ms
        LIVE_SINCE.set((since_ms or 0) / 1000)


class _Doubted(LineBroken):
    def __init__(self, since_ms: int):
        super().__init__(GapReason.DOUBTED)
        self.since_ms = since_ms


def _with_doubts(gap: Gap, doubts: asyncio.Queue[int]) -> Gap:
    """Doubts of the time without a line: it is new already, and they only make its gap longer."""
    while not doubts.empty():
        gap = replace(gap, since_ms=min(gap.since_ms, doubts.get_nowait()))
    return gap


async def _closed(line: Line) -> None:
    with suppress(TimeoutError, LineBroken):
        async with asyncio.timeout(CLOSE_S):
            await line.close()


def _settle(ending: asyncio.Future[None]) -> None:
    if not ending.done():
        ending.set_result(None)
