"""consume.lua: the one place where permits are spent. Ten steps in their order; a refusal spends nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import pytest

from quantum.keys import Keys
from quantum.redis import Client
from tests.contract.servers import contents, lua, now_ms

CONSUME = lua("consume")
KEYS = Keys()
PLAN, SYMBOL = "67e6da21fa9fe506", "BTCUSDT"
GOVERNOR = b'{"granted":true,"computed_notional":0.0,"big":12345678901234567890.10}'
P33 = bytes(range(256)) + b"\r\n$-1\r\n"
"""Lua must never look inside: these bytes are no JSON, no text and a piece of Redis' own protocol."""
STATE = b'{"state":"ACTIVE","version":3}'
HOLD = b'{"hold_id":7}'

PERMIT, P33_PERMIT, RECEIPT = KEYS.governor_permit(PLAN), KEYS.p33_permit(PLAN), KEYS.receipt(PLAN)
HOLD_KEY, SLOT, WAKE = KEYS.hold(SYMBOL), KEYS.slot(SYMBOL), KEYS.wake(PLAN)
CHANGED_BY_A_SPEND = {key.encode() for key in (PERMIT, P33_PERMIT, RECEIPT, SLOT, WAKE)}


@dataclass(frozen=True)
class Call:
    """The arguments of one attempt; the defaults spend what `armed` lays out."""

    token: str = "mine"
    governor: bytes = GOVERNOR
    p33: bytes = P33
    state: bytes = STATE
    hold: bytes = b""
    plan_expires_in_ms: int = 30_000
    not_after_in_ms: int = 1200
    keys: tuple[str, ...] = field(
        default=(PERMIT, P33_PERMIT, RECEIPT, KEYS.trading_state, HOLD_KEY, SLOT, WAKE)
    )

    def on(self, server: Client) -> list[Any]:
        now = now_ms(server)
        expiry, not_after = now + self.plan_expires_in_ms, now + self.not_after_in_ms
        args = (self.token, self.governor, self.p33, self.state, self.hold, expiry, not_after)
        answer: list[Any] = CONSUME(server, keys=self.keys, args=args)
        return answer


@pytest.fixture
def armed(server: Client) -> Client:
    return lay_out(server)


def lay_out(server: Client) -> Client:
    """Both permits, an armed state, a wake-up: everything a spend needs."""
    server.set(PERMIT, GOVERNOR, px=60_000)
    server.set(P33_PERMIT, P33, px=50_000)
    server.set(KEYS.trading_state, STATE, px=6000)
    server.rpush(WAKE, "1")
    return server


# ---- a pair is spent


def test_a_valid_pair_is_spent_and_given_back_byte_for_byte(armed: Client) -> None:
    before = now_ms(armed)
    spent, at = Call().on(armed)
    assert spent == 1
    assert Call().on(armed) == [1, at, GOVERNOR, P33], "what was spent stands in the receipt"
    assert before <= at <= now_ms(armed)
    assert not armed.exists(PERMIT, P33_PERMIT, WAKE)


def test_the_receipt_holds_token_both_permits_and_the_time_for_five_minutes(armed: Client) -> None:
    *_, at = Call().on(armed)
    receipt = armed.hgetall(RECEIPT)
    assert receipt == {b"token": b"mine", b"governor": GOVERNOR, b"p33": P33, b"at": str(at).encode()}
    assert 299_000 < armed.pttl(RECEIPT) <= 300_000


def test_the_slot_is_taken_for_five_seconds_only(armed: Client) -> None:
    Call().on(armed)
    assert armed.get(SLOT) == b"mine"
    assert 4000 < armed.pttl(SLOT) <= 5000


