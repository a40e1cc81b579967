"""Ed25519 keys of the gates. A gate loads its own private key; apply loads public keys only,
so neither gate can make the other's permit and apply can make none.

Keys change under running processes (quantum/keyring.py): both sides look at their files at most once a
second, when they are used. A new public half lies there longer than that before anything is signed
with its private half, so no permit is ever met by a verifier that has not seen its key.

Files are read by cryptography. libsodium signs and verifies: it needs 22 and 54 us where OpenSSL needs 32 and
102, and every exit pays for two of each.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from msgspec import Struct
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from quantum import clock
from quantum.log import log

SIGNERS = ("governor", "p33", "operator")
AUDIT = "audit"
"""Signs the seals of the audit chain (quantum/chain/key.py), never a permit."""
PROOF = "proof"
"""Signs proof bundles (apply/bundle), and nothing else: whoever may download one must not need a better key."""
PAIRS = (*SIGNERS, AUDIT, PROOF)
OLD_KEY_LIFE_S = 90
"""A permit lives 60 s at most; the rest is for a gate that has not looked at its key file yet."""
CLOCK_SLACK_S = 10
LOOK_EVERY_S = 1.0
"""How long a change of the key files may go unseen."""
_SIGNED = re.compile(rb'(\{.*),"sig":"([A-Za-z0-9_-]{86})"\}', re.DOTALL)
_OLD = re.compile(r"(?P<name>[a-z0-9]+)\.old-(?P<fingerprint>[0-9a-f]{16})-(?P<until>[0-9]{1,12})\.pub")


class KeyUnusable(Exception):
    """A key file that is missing, readable by others or no Ed25519 key. Says what to do."""


class Signer:
    def __init__(self, *, name: str, directory: Path) -> None:
        self.name = name
        self._path = directory / f"{name}.key"
        self._looked_s = clock.boot_s()
        self._stamp = _stamp(self._path)
        self._key = _signing(load_private(self._path))

    def seal(self, body: bytes) -> bytes:
        """Append `sig`, over exactly the bytes of the object as they stand without it."""
        self._look()
        signature = base64.urlsafe_b64encode(self._key.sign(body).signature).rstrip(b"=")
        return body[:-1] + b',"sig":"' + signature + b'"}'

    def _look(self) -> None:
        """A new key that cannot be used is told once; the one in hand, good until now, stays in use."""
        now_s = clock.boot_s()
        if now_s - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s, stamp = now_s, _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            key = load_private(self._path)
        except KeyUnusable as unusable:
            log.error("the new signing key is not used", signer=self.name, error=str(unusable))
            return
        self._key = _signing(key)
        log.info("signing key taken up", signer=self.name, fingerprint=fingerprint_of(key.public_key()))


class Trusted(Struct, frozen=True):
    """A public key that is believed, for good or, once it was replaced, until its permits are gone."""

    key: VerifyKey
    fingerprint: str
    until_s: int | None = None

    @property
    def ended(self) -> bool:
        """Also when its end lies farther ahead than any rotation sets: forged, or the clock went back."""
        return (
            self.until_s is not None
            and not 0 < self.until_s - clock.now_s() <= OLD_KEY_LIFE_S + CLOCK_SLACK_S
        )


class Verifier:
    """Threads share it."""

    def __init__(self, *, directory: Path) -> None:
        self._directory = directory
        self._looked_s = clock.boot_s()
        self._known = _stamps(directory), self._loaded()

    def _loaded(self) -> dict[str, tuple[Trusted, ...]]:
        return {name: trusted(name, self._directory) for name in SIGNERS}

    def holds(self, *, signer: str, raw: bytes) -> bool:
        """Whether these exact bytes, without their last member, were signed by that signer."""
        return self.signed_by(signer=signer, raw=raw) is not None

    def signed_by(self, *, signer: str, raw: bytes) -> str | None:
        """The fingerprint of the key of that signer which signed these exact bytes."""
        self._look()
        parts = parts_of(raw)
        if parts is None:
            return None
        body, signature = parts
        _, keys = self._known
        for known in keys.get(signer, ()):
            if not known.ended and _verifies(known.key, signature, body):
                return known.fingerprint
        return None

    def look_ahead(self, *, within_s: float) -> None:
        """For whoever waits for something to verify: the look that would fall due meanwhile, before he waits."""
        self._look(ahead_s=within_s)

    def _look(self, *, ahead_s: float = 0.0) -> None:
        """By time and never by what fails: a flood of forged permits costs no look more than good ones.

        The time of the look is kept last: a thread that comes while another one loads must look itself,
        or it would judge by keys that are older than a second. Keys and the stamps they were loaded by are
        stored as one: of two that load at once the later store may be the older keys, and the next look sees it.
        """
        now_s = clock.boot_s()
        if now_s - self._looked_s + ahead_s < LOOK_EVERY_S:
            return
        stamps, (known, keys) = _stamps(self._directory), self._known
        if stamps != known:
            try:
                keys = self._loaded()
            except KeyUnusable as unusable:
                log.error("changed public keys are not used", error=str(unusable))
            self._known = stamps, keys
        self._looked_s = now_s


def parts_of(raw: bytes) -> tuple[bytes, bytes] | None:
    """The signed bytes and the signature; None where these bytes carry none."""
    match = _SIGNED.fullmatch(raw)
    if match is None:
        return None
    signature = base64.urlsafe_b64decode(match.group(2) + b"==")
    if base64.urlsafe_b64encode(signature).rstrip(b"=") != match.group(2):
        return None  # the last character has four spare bits: one signature has one spelling
    return match.group(1) + b"}", signature


def trusted(name: str, directory: Path) -> tuple[Trusted, ...]:
    """The current key first, then one that is about to take over, then those that were replaced."""
    current = load_public(directory / f"{name}.pub")
    found = {fingerprint_of(current): _trusted(current)}
    coming = _if_there(directory / f"{name}.next.pub")
    if coming is not None:
        found.setdefault(fingerprint_of(coming), _trusted(coming))
    for path, until_s in old_keys(name, directory):
        old = _if_there(path)
        if old is not None and f".old-{fingerprint_of(old)}-" in path.name:
            found.setdefault(fingerprint_of(old), _trusted(old, until_s))
    return tuple(found.values())


def _trusted(public: Ed25519PublicKey, until_s: int | None = None) -> Trusted:
    return Trusted(VerifyKey(public.public_bytes_raw()), fingerprint_of(public), until_s)


def _signing(private: Ed25519PrivateKey) -> SigningKey:
    return SigningKey(private.private_bytes_raw())


def old_keys(name: str, directory: Path) -> list[tuple[Path, int]]:
    """Replaced public keys with the end of their trust, the longest first."""
    matches = [(path, _OLD.fullmatch(path.name)) for path in directory.glob(f"{name}.old-*.pub")]
    found = [(path, int(match["until"])) for path, match in matches if match]
    return sorted(found, key=lambda pair: -pair[1])


def fingerprint_of(key: Ed25519PublicKey) -> str:
    """Short and the same on every machine: of the raw key, not of its file."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def ensure_keys(directory: Path) -> list[str]:
    """Make the key pairs that are missing; an existing key is never replaced. Returns the new names."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return [name for name in PAIRS if _make_pair(name, directory)]


def _make_pair(name: str, directory: Path) -> bool:
    private_path = directory / f"{name}.key"
    if private_path.exists():
        return False
    if name in (AUDIT, PROOF) and (directory / f"{name}.pub").exists():
        keep_for_proofs(name, directory / f"{name}.pub")
    private, public = pem_pair()
    # The public half first: a death in between leaves no private key, and both are made anew.
    (directory / f"{name}.pub").write_bytes(public)
    descriptor = os.open(private_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(private)
    return True


def keep_for_proofs(name: str, path: Path) -> None:
    """What a key has signed is to be proved in years, when it has long been replaced. No gate believes this file."""
    path.rename(path.with_name(f"{name}-{fingerprint_of(load_public(path))}.pub"))


def for_proofs(name: str, directory: Path) -> dict[str, Ed25519PublicKey]:
    """Every public half of that name that was ever kept here, by fingerprint."""
    names = (f"{name}.pub", f"{name}.next.pub", f"{name}.old-*.pub", f"{name}-*.pub")
    paths = [path for pattern in names for path in sorted(directory.glob(pattern))]
    found = [key for path in paths if (key := _if_there(path)) is not None]
    return {fingerprint_of(key): key for key in found}


Kept = tuple[VerifyKey, ...]


def kept(name: str, directory: Path) -> Kept:
    """The same, for whoever verifies many."""
    return tuple(VerifyKey(key.public_bytes_raw()) for key in for_proofs(name, directory).values())


def is_signed_by(keys: Kept, raw: bytes) -> bool:
    parts = parts_of(raw)
    return parts is not None and any(_verifies(key, parts[1], parts[0]) for key in keys)


def pem_pair() -> tuple[bytes, bytes]:
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), public


def load_private(path: Path) -> Ed25519PrivateKey:
    try:
        if path.stat().st_mode & 0o077:
            raise KeyUnusable(f"{path} can be read by others; run: chmod 600 {path}")
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise KeyUnusable(
            f"{path} cannot be used ({type(error).__name__}); `up` makes keys that are missing"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnusable(f"{path} is not an Ed25519 private key")
    return key


def load_public(path: Path) -> Ed25519PublicKey:
    try:
        if path.stat().st_mode & 0o002:
            raise KeyUnusable(f"{path} can be written by everybody; run: chmod 644 {path}")
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise KeyUnusable(
            f"{path} cannot be used ({type(error).__name__}); `up` makes keys that are missing"
        ) from None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyUnusable(f"{path} is not an Ed25519 public key")
    return key


def _if_there(path: Path) -> Ed25519PublicKey | None:
    """A key beside the current one may go while we read; what cannot be read is not believed."""
    try:
        return load_public(path)
    except KeyUnusable:
        return None


def _verifies(key: VerifyKey, signature: bytes, body: bytes) -> bool:
    try:
        key.verify(body, signature)
    except BadSignatureError:
        return False
    return True


Stamp = tuple[int, int, int, int]


def _stamp(path: Path) -> Stamp | None:
    """Differs after every replacement, even within one tick of the file system's clock, and after a chmod: that
    is what makes a key usable that was refused for its mode."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size, found.st_ctime_ns


def _stamps(directory: Path) -> dict[str, Stamp | None]:
    try:
        return {path.name: _stamp(path) for path in directory.iterdir() if path.suffix == ".pub"}
    except OSError:
        return {}
