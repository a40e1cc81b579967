"""One byte changed anywhere in a bundle is found: by its signature, and by what lies in it where that is made anew."""

from __future__ import annotations

import base64
import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings

from tests.bundle.conftest import Left
from tools import verify_bundle
from tools.verify_bundle import BROKEN, Given

HOUSES_WORD = {
    "filled": """
        versions.quantum
        plan.source plan.reason_codes plan.parent plan.attempt plan.created_at plan.expires_at plan.stream_id
        plan.gate_reason plan.gov_ttl plan.p33_ttl plan.ended_at plan.result_id plan.would_quantity
        permits.fate_at permits.fate_by permits.fate_reason permits.recorded_at
        consume.token consume.consumed_at
        order.intended_at order.settled_at
        ledger.reason ledger.recorded_at
        audit.events keys
    """,
    "blocked": """
        versions.quantum
        plan.source plan.reason_codes plan.parent plan.attempt plan.created_at plan.expires_at plan.stream_id
        plan.gate_reason plan.wait_ms plan.gov_ttl plan.p33_ttl plan.ended_at plan.result_id plan.would_quantity
        permits.fate permits.fate_at permits.fate_by permits.fate_reason permits.recorded_at
        audit.events keys
    """,
}
"""What rests on the proof key alone, as docs/audit.md says it: whoever holds that key could tell it otherwise."""


def flips(said: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """(field, the whole changed in one place): each value once, each list and each object in each way."""
    if isinstance(said, dict):
        for name in said:
            yield where, {other: value for other, value in said.items() if other != name}
            for field, changed in flips(said[name], f"{where}.{name}".lstrip(".")):
                yield field, {**said, name: changed}
    elif isinstance(said, list):
        for at, each in enumerate(said):
            yield where, said[:at] + said[at + 1 :]
            yield where, [*said[:at], each, *said[at:]]
            if at and said[at - 1] != each:
                yield where, [*said[: at - 1], each, said[at - 1], *said[at + 1 :]]
            for field, changed in flips(each, where):
                yield field, [*said[:at], changed, *said[at + 1 :]]
    else:
        for changed in _changed(said):
            yield where, changed


def _changed(value: Any) -> Iterator[Any]:
    if value is None:
        yield 1
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + 1
    else:
        for at in {0, len(value) // 2, len(value) - 1} if value else {0}:
            other = "1" if value[at : at + 1] != "1" else "2"
            yield value[:at] + other + value[at + 1 :]


def written(said: Any) -> bytes:
    return json.dumps(said, indent=1).encode() + b"\n"


@pytest.mark.parametrize("which", ["filled", "blocked"])
def test_one_change_of_any_field_is_found(left: Left, which: str) -> None:
    raw, given = left.bundle(which), left.given()
    tried = 0
    for field, said in flips(json.loads(raw)):
        tried += 1
        report = verify_bundle.check(written(said), given)
        assert report.exit_code == BROKEN, f"{field} was changed, and nobody noticed"
    assert tried > 300


@pytest.mark.parametrize("which", ["filled", "blocked"])
def test_what_is_signed_or_hashed_inside_is_found_whatever_the_house_signs_over_it(
    left: Left, which: str
) -> None:
    raw, given = left.bundle(which), left.given()
    report = verify_bundle.check(raw, given, whole_signed=False)
    assert not report.exit_code, report
    unnoticed = {
        field
        for field, said in flips(json.loads(raw))
        if not field.startswith("signature")
        and not verify_bundle.check(written(said), given, whole_signed=False).exit_code
    }
    assert unnoticed == set(HOUSES_WORD[which].split())


def test_one_bit_of_any_byte_is_found(left: Left) -> None:
    """Every byte of the first and last 300, and each 61st between: spaces and escapes too."""
    raw, given = left.bundle("filled"), left.given()
    for at in {*range(300), *range(300, len(raw) - 300, 61), *range(len(raw) - 300, len(raw))}:
        for bit in (1, 32):
            changed = raw[:at] + bytes([raw[at] ^ bit]) + raw[at + 1 :]
            assert verify_bundle.check(changed, given).exit_code == BROKEN, f"byte {at}"


def test_bytes_before_after_and_taken_away_are_found(left: Left) -> None:
    raw = left.bundle("blocked")
    for changed in (b" " + raw, raw + b"\n", raw[:-1], raw[: len(raw) // 2], b"", b"\xff", b"[]\n", b"1e999"):
        assert verify_bundle.check(changed, left.given()).exit_code == BROKEN


def test_a_change_that_another_key_signs_over_is_found(left: Left) -> None:
    """Somebody has a key for proofs of his own: it is none of those that the reader believes."""
    own = Ed25519PrivateKey.generate()
    said = signed_by(own, json.loads(left.bundle("filled")), source="not what it was")
    report = verify_bundle.check(written(said), left.given())
    assert any("none of the keys that you gave" in doubt for doubt in report.doubts)
    assert report.exit_code == verify_bundle.CANNOT_TELL


def signed_by(own: Any, said: dict[str, Any], **plan: Any) -> dict[str, Any]:
    said = copy.deepcopy(said)
    said["plan"] |= plan
    mark = verify_bundle._mark(own.public_key())
    for key in said["keys"]:
        if key["name"] == "proof":
            key |= {
                "fingerprint": mark,
                "key": base64.b64encode(own.public_key().public_bytes_raw()).decode(),
            }
    del said["signature"]
    signature = own.sign(b"quantum-proof-bundle-1\n" + written(said))
    return {
        **said,
        "signature": {"key": mark, "sig": base64.urlsafe_b64encode(signature).rstrip(b"=").decode()},
    }


def test_the_list_of_what_is_the_houses_word_is_the_documents(left: Left) -> None:
    text = (settings.BASE_DIR / "docs/audit.md").read_text()
    part = text[text.index("rests on the proof key alone") :]
    told = set(re.findall(r"`([a-z_0-9.]+)`", part[: part.index("What is told in two places")]))
    meant = {field for fields in HOUSES_WORD.values() for field in fields.split()}
    assert told == meant


def test_nothing_is_believed_that_the_bundle_brings_along(left: Left) -> None:
    report = verify_bundle.check(left.bundle("filled"), Given(checkpoints=[left.checkpoints]))
    assert report.exit_code == verify_bundle.CANNOT_TELL
    assert "the keys are the bundle's own" in report.doubts[0]
    assert not report.wrong
