"""Make the Python environment from a lock, with hashes, and say where it is. Standard library only.

    python tools/environment.py runtime|dev

Progress goes to stderr, the environment's path to stdout. A finished environment carries the lock's digest in
a stamp, so that the next call returns at once; a half-made one has no stamp and is simply finished.
"""

from __future__ import annotations

import base64
import configparser
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {"runtime": ROOT / "requirements.lock", "dev": ROOT / "requirements-dev.lock"}
# The development lock holds the runtime lock, pin for pin (tools/locks.py checks it), so it satisfies both.
SATISFIES = {"runtime": ("runtime",), "dev": ("runtime", "dev")}

# Debian ships Python without the wheels of ensurepip; then this one is fetched. The digest decides what runs.
PIP_WHEEL = "pip-26.3-py3-none-any.whl"
PIP_SHA256 = "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"
PUBLIC_INDEX = "https://pypi.org/simple"
NO_VENV = "install python3-venv (Debian, Ubuntu: apt-get install python3-venv)"

UNREACHED = "no way to the package index; look at the network, HTTPS_PROXY or PIP_INDEX_URL"
UNTRUSTED = "the package index is not trusted here (apt-get install ca-certificates, or set PIP_CERT)"
UNWRITABLE = "this folder cannot be written; mend its owner, or name another place: make VENV=/path"
REMEDIES = (
    ("No space left on device", "the disk is full; free some space (the environment takes about 400 MB)"),
    ("Permission denied", UNWRITABLE),
    ("Read-only file system", UNWRITABLE),
    ("CERTIFICATE_VERIFY_FAILED", UNTRUSTED),
    ("DO NOT MATCH THE HASHES", "a package is not the one that was locked; try again, then: make lock"),
    ("NewConnectionError", UNREACHED),
    ("NameResolutionError", UNREACHED),
    ("timed out", "the package index is slow or away; try again, what was fetched is kept"),
    (
        "Failed to build",
        "a package has no wheel for this machine and could not be built; use Python 3.11-3.13",
    ),
)


class SetupError(Exception):
    """One line: what is wrong and the remedy."""


def say(text: str) -> None:
    print(f"set-up: {text}", file=sys.stderr, flush=True)


class Progress:
    """One line that moves on a terminal; a line now and then in a log."""

    def __init__(self, *, total: int) -> None:
        self.total = total
        self.count = 0
        self.moving = sys.stderr.isatty()

    def step(self, name: str) -> None:
        self.count += 1
        text = f"set-up: package {self.count} of {self.total}: {name}"
        if self.moving:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
        elif self.count % 20 == 0:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.moving and self.count:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def venv_path() -> Path:
    chosen = os.environ.get("VENV") or f".venv-{sys.version_info[0]}.{sys.version_info[1]}"
    # Joined to the root, so that a relative VENV means the same place from every folder.
    return ROOT / Path(chosen).expanduser()


def digest_of(lock: Path) -> str:
    # A moved environment or another Python must not pass for this one, so both go into the digest.
    what = f"{sys.version_info[:3]} {venv_path()} ".encode() + lock.read_bytes()
    return hashlib.sha256(what).hexdigest()


def stamp(venv: Path, kind: str) -> Path:
    return venv / f"stamp-{kind}"


def ready(venv: Path, kind: str) -> bool:
    try:
        stamped = stamp(venv, kind).read_text()
    except OSError:
        return False
    return stamped == digest_of(LOCKS[kind]) and runs(venv)


def runs(venv: Path) -> bool:
    """Look for our own Python behind the link: one that was upgraded or removed leaves a dead environment."""
    wanted = f"import sys; raise SystemExit(sys.version_info[:2] != {tuple(sys.version_info[:2])})"
    try:
        return subprocess.run([venv / "bin/python", "-c", wanted], capture_output=True).returncode == 0
    except OSError:
        return False


