"""project_state.lua: the armed state is the database's newest; renewing never arms."""

from __future__ import annotations

import json

import pytest

from quantum.keys import Keys
from quantum.redis import Client
from tests.contract.servers import lua

PROJECT = lua("project_state")
STATE = Keys().trading_state
LEASE_MS = 6000


def written(version: int, state: str = "ACTIVE", reason: str = "said so") -> bytes:
    members = {"state": state, "by": "op", "reason": reason, "version": version}
    return json.dumps(members, separators=(",", ":")).encode()


def project(server: Client, version: int, *, arm: bool = True, instead_of: bytes = b"", **said: str) -> int:
    args = (written(version, **said), version, LEASE_MS, int(arm), instead_of)
    return int(PROJECT(server, keys=(STATE,), args=args))


def test_arming_writes_the_bytes_with_their_lease(server: Client) -> None:
    assert project(server, 3) == 1
    assert server.get(STATE) == written(3)
    assert 5000 < server.pttl(STATE) <= LEASE_MS


def test_renewing_lengthens_the_life_of_the_same_bytes(server: Client) -> None:
    project(server, 3)
    server.pexpire(STATE, 100)
    assert project(server, 3, arm=False) == 1
    assert server.pttl(STATE) > 5000


def test_renewing_never_arms(server: Client) -> None:
    assert project(server, 3, arm=False) == 0
    assert not server.exists(STATE)


@pytest.mark.parametrize("standing", [2, 4])
def test_renewing_leaves_other_bytes_and_their_life_alone(server: Client, standing: int) -> None:
    server.set(STATE, written(standing), px=100)
    assert project(server, 3, arm=False) == 0
    assert server.get(STATE) == written(standing)
    assert server.pttl(STATE) <= 100


def test_a_lower_version_never_overwrites(server: Client) -> None:
    """A process that read the database before HALT comes late with its ACTIVE."""
    project(server, 4, state="HALTED")
    server.pexpire(STATE, 100)
    assert project(server, 3) == 0
    assert server.get(STATE) == written(4, state="HALTED")
    assert server.pttl(STATE) <= 100


def test_versions_are_compared_as_numbers(server: Client) -> None:
    project(server, 10)
    assert project(server, 9) == 0
    assert project(server, 11) == 1


def test_a_higher_version_overwrites(server: Client) -> None:
    project(server, 3)
    assert project(server, 4, state="HALTED") == 1
    assert server.get(STATE) == written(4, state="HALTED")


@pytest.mark.parametrize("tampered", [b"", b"ACTIVE", b'{"state":"ACTIVE"}', b"\xff\x00"])
def test_bytes_without_a_version_are_replaced(server: Client, tampered: bytes) -> None:
    server.set(STATE, tampered)
    assert project(server, 1) == 1
    assert server.get(STATE) == written(1)
    assert server.pttl(STATE) > 0


def test_the_same_version_with_other_bytes_is_put_right(server: Client) -> None:
    server.set(STATE, written(3, state="ACTIVE"))
    assert project(server, 3, state="HALTED") == 1
    assert server.get(STATE) == written(3, state="HALTED")


def test_a_reason_that_spells_a_version_does_not_count_as_one(server: Client) -> None:
    """The reason is a person's text; JSON escapes its quotes, so it can never look like the member."""
    project(server, 3, reason='"version":999')
    assert project(server, 4) == 1


def test_bytes_the_database_denies_fall_to_any_version(server: Client) -> None:
    """A forged version above ours would otherwise stand until its writer lets it go."""
    server.set(STATE, written(999))
    assert project(server, 3, instead_of=written(999)) == 1
    assert server.get(STATE) == written(3)
    assert server.pttl(STATE) > 0


def test_only_the_very_bytes_that_were_denied_fall(server: Client) -> None:
    """Between the look and now somebody who read the database after us has projected."""
    server.set(STATE, written(4, state="HALTED"))
    assert project(server, 3, instead_of=written(999)) == 0
    assert server.get(STATE) == written(4, state="HALTED")


def test_renewing_never_replaces_what_was_denied(server: Client) -> None:
    server.set(STATE, written(999))
    assert project(server, 3, arm=False, instead_of=written(999)) == 0
    assert server.get(STATE) == written(999)


def test_a_value_of_another_type_is_overwritten(server: Client) -> None:
    server.hset(STATE, "state", "ACTIVE")
    assert project(server, 3, arm=False) == 0
    assert project(server, 3) == 1
    assert server.get(STATE) == written(3)
