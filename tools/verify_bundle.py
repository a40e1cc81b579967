"""Is a proof bundle of one plan what it says it is? Needs Python and the package cryptography alone: copy this file to
where you trust the machine, and get the public keys or their fingerprints, and a checkpoint, from somebody who is
not the one who gave you the bundle.

    python verify_bundle.py BUNDLE.json [--keys FOLDER] [--fingerprint NAME=HEX ...] [--checkpoints FILE ...]

0: whole. 6: broken, with what. 7: nobody can tell, with why. docs/audit.md has the bytes and what rests on which key.
"""

from __future__ import annotations

import argparse
import base64
import datetime as dt
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

WHOLE, BROKEN, CANNOT_TELL = 0, 6, 7
FORMAT, VERSION, SIGNED_AS = "quantum-proof-bundle", 1, b"quantum-proof-bundle-1\n"
SETTLED_AS = b"quantum-settlement-1\n"
BYTES_MAX = 64_000_000
TOLD_MAX, POWER_MAX = 300, 40
SHAPES = {
    "bundle": "format v versions instance plan permits consume order exchange fills ledger audit keys signature",
    "versions": "quantum",
    "instance": "uuid mode account",
    "plan": "plan_id symbol action decision kill_score timestamp digest mode account source reason_codes parent "
    "attempt created_at expires_at stream_id state error gate_reason wait_ms gov_ttl p33_ttl ended_at result_id "
    "would_quantity",
    "permit": "gate fate fate_at fate_by fate_reason recorded_at signer key raw",
    "consume": "token consumed_at wait_ms governor p33",
    "order": "step client_order_id symbol side quantity timestamp_ms intended_at sent_at answered_at settled_at "
    "order_id status executed_quantity average_price realized_pnl commission error error_code error_text",
    "talk": "what request sent_at answered_at answer times",
    "fill": "account symbol trade_id order_id client_order_id side quantity price realized_pnl commission "
    "commission_asset at",
    "entry": "account symbol kind delta balance plan_id actor reason at recorded_at trade_id",
    "audit": "events chains",
    "event": "bytes seal position path",
    "key": "name fingerprint key",
    "signature": "key sig",
}
STEPS = {
    "FULL_CLOSE_PROPOSED": ("CLOSE_FULL", 100),
    "PARTIAL_75": ("CLOSE_PARTIAL_75", 75),
    "PARTIAL_50": ("CLOSE_PARTIAL_50", 50),
    "PARTIAL_25": ("CLOSE_PARTIAL_25", 25),
}
UNSENT = ("blocked", "skipped", "expired", "spent_unsent")
SENT = ("filled", "partially_filled", "rejected", "already_done", "not_at_exchange")
ANSWER = ("order_id", "status", "executed_quantity", "average_price", "error", "error_code", "error_text")
MASKED = ("signature", "X-MBX-APIKEY")
_SEAL = re.compile(
    r'\{"seal":N,"v":N,"instance":"([^"]*)","events":N,"total":N,"previous":"([0-9a-f]{64})",'
    r'"root":"([0-9a-f]{64})","at_us":N,"checkpointed":N,"key":"([0-9a-f]{16})"\}'.replace(
        "N", "(0|[1-9][0-9]{0,18})"
    )
)
_SIGNED = re.compile(rb'(\{.*),"sig":"([A-Za-z0-9_-]{86})"\}', re.DOTALL)
_LINE = re.compile(r'[0-9a-f]{64} \{"seal":([0-9]{1,19}),.*\}')
_NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,18})?")
_ANSWERED = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,18})?(E-[0-9]{1,2})?")
Keys = dict[tuple[str, str], Ed25519PublicKey]


class Wrong(Exception):
    """What does not fit."""


@dataclass(slots=True)
class Report:
    checked: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    of: str = ""
    """Which plan of whom it speaks of: whole it may be of another one than was asked for."""

    @property
    def exit_code(self) -> int:
        return BROKEN if self.wrong else CANNOT_TELL if self.doubts else WHOLE


