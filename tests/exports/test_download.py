"""Exports by address: who gets them, that they are what the page shows, whole or recognisably not."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import OperationalError, transaction
from django.db.models import CharField, JSONField, TextField
from django.test import Client as WebClient
from django.test import override_settings

from apply.models import Order, Plan
from permits.models import Permit
from positions.models import Fill, LedgerEntry
from quantum import exports, groups
from quantum.models import AuditEvent
from tests.exports.by_hand import (
    KINDS,
    NAMES,
    address,
    cells,
    ended,
    filters,
    links_on,
    on_page,
    page,
    permit_of,
    read,
    rows,
    text_of,
)  # fmt: skip
from tests.flow.test_admin import plan_row, someone
from tests.flow.test_groups import given as with_groups  # noqa: F401  a fixture
from tests.flow.test_groups import someone_of
from tests.unguarded import unguarded

NAMED_ALONE = ("plan_id", "parent")
"""Ids that we make ourselves, one of each."""
MODELS = {"audit": AuditEvent, "ledger": LedgerEntry, "orders": Order, "permits": Permit, "plans": Plan}


# ---- who


@pytest.mark.parametrize("group", groups.NAMES)
def test_each_role_gets_what_it_was_given_and_nothing_else(with_groups: None, group: str) -> None:  # noqa: F811
    web = someone_of(group)
    rows(1)
    for name in NAMES:
        for kind in KINDS:
            answer = web.get(address(name, kind))
            assert answer.status_code == (403 if group == "viewer" else 200), f"{group}: {name}.{kind}"
            answer.close()
        assert len(links_on(web, name)) == (0 if group == "viewer" else len(KINDS))


@pytest.mark.parametrize("name", NAMES)
def test_the_right_to_export_shows_nobody_a_list_that_is_closed_to_him(name: str) -> None:
    rows(1)
    view = exports.every()[name].sees.partition(".")[2]
    only_exports, only_looks = someone("nina", "export"), someone("omar", view)
    both = someone("pia", "export", view)
    for kind in KINDS:
        assert only_exports.get(address(name, kind)).status_code == 403
        assert only_looks.get(address(name, kind)).status_code == 403
        assert WebClient().get(address(name, kind)).status_code == 302
        assert both.post(address(name, kind)).status_code == 405
        assert len(text_of(both.get(address(name, kind)))) > 100
    assert links_on(only_looks, name) == []


def test_who_took_what_is_recorded_before_it_leaves_and_when_it_ended() -> None:
    rows(3)
    web = someone("nina", "export", "view_plan")
    answer = web.get(address("plans", "csv", "?symbol=btcusdt&source="))
    begun = AuditEvent.objects.get(kind="export_begun")
    assert (begun.actor, begun.data["list"], begun.data["format"]) == ("nina", "plans", "csv")
    assert begun.data["filters"] == {"symbol": "btcusdt"}
    assert ended() == []
    cells(text_of(answer))
    end = AuditEvent.objects.get(kind="export_ended")
    assert ended() == [("whole", 3, "")]
    assert (end.actor, end.data["export"]) == ("nina", begun.data["export"])


def test_without_the_record_nothing_leaves(web: WebClient, monkeypatch: pytest.MonkeyPatch) -> None:
    rows(1)

    def refused(**_: Any) -> None:
        raise OperationalError("no space")

    with monkeypatch.context() as broken:
        broken.setattr("quantum.exports.running.audit.record", refused)
        answer = web.get(address("plans"))
    assert answer.status_code == 503
    assert "Nothing was exported" in answer.content.decode()
    assert len(read(web.get(address("plans")))) == 1, "and the turn was given back"


@override_settings(WEB_READ_ONLY="on")
def test_read_only_pages_still_give_files(web: WebClient) -> None:
    """It changes no fact, and who took it is known all the same."""
    rows(1)
    assert len(read(web.get(address("orders")))) == 1
    assert ended() == [("whole", 1, "")]


# ---- what


ASKED = {
    "plans": ["", "?state=blocked", "?symbol=ethusdt", "?source=bot", "?q=0000000000000007&state=filled", "?q=ETHUSDT",
              "?span=24h", "?until=2023-11-14T22:14:00", "?reason=halted", "?q=0000000000&state=filled"],
    "permits": ["", "?gate=p33", "?answer=denied", "?fate=revoked", "?reason=halted", "?symbol=ETHUSDT", "?span=1h"],
    "audit": ["", "?kind=tested", "?actor=tests&kind=tested", "?q=0000000000000007", "?symbol=ETHUSDT"],
    "orders": ["", "?state=failed", "?state=flight", "?q=q-7", "?symbol=ethusdt"],
    "ledger": ["", "?by=people", "?symbol=ethusdt", "?at=2020-01-01T00:00:00", "?at=2099-01-01T00:00:00"],
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_link_below_a_page_gives_what_its_leaves_show(name: str, web: WebClient) -> None:
    rows(60)
    with unguarded(), transaction.atomic():
        for number in range(5, 60, 9):
            of = f"{number:016x}"
            plan_row(number + 500, state="blocked")
            Plan.objects.filter(plan_id=of).update(symbol="ETHUSDT", source="bot", error="halted")
            permit_of(number, verdict=False, symbol="ETHUSDT", fate="revoked", reason="halted")
            Order.objects.filter(plan_id=of).update(symbol="ETHUSDT", error="rejected_margin")
            AuditEvent.objects.filter(plan_id=of).update(symbol="ETHUSDT")
            LedgerEntry.objects.filter(plan_id=of).update(symbol="ETHUSDT", kind="correction")
    Order.objects.filter(plan_id=f"{7:016x}").update(plan_id=plan_row(900, state="unknown").plan_id)
    told = set()
    for query in ASKED[name]:
        shown = on_page(web, name, query)
        found = links_on(web, name, query)
        ndjson = found[1] if found else address(name, "ndjson", query)
        exported = [row["id"] for row in read(web.get(ndjson))]
        assert [pk for pk in exported if pk in shown] == shown, query
        assert set(exported) - set(shown) <= set(  # written by the exports before it, and by itself
            AuditEvent.objects.filter(kind__startswith="export_").values_list("pk", flat=True)
        ), query
        told.add(len(shown))
    assert len(told) > 1, "the filters told rows apart"


def test_the_place_of_the_leaf_is_no_filter(web: WebClient) -> None:
    rows(60)
    for name in NAMES:
        newest = MODELS[name]._default_manager.order_by("-pk").values_list("pk", flat=True)[0]
        [_, ndjson] = links_on(web, name, f"?before={newest}")
        assert "before" not in ndjson
        assert len(read(web.get(ndjson))) >= 60


@pytest.mark.parametrize(
    ("name", "query", "why"),
    [
        ("plans", "?symbl=BTCUSDT", "There is no filter symbl"),
        ("plans", "?state=nonsense", "Select a valid choice"),
        ("plans", "?q=ab", "At least 4 characters"),
        ("plans", "?until=yesterday", "Enter a valid date"),
        ("permits", "?gate=third", "Select a valid choice"),
        ("orders", "?state=nonsense", "State is one of"),
        ("ledger", "?at=yesterday", "This is no time"),
        ("ledger", "?by=nobody", "By is"),
    ],
)
def test_what_makes_no_sense_gives_no_file(web: WebClient, name: str, query: str, why: str) -> None:
    rows(1)
    answer = web.get(address(name, "csv", query))
    assert answer.status_code == 400
    assert "Nothing was exported" in answer.content.decode() and why in answer.content.decode()
    assert not AuditEvent.objects.filter(kind="export_begun").exists()
    if "no filter" not in why and "characters" not in why:
        assert "shown" in (said := web.get(page(name, query)).content.decode()) and why in said


def test_a_part_of_too_many_ids_gives_no_file_that_looks_whole(
    web: WebClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows(3)
    for module in ("lists", "finding"):
        monkeypatch.setattr(f"quantum.{module}.PARTS_MOST", 3)
    answer = web.get(address("plans", "csv", "?q=00000000"))
    assert answer.status_code == 400
    assert "More than 3 ids have this part" in answer.content.decode()
    assert (
        "More than 3 ids have this part. Not all are shown"
        in web.get(page("plans", "?q=00000000")).content.decode()
    )


@pytest.mark.parametrize("name", NAMES)
def test_f17_no_text_of_a_row_becomes_a_formula_in_any_cell(name: str, web: WebClient) -> None:
    """Every text column of the list, whoever wrote it, and the texts beside it."""
    rows(2)
    export, model, written = exports.every()[name], MODELS[name], []
    evil = "=HYPERLINK(1)"
    with unguarded():
        Fill.objects.update(client_order_id=evil)
        for field in model._meta.concrete_fields:
            if field.name not in export.columns or field.choices or field.unique or field.name in NAMED_ALONE:
                continue
            if isinstance(field, JSONField):
                model._default_manager.update(**{field.name: {evil: evil}})
            elif isinstance(field, (CharField, TextField)):
                model._default_manager.update(**{field.name: evil[: field.max_length]})
            else:
                continue
            written.append(field.name)
    assert written, name
    with override_settings(ACCOUNT=evil):
        text = text_of(web.get(address(name, "csv")))
        whole = read(web.get(address(name)))
    head = text.splitlines()[0].split(",")
    mine = [dict(zip(head, row, strict=True)) for row in cells(text)]
    for row in mine:
        for column, said in row.items():
            assert not said.startswith(("=", "+", "@", "\t", "\r")), column
    for column in written:
        if not isinstance(model._meta.get_field(column), JSONField):
            assert mine[0][column].startswith("'=") or mine[1][column].startswith("'="), column
            assert str(whole[-1][column]).startswith("=H"), "for a program it is what it is"


def test_a_negative_change_of_the_ledger_is_a_number_in_the_sheet(web: WebClient) -> None:
    rows(1)
    [row] = cells(text_of(web.get(address("ledger", "csv"))))
    head = list(exports.every()["ledger"].columns)
    assert (row[head.index("delta")], row[head.index("balance")]) == ("-0.1", "1")
    [exact] = read(web.get(address("ledger")))
    assert (exact["delta"], exact["price"], exact["trade_id"]) == ("-0.1", "5", 1)


def test_no_secret_of_an_attempt_is_in_any_file(web: WebClient) -> None:
    """lived_in gives the order a token; its permits and their signatures are in no list at all."""
    rows(1)
    Permit.objects.update(raw='{"sig":"signature-of-the-gate"}')
    Order.objects.update(governor_permit='{"sig":"signature-of-the-gate"}', error_text="x?signature=f00&a=1")
    with unguarded():
        AuditEvent.objects.update(data={"token": "secret-of-the-attempt"}, reason="password=f00")
    for name in NAMES:
        for kind in KINDS:
            text = text_of(web.get(address(name, kind)))
            for secret in ("secret-of-the-attempt", "signature-of-the-gate", "f00"):
                assert secret not in text, f"{name}.{kind}"


def test_it_is_saved_and_not_opened(web: WebClient) -> None:
    rows(1)
    for kind, media in (("csv", "text/csv; charset=utf-8"), ("ndjson", "application/x-ndjson")):
        for answer in (web.head(address("plans", kind)), web.get(address("plans", kind))):
            assert (answer["Content-Type"], answer["X-Content-Type-Options"]) == (media, "nosniff")
            assert answer["Content-Disposition"].startswith('attachment; filename="plans-')
            assert "no-store" in answer["Cache-Control"]
            answer.close()
    assert AuditEvent.objects.filter(kind="export_begun").count() == 2, (
        "to look at the head takes nothing away"
    )


def test_every_filter_of_a_page_is_one_of_its_file() -> None:
    for name in NAMES:
        assert {"symbol", "before", "after"} <= filters(name)