def test_a_spend_touches_nothing_else(armed: Client) -> None:
    armed.set(HOLD_KEY, HOLD)
    armed.set(KEYS.governor_permit("0" * 16), b"of another plan", px=60_000)
    before = contents(armed)
    assert Call(hold=HOLD).on(armed)[0] == 1
    untouched = {key: value for key, value in before.items() if key not in CHANGED_BY_A_SPEND}
    assert {key: value for key, value in contents(armed).items() if key in untouched} == untouched


def test_a_slot_of_this_very_attempt_is_no_obstacle(armed: Client) -> None:
    armed.set(SLOT, "mine", px=5000)
    assert Call().on(armed)[0] == 1


# ---- every refusal, in its order


@dataclass(frozen=True)
class Bend:
    """One thing that is wrong, where it stands in the order, and what it is about."""

    step: float
    reason: str
    about: frozenset[str]
    lay: Callable[[Client], object] = lambda _: None
    args: dict[str, Any] = field(default_factory=dict)


def as_hash(server: Client, key: str) -> None:
    server.delete(key)
    server.hset(key, "granted", "true")
    server.expire(key, 60)


def spend_by_another(server: Client) -> None:
    server.hset(RECEIPT, mapping={"token": "other", "governor": "g", "p33": "p", "at": "1"})
    server.expire(RECEIPT, 300)


GOV_IS, P33_IS, BOTH = frozenset({"governor"}), frozenset({"p33"}), frozenset({"governor", "p33"})
BENDS = {
    "spent_by_another": Bend(1, "already_consumed", frozenset({"receipt"}), spend_by_another),
    "no_state": Bend(2, "not_armed", frozenset({"state"}), lambda s: s.delete(KEYS.trading_state)),
    "state_as_hash": Bend(2, "not_armed", frozenset({"state"}), lambda s: as_hash(s, KEYS.trading_state)),
    "halted": Bend(
        2, "state_differs", frozenset({"state"}), lambda s: s.set(KEYS.trading_state, b'{"state":"HALTED"}')
    ),
    "older_state_expected": Bend(2, "state_differs", frozenset({"state"}), args={"state": b"{}"}),
    "hold": Bend(3, "hold", frozenset({"hold"}), lambda s: s.set(HOLD_KEY, HOLD)),
    "other_hold_allowed": Bend(
        3, "hold", frozenset({"hold"}), lambda s: s.set(HOLD_KEY, HOLD), {"hold": b'{"hold_id":8}'}
    ),
    "hold_as_empty_text": Bend(3, "hold", frozenset({"hold"}), lambda s: s.set(HOLD_KEY, b"")),
    "hold_as_hash": Bend(3, "hold", frozenset({"hold"}), lambda s: as_hash(s, HOLD_KEY)),
    "plan_expired": Bend(4, "expired_plan", frozenset({"plan"}), args={"plan_expires_in_ms": 0}),
    "governor_as_hash": Bend(5.1, "malformed_governor", GOV_IS, lambda s: as_hash(s, PERMIT)),
    "p33_as_hash": Bend(5.2, "malformed_p33", P33_IS, lambda s: as_hash(s, P33_PERMIT)),
    "governor_for_ever": Bend(5.3, "no_expiry", GOV_IS, lambda s: s.persist(PERMIT)),
    "p33_for_ever": Bend(5.3, "no_expiry", P33_IS, lambda s: s.persist(P33_PERMIT)),
    "both_missing": Bend(6, "missing_both", BOTH, lambda s: s.delete(PERMIT, P33_PERMIT)),
    "governor_missing": Bend(6, "missing_governor", GOV_IS, lambda s: s.delete(PERMIT)),
    "p33_missing": Bend(6, "missing_p33", P33_IS, lambda s: s.delete(P33_PERMIT)),
    "other_governor_bytes": Bend(7, "unverified", frozenset({"args"}), args={"governor": GOVERNOR + b" "}),
    "other_p33_bytes": Bend(7, "unverified", frozenset({"args"}), args={"p33": P33[:-1]}),
    "peek": Bend(7, "unverified", frozenset({"args"}), args={"governor": b"", "p33": b""}),
    "not_after": Bend(8, "expired_permit", frozenset({"not_after"}), args={"not_after_in_ms": 0}),
    "slot_of_another": Bend(9, "symbol_busy", frozenset({"slot"}), lambda s: s.set(SLOT, "other", px=5000)),
}
PAIRS = [
    (first, later)
    for first, later in combinations(BENDS, 2)
    if BENDS[first].step < BENDS[later].step and not BENDS[first].about & BENDS[later].about
]


