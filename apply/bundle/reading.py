"""A bundle laid out for a reader, as one page that stands alone. It proves nothing: the document does."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from django.template.loader import render_to_string

from apply.bundle.making import Bundle
from quantum.chain import form


def html(bundle: Bundle) -> str:
    said = bundle.said
    lines = [line for chain in said["audit"]["chains"] for line in chain]
    told = {
        "plan": said["plan"],
        "sha256": hashlib.sha256(bundle.raw).hexdigest(),
        "sections": [
            ("The house", [[*said["instance"].items(), *said["versions"].items()]]),
            ("The plan", [_rows(said["plan"])]),
            ("Permits, as they were signed", [_permit(each) for each in said["permits"]]),
            ("The spending of both", [_rows(said["consume"])] if said["consume"] else []),
            ("The order", [_rows(said["order"])] if said["order"] else []),
            ("Said to the exchange, and answered", [_talk(each) for each in said["exchange"]]),
            ("Fills", [_rows(each) for each in said["fills"]]),
            ("Ledger", [_rows(each) for each in said["ledger"]]),
            ("Audit events, as they were sealed", [_event(each) for each in said["audit"]["events"]]),
            ("Public keys", [_rows(each) for each in said["keys"]]),
        ],
        "sent": said["order"] is not None,
        "heads": [(_number(line), line.partition(" ")[0]) for line in lines],
    }
    return render_to_string("apply/bundle.html", told)


def _rows(said: dict[str, Any]) -> list[tuple[str, object]]:
    return [(name, _text(value)) for name, value in said.items() if value not in (None, "", {})]


def _text(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value


def _permit(said: dict[str, Any]) -> list[tuple[str, object]]:
    return _rows({**said, "raw": base64.b64decode(said["raw"]).decode("utf-8", "replace")})


def _talk(said: dict[str, Any]) -> list[tuple[str, object]]:
    return _rows(said)


def _event(said: dict[str, Any]) -> list[tuple[str, object]]:
    fields = form.fields_of(base64.b64decode(said["bytes"]))
    told = zip(form.FIELDS, (field.decode("utf-8", "replace") for field in fields), strict=True)
    return _rows({**dict(told), "seal": said["seal"], "position": said["position"]})


def _number(line: str) -> int:
    copy = form.read_line(line.encode())
    return copy.number if copy else 0
