"""What a newcomer sees of `make run`, from the real product: an OK line, a login, Ctrl-C, and all of it again."""

from __future__ import annotations

import os
import re
import select
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from quantum.exchange.paper.process import PaperExchangeProcess
from quantum.profiles import DEMO_SYMBOLS
from tests.stand_ins.product import Product
from tests.stand_ins.running import BACK_S, STARTED_S, within

pytestmark = pytest.mark.slow

OK_LINE = re.compile(r"\[PERMIT_WAIT\] OK plan=([0-9a-f]{16}) wait_ms=\d+ safe_qty=\S+ symbol=[A-Z]+USDT")


@pytest.fixture
def product() -> Iterator[Product]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        product = Product(Path(folder) / "var")
        product.directory.mkdir()
        try:
            yield product
        finally:
            product.end()


def login_shown(product: Product, up: subprocess.Popen[str]) -> str:
    """Address and login, as they are printed."""
    assert up.stdout
    out = up.stdout
    within(STARTED_S, lambda: select.select([out], [], [], 0)[0], "address and login are shown")
    return out.readline() + out.readline()


def press_ctrl_c(up: subprocess.Popen[str]) -> int:
    os.killpg(up.pid, signal.SIGINT)
    return up.wait(BACK_S)


def plans_ended(product: Product) -> dict[str, str]:
    with closing(sqlite3.connect(product.directory / "quantum.sqlite3")) as base:
        return dict(base.execute("SELECT plan_id, state FROM apply_plan WHERE ended_at IS NOT NULL"))


def held(product: Product) -> dict[str, Decimal]:
    """What the exchange's own file says, while nobody runs."""
    with closing(sqlite3.connect(product.directory / "paper.sqlite3")) as base:
        rows = base.execute("SELECT symbol, amount FROM holdings").fetchall()
    return {symbol: Decimal(amount) for symbol, amount in rows}


def last_order(product: Product) -> int:
    with closing(sqlite3.connect(product.directory / "paper.sqlite3")) as base:
        return int(base.execute("SELECT MAX(seq) FROM received").fetchone()[0])


def now_held(exchange: PaperExchangeProcess) -> dict[str, Decimal]:
    """Nothing while it does not answer yet."""
    try:
        asked = {each: exchange.control("GET", f"/paper/position?symbol={each}") for each in DEMO_SYMBOLS}
    except OSError:
        return {}
    return {symbol: Decimal(answer["amount"]) for symbol, answer in asked.items()}


def test_a_first_start_shows_exits_and_a_login_and_a_second_keeps_positions_and_plans(
    product: Product,
) -> None:
    up = product.up()
    within(STARTED_S, lambda: OK_LINE.search(product.log.read_text()), "an OK line")
    password = (product.directory / "admin_password").read_text().strip()
    shown = f"Admin  http://127.0.0.1:{product.web_port}/admin/\nLogin  admin  {password}\n"
    assert login_shown(product, up) == shown
    within(BACK_S, lambda: "filled" in plans_ended(product).values(), "an exit is filled")
    assert press_ctrl_c(up) == 0
    assert product.processes() == []

    plans, positions, last = plans_ended(product), held(product), last_order(product)
    found = OK_LINE.search(product.log.read_text())
    assert found and found[1] in plans
    assert set(positions) == set(DEMO_SYMBOLS)

    again = product.up(EXIT_BRAIN="off")  # nobody proposes, nobody opens positions
    assert login_shown(product, again) == shown
    exchange = product.exchange()
    within(STARTED_S, lambda: now_held(exchange), "the exchange answers again")
    now = now_held(exchange)
    # What was on its way when Ctrl-C came may leave now, while it is fresh.
    moved = {row["symbol"] for row in exchange.log(after=last)}
    assert moved < set(positions)
    assert (
        now.items() >= {symbol: amount for symbol, amount in positions.items() if symbol not in moved}.items()
    )
    assert plans.items() <= plans_ended(product).items()
    assert press_ctrl_c(again) == 0
    assert product.processes() == []