@contextmanager
def alone(venv: Path) -> Iterator[None]:
    """Let `make run` and `make test`, started together, not install over each other."""
    venv.parent.mkdir(parents=True, exist_ok=True)
    with venv.with_name(venv.name + ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up is at work here, waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def make_venv(venv: Path) -> None:
    if runs(venv) and has_pip(venv):
        return
    version = ".".join(map(str, sys.version_info[:3]))
    say(f"making {venv.name} with Python {version}")
    if venv.exists():
        if not (venv / "pyvenv.cfg").exists() and any(venv.iterdir()):
            raise SetupError(
                f"{venv} exists and is no Python environment; name another place: make VENV=/path"
            )
        shutil.rmtree(venv)
    try:
        import venv as venv_module
    except ImportError:
        raise SetupError(f"this Python has no venv module; {NO_VENV}") from None
    venv_module.EnvBuilder(symlinks=True).create(venv)
    if importlib.util.find_spec("ensurepip") is not None:
        call([venv / "bin/python", "-Im", "ensurepip", "--upgrade"], failed=f"ensurepip failed; {NO_VENV}")
    else:
        fetch_pip(venv)


def has_pip(venv: Path) -> bool:
    found = subprocess.run([venv / "bin/python", "-Im", "pip", "--version"], capture_output=True)
    return found.returncode == 0


def call(command: list[str | Path], *, failed: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.stderr.write(done.stdout)
        raise SetupError(failed)


def fetch_pip(venv: Path) -> None:
    """Bring pip itself where Python came without it; needs no root."""
    say(f"this Python comes without pip: fetching {PIP_WHEEL}")
    with tempfile.TemporaryDirectory() as folder:
        wheel = Path(folder) / PIP_WHEEL
        wheel.write_bytes(download_pip())
        pip: list[str | Path] = [venv / "bin/python", f"{wheel}/pip"]
        call(
            [*pip, "install", "--quiet", "--no-index", wheel],
            failed=f"pip could not install itself; {NO_VENV}",
        )


def download_pip() -> bytes:
    index = package_index()
    try:
        page = f"{index.rstrip('/')}/pip/"
        wheel = fetch(wheel_link(page, fetch(page).decode()))
    except urllib.error.URLError as error:
        raise SetupError(f"cannot fetch pip: {network_remedy(error)}; or {NO_VENV}") from None
    if hashlib.sha256(wheel).hexdigest() != PIP_SHA256:
        raise SetupError(f"the package index sent a {PIP_WHEEL} that is not the known one; {NO_VENV}")
    return wheel


def package_index() -> str:
    """The index pip would use: environment, then its configuration files, then the public one."""
    if chosen := os.environ.get("PIP_INDEX_URL"):
        return chosen
    return pip_setting("index-url") or PUBLIC_INDEX


def pip_setting(name: str) -> str | None:
    config = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config") / "pip/pip.conf"
    named = os.environ.get("PIP_CONFIG_FILE") or os.devnull
    for file in (named, config, "~/.pip/pip.conf", "/etc/pip.conf"):
        parser = configparser.RawConfigParser()
        if parser.read(Path(file).expanduser()) and parser.has_option("global", name):
            return parser.get("global", name)
    return None


def wheel_link(page: str, text: str) -> str:
    for link in re.findall(r'href="([^"#]+)', text):
        if link.endswith(f"/{PIP_WHEEL}"):
            return urllib.parse.urljoin(page, str(link))
    raise SetupError(f"the package index does not offer {PIP_WHEEL}; {NO_VENV}")


def fetch(address: str) -> bytes:
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in {"https", "http", "file"}:
        raise SetupError("the package index is named with an unknown scheme; mend PIP_INDEX_URL")
    account, _, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(parts._replace(netloc=host).geturl())  # noqa: S310 - scheme checked above
    if account:
        token = base64.b64encode(urllib.parse.unquote(account).encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
    with urllib.request.urlopen(request, timeout=60, context=tls()) as answer:  # noqa: S310
        body: bytes = answer.read()
    return body


def tls() -> ssl.SSLContext:
    """Trust what pip is told to trust, else the machine's own certificates."""
    cert = os.environ.get("PIP_CERT") or pip_setting("cert")
    try:
        return ssl.create_default_context(cafile=cert)
    except OSError:
        raise SetupError(
            f"PIP_CERT (or pip's own `cert`) names {cert}, which holds no certificates"
        ) from None


def network_remedy(error: urllib.error.URLError) -> str:
    if isinstance(error.reason, ssl.SSLCertVerificationError):
        return UNTRUSTED
    if isinstance(error, urllib.error.HTTPError):
        return f"the package index answered {error.code} (see PIP_INDEX_URL)"
    return f"{UNREACHED} ({error.reason})"


def install(venv: Path, lock: Path) -> None:
    total = len(re.findall(r"^[a-z0-9]", lock.read_text(), flags=re.MULTILINE))
    say(f"installing {lock.name}, hashes checked")
    command: list[str | Path] = [venv / "bin/python", "-m", "pip", "install", "--require-hashes", "--no-deps"]
    command += ["--no-input", "--progress-bar", "off", "--disable-pip-version-check", "-r", lock]
    progress = Progress(total=total)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    assert process.stdout is not None  # noqa: S101 - PIPE was asked for
    output = []
    for line in process.stdout:
        output.append(line)
        follow(line, progress)
    progress.close()
    if process.wait():
        sys.stderr.writelines([line for line in output if line.startswith("ERROR")][-3:])
        otherwise = f"pip could not install {lock.name}; its own words are above"
        raise SetupError(remedy("".join(output), otherwise=otherwise))


def follow(line: str, progress: Progress) -> None:
    """Read pip's progress off its lines: those not for this Python come first, then one per package."""
    if line.startswith("Ignoring "):
        progress.total -= 1
    elif found := re.match(r"(?:Collecting |Requirement already satisfied: |Processing \S*/)([\w.]+)", line):
        progress.step(found[1])
    elif line.startswith("Installing collected"):
        progress.close()
        say(f"unpacking {progress.count} packages")


def remedy(output: str, *, otherwise: str) -> str:
    for sign, what_to_do in REMEDIES:
        if sign.lower() in output.lower():
            return what_to_do
    return otherwise


def prepare(kind: str) -> Path:
    venv = venv_path()
    if ready(venv, kind):
        return venv
    with alone(venv):
        if ready(venv, kind):  # the set-up we waited for may have made it
            return venv
        started = time.monotonic()
        make_venv(venv)
        install(venv, LOCKS[kind])
        for satisfied in SATISFIES[kind]:
            stamp(venv, satisfied).write_text(digest_of(LOCKS[satisfied]))
        say(f"ready in {time.monotonic() - started:.0f} s")
    return venv


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1] not in LOCKS:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(prepare(sys.argv[1]))
    except SetupError as error:
        say(str(error))
        return 1
    except OSError as error:
        say(remedy(str(error), otherwise=f"the set-up could not go on: {error}"))
        return 1
    except KeyboardInterrupt:
        say("stopped; the next call goes on from here")
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