@pytest.mark.parametrize("name", BENDS)
def test_a_refusal_names_its_reason_and_spends_nothing(armed: Client, name: str) -> None:
    bend = BENDS[name]
    bend.lay(armed)
    before = contents(armed)
    assert replace(Call(), **bend.args).on(armed)[:2] == [0, bend.reason.encode()]
    assert contents(armed) == before


@pytest.mark.parametrize(("first", "later"), PAIRS)
def test_of_two_reasons_the_earlier_step_answers(armed: Client, first: str, later: str) -> None:
    BENDS[first].lay(armed)
    BENDS[later].lay(armed)
    before = contents(armed)
    answer = replace(Call(), **BENDS[later].args, **BENDS[first].args).on(armed)
    assert answer[:2] == [0, BENDS[first].reason.encode()]
    assert contents(armed) == before


def test_a_refusal_brings_both_ttls_the_bytes_that_are_there_the_time_and_the_state(armed: Client) -> None:
    armed.set(HOLD_KEY, HOLD)
    before = now_ms(armed)
    _, reason, gov_ttl, p33_ttl, governor, p33, at, state = Call().on(armed)
    assert reason == b"hold"
    assert gov_ttl in (59, 60)
    assert p33_ttl in (49, 50)
    assert (governor, p33, state) == (GOVERNOR, P33, STATE)
    assert before <= at <= now_ms(armed)


def test_what_is_missing_has_ttl_minus_2_and_a_lone_permit_is_shown(armed: Client) -> None:
    """A lone denial ends the wait: its bytes must come with the refusal."""
    armed.delete(PERMIT)
    _, reason, gov_ttl, p33_ttl, governor, p33, _, _ = Call().on(armed)
    assert (reason, gov_ttl, governor, p33) == (b"missing_governor", -2, b"", P33)
    assert p33_ttl > 0


def test_a_permit_without_expiry_is_told_as_minus_1(armed: Client) -> None:
    armed.persist(P33_PERMIT)
    _, reason, _, p33_ttl, *_ = Call().on(armed)
    assert (reason, p33_ttl) == (b"no_expiry", -1)


def test_the_state_that_stands_is_returned_when_it_differs(armed: Client) -> None:
    armed.set(KEYS.trading_state, b'{"state":"HALTED"}')
    assert Call().on(armed)[-1] == b'{"state":"HALTED"}'


def test_a_peek_spends_nothing_even_where_both_permits_are_empty(armed: Client) -> None:
    """Empty arguments mean peek, and here they equal what is stored: the peek's not_after of 0 refuses."""
    armed.set(PERMIT, b"", px=60_000)
    armed.set(P33_PERMIT, b"", px=60_000)
    before = contents(armed)
    answer = Call(governor=b"", p33=b"", not_after_in_ms=-now_ms(armed)).on(armed)
    assert answer[:2] == [0, b"expired_permit"]
    assert contents(armed) == before


# ---- the hold, the times, the slot


def test_exactly_the_allowed_hold_lets_a_pair_through(armed: Client) -> None:
    armed.set(HOLD_KEY, HOLD)
    assert Call(hold=HOLD).on(armed)[0] == 1


def test_an_allowance_without_a_hold_is_no_obstacle(armed: Client) -> None:
    assert Call(hold=HOLD).on(armed)[0] == 1


