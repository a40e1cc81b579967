"""What a newcomer does: `make run` at a terminal, wait for the OK line, log in, press Ctrl-C.

Run by tools/fresh.sh in the bare Debian; works in any clone. Standard library only. On failure it ends
non-zero and shows the terminal's last lines.
"""

from __future__ import annotations

import http.cookiejar
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INSTALL_S_MAX, START_S_MAX, STOP_S_MAX = 600.0, 10.0, 10.0
OK_LINE = re.compile(r"\[PERMIT_WAIT\] OK .*")
ADMIN_LINE = re.compile(r"Admin\s+(http://\S+/admin/)")
LOGIN_LINE = re.compile(r"Login\s+(\S+)\s+(\S+)")
STARTING = re.compile(r"set-up: ready in \d+ s")
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Failed(Exception):
    """What a newcomer would have been disappointed by."""


class Terminal:
    """`make run` on a pseudo-terminal, so that Ctrl-C is the real one: a byte that becomes SIGINT."""

    def __init__(self) -> None:
        self.text = ""
        self.started_s = time.monotonic()
        ours, theirs = pty.openpty()
        self.descriptor = ours
        self.process = subprocess.Popen(
            ["make", "run"],  # noqa: S607 - the newcomer's own command
            cwd=ROOT,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: _own_terminal(theirs),
        )
        os.close(theirs)

    def read(self, *, within_s: float) -> None:
        if select.select([self.descriptor], [], [], within_s)[0]:
            try:
                piece = os.read(self.descriptor, 65536).decode(errors="replace")
            except OSError:  # Linux says EIO when the last writer has gone
                time.sleep(0.05)
                return
            self.text += COLOURS.sub("", piece).replace("\r\n", "\n")

    def wait_for(
        self, pattern: re.Pattern[str], *, within_s: float, since_s: float
    ) -> tuple[re.Match[str], float]:
        while True:
            took_s = time.monotonic() - since_s
            if found := pattern.search(self.text):
                return found, took_s
            if self.process.poll() is not None:
                raise Failed(
                    f"make run ended with {self.process.returncode} before {pattern.pattern!r} was seen"
                )
            if took_s > within_s:
                raise Failed(f"no {pattern.pattern!r} within {within_s:.0f} s")
            self.read(within_s=0.1)

    def press_ctrl_c(self) -> float:
        pressed_s = time.monotonic()
        os.write(self.descriptor, b"\x03")
        while self.process.poll() is None:
            if time.monotonic() - pressed_s > STOP_S_MAX:
                raise Failed(f"still running {STOP_S_MAX:.0f} s after Ctrl-C")
            self.read(within_s=0.1)
        self.read(within_s=0.1)
        return time.monotonic() - pressed_s


def _own_terminal(descriptor: int) -> None:
    import fcntl
    import termios

    fcntl.ioctl(descriptor, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def log_in(*, admin: str, user: str, password: str) -> str:
    """As a browser does it: fetch the form, post it back with its token, read the title of what comes."""
    cookies = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(cookies)
    )
    with opener.open(admin, timeout=10) as form:
        address, page = form.geturl(), form.read().decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    if token is None:
        raise Failed(f"no login form at {admin}")
    fields = {"csrfmiddlewaretoken": token[1], "username": user, "password": password}
    body = urllib.parse.urlencode(fields | {"next": urllib.parse.urlsplit(admin).path}).encode()
    request = urllib.request.Request(address, data=body, headers={"Referer": address})  # noqa: S310 - ours
    with opener.open(request, timeout=10) as answer:
        page = answer.read().decode()
    if 'name="password"' in page or "sessionid" not in {cookie.name for cookie in cookies}:
        raise Failed("the printed login was not accepted")
    title = re.search(r"<title>\s*(.*?)\s*</title>", page, flags=re.DOTALL)
    return title[1] if title else "(no title)"


def story(terminal: Terminal, turn: str) -> None:
    starting_s = terminal.started_s
    if turn == "first":
        _, installed_s = terminal.wait_for(STARTING, within_s=INSTALL_S_MAX, since_s=starting_s)
        starting_s = time.monotonic()
        print(f"fresh: installed in {installed_s:.1f} s", flush=True)
    found, took_s = terminal.wait_for(OK_LINE, within_s=START_S_MAX, since_s=starting_s)
    print(f"fresh: after {took_s:.1f} s: {found[0].strip()}", flush=True)
    admin, took_s = terminal.wait_for(ADMIN_LINE, within_s=START_S_MAX, since_s=starting_s)
    login, _ = terminal.wait_for(LOGIN_LINE, within_s=START_S_MAX, since_s=starting_s)
    title = log_in(admin=admin[1], user=login[1], password=login[2])
    print(f"fresh: login printed after {took_s:.1f} s; {admin[1]} says: {title}", flush=True)
    print(f"fresh: all stopped {terminal.press_ctrl_c():.1f} s after Ctrl-C", flush=True)
    if terminal.process.returncode not in (0, -signal.SIGINT):
        raise Failed(f"make run ended with {terminal.process.returncode}")
    if "make: ***" in terminal.text or "Traceback" in terminal.text:
        raise Failed("an error was shown on the way")


def main() -> int:
    terminal = Terminal()
    try:
        story(terminal, sys.argv[1] if len(sys.argv) > 1 else "second")
    except (Failed, OSError) as failure:
        print("\n".join(terminal.text.splitlines()[-40:]), file=sys.stderr)
        print(f"fresh: FAILED: {failure}", file=sys.stderr)
        return 1
    finally:
        if terminal.process.poll() is None:
            os.killpg(terminal.process.pid, signal.SIGKILL)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
