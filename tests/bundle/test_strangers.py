"""A file from a stranger is given to the verifier, or the house itself lies with all of its keys: it answers whole of
what is true alone, ends by itself, and says what it looked at."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings

from quantum import signing
from tests.bundle.conftest import Left
from tests.bundle.test_flips import signed_by, written
from tools import verify_bundle
from tools.verify_bundle import BROKEN, CANNOT_TELL, WHOLE

Said = dict[str, Any]
PEAK_MAX = 50_000_000
"""Bytes: a bundle of some kilobytes needs a hundredth of it, a number of a hundred million digits twice as much."""


def house_signs(said: Said) -> bytes:
    return written(signed_by(signing.load_private(settings.PERMIT_KEYS_DIR / "proof.key"), said))


def wrong_of(left: Left, raw: bytes) -> list[str]:
    report = verify_bundle.check(raw, left.given())
    assert report.exit_code == BROKEN
    return report.wrong


def own_permit(said: Said, **members: str) -> Said:
    """One permit of a forger who brings his own key for it; `members` are JSON texts."""
    own = Ed25519PrivateKey.generate()
    row = said["permits"][0]
    body = base64.b64decode(row["raw"]).partition(b',"sig":')[0].decode()
    for name, text in members.items():
        body, n = re.subn(rf'"{name}":[^,}}]+', f'"{name}":{text}', body)
        assert n == 1
    signature = base64.urlsafe_b64encode(own.sign(body.encode() + b"}")).rstrip(b"=").decode()
    row["raw"] = base64.b64encode(f'{body},"sig":"{signature}"}}'.encode()).decode()
    mark = verify_bundle._mark(own.public_key())
    said["keys"] = [
        key for key in said["keys"] if (key["name"], key["fingerprint"]) != (row["signer"], row["key"])
    ]
    key = base64.b64encode(own.public_key().public_bytes_raw()).decode()
    said["keys"] = sorted(
        [*said["keys"], {"name": row["signer"], "fingerprint": mark, "key": key}],
        key=lambda each: (each["name"], each["fingerprint"]),
    )
    row["key"] = mark
    return said


@pytest.mark.parametrize(
    "number", ["1e99999999", "-1e99999999", "1e-99999999", "NaN", "Infinity", '"' + "9" * 100_000 + '"']
)
@pytest.mark.parametrize("name", ["created_at", "expires_at", "safe_close_qty"])
def test_a_number_that_would_fill_the_memory_is_no_amount(left: Left, name: str, number: str) -> None:
    said = json.loads(left.bundle("filled"))
    said["permits"].sort(key=lambda row: row["gate"] != "p33")
    raw = house_signs(own_permit(said, **{name: number}))
    tracemalloc.start()
    try:
        wrong_of(left, raw)
        assert tracemalloc.get_traced_memory()[1] < PEAK_MAX
    finally:
        tracemalloc.stop()


def _nested(raw: bytes) -> bytes:
    return raw.replace(b'"fills": [', b'"fills": [' + b"[" * 200_000, 1)


def _surrogate(raw: bytes) -> bytes:
    said = json.loads(raw)
    said["plan"]["symbol"] = said["permits"][0]["gate"] = "\ud800"
    return written(said)


def _escapes(raw: bytes) -> bytes:
    said = json.loads(raw)
    said["permits"][0]["gate"] = "\x1b[2J\x1b[Hwhole\nchecked: all" + "A" * 100_000
    return written(said)


def _looks_alike(raw: bytes) -> bytes:
    """A seal whose numbers are digits of another script, which int() reads all the same."""
    return raw.replace(rb"\"v\":1,", rb"\"v\":\u0661,")


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "nested": _nested,
    "surrogates": _surrogate,
    "escapes": _escapes,
    "a look-alike": _looks_alike,
    "two members of one name": lambda raw: raw.replace(b'"v": 1,', b'"v": 1,\n "v": 1,', 1),
    "not a number": lambda raw: raw.replace(b'"v": 1,', b'"v": NaN,', 1),
    "a power": lambda raw: raw.replace(b'"v": 1,', b'"v": 1e0,', 1),
    "digits": lambda raw: raw.replace(b'"v": 1,', b'"v": 1' + b"0" * 6000 + b",", 1),
    "another thing for a list": lambda raw: raw.replace(b'"exchange": []', b'"exchange": {}', 1),
    "half of it": lambda raw: raw[: len(raw) // 2],
    "nothing": lambda _raw: b"",
    "a list": lambda _raw: b"[]\n",
}


@pytest.mark.parametrize("which", HOSTILE)
def test_a_hostile_file_is_broken_in_words_that_are_safe_to_show(
    left: Left, which: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bundle.json"
    file.write_bytes(HOSTILE[which](left.bundle("blocked")))
    assert file.read_bytes() != left.bundle("blocked")
    assert verify_bundle.main([str(file), "--keys", str(settings.PERMIT_KEYS_DIR)]) == BROKEN
    told = capsys.readouterr().out
    assert told.splitlines()[0] == "broken"
    assert "checked: all" not in told.splitlines()
    assert all(each.isprintable() and each.isascii() for line in told.splitlines() for each in line)
    assert len(told) < 20_000


def test_a_file_without_an_end_is_read_no_further_than_a_bundle_can_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verify_bundle, "BYTES_MAX", 1000)
    assert verify_bundle.main(["/dev/zero"]) == BROKEN
    assert "larger than any bundle" in capsys.readouterr().out


def test_a_folder_whose_keys_are_none_cannot_tell(
    left: Left, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bundle.json"
    file.write_bytes(left.bundle("filled"))
    for content in (b"", b"-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----\n"):
        (tmp_path / "p33.pub").write_bytes(content)
        assert verify_bundle.main([str(file), "--keys", str(tmp_path)]) == CANNOT_TELL
    assert "cannot tell" in capsys.readouterr().out


def test_it_says_of_which_plan_and_of_whom_it_speaks(
    left: Left, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bundle of another plan, or of a house for paper, is whole as well."""
    file = tmp_path / "bundle.json"
    file.write_bytes(left.bundle("filled"))
    words = [str(file), "--keys", str(settings.PERMIT_KEYS_DIR), "--checkpoints", str(left.checkpoints)]
    assert verify_bundle.main(words) == WHOLE
    said = json.loads(left.bundle("filled"))
    told = (
        f"of: plan {left.filled}, PARTIAL_25 of BTCUSDT, filled; paper main, house {said['instance']['uuid']}"
    )
    assert capsys.readouterr().out.splitlines()[1] == told


