"""The key that signs seals. The warden alone loads its private half, which signs nothing else.

Its public halves are believed for good: a seal must be proved in years. Where the private half is gone, a new pair is
made and the old public half stays beside it (signing.ensure_keys).
"""

from __future__ import annotations

import base64
from pathlib import Path

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from quantum import signing
from quantum.signing import AUDIT, KeyUnusable


class SealKey:
    def __init__(self, *, directory: Path) -> None:
        private = signing.load_private(directory / f"{AUDIT}.key")
        self.fingerprint = signing.fingerprint_of(private.public_key())
        self._key = SigningKey(private.private_bytes_raw())

    def sign(self, body: bytes) -> str:
        return base64.urlsafe_b64encode(self._key.sign(body).signature).rstrip(b"=").decode()


class Believed:
    """Every public half that lies there, by its fingerprint."""

    def __init__(self, *, directory: Path) -> None:
        self._keys: dict[str, VerifyKey] = {}
        for path in (directory / f"{AUDIT}.pub", *sorted(directory.glob(f"{AUDIT}-*.pub"))):
            try:
                public = signing.load_public(path)
            except KeyUnusable:
                continue
            self._keys[signing.fingerprint_of(public)] = VerifyKey(public.public_bytes_raw())

    def __bool__(self) -> bool:
        return bool(self._keys)

    def holds(self, *, key: str, body: bytes, signature: str) -> bool | None:
        """None: there is no such key here, so nobody can say."""
        known = self._keys.get(key)
        if known is None:
            return None
        try:
            raw = base64.urlsafe_b64decode(signature + "==")
            known.verify(body, raw)
        except (BadSignatureError, ValueError):
            return False
        # The last character has four spare bits: one signature has one spelling.
        return base64.urlsafe_b64encode(raw).rstrip(b"=") == signature.encode("utf-8", "surrogatepass")
