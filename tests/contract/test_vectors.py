"""What is published under docs/ for other programs agrees with what the product does."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from django.conf import settings

from apply.models import Plan
from apply.plans import results
from permits.desk import payloads
from quantum import amounts
from quantum.plan import Action, Decision, MalformedPlan, canonical_steps, make, parse
from quantum.signing import SIGNERS, Signer, Verifier

DOCS = settings.BASE_DIR / "docs"


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DOCS / name).read_text())
    return found


DIGESTS, PERMITS = read("vectors/digests.json"), read("vectors/permits.json")


def title(case: dict[str, Any]) -> str:
    return str(case["what"]).replace(" ", "-")


def length_prefixed(*parts: str) -> bytes:
    """Written anew from the published rule, not taken from the product."""
    return b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)


# ---- digests and ids


@pytest.mark.parametrize("case", DIGESTS["digests"], ids=title)
def test_the_digest_of_a_plan_is_the_published_one(case: dict[str, Any]) -> None:
    fields = case["fields"]
    plan = parse({name.encode(): value.encode() for name, value in fields.items()})
    assert plan.digest == case["digest"]
    assert canonical_steps(plan.action) == case["canonical_steps"]


@pytest.mark.parametrize("case", DIGESTS["digests"], ids=title)
def test_the_published_digest_follows_from_the_published_rule(case: dict[str, Any]) -> None:
    names = ("plan_id", "symbol", "action", "kill_score", "decision", "timestamp")
    hashed = length_prefixed(*(case["fields"][name] for name in names), case["canonical_steps"])
    assert (hashed.hex(), hashlib.sha256(hashed).hexdigest()) == (case["hashed_hex"], case["digest"])


@pytest.mark.parametrize("case", DIGESTS["plan_ids"])
def test_our_own_plan_ids_are_the_published_ones(case: dict[str, Any]) -> None:
    fields = case["fields"]
    plan = make(
        symbol=fields["symbol"],
        action=Action(fields["action"]),
        kill_score_text=fields["kill_score"],
        timestamp_text=fields["timestamp"],
        stop_proposed=fields["stop_proposed"],
        attempt=int(fields["attempt"]),
        mode="paper",
        source="tests",
    )
    assert plan.plan_id == case["plan_id"]
    assert hashlib.sha256(length_prefixed(*fields.values())).hexdigest()[:16] == case["plan_id"]


# ---- signatures


@pytest.fixture(scope="module")
def key_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published seeds as key files; the operator's pair is the Governor's, nothing here uses it."""
    folder = tmp_path_factory.mktemp("keys")
    for name in SIGNERS:
        seed = PERMITS["keys"].get(name, PERMITS["keys"]["governor"])["ed25519_seed_hex"]
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))
        private = folder / f"{name}.key"
        private.touch(mode=0o600)
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder / f"{name}.pub").write_bytes(public)
    return folder


@pytest.mark.parametrize("case", PERMITS["valid"], ids=title)
def test_a_gate_seals_the_published_bytes(case: dict[str, Any], key_folder: Path) -> None:
    sealed = Signer(name=case["signer"], directory=key_folder).seal(case["unsigned"].encode())
    assert sealed == case["sealed"].encode()


@pytest.mark.parametrize("case", PERMITS["valid"], ids=title)
def test_a_valid_permit_is_verified_and_read_in_full(case: dict[str, Any], key_folder: Path) -> None:
    raw = case["sealed"].encode()
    assert Verifier(directory=key_folder).holds(signer=case["signer"], raw=raw)
    permit = payloads.read(raw, gate=case["signer"], all_fields=True)
    assert permit.digest == DIGESTS["digests"][0]["digest"]


@pytest.mark.parametrize("case", PERMITS["invalid"], ids=title)
def test_an_invalid_permit_is_not_verified(case: dict[str, Any], key_folder: Path) -> None:
    raw = case["sealed"].encode()
    assert not Verifier(directory=key_folder).holds(signer=case["signer"], raw=raw)


