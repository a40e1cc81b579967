"""The pictures of the README: `make screenshots`. Needs the development environment and Debian's Chromium.

Starts a demo of its own (`manage.py up`, free ports, a folder that goes when it ends), lets exits flow, trades one
symbol by hand behind the ledger's back and asks for a person's yes to another, waits until home has all of that to
tell, and takes the pages, light and dark, into docs/pictures.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from quantum.exchange.paper.auth import PaperKeys  # noqa: E402  the project is found only now
from quantum.exchange.paper.process import PaperExchangeProcess  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
SCENE_S, END_S = 600.0, 20.0
WIDE, PHONE = (1200, 820), (390, 844)
PATIENCE_MS = 60_000
EXITS = 20
DRIFTS, ASKS = "ETHUSDT", "BNBUSDT"
SHOWN = {
    "home": "Home",
    "plans": "Plans",
    "permits": "Permits",
    "reconcile": "Reconciliation",
    "oncall": "On call",
}
"""File and what the bar of pages calls it; the plan's page is reached by its id."""


class Demo:
    """One `up` of the demo, and what a person at its command line does."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.web_port, self.paper_port = _free_port(), _free_port()
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self._env = {
            **kept,
            "QUANTUM_VAR_DIR": str(directory),
            "QUANTUM_WEB_PORT": str(self.web_port),
            "PAPER_URL": f"http://127.0.0.1:{self.paper_port}",
        }

    @contextmanager
    def running(self) -> Iterator[None]:
        with (self.directory / "log").open("w") as log:
            up = subprocess.Popen(
                self._command("up"), env=self._env, cwd=ROOT, stdout=subprocess.PIPE, stderr=log
            )
        try:
            assert up.stdout  # noqa: S101  for the type: it was asked for above
            _say("the demo starts")
            if not up.stdout.readline():
                raise SystemExit((self.directory / "log").read_text())
            yield
        finally:
            up.terminate()
            try:
                up.wait(END_S)
            except subprocess.TimeoutExpired:
                up.kill()  # its children end with it

    def ask(self, *words: str) -> Any:
        """What a command answers. It leaves with 3 or 4 where something is in the way, which is what we want to see."""
        done = subprocess.run(
            self._command(*words, "--json"), env=self._env, cwd=ROOT, capture_output=True, text=True
        )
        return json.loads(done.stdout or "null")

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    @property
    def password(self) -> str:
        return (self.directory / "admin_password").read_text().strip()

    @property
    def exchange(self) -> PaperExchangeProcess:
        """Only its control plane: `up` has started it."""
        lines = (self.directory / "quantum.env").read_text().splitlines()
        said = dict(line.split("=", 1) for line in lines if "=" in line)
        secrets = [said[f"BINANCE_{use}_{part}"] for use in ("READ", "TRADE") for part in ("KEY", "SECRET")]
        return PaperExchangeProcess(data_path=self.directory, keys=PaperKeys(*secrets), port=self.paper_port)

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, str(ROOT / "manage.py"), *words]


def set_the_scene(demo: Demo, *, exits: int) -> str:
    """Until there is something to see. The plan whose story is shown."""
    filled = _until(
        lambda: demo.ask("plan_list", "--state", "filled", "--limit", str(exits))["plans"],
        lambda rows: len(rows) >= exits,
        f"{exits} exits done",
    )
    why = "a person looks at each exit of BNB this week"
    demo.ask("policy_set", f"approval_symbols={ASKS}", "--by", "nina", "--reason", why)
    demo.exchange.set_position(symbol=DRIFTS, amount="-9.500", client_order_id="web-4711")
    _until(
        lambda: demo.ask("plan_list", "--symbol", DRIFTS, "--state", "blocked")["plans"],
        bool,
        "one exit stopped by drift",
    )
    _until(lambda: demo.ask("approve")["waiting"], bool, "one exit waits for a person")
    return str(filled[0]["plan_id"])


def take(browser: Browser, demo: Demo, *, plan: str) -> None:
    blank = browser.new_page()
    for theme in ("light", "dark"):
        page = browser.new_context(color_scheme=theme, base_url=demo.address).new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto("/admin/")
        page.fill("#id_username", "admin")
        page.fill("#id_password", demo.password)
        page.press("#id_password", "Enter")
        page.wait_for_selector(".rooms")
        ways = {name: page.get_attribute(f".rooms >> text={words}", "href") for name, words in SHOWN.items()}
        for name, way in {**ways, "plan": f"/admin/apply/plan/{plan}/change/"}.items():
            width, height = PHONE if name == "oncall" else WIDE
            page.set_viewport_size({"width": width, "height": height})
            _until(partial(_is_calm, page, str(way)), bool, f"{name}, {theme}")
            file = PICTURES / f"{name}-{theme}.png"
            file.write_bytes(few_colours(page.screenshot(), drawn_by=blank))
            _say(f"{file.relative_to(ROOT)}: {file.stat().st_size // 1024} KiB")


def _is_calm(page: Page, way: str) -> bool:
    """A machine that starves the demo stops its exits, and its pages say so: that is no picture of the product."""
    answer = page.goto(way)
    if answer is None or answer.status != 200:
        raise SystemExit(f"{way} was not shown")
    return page.locator(".verdict.bad, main .chip:has-text('stale')").count() == 0


FEW_COLOURS = """async picture => {
    const whole = await createImageBitmap(await (await fetch('data:image/png;base64,' + picture)).blob());
    const {width, height} = whole, canvas = new OffscreenCanvas(width, height).getContext('2d');
    canvas.drawImage(whole, 0, 0);
    const points = new Uint32Array(canvas.getImageData(0, 0, width, height).data.buffer), counts = new Map();
    for (const point of points) counts.set(point, (counts.get(point) || 0) + 1);
    const near = new Map();  // of colours that nobody tells apart the one that is there most often
    for (const [point] of [...counts].sort((one, other) => other[1] - one[1])) {
        const like = point & 0xf8f8f8;
        if (!near.has(like)) near.set(like, point);
    }
    const palette = [...near.values()].slice(0, 256), far = (one, other) => [0, 8, 16].reduce(
        (sum, bits) => sum + ((one >> bits & 255) - (other >> bits & 255)) ** 2, 0);
    const chosen = new Map();
    for (const point of counts.keys()) {
        let best = 0;
        palette.forEach((each, index) => { if (far(point, each) < far(point, palette[best])) best = index; });
        chosen.set(point, best);
    }
    return {width, height, palette, points: Array.from(points, point => chosen.get(point))};
}"""


def few_colours(picture: bytes, *, drawn_by: Page) -> bytes:
    """The same PNG with at most 256 colours: a third of its size."""
    told = drawn_by.evaluate(FEW_COLOURS, base64.b64encode(picture).decode())
    width, height, points = told["width"], told["height"], bytes(told["points"])
    palette = b"".join(int(each).to_bytes(4, "little")[:3] for each in told["palette"])
    lines = b"".join(b"\0" + points[at : at + width] for at in range(0, width * height, width))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", palette),
        (b"IDAT", zlib.compress(lines, 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def _until(ask: Callable[[], Any], enough: Callable[[Any], bool], what: str) -> Any:
    _say(f"waits for {what}")
    end = time.monotonic() + SCENE_S
    while time.monotonic() < end:
        found = ask()
        if enough(found):
            return found
        time.sleep(2)
    raise SystemExit(f"not within {SCENE_S:.0f} s: {what}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="screenshots", description=__doc__)
    parser.add_argument("--exits", type=int, default=EXITS, help="done before anything is shown")
    asked = parser.parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the demo goes as with Ctrl-C
    with tempfile.TemporaryDirectory(prefix="quantum-pictures-") as folder, sync_playwright() as playwright:
        demo = Demo(Path(folder))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        with demo.running():
            plan = set_the_scene(demo, exits=asked.exits)
            take(browser, demo, plan=plan)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
