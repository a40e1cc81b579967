"""Checkpoints: what shows that the end of the chain was cut, or that they themselves were changed; and when nobody can
tell at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import settings
from django.db.utils import OperationalError
from pytest_django.fixtures import Settings

from quantum.chain import form, verify
from quantum.chain.verify import Outcome
from quantum.models import Instance
from tests.chain.hand import Chain, command, cut_after, found, lines, look, whole, write


def test_every_byte_of_a_checkpoint_counts(chain: Chain, sealed: list[int]) -> None:
    """The last line of each file but one is spoken of by a seal; and what is no checkpoint is told in any place."""
    kept = lines()
    for at in range(len(kept[1]) - 1):
        changed = kept[1][:at] + bytes([kept[1][at] ^ 1]) + kept[1][at + 1 :]
        write(kept[0], changed, kept[2])
        assert look().outcome is Outcome.BROKEN, f"byte {at} may be changed"
    write(*kept)
    whole()


def test_an_older_checkpoint_file_is_found_by_the_seals(chain: Chain, sealed: list[int]) -> None:
    """Each seal says which checkpoint there was before it."""
    write(*lines()[:1])
    assert found() == {("checkpoint_missing", 3, None)}


def test_an_older_file_at_the_very_end_is_a_doubt(
    chain: Chain, sealed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No seal has spoken of the last checkpoint yet: it may never have been written."""
    write(*lines()[:2])
    whole()  # the sealer may be about to write it
    monkeypatch.setattr(verify, "OVERDUE_S", -1.0)
    assert "end at seal 2, the database at seal 3" in look().doubts[0]
    assert command()[0] == 7


def test_a_line_taken_out_of_the_middle_is_found(chain: Chain, sealed: list[int]) -> None:
    kept = lines()
    write(kept[0], kept[2])
    assert found() == {("checkpoint_missing", 3, None)}


def test_lines_in_another_order_are_found(chain: Chain, sealed: list[int]) -> None:
    kept = lines()
    write(kept[1], kept[0], kept[2])
    assert ("checkpoint_wrong", None, None) in found()


def test_the_file_of_another_instance_is_found(chain: Chain, sealed: list[int]) -> None:
    kept = settings.AUDIT_CHECKPOINTS.rename(settings.AUDIT_CHECKPOINTS.with_name("of the other"))
    cut_after(chain, 0)
    Instance.objects.update(uuid="11111111-1111-1111-1111-111111111111")
    Chain().seal(2, 3, 2)
    whole()
    assert ("other_instance", None, None) in found(kept)


def test_a_database_that_says_it_is_another_instance_is_found(chain: Chain, sealed: list[int]) -> None:
    Instance.objects.update(uuid="11111111-1111-1111-1111-111111111111")
    assert ("other_instance", 1, None) in found()


def test_a_checkpoint_of_a_seal_that_never_was_needs_our_key(chain: Chain, sealed: list[int]) -> None:
    last = form.read_line(lines()[-1])
    assert last is not None
    body = last.body.replace(b'"seal":3', b'"seal":4')
    forged = form.copy_of(head=form.head(body), body=body, signature=last.signature)
    assert forged is not None
    write(*lines(), forged.line)
    [problem] = look().problems
    assert (problem.wrong, "not signed by our key" in problem.text) == ("checkpoint_wrong", True)


def test_two_hosts_have_a_file_each_and_both_together_are_whole(
    chain: Chain, settings: Settings, tmp_path: Path
) -> None:
    one, other = settings.AUDIT_CHECKPOINTS, tmp_path / "of the other host"
    chain.seal(1, 1)
    settings.AUDIT_CHECKPOINTS = other
    Chain().seal(1, 1)
    settings.AUDIT_CHECKPOINTS = one
    Chain().seal(1)
    assert whole(one, other).last_checkpoint == 5
    assert found(one)


# ---- when nobody can tell


def test_without_a_checkpoint_file_nobody_can_tell(chain: Chain, sealed: list[int]) -> None:
    settings.AUDIT_CHECKPOINTS.unlink()
    code, told = command()
    assert (code, told["outcome"], told["events"]) == (7, "cannot tell", 7)
    assert str(settings.AUDIT_CHECKPOINTS) in told["doubts"][0]
    chain.by_hand("DELETE FROM quantum_auditevent WHERE id = %s", sealed[2])
    assert command()[0] == 6, "what is broken is told all the same"


def test_without_the_public_key_nobody_can_tell(
    chain: Chain, sealed: list[int], settings: Settings, tmp_path: Path
) -> None:
    settings.PERMIT_KEYS_DIR = tmp_path / "nothing"
    code, told = command()
    assert (code, told["problems"]) == (7, [])


def test_without_the_database_nobody_can_tell(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(**_: object) -> None:
        raise OperationalError("no such server")

    monkeypatch.setattr(verify, "verify", down)
    assert command() == (7, {})


def test_where_nothing_was_ever_sealed_nobody_can_tell(chain: Chain) -> None:
    assert command()[0] == 0, "a house in which nothing has happened is whole"
    chain.tell()
    assert command()[0] == 7


def test_a_format_of_a_later_version_is_not_called_broken(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(form, "FORMAT", 2)
    chain.seal(1)
    monkeypatch.setattr(form, "FORMAT", 1)
    code, told = command()
    assert (code, "format 2" in told["doubts"][0]) == (7, True)
