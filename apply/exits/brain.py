"""The exit brain: a duty of the warden that watches positions and prices, and proposes what its scorer finds.

Edge-triggered: an unchanged view proposes nothing. Without data it proposes nothing either, and says why once.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from django.conf import settings
from msgspec import Struct

from apply.exits import since
from apply.exits.held import Held
from apply.exits.market import NoMarket, measure
from apply.exits.prices import Prices
from apply.exits.proposing import Propose, proposal_of
from apply.exits.score import NoScore, Score, Scorer, View, fault_of
from permits.policy import policies
from permits.policy.rules import Nonsense
from permits.state import trading
from quantum import amounts, clock
from quantum.log import log
from quantum.redis import Client

EVERY_S = 2.0
AGE_AGAIN_S = 30.0
"""A position that the books do not know yet, opened by hand or told of before its trade, is looked up again."""
_FIELDS = ("position_amt", "entry_price", "mark_price", "seen_epoch")


class Seen(Struct, frozen=True):
    """A snapshot, read strictly."""

    amount: Decimal
    entry_price: Decimal
    mark_price: Decimal
    age_s: Decimal


class ExitBrain:
    def __init__(
        self, *, client: Client, prices: Prices, scorer: Scorer, propose: Propose, risk_pct: Decimal | None
    ) -> None:
        self._client = client
        self._prices = prices
        self._scorer = scorer
        self._propose = propose
        self._risk_pct = risk_pct
        self._held: dict[str, Held] = {}
        self._since_ms: dict[str, int | None] = {}
        self._age_again_boot_s: dict[str, float] = {}
        self._silent: dict[str, str] = {}
        self._next_boot_s = 0.0

    def tick(self) -> None:
        if clock.boot_s() < self._next_boot_s:
            return
        self._next_boot_s = clock.boot_s() + EVERY_S
        try:
            symbols = sorted(policies.copy().allowlist)
        except Nonsense as nonsense:  # the Governor denies everything meanwhile, and doctor says so
            log.warning("no exit is proposed: the policy cannot be read", error=nonsense)
            return
        for symbol, snapshot, is_frozen in self._read(symbols):
            self._look(symbol, snapshot, is_frozen=is_frozen)

    def _read(self, symbols: list[str]) -> Iterable[tuple[str, list[bytes | None], bool]]:
        keys = settings.KEYS
        pipeline = self._client.pipeline(transaction=False)
        pipeline.mget(keys.trading_state, *(keys.hold(symbol) for symbol in symbols))
        for symbol in symbols:
            pipeline.hmget(keys.snapshot(symbol), _FIELDS)
        (state, *holds), *snapshots = pipeline.execute()
        # Not armed yet, halted, held: what is crossed meanwhile is proposed when that is over, instead of refused.
        stopped = state is None or trading.is_halted(state)
        for symbol, snapshot, hold in zip(symbols, snapshots, holds, strict=True):
            yield symbol, snapshot, stopped or hold is not None

    def _look(self, symbol: str, snapshot: list[bytes | None], *, is_frozen: bool) -> None:
        seen = _seen(snapshot)
        if isinstance(seen, Seen) and seen.amount == 0:
            self._held.pop(symbol, None)
            self._silent.pop(symbol, None)
            return
        score = self._score(symbol, seen) if isinstance(seen, Seen) else NoScore(seen)
        if isinstance(score, NoScore):
            if self._silent.get(symbol) != score.why:
                self._silent[symbol] = score.why
                log.info(f"{symbol}: no exit is proposed: {score.why}")
            return
        self._silent.pop(symbol, None)
        held = self._held[symbol]
        if held.is_due(score) and score.crossing is not None and not is_frozen:
            self._say(symbol, score)
            held.note(score.crossing)  # only then: what could not be said is said at the next look

    def _score(self, symbol: str, seen: Seen) -> Score | NoScore:
        if seen.age_s > settings.P33_STALE_THRESHOLD_SEC:
            return NoScore("the position was not seen lately")
        if seen.entry_price <= 0 or seen.mark_price <= 0:
            return NoScore("its entry or mark price is not known")
        held = self._held_of(symbol, seen)
        klines, now_ms = self._prices.of(symbol), self._prices.now_ms()
        market = measure(klines, now_ms=now_ms)
        if isinstance(market, NoMarket):
            return NoScore(market.why)
        since_ms = self._since_ms[symbol]
        age_s = None if since_ms is None else Decimal(max(now_ms - since_ms, 0)) / 1000
        view = View(
            symbol=symbol,
            amount=seen.amount,
            entry_price=seen.entry_price,
            mark_price=seen.mark_price,
            klines=klines,
            at_ms=now_ms,
            age_s=age_s,
            market=market,
            risk=None if self._risk_pct is None else seen.entry_price * self._risk_pct / 100,
            stop_locked=held.stop_locked,
        )
        return self._asked(view)

    def _asked(self, view: View) -> Score | NoScore:
        try:
            score = self._scorer.score(view)
            wrong = "" if isinstance(score, NoScore) else fault_of(score)
        # A stranger's code: it may raise what it likes, and janitor and resolver live in this process too.
        except Exception as fault:  # noqa: BLE001
            return NoScore(f"the scorer {self._scorer.name} failed with {type(fault).__name__}")
        return NoScore(f"the scorer {self._scorer.name}: {wrong}") if wrong else score

    def _held_of(self, symbol: str, seen: Seen) -> Held:
        known = self._held.get(symbol)
        if known is not None and known.is_of(amount=seen.amount, entry_price=seen.entry_price):
            if self._since_ms[symbol] is None and clock.boot_s() >= self._age_again_boot_s[symbol]:
                self._look_up(symbol, known)
            return known
        # At first sight another brain may have spoken before this one; of what it saw begin, it knows what it said.
        held = Held.of(amount=seen.amount, entry_price=seen.entry_price, is_first=known is None)
        self._look_up(symbol, held)
        self._held[symbol] = held
        return held

    def _look_up(self, symbol: str, held: Held) -> None:
        """Since when it is held, and what was taken of it since."""
        at = since.held_since(symbol, side=held.side)
        if held.is_first and at is not None:
            for crossing in since.crossings_taken(symbol, since=at):
                held.note(crossing)
        self._since_ms[symbol] = None if at is None else int(at.timestamp() * 1000)
        self._age_again_boot_s[symbol] = clock.boot_s() + AGE_AGAIN_S

    def _say(self, symbol: str, score: Score) -> None:
        proposal = proposal_of(symbol, score, scorer=self._scorer.name, at_s=clock.now_s())
        self._propose(proposal, score.reason)
        log.info(
            f"{symbol}: Exit proposed {score.action}: {score.reason}",
            score=proposal.kill_score_text,
            codes=proposal.reason_codes,
            stop="" if proposal.new_sl_proposed is None else amounts.plain(proposal.new_sl_proposed),
            by=proposal.source,
        )


def _seen(snapshot: list[bytes | None]) -> Seen | str:
    """Or why it cannot be read. Unreadable is not flat (I12)."""
    told = [amounts.parse(raw.decode(errors="replace")) if raw else None for raw in snapshot]
    amount, entry_price, mark_price, seen_s = told
    if amount is None or seen_s is None:
        return "no snapshot of its position"
    if amount != 0 and (entry_price is None or mark_price is None):
        return "its entry or mark price is not known"
    age_s = abs(Decimal(clock.now_ms()) / 1000 - seen_s)
    return Seen(amount, entry_price or Decimal(0), mark_price or Decimal(0), age_s)
