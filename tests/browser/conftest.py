"""A real Chromium against a live server with real plans in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.test import Client as WebClient
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from pytest_django.live_server_helper import LiveServer

from tests.environment import TOLD

CHROMIUMS = (Path("/usr/bin/chromium-headless-shell"), Path("/usr/bin/chromium"))
"""The first that is there: the same engine without the windows around it, which take a quarter of its time."""
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
REPORT_VIOLATIONS = """
document.addEventListener('securitypolicyviolation',
    event => console.error('CSP: ' + event.violatedDirective + ' ' + event.blockedURI));
"""


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    found = next((path for path in CHROMIUMS if path.exists()), None)
    if found is None:
        missing = "browser tests need Chromium at /usr/bin (Debian: apt-get install chromium-headless-shell)"
        if TOLD["QUANTUM_REQUIRE_BROWSER"] == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(found), args=FLAGS)
        yield browser
        browser.close()


class Visitor:
    """Somebody at a browser, who notes everything that a page should not do."""

    def __init__(self, context: BrowserContext, base: str) -> None:
        self.base = base
        self.troubles: list[str] = []
        context.add_init_script(REPORT_VIOLATIONS)
        self.page: Page = context.new_page()
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.troubles.append(f"{self.page.url}: {error}"))
        self.page.on("request", self._on_request)

    def _on_console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.troubles.append(f"{self.page.url}: {message.text}")

    def _on_request(self, request: Any) -> None:
        host = urlsplit(request.url).netloc
        if host and host != urlsplit(self.base).netloc:
            self.troubles.append(f"{self.page.url}: asked another host: {request.url}")

    def open(self, path: str) -> Page:
        answer = self.page.goto(self.base + path, wait_until="load")
        if answer is None or answer.status != 200:
            self.troubles.append(f"{path}: answered {answer.status if answer else 'nothing'}")
        return self.page

    def say(self, button: str, **said: str) -> Page:
        """Fills the fields, named by their ids, and presses: the page that answers."""
        for field, text in said.items():
            self.page.fill(f"#id_{field}", text)
        self.go(f"main button:has-text({json.dumps(button)})")
        return self.page

    def go(self, selector: str) -> Page:
        """To where a link or a button leads. Whatever it is, it may not scroll sideways."""
        with self.page.expect_navigation():
            self.page.click(selector)
        if self.scrolls_sideways():
            self.troubles.append(f"{self.page.url}: scrolls sideways")
        return self.page

    def scrolls_sideways(self) -> bool:
        return bool(
            self.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        )


@pytest.fixture
def visit(chromium: Browser, live_server: LiveServer) -> Iterator[Any]:
    """visit(theme, width_px, logged_in, script, who): a Visitor in a fresh browser profile."""
    contexts: list[BrowserContext] = []

    def made(
        *,
        theme: str = "light",
        width_px: int = 1280,
        logged_in: bool = True,
        script: bool = True,
        who: str = "walker",
    ) -> Visitor:
        context = chromium.new_context(
            color_scheme="dark" if theme == "dark" else "light",
            viewport={"width": width_px, "height": 900},
            java_script_enabled=script,
        )
        contexts.append(context)
        if logged_in:
            context.add_cookies([{"name": "sessionid", "value": _session(who), "url": live_server.url}])
        return Visitor(context, live_server.url)

    yield made
    for context in contexts:
        context.close()


def _session(who: str) -> str:
    user, _ = get_user_model().objects.get_or_create(
        username=who, defaults={"is_staff": True, "is_superuser": True}
    )
    web = WebClient()
    web.force_login(user)
    return str(web.cookies[settings.SESSION_COOKIE_NAME].value)
