"""A bundle of an exit and of a blocked plan, for strangers: what it holds, and what the verifier makes of it."""

from __future__ import annotations

import ast
import base64
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.test import override_settings
from django.urls import reverse

from apply.bundle import making, reading
from apply.models import Plan
from quantum import audit, keyring, signing
from quantum.chain import checkpoints, form
from quantum.models import AuditEvent
from tests.bundle.conftest import Left
from tests.bundle.test_flips import signed_by, written
from tests.flow.test_admin import HOSTILE, plan_row, someone
from tests.unguarded import unguarded
from tools import verify_bundle
from tools.verify_bundle import BROKEN, CANNOT_TELL, WHOLE, Given

VERIFIER = settings.BASE_DIR / "tools/verify_bundle.py"


def command(*words: str) -> bytes:
    out = io.StringIO()
    call_command("proof_bundle", *words, stdout=out, stderr=io.StringIO())
    return out.getvalue().encode()


def broken(left: Left, which: str, change: Callable[[dict[str, Any]], object]) -> list[str]:
    """What is found wrong with a bundle that its maker changed and signed again."""
    said = json.loads(left.bundle(which))
    change(said)
    private = signing.load_private(settings.PERMIT_KEYS_DIR / "proof.key")
    report = verify_bundle.check(written(signed_by(private, said)), left.given())
    assert report.exit_code == BROKEN
    return report.wrong


@pytest.mark.parametrize("which", ["filled", "blocked"])
def test_a_stranger_with_keys_and_a_checkpoint_finds_it_whole(left: Left, which: str, tmp_path: Path) -> None:
    """A copy of the file, in a process that has neither our code nor our settings."""
    shutil.copy(VERIFIER, tmp_path / "verify.py")
    command(getattr(left, which), "--out", str(tmp_path / "bundle.json"))
    keys = tmp_path / "keys"
    keys.mkdir()
    for path in settings.PERMIT_KEYS_DIR.glob("*.pub"):
        shutil.copy(path, keys)
    words = ["bundle.json", "--keys", "keys", "--checkpoints", str(left.checkpoints)]
    done = subprocess.run(
        [sys.executable, "-I", "verify.py", *words],
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == WHOLE, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "whole"
    assert "checked: the seals are those of your checkpoints" in lines
    if which == "filled":
        assert "checked: one order, after both permits and within them" in lines
        assert "checked: fills sum to what was executed, and each moved the ledger once" in lines
    else:
        assert "checked: no order, no request, no fill, no movement of the ledger" in lines
        assert "Not shown by any bundle: that nothing else was recorded or sent." in done.stdout


def test_every_other_end_of_a_plan_is_whole_too(left: Left) -> None:
    """Refused by the exchange, filled in part, nothing to do, and proved by the resolver after its answer was lost."""
    assert {"rejected", "partially_filled", "skipped", "resolved"} == set(left.others)
    for which in left.others:
        report = verify_bundle.check(left.bundle(which), left.given())
        assert report.exit_code == WHOLE, (which, report.wrong, report.doubts)


def test_the_first_checkpoint_of_a_seal_is_found_without_reading_the_file_through(
    tmp_path: Path, left: Left
) -> None:
    file, lines = tmp_path / "many", left.checkpoints.read_bytes().splitlines(keepends=True)
    numbers = [found.number for line in lines if (found := form.read_line(line))]
    file.write_bytes(b"".join(lines) + lines[-1][:40])
    for number in range(numbers[-1] + 2):
        found = checkpoints.first_from(file, number)
        assert (found.number if found else None) == next((each for each in numbers if each >= number), None)
    assert checkpoints.first_from(tmp_path / "none", 1) is None


def test_the_verifier_needs_the_standard_library_and_cryptography_alone() -> None:
    named = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(VERIFIER.read_text()))
        for name in ([each.name for each in node.names] if isinstance(node, ast.Import) else
                     [node.module or ""] if isinstance(node, ast.ImportFrom) else [])
    }  # fmt: skip
    assert named - sys.stdlib_module_names == {"cryptography"}


def test_the_same_plan_gives_the_same_bytes_by_every_way(left: Left) -> None:
    web = someone("reader", "view_plan")
    for which in ("filled", "blocked"):
        plan_id, raw = getattr(left, which), left.bundle(which)
        answer = web.get(reverse("admin:apply_plan_bundle", args=[plan_id]))
        assert raw == left.bundle(which) == command(plan_id) == answer.content
        assert answer["Content-Disposition"] == f'attachment; filename="plan-{plan_id}.json"'


def test_a_plans_own_words_are_text_and_nothing_else_to_a_reader(left: Left) -> None:
    web = someone("second reader", "view_plan")
    answer = web.get(reverse("admin:apply_plan_bundle_read", args=[left.blocked]))
    page = answer.content.decode()
    assert page.encode() == command(left.blocked, "--html")
    assert "&lt;script&gt;alert(1)" in page
    assert "<script" not in page
    assert "<img" not in page
    assert HOSTILE[:20] in json.loads(left.bundle("blocked"))["plan"]["reason_codes"]
    assert "No document can show that nothing else was recorded or sent" in page


