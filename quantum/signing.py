"""Ed25519 keys of the gates. A gate loads its own private key; apply loads public keys only,
so neither gate can make the other's permit and apply can make none."""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

SIGNERS = ("governor", "p33", "operator")
_SIGNED = re.compile(rb'(\{.*),"sig":"([A-Za-z0-9_-]{86})"\}', re.DOTALL)


class KeyUnusable(Exception):
    """A key file that is missing, readable by others or no Ed25519 key. Says what to do."""


class Signer:
    def __init__(self, *, name: str, directory: Path) -> None:
        self.name = name
        self._key = _load_private(directory / f"{name}.key")

    def seal(self, body: bytes) -> bytes:
        """Append `sig`, over exactly the bytes of the object as they stand without it."""
        signature = base64.urlsafe_b64encode(self._key.sign(body)).rstrip(b"=")
        return body[:-1] + b',"sig":"' + signature + b'"}'


class Verifier:
    def __init__(self, *, directory: Path) -> None:
        self._keys = {name: _load_public(directory / f"{name}.pub") for name in SIGNERS}

    def holds(self, *, signer: str, raw: bytes) -> bool:
        """Whether these exact bytes, without their last member, were signed by that signer."""
        match = _SIGNED.fullmatch(raw)
        if match is None or signer not in self._keys:
            return False
        signature = base64.urlsafe_b64decode(match.group(2) + b"==")
        if base64.urlsafe_b64encode(signature).rstrip(b"=") != match.group(2):
            return False  # the last character has four spare bits: one signature has one spelling
        try:
            self._keys[signer].verify(signature, match.group(1) + b"}")
        except InvalidSignature:
            return False
        return True


def ensure_keys(directory: Path) -> list[str]:
    """Make the key pairs that are missing; an existing key is never replaced. Returns the new names."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return [name for name in SIGNERS if _make_pair(name, directory)]


def _make_pair(name: str, directory: Path) -> bool:
    private_path = directory / f"{name}.key"
    if private_path.exists():
        return False
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    # The public half first: a death in between leaves no private key, and both are made anew.
    (directory / f"{name}.pub").write_bytes(public)
    descriptor = os.open(private_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(private)
    return True


def _load_private(path: Path) -> Ed25519PrivateKey:
    try:
        if path.stat().st_mode & 0o077:
            raise KeyUnusable(f"{path} can be read by others; run: chmod 600 {path}")
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise KeyUnusable(
            f"{path} cannot be used ({type(error).__name__}); `up` makes keys that are missing"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnusable(f"{path} is not an Ed25519 private key")
    return key


def _load_public(path: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise KeyUnusable(
            f"{path} cannot be used ({type(error).__name__}); `up` makes keys that are missing"
        ) from None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyUnusable(f"{path} is not an Ed25519 public key")
    return key
