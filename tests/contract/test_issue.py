"""issue.lua: writes one gate's permit, never twice and never too late, and wakes when there is something."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from quantum.keys import Keys
from quantum.redis import Client
from tests.contract.servers import contents, lua, now_ms

ISSUE = lua("issue")
KEYS = Keys()
PLAN = "67e6da21fa9fe506"
PERMIT, P33_PERMIT = KEYS.governor_permit(PLAN), KEYS.p33_permit(PLAN)
RESERVED = KEYS.reserved("governor")
SNAPSHOT = KEYS.snapshot("BTCUSDT")
PAIR, RECEIPT, WAKE = KEYS.pair(PLAN), KEYS.receipt(PLAN), KEYS.wake(PLAN)
RAW = b'{"granted":true,"sig":"' + bytes(range(256)) + b'"}'


@dataclass(frozen=True)
class Issue:
    gate: str = "governor"
    digest: str = "d" * 64
    raw: bytes = RAW
    life_ms: int = 60_000
    denial: int = 0
    reserve: str = ""
    version: str = ""
    plan_id: str = PLAN
    position: str = ""

    def on(self, server: Client) -> list[Any]:
        own = PERMIT if self.gate == "governor" else P33_PERMIT
        expiry = now_ms(server) + self.life_ms
        answer: list[Any] = ISSUE(
            server,
            keys=(own, PAIR, RECEIPT, WAKE, KEYS.reserved(self.gate)),
            args=(
                self.gate,
                self.digest,
                self.raw,
                expiry,
                self.denial,
                300_000,
                self.reserve,
                self.plan_id,
                self.version,
                self.position,
                SNAPSHOT,
            ),
        )
        return answer


def woken(server: Client) -> int:
    return int(server.llen(WAKE))


def test_a_permit_stands_as_it_was_given_and_lives_until_its_expiry(server: Client) -> None:
    status, life_ms = Issue().on(server)
    assert status == 1
    assert 59_000 < life_ms <= 60_000
    assert server.get(PERMIT) == RAW
    assert 59_000 < server.pttl(PERMIT) <= 60_000


def test_the_pair_remembers_digest_and_expiry_for_five_minutes(server: Client) -> None:
    before = now_ms(server)
    Issue().on(server)
    pair = server.hgetall(PAIR)
    assert set(pair) == {b"digest", b"governor", b"governor_raw"}
    assert pair[b"digest"] == b"d" * 64
    assert before + 60_000 <= int(pair[b"governor"]) <= now_ms(server) + 60_000
    assert 299_000 < server.pttl(PAIR) <= 300_000


def test_one_grant_alone_wakes_nobody(server: Client) -> None:
    Issue().on(server)
    assert woken(server) == 0


@pytest.mark.parametrize("gates", [("governor", "p33"), ("p33", "governor")])
def test_the_second_of_two_grants_wakes_once_for_a_bounded_time(
    server: Client, gates: tuple[str, str]
) -> None:
    for gate in gates:
        Issue(gate=gate).on(server)
    assert woken(server) == 1
    assert 0 < server.pttl(WAKE) <= 300_000


@pytest.mark.parametrize("gates", [("governor", "p33"), ("p33", "governor")])
def test_the_wake_up_carries_the_time_and_both_permits_byte_for_byte(
    server: Client, gates: tuple[str, str]
) -> None:
    raws = {"governor": RAW, "p33": RAW[::-1] + b" 7 "}
    before = now_ms(server)
    for gate in gates:
        Issue(gate=gate, raw=raws[gate]).on(server)
    moment, length, both = server.lrange(WAKE, 0, -1)[0].split(b" ", 2)
    assert before <= int(moment) <= now_ms(server)
    assert (both[: int(length)], both[int(length) :]) == (raws["governor"], raws["p33"])
    assert set(server.hgetall(PAIR)) == {b"digest", b"governor", b"p33"}, "the copy is given out once"


def test_a_pair_whose_first_bytes_are_gone_wakes_with_nothing_to_read(server: Client) -> None:
    server.hset(PAIR, mapping={"digest": "d" * 64, "p33": now_ms(server) + 5000})
    assert Issue().on(server)[0] == 1
    assert server.lrange(WAKE, 0, -1) == [b"1"]


@pytest.mark.parametrize("gate", ["governor", "p33"])
def test_a_denial_wakes_at_once_and_is_a_permit_too(server: Client, gate: str) -> None:
    assert Issue(gate=gate, denial=1).on(server)[0] == 1
    assert woken(server) == 1
    assert server.get(PERMIT if gate == "governor" else P33_PERMIT) == RAW


def test_the_other_gates_permit_that_has_run_out_wakes_nobody(server: Client) -> None:
    server.hset(PAIR, mapping={"digest": "d" * 64, "p33": now_ms(server) - 1})
    assert Issue().on(server)[0] == 1
    assert woken(server) == 0


def test_a_standing_permit_is_kept_and_given_back(server: Client) -> None:
    """The desk asks again after a lost answer, or a second process decides anew: the first answer stands."""
    Issue(life_ms=30_000).on(server)
    before = contents(server)
    assert Issue(raw=b"another", denial=1).on(server) == [2, RAW]
    assert contents(server) == before
    assert server.pttl(PERMIT) <= 30_000, "its life was lengthened"


def test_a_permit_that_has_run_out_may_be_issued_anew(server: Client) -> None:
    Issue().on(server)
    server.delete(PERMIT)
    assert Issue(raw=b"another").on(server)[0] == 1
    assert server.get(PERMIT) == b"another"


def test_one_gate_never_keeps_or_writes_the_others_permit(server: Client) -> None:
    Issue(gate="p33", raw=b"of p33").on(server)
    assert Issue(raw=b"of the governor").on(server)[0] == 1
    assert (server.get(P33_PERMIT), server.get(PERMIT)) == (b"of p33", b"of the governor")


REFUSALS = {
    "already_consumed": lambda server: server.hset(RECEIPT, "token", "other"),
    "revoked": lambda server: server.hset(PAIR, "digest", "revoked"),
    "digest_mismatch": lambda server: server.hset(PAIR, "digest", "e" * 64),
}


@pytest.mark.parametrize("reason", REFUSALS)
@pytest.mark.parametrize("denial", [0, 1])
def test_a_refusal_names_its_reason_and_writes_nothing(server: Client, reason: str, denial: int) -> None:
    REFUSALS[reason](server)
    before = contents(server)
    assert Issue(denial=denial).on(server) == [0, reason.encode()]
    assert contents(server) == before


@pytest.mark.parametrize("life_ms", [0, -1, -60_000])
def test_a_permit_that_is_over_is_not_written(server: Client, life_ms: int) -> None:
    assert Issue(life_ms=life_ms).on(server) == [0, b"expired_permit"]
    assert contents(server) == {}


def test_refusals_come_in_their_order(server: Client) -> None:
    late = Issue(life_ms=-1)
    server.hset(PAIR, "digest", "e" * 64)
    assert late.on(server) == [0, b"digest_mismatch"]
    server.hset(RECEIPT, "token", "other")
    assert late.on(server) == [0, b"already_consumed"]


def test_another_digest_is_refused_while_the_first_permit_stands(server: Client) -> None:
    Issue().on(server)
    before = contents(server)
    assert replace(Issue(), digest="e" * 64).on(server) == [0, b"digest_mismatch"]
    assert contents(server) == before


def test_bytes_that_no_desk_wrote_are_not_kept(server: Client) -> None:
    """A key laid by hand has no companion hash: the gate's own signed answer replaces it."""
    server.set(PERMIT, b'{"granted":true}')
    assert Issue().on(server)[0] == 1
    assert server.get(PERMIT) == RAW
    assert server.pttl(PERMIT) > 0