def test_a_chain_of_another_house_proves_nothing_of_this_one(left: Left) -> None:
    """Two houses with one audit key: the seals of the other one are signed as well."""
    said = json.loads(left.bundle("filled"))
    said["instance"]["uuid"] = "00000000-0000-0000-0000-000000000000"
    assert any("is of another house" in each for each in wrong_of(left, house_signs(said)))


def test_the_events_of_another_plan_are_found(left: Left) -> None:
    said, other = json.loads(left.bundle("filled")), json.loads(left.bundle("blocked"))
    said["audit"] = other["audit"]
    assert any("is of another plan" in each for each in wrong_of(left, house_signs(said)))


def test_a_checkpoint_that_was_cut_reaches_nothing(left: Left, tmp_path: Path) -> None:
    held = tmp_path / "held"
    held.write_bytes(left.checkpoints.read_bytes().splitlines()[-1][:-20])
    given = left.given()
    given.checkpoints = [held]
    assert verify_bundle.check(left.bundle("filled"), given).exit_code == CANNOT_TELL


# ---- the house, with its proof key and its database


def changed(left: Left, which: str, change: Callable[[Said], object]) -> list[str]:
    said = copy.deepcopy(json.loads(left.bundle(which)))
    change(said)
    return wrong_of(left, house_signs(said))


def _dearer(said: Said) -> None:
    """The same fill at another price, wherever a price is told."""
    for where in (said["order"], said["exchange"][0]["answer"]):
        where["average_price"] = "1"
    said["fills"][0]["price"] = "1"


def _another_trade(said: Said) -> None:
    for where in (said["fills"][0], said["ledger"][0]):
        where["trade_id"] += 1


def _cheaper(said: Said) -> None:
    said["fills"][0]["commission"] = "0"
    said["order"]["commission"][said["fills"][0]["commission_asset"]] = "0"


@pytest.mark.parametrize("change", [_dearer, _another_trade, _cheaper])
def test_fills_that_are_changed_wherever_they_are_told_are_not_those_of_its_end(
    left: Left, change: Callable[[Said], None]
) -> None:
    told = changed(left, "filled", change)
    assert told == ["answer and fills are not what its end was recorded with"]


def test_a_movement_of_the_ledger_is_held_against_its_event(left: Left) -> None:
    def moved(said: Said) -> None:
        said["ledger"][0]["balance"] = "0"

    assert changed(left, "filled", moved) == ["the audit events tell of other movements of the ledger"]


def test_a_persons_word_is_not_told_as_the_exchanges_nor_the_other_way_round(left: Left) -> None:
    def by_person(said: Said) -> None:
        said["order"]["status"] = said["exchange"][0]["answer"]["status"] = "BY_PERSON"

    assert "who said what became of it is told in two ways" in changed(left, "filled", by_person)


def test_every_end_with_an_order_names_what_it_came_to(left: Left) -> None:
    """Filled, in part, refused, and found by the resolver: each end has its digest, and nothing is only noted."""
    for which in ("filled", "rejected", "partially_filled", "resolved"):
        raw = left.bundle(which)
        ends = [base64.b64decode(each["bytes"]) for each in json.loads(raw)["audit"]["events"]]
        assert sum(b'"settled": "' in each for each in ends) == 1, which
        report = verify_bundle.check(raw, left.given())
        assert not [note for note in report.notes if "before ends named" in note]


def test_the_digest_of_an_end_is_of_the_text_that_the_page_tells(left: Left) -> None:
    """Made by hand from docs/audit.md."""
    said = json.loads(left.bundle("filled"))
    order, fill = said["order"], said["fills"][0]
    at_ms = int(verify_bundle._seconds(fill["at"]) * 1000)
    text = (
        f'quantum-settlement-1\n["{order["status"]}","{order["executed_quantity"]}",[[{fill["trade_id"]},'
        f'{fill["order_id"]},"{fill["side"]}","{fill["quantity"]}","{fill["price"]}","{fill["realized_pnl"]}",'
        f'"{fill["commission"]}","{fill["commission_asset"]}",{at_ms}]]]'
    )
    digest = hashlib.sha256(text.encode()).hexdigest()
    ends = [base64.b64decode(each["bytes"]) for each in said["audit"]["events"]]
    assert any(f'"settled": "{digest}"'.encode() in each for each in ends)