def test_a_call_that_runs_late_on_the_server_finds_its_time_passed(armed: Client) -> None:
    assert Call(not_after_in_ms=-1).on(armed)[1] == b"expired_permit"
    assert Call(not_after_in_ms=1000).on(armed)[0] == 1


def test_a_second_plan_of_the_symbol_waits_until_the_slot_ends(armed: Client) -> None:
    Call().on(armed)
    lay_out(armed)
    other = replace(Call(token="other"), keys=(*Call().keys[:2], KEYS.receipt("f" * 16), *Call().keys[3:]))
    assert other.on(armed)[1] == b"symbol_busy"
    armed.delete(SLOT)
    assert other.on(armed)[0] == 1


# ---- idempotent by token


def test_the_same_token_gets_its_first_answer_again(armed: Client) -> None:
    first = Call().on(armed)
    assert Call().on(armed) == [*first, GOVERNOR, P33]


def test_the_first_answer_is_given_again_whatever_has_changed_since(armed: Client) -> None:
    """An answer was lost; meanwhile all trading was halted and new permits were laid."""
    first = Call().on(armed)
    armed.delete(KEYS.trading_state, SLOT)
    armed.set(HOLD_KEY, HOLD)
    armed.set(PERMIT, b"another", px=60_000)
    before = contents(armed)
    again = Call(governor=b"", p33=b"", state=b"", plan_expires_in_ms=-1, not_after_in_ms=-1).on(armed)
    assert again == [*first, GOVERNOR, P33]
    assert contents(armed) == before


def test_another_token_finds_the_plan_consumed_even_with_new_permits(armed: Client) -> None:
    Call().on(armed)
    lay_out(armed)
    armed.delete(SLOT)
    before = contents(armed)
    assert Call(token="other").on(armed)[:2] == [0, b"already_consumed"]
    assert contents(armed) == before


# ---- races


@pytest.fixture
def racers() -> Callable[[Callable[[int], Any]], list[Any]]:
    def race(run: Callable[[int], Any], lanes: int = 8) -> list[Any]:
        """All at once; the answers of everyone."""
        gun, answers = threading.Barrier(lanes), [None] * lanes

        def lane(number: int) -> None:
            gun.wait(10)
            answers[number] = run(number)

        threads = [threading.Thread(target=lane, args=(number,)) for number in range(lanes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        return answers

    return race


def test_of_eight_consumers_exactly_one_spends_a_pair_fifty_times(
    real_server: Client, racers: Callable[[Callable[[int], Any]], list[Any]]
) -> None:
    for _ in range(50):
        real_server.flushall()
        lay_out(real_server)
        answers = racers(lambda number: Call(token=f"token-{number}").on(real_server))
        winners = [number for number, answer in enumerate(answers) if answer[0] == 1]
        assert len(winners) == 1
        assert {answer[1] for answer in answers if answer[0] == 0} == {b"already_consumed"}
        assert real_server.hget(RECEIPT, "token") == f"token-{winners[0]}".encode()


def test_of_eight_plans_of_one_symbol_exactly_one_takes_the_slot_fifty_times(
    real_server: Client, racers: Callable[[Callable[[int], Any]], list[Any]]
) -> None:
    def attempt(number: int) -> list[Any]:
        plan = f"{number:016x}"
        own = (KEYS.governor_permit(plan), KEYS.p33_permit(plan), KEYS.receipt(plan))
        return replace(Call(token=plan), keys=(*own, *Call().keys[3:])).on(real_server)

    for _ in range(50):
        real_server.flushall()
        lay_out(real_server)
        for number in range(8):
            real_server.set(KEYS.governor_permit(f"{number:016x}"), GOVERNOR, px=60_000)
            real_server.set(KEYS.p33_permit(f"{number:016x}"), P33, px=60_000)
        answers = racers(attempt)
        assert sum(answer[0] for answer in answers) == 1
        assert {answer[1] for answer in answers if answer[0] == 0} == {b"symbol_busy"}