def test_a_hash_in_the_permits_place_is_replaced(server: Client) -> None:
    server.hset(PERMIT, "granted", "true")
    Issue(gate="p33").on(server)
    assert Issue().on(server)[0] == 1
    assert server.get(PERMIT) == RAW


# ---- reservations


def test_a_reservation_is_written_with_its_permit_and_moves_the_version(server: Client) -> None:
    server.hset(RESERVED, "version", "7")
    assert Issue(reserve="BTCUSDT 100 0.5 1 2", version="7").on(server)[0] == 1
    assert server.hgetall(RESERVED) == {b"version": b"8", PLAN.encode(): b"BTCUSDT 100 0.5 1 2"}
    assert server.get(PERMIT) == RAW


@pytest.mark.parametrize("stands", [None, "6", "8", "07"])
def test_a_grant_decided_by_another_usage_is_not_written(server: Client, stands: str | None) -> None:
    """Nothing there at all is a wipe: what was reserved before it must be known again first."""
    if stands:
        server.hset(RESERVED, "version", stands)
    before = contents(server)
    assert Issue(reserve="BTCUSDT 100 0.5 1 2", version="7").on(server) == [0, b"inputs_changed"]
    assert contents(server) == before


def test_what_reserves_nothing_is_asked_for_no_version(server: Client) -> None:
    assert Issue(denial=1).on(server)[0] == 1
    assert Issue(gate="p33").on(server)[0] == 1
    assert not server.exists(RESERVED, KEYS.reserved("p33"))


def test_a_kept_permit_reserves_nothing_again(server: Client) -> None:
    server.hset(RESERVED, "version", "7")
    Issue(reserve="BTCUSDT 100 0.5 1 2", version="7").on(server)
    before = contents(server)
    assert Issue(reserve="BTCUSDT 9 9 1 2", version="8").on(server) == [2, RAW]
    assert contents(server) == before


def test_of_two_who_decided_by_the_same_usage_one_gets_through(server: Client) -> None:
    server.hset(RESERVED, "version", "7")
    first = Issue(reserve="BTCUSDT 100 0.5 1 2", version="7").on(server)
    other = Issue(reserve="BTCUSDT 100 0.5 1 2", version="7", plan_id="f" * 16)
    server.delete(PERMIT, PAIR)
    assert [first[0], other.on(server)] == [1, [0, b"inputs_changed"]]
    assert server.hlen(RESERVED) == 2


# ---- an answer by a copy of the position


def test_an_answer_by_a_copy_is_written_while_that_position_stands(server: Client) -> None:
    server.hset(SNAPSHOT, mapping={"position_amt": "0.50", "mark_price": "50000"})
    assert Issue(position="0.50").on(server)[0] == 1


@pytest.mark.parametrize("stands", [None, "0.5", "0.49", "-0.50", ""])
@pytest.mark.parametrize("denial", [0, 1])
def test_an_answer_by_a_position_that_has_moved_is_not_written(
    server: Client, stands: str | None, denial: int
) -> None:
    """Grants and denials alike; and a position spelt another way has been told anew."""
    if stands is not None:
        server.hset(SNAPSHOT, "position_amt", stands)
    before = contents(server)
    assert Issue(position="0.50", denial=denial).on(server) == [0, b"inputs_changed"]
    assert contents(server) == before


def test_a_snapshot_that_is_no_hash_is_a_position_that_has_moved(server: Client) -> None:
    server.set(SNAPSHOT, "0.50")
    assert Issue(position="0.50").on(server) == [0, b"inputs_changed"]


def test_an_answer_that_was_read_freshly_asks_for_no_position(server: Client) -> None:
    server.hset(SNAPSHOT, "position_amt", "7")
    assert Issue().on(server)[0] == 1
