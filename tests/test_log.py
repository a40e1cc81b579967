"""One event is one line, whatever a plan says; and no secret stands in it (I9)."""

from __future__ import annotations

import errno
import logging
import sys
import unicodedata

import pytest

from quantum.log import MASK, log, masked, safe
from tests.properties import given, st

SECRET = "hunter2hunter2"


class FullDisk:
    def write(self, _text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("level", ["info", "error"])
def test_a_line_that_cannot_be_written_holds_no_exit_up(monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    monkeypatch.setattr(sys, "stderr", FullDisk())
    getattr(log, level)("[PERMIT_WAIT] Polling for permits")


@pytest.mark.parametrize(("level", "traced"), [("warning", False), ("error", True)])
def test_a_page_that_was_refused_is_a_line_and_a_fault_has_its_trace(
    capsys: pytest.CaptureFixture[str], level: str, traced: bool
) -> None:
    try:
        raise PermissionError(SECRET)
    except PermissionError:
        getattr(logging.getLogger("django.request"), level)("Forbidden: %s", "/admin/", exc_info=True)
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "PermissionError" in line
    assert ("traceback=" in line) is traced


@given(st.text(max_size=80))
def test_safe_text_is_one_printable_line(text: str) -> None:
    made = safe(text)
    assert made.isprintable()
    assert not any(unicodedata.category(character) == "Cf" for character in made)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("a\nb", "a\\x0ab"),
        ("a\r\n[PERMIT_WAIT] OK", "a\\x0d\\x0a[PERMIT_WAIT] OK"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b31m", "\\x9b31m"),
        ("abc\u202ecba", "abc\\u202ecba"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("\u2028", "\\u2028"),
        ("\U000e0041", "\\U000e0041"),
        ("\ud800", "\\ud800"),
        ("plain ü 漢", "plain ü 漢"),
    ],
    ids=ascii,
)
def test_what_could_fool_a_reader_is_escaped(text: str, made: str) -> None:
    assert safe(text) == made


@pytest.mark.parametrize(
    "text",
    [
        f"signature={SECRET}",
        f"GET /order?symbol=X&signature={SECRET}&x=1",
        f"apiKey: {SECRET}",
        f"X-MBX-APIKEY: {SECRET}",
        f"listenKey={SECRET}",
        f'{{"secret": "{SECRET}"}}',
        f"{{'api_key': '{SECRET}'}}",
        f"SECRET_KEY={SECRET}",
        f"password = {SECRET}",
        f"redis://:{SECRET}@host:6379/0",
        f"postgres://quantum:{SECRET}@host/db",
    ],
)
def test_a_secret_in_a_text_is_masked(text: str) -> None:
    assert SECRET not in masked(text)
    assert MASK in masked(text)


def test_what_is_no_secret_is_left_alone() -> None:
    for text in ("plan=67e6da21fa9fe506 wait_ms=7", "http://127.0.0.1:8000/x", "symbol BTCUSDT: ok"):
        assert masked(text) == text


def line_of(capsys: pytest.CaptureFixture[str]) -> str:
    [line] = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    "name", ["secret", "api_key", "token", "password", "signature", "private_key", "listenKey"]
)
def test_a_field_named_like_a_secret_is_masked(capsys: pytest.CaptureFixture[str], name: str) -> None:
    log.warning("said", **{name: SECRET})
    assert f"{name}={MASK}" in line_of(capsys)


def test_f15_an_event_is_one_line_whatever_its_fields_say(capsys: pytest.CaptureFixture[str]) -> None:
    log.warning("first\nsecond", symbol="BTC\n[PERMIT_WAIT] OK plan=1", source="\x1b[2K")
    line = line_of(capsys)
    assert line.isprintable()
    assert "BTC\\x0a[PERMIT_WAIT]" in line


def test_f14_a_traceback_is_one_line_without_its_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise RuntimeError(f"refused: https://user:{SECRET}@host/?signature={SECRET}")
    except RuntimeError as error:
        log.failure("failed", error, plan="p")
    line = line_of(capsys)
    assert "RuntimeError" in line
    assert SECRET not in line
    assert line.isprintable()
