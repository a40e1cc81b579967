"""revoke.lua: takes back exactly the bytes that were looked at, all or none, and for good."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from quantum.keys import Keys
from quantum.redis import Client
from tests.contract.servers import contents, lua, now_ms

REVOKE, ISSUE = lua("revoke"), lua("issue")
KEYS = Keys()
PLAN = "67e6da21fa9fe506"
GOV, P33 = KEYS.governor_permit(PLAN), KEYS.p33_permit(PLAN)
PAIR, RECEIPT, WAKE = KEYS.pair(PLAN), KEYS.receipt(PLAN), KEYS.wake(PLAN)
RAW, OTHER = b'{"granted":true,"sig":"' + bytes(range(256)) + b'"}', b'{"allow":true}'


def revoke(server: Client, *, governor: bytes = b"", p33: bytes = b"") -> list[Any]:
    answer: list[Any] = REVOKE(server, keys=(GOV, P33, PAIR, RECEIPT), args=(governor, p33, 300_000))
    return answer


def issue(server: Client, gate: str, raw: bytes) -> list[Any]:
    own = GOV if gate == "governor" else P33
    answer: list[Any] = ISSUE(
        server,
        keys=(own, PAIR, RECEIPT, WAKE, KEYS.reserved(gate)),
        args=(gate, "d" * 64, raw, now_ms(server) + 60_000, 0, 300_000, "", PLAN, "", "", "no snapshot"),
    )
    return answer


def test_one_permit_goes_the_other_stays_and_the_pair_forgets_what_went(server: Client) -> None:
    issue(server, "governor", RAW)
    issue(server, "p33", OTHER)
    status, at_ms = revoke(server, governor=RAW)
    assert status == 1
    assert abs(at_ms - now_ms(server)) < 2000
    assert not server.exists(GOV)
    assert server.get(P33) == OTHER
    assert set(server.hgetall(PAIR)) == {b"digest", b"p33"}
    assert 299_000 < server.pttl(PAIR) <= 300_000


def test_nothing_is_issued_for_a_plan_whose_permit_was_revoked(server: Client) -> None:
    issue(server, "governor", RAW)
    revoke(server, governor=RAW)
    for gate in ("governor", "p33"):
        assert issue(server, gate, RAW)[0] == 0
    assert not server.exists(GOV, P33, WAKE)


def test_other_bytes_are_left_alone_and_so_is_everything_else(server: Client) -> None:
    issue(server, "governor", RAW)
    issue(server, "p33", OTHER)
    before = contents(server)
    assert revoke(server, governor=RAW, p33=RAW)[:3] == [0, b"changed", 0]
    assert revoke(server, governor=OTHER, p33=OTHER)[:3] == [0, b"changed", 0]
    assert contents(server) == before


def test_a_key_of_another_type_is_not_taken_for_a_permit(server: Client) -> None:
    server.hset(GOV, "granted", "true")
    assert revoke(server, governor=RAW)[:2] == [0, b"changed"]
    assert server.exists(GOV)


def test_what_is_not_there_is_missing_and_no_plan_is_marked(server: Client) -> None:
    assert revoke(server, governor=RAW)[:3] == [0, b"missing", 0]
    assert contents(server) == {}


def test_asking_again_gets_the_answer_that_it_was_revoked(server: Client) -> None:
    issue(server, "governor", RAW)
    revoke(server, governor=RAW)
    assert revoke(server, governor=RAW)[0] == 2


@pytest.mark.parametrize("standing", [True, False], ids=["laid again", "gone"])
def test_a_spent_plan_answers_with_the_time_and_keeps_all_it_has(server: Client, standing: bool) -> None:
    server.hset(RECEIPT, mapping={"token": "t", "at": "1700000000123"})
    if standing:
        server.set(GOV, RAW, px=60_000)
    before = contents(server)
    assert revoke(server, governor=RAW)[:3] == [0, b"already_consumed", 1_700_000_000_123]
    assert contents(server) == before


def test_two_people_at_once_revoke_once(real_server: Client) -> None:
    issue(real_server, "governor", RAW)
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(revoke(real_server, governor=RAW)[0]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert sorted(answers) == [1, 2, 2, 2, 2, 2, 2, 2]


def test_who_finds_one_revoked_by_another_still_takes_the_other(server: Client) -> None:
    """Two people looked at both; the first took one back. The second is told both are gone, so both must be."""
    issue(server, "governor", RAW)
    issue(server, "p33", OTHER)
    assert revoke(server, governor=RAW)[0] == 1
    assert revoke(server, governor=RAW, p33=OTHER)[0] == 1
    assert not server.exists(GOV, P33)


def test_who_finds_one_revoked_and_the_other_changed_takes_nothing(server: Client) -> None:
    issue(server, "governor", RAW)
    issue(server, "p33", OTHER)
    revoke(server, governor=RAW)
    assert revoke(server, governor=RAW, p33=RAW)[:2] == [0, b"changed"]
    assert server.get(P33) == OTHER