@pytest.mark.parametrize("case", PERMITS["valid"], ids=title)
def test_the_published_signature_follows_from_the_published_rule(case: dict[str, Any]) -> None:
    """With nothing of the product: cut the last member, decode, verify."""
    body, _, rest = case["sealed"].rpartition(',"sig":"')
    assert body + "}" == case["unsigned"]
    public = bytes.fromhex(PERMITS["keys"][case["signer"]]["ed25519_public_hex"])
    signature = base64.urlsafe_b64decode(rest.removesuffix('"}') + "==")
    Ed25519PublicKey.from_public_bytes(public).verify(signature, case["unsigned"].encode())
    with pytest.raises(InvalidSignature):
        Ed25519PublicKey.from_public_bytes(public).verify(signature, case["unsigned"].encode() + b" ")


# ---- schemas


def test_the_plan_schema_names_what_we_put_on_the_stream() -> None:
    schema = read("plan.schema.json")
    case = next(case for case in DIGESTS["digests"] if "expires_at" in case["fields"])
    plan = parse({name.encode(): value.encode() for name, value in case["fields"].items()})
    assert set(plan.fields()) == set(schema["properties"])
    assert schema["properties"]["action"]["enum"] == [action.value for action in Action]
    assert schema["properties"]["decision"]["enum"] == [decision.value for decision in Decision]
    for name, value in plan.fields().items():
        assert re.search(schema["properties"][name].get("pattern", ""), value), name


@pytest.mark.parametrize("name", read("plan.schema.json")["required"])
def test_a_plan_without_a_required_field_is_refused(name: str) -> None:
    fields = {key.encode(): value.encode() for key, value in DIGESTS["digests"][0]["fields"].items()}
    del fields[name.encode()]
    with pytest.raises(MalformedPlan, match=name):
        parse(fields)


@pytest.mark.parametrize("text", ["1", "-1.5", "1e3", "NaN", " 1", "+1", "1.", ".5", "0x1", "", "1" * 21])
def test_the_published_pattern_of_numbers_is_the_one_we_read_by(text: str) -> None:
    pattern = read("plan.schema.json")["properties"]["kill_score"]["pattern"]
    readable = amounts.parse(text) is not None
    assert readable == bool(re.search(pattern, text))


@pytest.mark.parametrize("index", [0, 1])
def test_the_permit_schema_asks_for_what_the_gate_asks_for(index: int) -> None:
    schema = read("permit.schema.json")["oneOf"][index]
    verdict = {"governor": "granted", "p33": "allow"}[schema["title"]]
    assert set(schema["required"]) == {*payloads.SIGNED_FIELDS, verdict, "sig"}


@pytest.mark.parametrize("case", PERMITS["valid"], ids=title)
def test_the_permit_schema_names_every_member_we_write(case: dict[str, Any]) -> None:
    schemas = {schema["title"]: schema for schema in read("permit.schema.json")["oneOf"]}
    schema = schemas[case["signer"]]
    written = json.loads(case["sealed"], parse_float=Decimal)
    assert set(schema["required"]) <= set(written) <= set(schema["properties"])


@pytest.mark.parametrize("name", read("permit.schema.json")["oneOf"][0]["required"])
def test_a_signed_permit_without_a_required_member_is_not_accepted(name: str, key_folder: Path) -> None:
    members = json.loads(PERMITS["valid"][0]["unsigned"])
    members.pop(name, None)
    body = json.dumps(members, separators=(",", ":")).encode()
    raw = body if name == "sig" else Signer(name="governor", directory=key_folder).seal(body)
    if not Verifier(directory=key_folder).holds(signer="governor", raw=raw):
        return
    with pytest.raises(payloads.Malformed):
        payloads.read(raw, gate="governor", all_fields=True)


def test_the_result_schema_names_what_we_publish() -> None:
    schema = read("result.schema.json")
    plan = Plan(plan_id="67e6da21fa9fe506", symbol="BTCUSDT", action="PARTIAL_75", decision="EXECUTE")
    fields = results.result_fields(plan, None)
    assert list(fields) == list(schema["properties"]) == schema["required"]
    for name, value in fields.items():
        assert re.search(schema["properties"][name].get("pattern", ""), value), name
        assert value in schema["properties"][name].get("enum", [value]), name