def test_no_secret_is_ever_in_it(left: Left) -> None:
    folder = settings.PERMIT_KEYS_DIR
    secrets = [settings.ENVIRONMENT.secret(f"BINANCE_{use}_{part}") for use in ("READ", "TRADE")
               for part in ("KEY", "SECRET")]  # fmt: skip
    secrets += [settings.SECRET_KEY]
    for name in signing.PAIRS:
        private = signing.load_private(folder / f"{name}.key").private_bytes_raw()
        secrets += [
            base64.b64encode(private).decode(),
            private.hex(),
            base64.urlsafe_b64encode(private).decode(),
        ]
    for which in ("filled", "blocked"):
        made = making.of(getattr(left, which))
        assert made is not None
        for text in (made.raw.decode(), reading.html(made)):
            assert not [secret for secret in secrets if secret and secret in text]
    assert set(json.loads(left.bundle("filled"))["exchange"][0]["request"]["signature"]) == {"•"}


def test_it_is_given_to_whoever_may_see_the_plan_and_to_nobody_else(left: Left) -> None:
    address = reverse("admin:apply_plan_bundle", args=[left.filled])
    assert someone("stranger").get(address).status_code == 403
    viewer = someone("viewer", "view_plan")
    assert viewer.post(address).status_code == 405
    assert viewer.get(reverse("admin:apply_plan_bundle", args=["0" * 16])).status_code == 404
    page = viewer.get(reverse("admin:apply_plan_change", args=[left.filled])).content.decode()
    assert address in page


def test_a_plan_that_has_not_ended_has_no_bundle(left: Left) -> None:
    row = plan_row(77, state=Plan.State.UNKNOWN)
    answer = someone("early", "view_plan").get(reverse("admin:apply_plan_bundle", args=[row.plan_id]))
    assert (answer.status_code, "is unknown" in answer.content.decode()) == (409, True)
    with pytest.raises(SystemExit) as ended:
        command(row.plan_id)
    assert ended.value.code == 1
    with pytest.raises(SystemExit) as ended:
        command("no such plan")
    assert ended.value.code == 1


def test_who_cannot_read_the_key_for_proofs_makes_none(left: Left, tmp_path: Path) -> None:
    with (
        override_settings(PERMIT_KEYS_DIR=tmp_path),
        pytest.raises(making.NoBundle, match="nothing can be signed"),
    ):
        making.of(left.filled)


# ---- what the house could try


def test_more_than_p33_allowed_is_found(left: Left) -> None:
    def more(said: dict[str, Any]) -> None:
        for quantity in (said["order"], said["exchange"][0]["request"], said["fills"][0]):
            quantity["quantity"] = "0.9"

    assert any("more than P3.3 allowed: 0.9 of 0.25" in wrong for wrong in broken(left, "filled", more))


def test_an_order_beside_a_blocked_plan_is_found(left: Left) -> None:
    filled = json.loads(left.bundle("filled"))

    def sent(said: dict[str, Any]) -> None:
        said |= {name: filled[name] for name in ("consume", "order", "exchange", "fills", "ledger")}

    assert any("an order of a plan that ended as blocked" in wrong for wrong in broken(left, "blocked", sent))


def test_a_movement_of_the_ledger_without_an_order_is_found(left: Left) -> None:
    ledger = json.loads(left.bundle("filled"))["ledger"]
    wrong = broken(left, "blocked", lambda said: said.update(ledger=ledger))
    assert "something happened without an order" in wrong


def test_an_order_that_only_the_audit_events_tell_of_is_found(left: Left) -> None:
    def hidden(said: dict[str, Any]) -> None:
        said |= {"order": None, "consume": None, "exchange": [], "fills": [], "ledger": []}

    wrong = broken(left, "filled", hidden)
    assert any("ended as filled and has no order" in each for each in wrong)
    assert "an audit event tells of an order that is not told" in wrong


def test_the_permits_of_another_plan_are_found(left: Left) -> None:
    others = json.loads(left.bundle("blocked"))

    def taken(said: dict[str, Any]) -> None:
        said["permits"] = others["permits"]

    assert any("permit is for another" in wrong for wrong in broken(left, "filled", taken))


def test_a_fill_that_is_left_out_is_found(left: Left) -> None:
    wrong = broken(left, "filled", lambda said: said.update(fills=[], ledger=[]))
    assert any("fills of 0, executed 0.25" in each for each in wrong)


def test_a_permit_without_a_signature_proves_nothing(left: Left) -> None:
    def unsigned(said: dict[str, Any]) -> None:
        body, _, _ = base64.b64decode(said["permits"][0]["raw"]).partition(b',"sig":')
        said["permits"][0]["raw"] = base64.b64encode(body + b"}").decode()

    assert any("carries no signature" in wrong for wrong in broken(left, "blocked", unsigned))


