"""Keys change while permits flow: nothing good is refused, nothing old is believed for longer than it must be."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from quantum import clock, keyring, signing
from quantum.keyring import OLD_KEY_LIFE_S, OLD_KEYS_MAX, KeyFile, RotationRefused
from quantum.models import AuditEvent
from quantum.signing import SIGNERS, KeyUnusable, Signer, Verifier, ensure_keys

BODY = b'{"granted":true,"symbol":"BTCUSDT"}'
pytestmark = pytest.mark.django_db


class Time:
    """The two clocks that signing asks, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ahead_s = 0.0
        boot_s, now_s = clock.boot_s, clock.now_s
        monkeypatch.setattr(clock, "boot_s", lambda: boot_s() + self._ahead_s)
        monkeypatch.setattr(clock, "now_s", lambda: now_s() + self._ahead_s)
        monkeypatch.setattr(clock, "sleep_s", self.go)

    def go(self, seconds: float) -> None:
        self._ahead_s += seconds


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ensure_keys(tmp_path)
    return tmp_path


def rotate(folder: Path, *, believe_old: bool = True) -> keyring.Rotation:
    return keyring.rotate(
        "governor", directory=folder, by="nina", reason="yearly change", believe_old=believe_old
    )


def sealed(folder: Path) -> bytes:
    return Signer(name="governor", directory=folder).seal(BODY)


# ---- taking up


def test_running_signer_and_verifier_take_up_a_new_key_and_the_old_permits_stay_good(
    folder: Path, moved: Time
) -> None:
    signer, verifier = Signer(name="governor", directory=folder), Verifier(directory=folder)
    before = signer.seal(BODY)
    rotation = rotate(folder)
    moved.go(1.1)
    after = signer.seal(BODY)
    assert verifier.signed_by(signer="governor", raw=before) == rotation.before
    assert verifier.signed_by(signer="governor", raw=after) == rotation.after != rotation.before


def test_a_signer_that_has_not_looked_yet_is_still_believed(folder: Path, moved: Time) -> None:
    signer, verifier = Signer(name="governor", directory=folder), Verifier(directory=folder)
    rotation = rotate(folder)
    moved.go(-keyring.SETTLE_S)  # the signer's last look is younger than a second
    raw = signer.seal(BODY)
    moved.go(keyring.SETTLE_S + 1.1)
    assert verifier.signed_by(signer="governor", raw=raw) == rotation.before


def test_the_old_key_ends_when_the_last_permit_it_signed_is_gone(folder: Path, moved: Time) -> None:
    raw = sealed(folder)
    rotate(folder)
    verifier = Verifier(directory=folder)
    moved.go(61)
    assert verifier.holds(signer="governor", raw=raw), "a permit lives for 60 s"
    moved.go(OLD_KEY_LIFE_S - 60)
    assert not verifier.holds(signer="governor", raw=raw)


def test_the_permits_of_a_stolen_key_are_refused_within_a_second(folder: Path, moved: Time) -> None:
    verifier, raw = Verifier(directory=folder), sealed(folder)
    rotate(folder)
    more = sealed(folder)
    rotate(folder, believe_old=False)
    moved.go(1.1)
    assert not verifier.holds(signer="governor", raw=raw)
    assert not verifier.holds(signer="governor", raw=more)
    assert verifier.holds(signer="governor", raw=sealed(folder))


