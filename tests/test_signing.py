"""Ed25519 permits: exactly these bytes, by exactly this signer, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantum.signing import PAIRS, SIGNERS, KeyUnusable, Signer, Verifier, ensure_keys

BODY = b'{"granted":true,"symbol":"BTCUSDT","qty":0.250}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("keys")
    assert ensure_keys(made) == list(PAIRS)
    return made


@pytest.fixture(scope="module")
def raw(folder: Path) -> bytes:
    return Signer(name="governor", directory=folder).seal(BODY)


@pytest.fixture(scope="module")
def verifier(folder: Path) -> Verifier:
    return Verifier(directory=folder)


def test_what_was_sealed_holds_for_its_signer_only(verifier: Verifier, raw: bytes) -> None:
    assert {name: verifier.holds(signer=name, raw=raw) for name in SIGNERS} == {
        "governor": True,
        "p33": False,
        "operator": False,
    }
    assert not verifier.holds(signer="nobody", raw=raw)


def test_a_byte_changed_anywhere_is_refused(verifier: Verifier, raw: bytes) -> None:
    for at in range(len(raw)):
        tampered = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        assert not verifier.holds(signer="governor", raw=tampered), f"byte {at} may be changed"


def test_a_cut_or_lengthened_permit_is_refused(verifier: Verifier, raw: bytes) -> None:
    for at in range(len(raw)):
        assert not verifier.holds(signer="governor", raw=raw[:at])
    for more in (b" ", b"\n", b"}", b"\x00"):
        assert not verifier.holds(signer="governor", raw=raw + more)
        assert not verifier.holds(signer="governor", raw=more + raw)


@pytest.mark.parametrize(
    "raw", [b"", b"{}", BODY, b'{"sig":""}', b'{"granted":true,"sig":"' + b"A" * 86 + b'"}']
)
def test_what_was_never_signed_is_refused(verifier: Verifier, raw: bytes) -> None:
    assert not verifier.holds(signer="governor", raw=raw)


def test_a_signature_of_another_permit_is_refused(verifier: Verifier, raw: bytes) -> None:
    other = BODY[:-1].replace(b"0.250", b"9.250") + raw[len(BODY) - 1 :]
    assert not verifier.holds(signer="governor", raw=other)


def test_keys_are_private_and_never_replaced(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert ensure_keys(folder) == []
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert {path.stat().st_mode & 0o777 for path in folder.glob("*.key")} == {0o600}


def test_a_key_that_others_can_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    ensure_keys(tmp_path)
    (tmp_path / "p33.key").chmod(0o640)
    with pytest.raises(KeyUnusable, match="chmod 600"):
        Signer(name="p33", directory=tmp_path)


OF_ANOTHER_KIND = b"-----BEGIN PUBLIC KEY-----\nMAswBQYDKgMEAwIAAQ==\n-----END PUBLIC KEY-----\n"
"""An algorithm that nobody knows, in a form that is right."""


@pytest.mark.parametrize("content", [None, b"", b"no key", b"-----BEGIN PRIVATE KEY-----\n", OF_ANOTHER_KIND])
def test_a_key_that_is_none_is_refused_and_never_shown(tmp_path: Path, content: bytes | None) -> None:
    for name in SIGNERS:
        for end in ("key", "pub"):
            path = tmp_path / f"{name}.{end}"
            if content is not None:
                path.write_bytes(content)
                path.chmod(0o600)
    with pytest.raises(KeyUnusable, match="cannot be used"):
        Signer(name="governor", directory=tmp_path)
    with pytest.raises(KeyUnusable, match="cannot be used"):
        Verifier(directory=tmp_path)


def test_a_key_of_a_kind_nobody_knows_beside_the_current_one_is_not_believed_and_does_no_harm(
    folder: Path, raw: bytes
) -> None:
    (folder / "governor.next.pub").write_bytes(OF_ANOTHER_KIND)
    assert Verifier(directory=folder).holds(signer="governor", raw=raw)


def test_a_private_key_of_a_kind_nobody_knows_is_refused(folder: Path) -> None:
    der = "MBACAQAwBQYDKgMEBAQEAgAA"
    (folder / "governor.key").write_text(f"-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n")
    with pytest.raises(KeyUnusable, match="UnsupportedAlgorithm"):
        Signer(name="governor", directory=folder)