@dataclass(slots=True)
class Given:
    """What the reader brought along: only that is believed."""

    keys: Keys = field(default_factory=dict)
    marks: set[tuple[str, str]] = field(default_factory=set)
    checkpoints: list[Path] | None = None


@dataclass(frozen=True, slots=True)
class Seal:
    number: int
    instance: str
    events: int
    total: int
    previous: str
    root: str
    head: str
    line: str


def check(raw: bytes, given: Given, *, whole_signed: bool = True) -> Report:
    """whole_signed=False looks at the inner proofs alone, as if whoever made the bundle lied and signed it again."""
    return _Look(raw, given, whole_signed).go()


class _Look:
    def __init__(self, raw: bytes, given: Given, whole_signed: bool) -> None:
        self.raw, self.given, self.whole_signed = raw, given, whole_signed
        self.report = Report()
        self.said: dict[str, Any] = {}
        self.keys: Keys = {}
        self.permits: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.seals: dict[int, Seal] = {}

    def go(self) -> Report:
        if not self._step(self._form, "one JSON document of version 1, in its one spelling"):
            return self.report
        self._step(self._keys, "each public key has the fingerprint that is told of it")
        if self.whole_signed:
            self._step(self._whole, "the whole document is signed (key: proof)")
        self._step(self._plan, "the plan's digest is that of its fields")
        self._step(
            self._permits,
            "each permit is signed by its gate or an operator, for exactly this plan and symbol",
        )
        self._step(self._chains, "each seal is signed and follows on the one before it (key: audit)")
        self._step(self._events, "each audit event lies in its seal, by its path to the seal's root")
        self._step(self._story, "the audit events tell the same beginning, intent and end as the plan")
        if self.said["order"] is not None:
            self._step(self._order, "one order, after both permits and within them")
            self._step(self._talk, "what was said to the exchange is that order, and no secret stands in it")
            self._step(self._books, "fills sum to what was executed, and each moved the ledger once")
        else:
            self._step(self._nothing_sent, "no order, no request, no fill, no movement of the ledger")
        self._step(self._checkpoints, "the seals are those of your checkpoints")
        return self.report

    def _step(self, look: Callable[[], bool | None], what: str) -> bool:
        """False from a look: there was nothing to look at."""
        try:
            done = look()
        except Wrong as wrong:
            self.report.wrong.append(str(wrong))
            return False
        except (
            KeyError,
            TypeError,
            ValueError,
            IndexError,
            AttributeError,
            ArithmeticError,
            RecursionError,
            MemoryError,
        ) as error:
            self.report.wrong.append(f"cannot be read: {what} ({type(error).__name__})")
            return False
        if done is not False:
            self.report.checked.append(what)
        return True

    # ---- the document

    def _form(self) -> None:
        _so(len(self.raw) <= BYTES_MAX, "larger than any bundle")
        said = json.loads(self.raw, parse_float=_no_fraction, parse_constant=_no_fraction)
        _so(_written(said) == self.raw, "these bytes are not the one spelling of what they say")
        _shape("bundle", said)
        _so(
            said["format"] == FORMAT and said["v"] == VERSION,
            "no bundle of a version that this verifier knows",
        )
        for name, shape in (("permits", "permit"), ("exchange", "talk"), ("fills", "fill"), ("ledger", "entry"),
                            ("keys", "key")):  # fmt: skip
            for each in _list(said[name]):
                _shape(shape, each)
        for name in ("versions", "instance", "plan", "audit", "signature"):
            _shape(name, said[name])
        for each in _list(said["audit"]["events"]):
            _shape("event", each)
        for chain in _list(said["audit"]["chains"]):
            _list(chain)
        for name in ("consume", "order"):
            _so(
                (said[name] is None) == (said["order"] is None),
                "an order without its consume, or the other way round",
            )
            if said[name] is not None:
                _shape(name, said[name])
        self.said = said
        self.report.of = "plan {plan_id}, {action} of {symbol}, {state}; {mode} {account}, house ".format(
            **said["plan"]
        ) + str(said["instance"]["uuid"])

    def _keys(self) -> None:
        own: Keys = {}
        for each in self.said["keys"]:
            key = Ed25519PublicKey.from_public_bytes(_bytes(each["key"]))
            _so(_mark(key) == each["fingerprint"], f"key {each['fingerprint']} has another fingerprint")
            _so((each["name"], each["fingerprint"]) not in own, f"key {each['fingerprint']} is told twice")
            own[each["name"], each["fingerprint"]] = key
        _so(list(own) == sorted(own), "the keys stand in another order than theirs")
        told = {(each["signer"], each["key"]) for each in self.said["permits"] if each["key"]}
        told.add(("proof", self.said["signature"]["key"]))
        _so(told <= set(own), "a key is named that does not stand here")
        sealed = {("audit", json.loads(line.partition(" ")[2])["key"]) for line in self._lines()}
        _so(set(own) <= told | sealed, "a key is told that signed nothing here")
        self.keys = {**own, **self.given.keys}
        self.report.doubts += [
            f"there is no public key {name} {mark}: what it signed cannot be checked"
            for name, mark in sorted(sealed - set(self.keys))
        ]
        if not self.given.keys and not self.given.marks:
            named = ", ".join(f"{name}={mark}" for name, mark in own)
            self.report.doubts.append(
                f"the keys are the bundle's own, so whoever made it may have made them: compare {named} with those of "
                "the house and give them by --keys or --fingerprint"
            )
            return
        believed = set(self.given.keys) | self.given.marks
        self.report.doubts += [
            f"{name} {mark} is none of the keys that you gave" for name, mark in sorted(set(own) - believed)
        ]

    def _holds(self, name: str, mark: str, signature: str, body: bytes, what: str) -> None:
        key = self.keys.get((name, mark))
        if key is None:
            return  # a doubt, told where the keys were looked at
        try:
            key.verify(_unurl(signature), body)
        except InvalidSignature:
            raise Wrong(f"the signature of {what} is wrong") from None

    def _whole(self) -> None:
        said = {name: value for name, value in self.said.items() if name != "signature"}
        signed = self.said["signature"]
        self._holds("proof", signed["key"], signed["sig"], SIGNED_AS + _written(said), "the whole document")

    # ---- the plan and its permits

    def _plan(self) -> None:
        plan, instance = self.said["plan"], self.said["instance"]
        step = STEPS.get(plan["action"])
        steps = [{"percent": step[1], "step": step[0]}] if step else []
        parts = [
            plan[name] for name in ("plan_id", "symbol", "action", "kill_score", "decision", "timestamp")
        ]
        parts.append(json.dumps(steps, sort_keys=True, separators=(",", ":")))
        found = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)
        _so(
            hashlib.sha256(found).hexdigest() == plan["digest"], "the plan's digest is not that of its fields"
        )
        for name in ("mode", "account"):
            _so(plan[name] == instance[name], f"the plan is of another {name} than the house")
        _so(plan["state"] in (*UNSENT, *SENT), f"{plan['state']} is no end of a plan")

    def _permits(self) -> None:
        for row in self.said["permits"]:
            raw = _bytes(row["raw"])
            parts = _SIGNED.fullmatch(raw)
            if parts is None:
                raise Wrong(f"a permit of {row['gate']} carries no signature")
            _so(row["gate"] in ("governor", "p33"), f"{row['gate']} is no gate")
            _so(
                row["signer"] in (row["gate"], "operator", ""),
                f"{row['signer']} may not sign for {row['gate']}",
            )
            _so(bool(row["signer"]) == bool(row["key"]), "a signer without a key, or a key without a signer")
            if row["signer"]:
                self._holds(
                    row["signer"], row["key"], parts[2].decode(), parts[1] + b"}", f"{row['gate']}'s permit"
                )
            else:
                self.report.doubts.append(f"the key is not kept that signed a permit of {row['gate']}")
            permit = json.loads(raw, parse_float=Decimal, parse_int=Decimal, object_pairs_hook=_unique)
            for name in ("plan_id", "symbol", "digest", "mode", "account"):
                _so(permit[name] == self.said["plan"][name], f"{row['gate']}'s permit is for another {name}")
            _so(permit["gate"] == row["gate"], "a permit of the other gate")
            by_operator = re.split("[@:]", permit["issuer"])[0] == "operator"
            _so(
                row["signer"] in ("", "operator" if by_operator else row["gate"]),
                "signed by another than its issuer",
            )
            if by_operator:
                self.report.notes.append(
                    f"an operator signed in the place of {row['gate']}: {permit['issuer']}"
                )
            self.permits.append({**permit, "verdict": permit["granted" if row["gate"] == "governor" else "allow"],
                                 "sha256": hashlib.sha256(raw).hexdigest(), "fate": row["fate"]})  # fmt: skip
        marks = [permit["sha256"] for permit in self.permits]
        _so(len(set(marks)) == len(marks), "a permit stands there twice")
        order = [(int(_number(permit["created_at"]) * 1000), permit["gate"]) for permit in self.permits]
        _so(order == sorted(order), "the permits stand in another order than theirs")

    # ---- the audit chain

    def _lines(self) -> Iterator[str]:
        for chain in self.said["audit"]["chains"]:
            yield from chain

    def _chains(self) -> None:
        first_of = {each["seal"] for each in self.said["audit"]["events"]}
        end = 0
        for chain in self.said["audit"]["chains"]:
            before: Seal | None = None
            for line in chain:
                seal = self._seal(line)
                if before is None:
                    _so(
                        seal.number > end and seal.number in first_of,
                        f"the chain from seal {seal.number} proves nothing",
                    )
                else:
                    follows = seal.number == before.number + 1 and seal.previous == before.head
                    _so(
                        follows and seal.total == before.total + seal.events,
                        f"seal {seal.number} does not follow",
                    )
                self.seals[seal.number] = before = seal
            _so(before is not None, "a chain without a seal")
            end = max(self.seals)

    def _seal(self, line: str) -> Seal:
        head, _, signed = line.partition(" ")
        parts = _SIGNED.fullmatch(signed.encode())
        body = parts[1] + b"}" if parts else b""
        found = _SEAL.fullmatch(body.decode())
        if parts is None or found is None:
            raise Wrong("a seal that is none")
        number = int(found[1])
        _so(hashlib.sha256(b"\x02" + body).hexdigest() == head, f"the head of seal {number} is not its own")
        _so(found[2] == "1", f"seal {number} has a format that this verifier does not know")
        _so(found[3] == self.said["instance"]["uuid"], f"seal {number} is of another house")
        self._holds("audit", found[10], parts[2].decode(), body, f"seal {number}")
        return Seal(number, found[3], int(found[4]), int(found[5]), found[6], found[7], head, line)

    def _events(self) -> None:
        before = 0
        for each in self.said["audit"]["events"]:
            raw = _bytes(each["bytes"])
            event = _event(raw)
            self.events.append(event)
            number = int(event["id"])
            _so(number > before, f"event {number} stands in the wrong place")
            _so(event["plan_id"] == self.said["plan"]["plan_id"], f"event {number} is of another plan")
            before = number
            if each["seal"] is None:
                _so(each["position"] is None and each["path"] == [], "a place in no seal")
                self.report.doubts.append(
                    f"event {number} ({event['kind']}) was in no seal yet: make the bundle again"
                )
                continue
            seal = self.seals[each["seal"]]
            root = _root(raw, each["position"], seal.events, each["path"])
            _so(root == seal.root, f"event {number} ({event['kind']}) is not what seal {seal.number} holds")

    def _story(self) -> None:
        plan, order = self.said["plan"], self.said["order"]
        recorded = self._one("plan_recorded")
        told = recorded["data"]
        _so((told["digest"], told["action"]) == (plan["digest"], plan["action"]), "another plan was recorded")
        _so(recorded["symbol"] == plan["symbol"], "another symbol was recorded")
        ended = self._one(f"plan_{plan['state']}")
        _so(ended["reason"] == plan["error"], "the plan is told to have ended for another reason")
        others = [f"plan_{state}" for state in (*UNSENT, *SENT) if state != plan["state"]]
        _so(
            not any(event["kind"] in others for event in self.events),
            "the audit events tell of another end too",
        )
        if order is None:
            _so(not self._of("order_intended"), "an audit event tells of an order that is not told")
            return
        told = self._one("order_intended")["data"]
        for name in ("client_order_id", "quantity", "side"):
            _so(told[name] == order[name], f"the intent was for another {name.replace('_', ' ')}")
        by_person = bool(self._of("order_resolved"))
        _so((order["status"] == "BY_PERSON") == by_person, "who said what became of it is told in two ways")
        self._settled(ended["data"])

    def _settled(self, told: dict[str, Any]) -> None:
        """What the end came to stands in its event as a digest, and each movement of the ledger in one of its own."""
        order, fills, ledger = self.said["order"], self.said["fills"], self.said["ledger"]
        moved = [(each["data"]["delta"], each["data"]["balance"], each["data"]["by"], each["actor"])
                 for each in self._of("ledger_moved")]  # fmt: skip
        entries = [(each["delta"], each["balance"], each["kind"], each["actor"]) for each in ledger]
        _so(moved == entries, "the audit events tell of other movements of the ledger")
        if "settled" not in told:
            self.report.notes.append(
                "the event of its end is from before ends named what they came to: answer and fills rest on the key "
                "proof, and on fitting together"
            )
            return
        names = ("trade_id", "order_id", "side", "quantity", "price", "realized_pnl", "commission",
                 "commission_asset")  # fmt: skip
        rows = [[*(fill[name] for name in names), int(_seconds(fill["at"]) * 1000)] for fill in fills]
        said = [order["status"], order["executed_quantity"], sorted(rows, key=lambda row: int(row[0]))]
        text = SETTLED_AS + json.dumps(said, separators=(",", ":")).encode()
        _so(
            hashlib.sha256(text).hexdigest() == told["settled"],
            "answer and fills are not what its end was recorded with",
        )

    def _of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["kind"] == kind]

    def _one(self, kind: str) -> dict[str, Any]:
        found = self._of(kind)
        _so(len(found) == 1, f"{len(found)} audit events {kind} where there must be one")
        return found[0]

    # ---- the order, or none

    def _order(self) -> None:
        plan, order, consume = self.said["plan"], self.said["order"], self.said["consume"]
        _so(plan["state"] in SENT, f"an order of a plan that ended as {plan['state']}")
        step, percent = STEPS[plan["action"]]
        _so(order["step"] == step and order["symbol"] == plan["symbol"], "an order of another step or symbol")
        _so(order["client_order_id"] == f"q-{plan['plan_id']}-{percent}", "an order of another plan")
        _so(consume["wait_ms"] == plan["wait_ms"], "the wait is told in two ways")
        pair = {permit["gate"]: permit for permit in self.permits if permit["fate"] == "spent"}
        _so(
            sum(permit["fate"] == "spent" for permit in self.permits) == 2 == len(pair),
            "not one permit of each gate was spent",
        )
        consumed_s = _seconds(consume["consumed_at"])
        for gate, permit in pair.items():
            _so(permit["sha256"] == consume[gate], f"another permit of {gate} was spent")
            _so(permit["verdict"] is True, f"{gate} did not grant")
            _so(consumed_s < _number(permit["expires_at"]), f"{gate}'s permit had ended when it was spent")
        p33, quantity = pair["p33"], _number(order["quantity"])
        held, safe = _number(p33["exchange_position_amt"]), _number(p33["safe_close_qty"])
        _so(0 < quantity <= safe <= abs(held), f"more than P3.3 allowed: {quantity} of {safe} of {held}")
        _so(quantity <= abs(held) * percent / 100, "more than the plan's share")
        _so(order["side"] == ("SELL" if held > 0 else "BUY"), "an order that does not reduce")

    def _talk(self) -> None:
        order = self.said["order"]
        wanted = {"symbol": order["symbol"], "side": order["side"], "type": "MARKET", "quantity": order["quantity"],
                  "reduceOnly": "true", "newClientOrderId": order["client_order_id"], "newOrderRespType": "RESULT",
                  "timestamp": str(order["timestamp_ms"]), "recvWindow": "3000"}  # fmt: skip
        asked = {
            "symbol": order["symbol"],
            "origClientOrderId": order["client_order_id"],
            "recvWindow": "3000",
        }
        placed = 0
        for said in self.said["exchange"]:
            request = dict(said["request"])
            _so(all(set(request.pop(name)) == {"•"} for name in MASKED), "a secret stands in a request")
            placed += said["what"] == "POST /fapi/v1/order"
            _so(
                request == (wanted if said["what"] == "POST /fapi/v1/order" else asked),
                "a request of another order",
            )
            if said["what"] == "POST /fapi/v1/order":
                _so(said["times"] == 1, "the order is told to have been sent twice")
                answer = {name: order[name] for name in ANSWER if order[name] not in (None, "")}
                told = {**said["answer"], "sent_at": said["sent_at"], "answered_at": said["answered_at"]}
                _so(_same(told, {**answer, "sent_at": order["sent_at"], "answered_at": order["answered_at"]}),
                    "the answer is told in two ways")  # fmt: skip
        was_sent = order["sent_at"] is not None or order["answered_at"] is not None
        _so(placed == was_sent, "how often the order was sent is told in two ways")

    def _books(self) -> None:
        order, fills, ledger = self.said["order"], self.said["fills"], self.said["ledger"]
        for fill in fills:
            for name in ("symbol", "side", "order_id"):
                _so(fill[name] == order[name], f"fill {fill['trade_id']} has another {name}")
            _so(fill["client_order_id"] in ("", order["client_order_id"]), "a fill of another order")
            _so(fill["account"] == self.said["plan"]["account"], "a fill of another account")
        filled = sum((_number(fill["quantity"]) for fill in fills), Decimal(0))
        executed = _number(order["executed_quantity"]) if order["executed_quantity"] is not None else filled
        _so(filled == executed <= _number(order["quantity"]), f"fills of {filled}, executed {executed}")
        earned = sum((_number(fill["realized_pnl"]) for fill in fills), Decimal(0))
        _so(earned == _number(order["realized_pnl"] or "0"), "the profit is not that of the fills")
        paid: dict[str, Decimal] = {}
        for fill in fills:
            paid[fill["commission_asset"]] = paid.get(fill["commission_asset"], Decimal(0)) + _number(
                fill["commission"]
            )
        _so(
            paid == {asset: _number(said) for asset, said in order["commission"].items()},
            "another commission",
        )
        if fills and order["average_price"] is not None:
            prices = [_number(fill["price"]) for fill in fills]
            _so(min(prices) <= _number(order["average_price"]) <= max(prices), "no average of these prices")
        _so(
            [entry["trade_id"] for entry in ledger] == [fill["trade_id"] for fill in fills],
            "ledger without its fill",
        )
        _so(len({fill["trade_id"] for fill in fills}) == len(fills), "a fill stands there twice")
        for entry, fill in zip(ledger, fills, strict=True):
            delta = _number(fill["quantity"]) * (1 if fill["side"] == "BUY" else -1)
            _so(
                _number(entry["delta"]) == delta and entry["kind"] == "exit",
                "the ledger moved by another amount",
            )
            mine = (entry["plan_id"], entry["symbol"], entry["account"])
            _so(
                mine == tuple(self.said["plan"][name] for name in ("plan_id", "symbol", "account")),
                "another's entry",
            )
            _so(entry["at"] == fill["at"], "the ledger moved at another time than the fill")
        state, wanted = self.said["plan"]["state"], _number(order["quantity"])
        if order["status"] == "BY_PERSON":
            self.report.notes.append(
                "a person said what became of the order; the exchange could not prove it"
            )
            return
        fits = "filled" if executed >= wanted else "partially_filled" if executed else "none"
        _so(
            state == fits or (fits == "none" and state in SENT[2:]),
            f"executed {executed} of {wanted}, told as {state}",
        )

    def _nothing_sent(self) -> None:
        said = self.said
        _so(said["plan"]["state"] in UNSENT, f"a plan that ended as {said['plan']['state']} and has no order")
        _so(said["exchange"] == said["fills"] == said["ledger"] == [], "something happened without an order")
        spent = [permit for permit in self.permits if permit["fate"] == "spent"]
        if spent:
            self.report.notes.append("both permits were spent, and no order came of it")
        self.report.notes.append(
            "shown: the house recorded this end, and no intent, in a chain that it cannot change unseen. Not shown by "
            "any bundle: that nothing else was recorded or sent. audit_verify shows that no event was taken away; the "
            f"exchange itself tells whether it ever had an order q-{said['plan']['plan_id']}-25, -50, -75 or -100"
        )

    # ---- outside the house

    def _checkpoints(self) -> bool | None:
        if self.given.checkpoints is None:
            self.report.notes.append(
                "no checkpoint of yours was given: that this chain was not made anew rests on the audit key alone"
            )
            return False
        yours: set[int] = set()
        for line in _lines_of(self.given.checkpoints):
            found = _LINE.fullmatch(line)
            seal = self.seals.get(int(found[1])) if found else None
            if seal is not None:
                _so(line == seal.line, f"seal {seal.number} is not the one of your checkpoint")
                yours.add(seal.number)
        for chain in self.said["audit"]["chains"]:
            ours = {self._seal(line).number for line in chain}
            needed = max(each["seal"] for each in self.said["audit"]["events"] if each["seal"] in ours)
            if max(ours & yours, default=0) < needed:
                doubt = f"none of your checkpoints is of seal {needed} or a later one here: make it with --to"
                self.report.doubts.append(doubt)
        return True