def test_a_new_public_half_lies_there_for_longer_than_a_look_before_anything_is_signed_with_it(
    folder: Path, moved: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole reason why no good permit is ever refused."""
    before = (folder / "governor.key").read_bytes()
    seen: list[tuple[float, bool, bool]] = []

    def look(seconds: float) -> None:
        waiting = (folder / "governor.next.pub").exists()
        seen.append((seconds, waiting, (folder / "governor.key").read_bytes() == before))

    monkeypatch.setattr(clock, "sleep_s", look)
    rotate(folder)
    assert [(waiting, old) for _, waiting, old in seen] == [(True, True)]
    assert seen[0][0] > signing.LOOK_EVERY_S


@pytest.mark.parametrize("step", range(1, 4))
def test_a_death_at_any_step_of_a_rotation_refuses_no_permit_and_is_mended(
    folder: Path, moved: Time, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    class Died(Exception):
        pass

    replace, done = keyring._replace, 0

    def dying(path: Path, content: bytes, *, mode: int) -> None:
        nonlocal done
        replace(path, content, mode=mode)
        done += 1
        if done == step:
            raise Died

    early, signer, verifier = sealed(folder), Signer(name="governor", directory=folder), None
    verifier = Verifier(directory=folder)
    with monkeypatch.context() as patch:
        patch.setattr(keyring, "_replace", dying)
        with pytest.raises(Died):
            rotate(folder)
    moved.go(1.1)
    late = signer.seal(BODY)
    for raw in (early, late, sealed(folder)):
        assert verifier.holds(signer="governor", raw=raw)
        assert Verifier(directory=folder).holds(signer="governor", raw=raw)
    keyring.make_missing(folder)
    assert [file.problem for file in keyring.files(folder) if file.problem] == []
    assert Verifier(directory=folder).holds(signer="governor", raw=late)
    moved.go(OLD_KEY_LIFE_S + 5)
    assert Verifier(directory=folder).holds(signer="governor", raw=sealed(folder)), (
        "what is in use has no end"
    )
    rotate(folder)
    assert Verifier(directory=folder).holds(signer="governor", raw=sealed(folder))


# ---- what does not work


def test_forged_permits_cannot_make_a_verifier_read_its_files_again_and_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier, looks = Verifier(directory=folder), 0
    stamps = signing._stamps

    def counted(directory: Path) -> object:
        nonlocal looks
        looks += 1
        return stamps(directory)

    monkeypatch.setattr(signing, "_stamps", counted)
    forged = Signer(name="operator", directory=folder).seal(BODY)
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        assert not verifier.holds(signer="governor", raw=forged)
    assert looks == 0


def test_whoever_waits_looks_before_and_not_when_he_is_woken(
    folder: Path, moved: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, stamps = list[Path](), signing._stamps
    verifier, raw = Verifier(directory=folder), sealed(folder)

    def look(where: Path) -> dict[str, signing.Stamp | None]:
        looked.append(where)
        return stamps(where)

    monkeypatch.setattr(signing, "_stamps", look)
    moved.go(0.3)
    verifier.look_ahead(within_s=0.5)
    assert not looked, "it falls due when the wait is over"
    moved.go(0.3)
    verifier.look_ahead(within_s=0.5)
    moved.go(0.6)
    assert verifier.holds(signer="governor", raw=raw)
    assert len(looked) == 1
    moved.go(0.5)
    assert verifier.holds(signer="governor", raw=raw)
    assert len(looked) == 2, "a look ahead puts none off for longer than a second"


def test_of_two_that_load_at_once_the_older_keys_do_not_stay(
    folder: Path, moved: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A looks and loads; meanwhile the key is stolen and replaced, B looks, loads and stores; then A stores."""
    verifier, stolen, loaded = Verifier(directory=folder), sealed(folder), Verifier._loaded
    rotate(folder)

    def slow(self: Verifier) -> dict[str, tuple[signing.Trusted, ...]]:
        keys = loaded(self)
        monkeypatch.setattr(Verifier, "_loaded", loaded)
        rotate(folder, believe_old=False)
        moved.go(1.1)
        assert not self.holds(signer="governor", raw=stolen)
        return keys

    monkeypatch.setattr(Verifier, "_loaded", slow)
    moved.go(1.1)
    assert verifier.holds(signer="governor", raw=stolen), "A judges by what it loaded"
    moved.go(1.1)
    assert not verifier.holds(signer="governor", raw=stolen)


def test_a_key_that_comes_in_use_open_to_others_is_not_taken_up(folder: Path, moved: Time) -> None:
    signer, verifier = Signer(name="governor", directory=folder), Verifier(directory=folder)
    private, _ = signing.pem_pair()
    path = folder / "governor.key"
    path.unlink()
    path.write_bytes(private)
    path.chmod(0o644)
    moved.go(1.1)
    assert verifier.holds(signer="governor", raw=signer.seal(BODY)), "it goes on with the key it had"
    with pytest.raises(KeyUnusable, match="chmod 600"):
        Signer(name="governor", directory=folder)


def test_public_keys_that_cannot_be_read_any_more_leave_the_known_ones(folder: Path, moved: Time) -> None:
    verifier, raw = Verifier(directory=folder), sealed(folder)
    (folder / "governor.pub").write_bytes(b"nothing")
    moved.go(1.1)
    assert verifier.holds(signer="governor", raw=raw)


def test_a_folder_that_is_gone_leaves_the_known_keys(folder: Path, moved: Time) -> None:
    verifier, raw = Verifier(directory=folder), sealed(folder)
    folder.rename(folder.with_name("elsewhere"))
    moved.go(1.1)
    assert verifier.holds(signer="governor", raw=raw)


def test_the_other_gates_new_key_signs_nothing_for_this_one(folder: Path, moved: Time) -> None:
    verifier = Verifier(directory=folder)
    keyring.rotate("p33", directory=folder, by="nina", reason="yearly change")
    moved.go(1.1)
    raw = Signer(name="p33", directory=folder).seal(BODY)
    assert verifier.holds(signer="p33", raw=raw)
    assert not verifier.holds(signer="governor", raw=raw)


def test_two_rotations_at_once_do_not_mix_their_halves(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []

    def meanwhile(_seconds: float) -> None:
        with pytest.raises(RotationRefused) as caught:
            rotate(folder)
        refused.append(str(caught.value))

    monkeypatch.setattr(clock, "sleep_s", meanwhile)
    rotate(folder)
    assert len(refused) == 1
    assert Verifier(directory=folder).holds(signer="governor", raw=sealed(folder))


def test_a_loop_that_rotates_is_stopped_and_goes_on_when_old_keys_have_ended(
    folder: Path, moved: Time
) -> None:
    for _ in range(OLD_KEYS_MAX):
        rotate(folder)
    with pytest.raises(RotationRefused, match="may live"):
        rotate(folder)
    moved.go(OLD_KEY_LIFE_S + 5)
    rotate(folder)
    assert len(signing.old_keys("governor", folder)) == 1, "those that ended are cleared away"


# ---- what is shown and kept


def test_files_are_listed_with_fingerprints_modes_and_remedies_and_never_a_private_byte(
    folder: Path, moved: Time
) -> None:
    rotation = rotate(folder)
    (folder / "p33.key").chmod(0o640)
    found = keyring.files(folder)

    def one(signer: str, what: str) -> KeyFile:
        [file] = [file for file in found if (file.signer, file.what) == (signer, what)]
        return file

    assert one("governor", "public").fingerprint == rotation.after
    assert one("governor", "old").fingerprint == rotation.before
    assert one("governor", "old").until_s == rotation.old_until_s
    assert (one("governor", "private").mode, one("governor", "private").problem) == ("600", "")
    assert "chmod 600" in one("p33", "private").problem
    private = (folder / "governor.key").read_text().splitlines()[1]
    assert private not in str(found)
    assert {path.stat().st_mode & 0o777 for path in folder.glob("governor.key")} == {0o600}


def test_a_fingerprint_is_of_the_key_and_not_of_its_file(folder: Path) -> None:
    key = signing.load_public(folder / "governor.pub")
    again = folder / "copy.pub"
    again.write_bytes(b"# a remark\n" + (folder / "governor.pub").read_bytes())
    assert signing.fingerprint_of(signing.load_public(again)) == signing.fingerprint_of(key)
    assert len(signing.fingerprint_of(key)) == 16
    assert signing.fingerprint_of(key) not in key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def test_a_rotation_is_in_the_audit_with_who_why_and_both_fingerprints(folder: Path, moved: Time) -> None:
    rotation = rotate(folder)
    event = AuditEvent.objects.get(kind="permit_key_rotated")
    assert (event.actor, event.reason) == ("nina", "yearly change")
    assert (event.data["before"], event.data["after"]) == (rotation.before, rotation.after)


def test_many_rotations_under_load_refuse_no_permit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two verifying threads and a signer on real time, with looks and waits twenty times as fast."""
    monkeypatch.setattr(signing, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(keyring, "OLD_KEYS_MAX", 100)
    signer, verifier = Signer(name="governor", directory=folder), Verifier(directory=folder)
    ended, refused, good = threading.Event(), 0, 0
    used: set[str | None] = set()

    def check() -> None:
        nonlocal refused, good
        while not ended.is_set():
            mark = verifier.signed_by(signer="governor", raw=signer.seal(BODY))
            used.add(mark)
            refused += mark is None
            good += mark is not None

    threads = [threading.Thread(target=check) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(6):
        keyring.rotate("governor", directory=folder, by="nina", reason="under load", settle_s=0.1)
        time.sleep(0.1)
    ended.set()
    for thread in threads:
        thread.join(5)
    assert refused == 0
    assert good > 200
    assert len(used) >= 5, "the new keys were never used"


def test_every_signer_has_a_pair(folder: Path) -> None:
    assert {file.signer for file in keyring.files(folder)} == set(SIGNERS)
    assert keyring.make_missing(folder) == []
    (folder / "operator.key").unlink()
    assert keyring.make_missing(folder) == ["operator"]


def test_a_new_key_that_was_refused_for_its_mode_is_used_once_that_is_mended(
    folder: Path, moved: Time
) -> None:
    """The log says `chmod 600`: whoever does that must not have to restart the gate too."""
    signer, verifier = Signer(name="governor", directory=folder), Verifier(directory=folder)
    private, public = signing.pem_pair()
    (folder / "governor.key").chmod(0o644)
    (folder / "governor.key").write_bytes(private)
    (folder / "governor.pub").write_bytes(public)
    moved.go(1.1)
    assert not verifier.holds(signer="governor", raw=signer.seal(BODY)), "still the key in hand"
    (folder / "governor.key").chmod(0o600)
    moved.go(1.1)
    assert verifier.holds(signer="governor", raw=signer.seal(BODY))


def test_an_old_key_is_believed_only_as_a_rotation_would_have_left_it(folder: Path, moved: Time) -> None:
    """A file laid by hand: of another key than its name says, or believed for longer than any permit lives."""
    _, public = signing.pem_pair()
    (folder / "stranger.pub").write_bytes(public)
    mark = signing.fingerprint_of(signing.load_public(folder / "stranger.pub"))
    soon, late = int(clock.now_s()) + 60, int(clock.now_s()) + 10 * OLD_KEY_LIFE_S
    (folder / f"governor.old-{mark}-{soon}.pub").write_bytes(public)
    assert len(signing.trusted("governor", folder)) == 2, "as a rotation leaves it"
    (folder / f"governor.old-{mark}-{soon}.pub").rename(folder / f"governor.old-{mark}-{late}.pub")
    assert [one.ended for one in signing.trusted("governor", folder)] == [False, True]
    (folder / f"governor.old-{mark}-{late}.pub").rename(folder / f"governor.old-{'0' * 16}-{soon}.pub")
    assert len(signing.trusted("governor", folder)) == 1


def test_a_public_key_that_everybody_may_replace_is_believed_by_nobody(folder: Path, moved: Time) -> None:
    (folder / "governor.pub").chmod(0o666)
    with pytest.raises(KeyUnusable, match="chmod 644"):
        Verifier(directory=folder)