def test_a_secret_in_a_request_is_found(left: Left) -> None:
    def told(said: dict[str, Any]) -> None:
        said["exchange"][0]["request"]["signature"] = "c0ffee"

    assert "a secret stands in a request" in broken(left, "filled", told)


# ---- what the reader brings along


def test_a_chain_made_anew_is_found_by_a_checkpoint_of_before(left: Left, tmp_path: Path) -> None:
    """The house holds the key of the chain: it can sign what it likes, but not change the line that the reader has."""
    held = tmp_path / "held"
    lines = left.checkpoints.read_bytes().splitlines()
    held.write_bytes(b"\n".join(b"0" * 64 + line[64:] for line in lines) + b"\n")
    report = verify_bundle.check(left.bundle("filled"), Given(left.given().keys, set(), [held]))
    assert report.exit_code == BROKEN
    assert "is not the one of your checkpoint" in report.wrong[0]


def test_checkpoints_that_do_not_reach_it_cannot_tell_and_one_that_is_named_can(
    left: Left, tmp_path: Path
) -> None:
    held, lines = tmp_path / "held", left.checkpoints.read_bytes().splitlines(keepends=True)
    held.write_bytes(lines[0])
    given = Given(left.given().keys, set(), [held])
    assert verify_bundle.check(left.bundle("filled"), given).exit_code == CANNOT_TELL
    held.write_bytes(lines[-1])
    last = form.read_line(lines[-1])
    assert last is not None
    reaches = command(left.filled, "--to", str(last.number))
    assert verify_bundle.check(reaches, given).exit_code == WHOLE
    for beyond in (last.number + 1, 1):
        with pytest.raises(making.NoBundle):
            making.of(left.filled, to=beyond) if beyond > 1 else making.of(left.blocked, to=beyond)


def test_keys_may_be_given_by_their_fingerprints(left: Left) -> None:
    raw = left.bundle("filled")
    marks = {(key["name"], key["fingerprint"]) for key in json.loads(raw)["keys"]}
    assert {name for name, _ in marks} == {"audit", "governor", "p33", "proof"}
    assert verify_bundle.check(raw, Given({}, marks, [left.checkpoints])).exit_code == WHOLE
    others = {("p33" if name == "governor" else name, mark) for name, mark in marks}
    report = verify_bundle.check(raw, Given({}, others, [left.checkpoints]))
    assert report.exit_code == CANNOT_TELL, "a gate's key is believed for that gate alone"


def test_the_permit_of_a_key_that_was_replaced_long_ago_is_still_proved(left: Left, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    shutil.copytree(settings.PERMIT_KEYS_DIR, folder)
    mark = signing.fingerprint_of(signing.load_public(folder / "p33.pub"))
    (folder / "p33.pub").rename(folder / f"p33.old-{mark}-1.pub")
    (folder / "p33.pub").write_bytes(signing.pem_pair()[1])
    keyring.make_missing(folder)
    assert mark not in {known.fingerprint for known in signing.trusted("p33", folder)}
    with override_settings(PERMIT_KEYS_DIR=folder):
        raw = left.bundle("filled")
        given = Given(verify_bundle.keys_of(folder), set(), [left.checkpoints])
        assert verify_bundle.check(raw, given).exit_code == WHOLE
        (folder / f"p33-{mark}.pub").unlink()
        lost = verify_bundle.check(left.bundle("filled"), left.given())
    assert lost.exit_code == CANNOT_TELL
    assert any("the key is not kept that signed a permit of p33" in doubt for doubt in lost.doubts)


def test_an_event_that_is_not_sealed_yet_cannot_be_told(left: Left) -> None:
    audit.record(
        kind="permit_revoke_refused", actor="nina", plan_id=left.blocked, reason="came too late for it"
    )
    try:
        report = verify_bundle.check(left.bundle("blocked"), left.given())
    finally:
        with unguarded():
            AuditEvent.objects.filter(actor="nina").delete()
    assert report.exit_code == CANNOT_TELL
    assert any("was in no seal yet" in doubt for doubt in report.doubts)


def test_a_path_proves_its_leaf_at_its_place_and_nowhere_else() -> None:
    """Trees of every size up to 20, and each place in them, as RFC 6962 has them."""
    for size in range(1, 21):
        events = [b"%d of %d" % (number, size) for number in range(size)]
        leaves = [form.leaf(event) for event in events]
        root = form.root(leaves)
        for at, event in enumerate(events):
            path = form.path(leaves, at)
            assert verify_bundle._root(event, at, size, path) == root
            for other in set(range(size)) - {at}:
                try:
                    assert verify_bundle._root(event, other, size, path) != root
                except (verify_bundle.Wrong, IndexError):
                    continue