# ---- bytes


def _so(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Wrong(otherwise)


def _shape(name: str, said: Any) -> None:
    _so(isinstance(said, dict) and list(said) == SHAPES[name].split(), f"{name} has not the members of one")


def _list(said: Any) -> list[Any]:
    _so(isinstance(said, list), "one thing where a list belongs")
    return list(said)


def _written(said: Any) -> bytes:
    return json.dumps(said, indent=1).encode() + b"\n"


def _no_fraction(_text: str) -> NoReturn:
    raise Wrong("a number with a fraction, which has more than one spelling")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _so(len(dict(pairs)) == len(pairs), "a member is given twice")
    return dict(pairs)


def _bytes(text: str) -> bytes:
    found = base64.b64decode(text, validate=True)
    _so(base64.b64encode(found).decode() == text, "bytes in another spelling than theirs")
    return found


def _unurl(text: str) -> bytes:
    found = base64.urlsafe_b64decode(text + "==")
    _so(
        base64.urlsafe_b64encode(found).rstrip(b"=").decode() == text,
        "a signature in another spelling than its own",
    )
    return found


def _number(said: Any) -> Decimal:
    """A power is written out only where it is small: 1e999999999 would fill the memory."""
    text = format(said, "f") if isinstance(said, Decimal) and abs(said.adjusted()) < POWER_MAX else said
    _so(isinstance(text, str) and _NUMBER.fullmatch(text) is not None, f"{said!r} is no amount")
    return Decimal(text)


def _plain(value: Any) -> str:
    """Of what is an amount; any other text, one that Decimal would read as well, is itself."""
    text = str(value)
    return format(Decimal(text).normalize(), "f") if _ANSWERED.fullmatch(text) else text


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """An amount may stand there with zeros at its end, and a zero with a power."""
    plain = [{name: _plain(value) for name, value in each.items()} for each in (one, other)]
    return plain[0] == plain[1]


def _seconds(text: str) -> Decimal:
    since = dt.datetime.fromisoformat(text) - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return Decimal(since // dt.timedelta(microseconds=1)) / 1_000_000


def _mark(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def _event(raw: bytes) -> dict[str, Any]:
    names = ("id", "at", "kind", "plan_id", "symbol", "actor", "reason", "data")
    tag, at, found = b"quantum-audit-event-1", len(b"quantum-audit-event-1"), []
    _so(raw.startswith(tag), "an event that is none")
    for _ in names:
        length = int.from_bytes(raw[at : at + 4], "big")
        found.append(raw[at + 4 : at + 4 + length].decode())
        at += 4 + length
    _so(at == len(raw), "an event with more, or less, than its fields")
    return {**dict(zip(names, found, strict=True)), "data": json.loads(found[-1], object_pairs_hook=_unique)}


def _root(event: bytes, position: int, size: int, path: list[str]) -> str:
    """RFC 6962: where a leaf lies in a tree of that size says on which side each hash of its path belongs."""
    _so(0 <= position < size, "a place beyond its seal")
    found, left = hashlib.sha256(b"\x00" + event).digest(), list(path)
    while size > 1:
        if position ^ 1 < size:
            beside = bytes.fromhex(left.pop(0))
            _so(len(beside) == 32, "a hash that is none")
            pair = beside + found if position & 1 else found + beside
            found = hashlib.sha256(b"\x01" + pair).digest()
        position, size = position // 2, (size + 1) // 2
    _so(not left, "a path that is too long")
    return found.hex()


# ---- the command


def _safe(text: str) -> str:
    """A stranger's words stand in it: they must neither move the cursor nor fill the screen."""
    shown = text if len(text) <= TOLD_MAX or "note: " in text[:6] else f"{text[:TOLD_MAX]}..."
    return "".join(each if each.isascii() and each.isprintable() else ascii(each)[1:-1] for each in shown)


def _lines_of(files: list[Path]) -> Iterator[str]:
    for file in files:
        with file.open(encoding="utf-8", errors="replace") as lines:
            yield from (line.rstrip("\n") for line in lines)


def keys_of(folder: Path) -> Keys:
    """governor.pub, governor-<fingerprint>.pub, ...: the name stands first."""
    found: Keys = {}
    for path in sorted(folder.glob("*.pub")):
        key = load_pem_public_key(path.read_bytes())
        if isinstance(key, Ed25519PublicKey):
            found[re.split("[-.]", path.name)[0], _mark(key)] = key
    return found


def main(words: list[str]) -> int:
    asked = argparse.ArgumentParser(
        description="Checks a proof bundle: exit 0 whole, 6 broken, 7 nobody can tell."
    )
    asked.add_argument("bundle", type=Path)
    asked.add_argument("--keys", type=Path, metavar="FOLDER", help="public keys that you believe")
    asked.add_argument(
        "--fingerprint", action="append", default=[], metavar="NAME=HEX", help="of a key you believe"
    )
    asked.add_argument(
        "--checkpoints", type=Path, action="append", metavar="FILE", help="lines that you hold"
    )
    told = asked.parse_args(words)
    marks = {(name, mark) for name, _, mark in (text.partition("=") for text in told.fingerprint)}
    try:
        given = Given(keys_of(told.keys) if told.keys else {}, marks, told.checkpoints)
        with told.bundle.open("rb") as opened:
            report = check(opened.read(BYTES_MAX + 1), given)
    except (OSError, ValueError, MemoryError, UnsupportedAlgorithm) as failure:
        print(_safe(f"cannot tell: {failure}"))
        return CANNOT_TELL
    print({WHOLE: "whole", BROKEN: "broken", CANNOT_TELL: "cannot tell"}[report.exit_code])
    print(_safe(f"of: {report.of or 'nothing that can be read'}"))
    for label, lines in (("checked", report.checked), ("BROKEN", report.wrong), ("cannot tell", report.doubts),
                         ("note", report.notes)):  # fmt: skip
        for line in lines:
            print(_safe(f"{label}: {line}"))
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
