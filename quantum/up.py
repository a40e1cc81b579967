"""What `manage.py up` does, in order: a place, secrets, Valkey, database, children, login, and the watch."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import secrets
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from django import db
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from quantum import clock, embedded, signing
from quantum.daily import Daily
from quantum.processes import adopt_orphans, wait_until
from quantum.redis import RedisError, command_client
from quantum.supervise import Child, Supervisor
from quantum.watching import Watching

ERROR, USAGE, DEPENDENCY = 1, 2, 5
STOP_S = 8.8
READY_S = 20.0
PORT_FREE_S = 2.0
"""What a killed predecessor's processes may still need to let go of their ports."""

Say = Callable[[str], object]


class CannotStart(Exception):
    """One clear line for a person, with what to do."""

    def __init__(self, line: str, *, exit_code: int = ERROR) -> None:
        super().__init__(line)
        self.exit_code = exit_code


class Stop:
    """The signal handler: a flag, nothing more."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, *_: object) -> None:
        self.asked = True


def run(*, stop: Stop, say: Say, show: Say) -> None:
    try:
        with _only_one():
            _write_environment_once(say)
            _run(stop=stop, say=say, show=show)
    except OSError as failure:
        raise CannotStart(_in_words(failure), exit_code=DEPENDENCY) from failure


def _in_words(failure: OSError) -> str:
    """A write into a file that is open does not say which one; ours lie in that folder."""
    disk = f"{failure.filename or settings.VAR_DIR}: {failure.strerror}"
    if failure.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{disk}; free space on that disk, or set QUANTUM_VAR_DIR to a folder on another"
    if failure.errno == errno.EIO:
        return f"{disk}; that disk is failing: set QUANTUM_VAR_DIR to a folder on another, with what can be saved"
    if failure.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return f"{disk}; set QUANTUM_VAR_DIR to a folder that can be written"
    return f"{failure.filename or 'operating system'}: {failure.strerror}"


def _run(*, stop: Stop, say: Say, show: Say) -> None:
    _check_ports()
    signing.ensure_keys(settings.PERMIT_KEYS_DIR)
    settings.STATIC_ROOT.mkdir(exist_ok=True)
    for counted in (settings.VAR_DIR / "metrics").glob("*.db"):
        counted.unlink(
            missing_ok=True
        )  # values of processes that are gone; counters begin anew with the service
    adopt_orphans()
    supervisor = Supervisor(told_to_stop=lambda: stop.asked)
    try:
        _start_all(supervisor, stop=stop, say=say, show=show)
    finally:
        say("stopping")
        supervisor.end_all(drain_s=STOP_S)
        say("stopped")


def _start_all(supervisor: Supervisor, *, stop: Stop, say: Say, show: Say) -> None:
    if _uses_paper_exchange():
        supervisor.add(_paper_exchange())  # needs nothing of the others, and loads while the tables are made
    if _uses_embedded_valkey():
        _start_valkey(supervisor, say)
    _wait_for_redis()
    _prepare_database(say)
    qcluster = supervisor.add(_child("qcluster", _manage("qcluster"), drains=True))
    supervisor.add(_child("web", web_arguments()))
    login = _make_login()
    db.connections.close_all()
    watching = Watching(supervisor=supervisor, qcluster=qcluster)
    daily = Daily(child=_child("audit_verify", ["nice", "-n", "19", *_manage("audit_verify")]))
    started_s, shown = clock.monotonic_s(), False
    while not stop.asked:
        supervisor.turn()
        watching.turn()
        daily.turn()
        if not shown and (
            (watching.all_alive and not _is_free(settings.QUANTUM_WEB_PORT))
            or clock.monotonic_s() - started_s > READY_S
        ):
            shown = True
            show(f"Admin  http://127.0.0.1:{settings.QUANTUM_WEB_PORT}/admin/\nLogin  {login}")
        clock.sleep_s(0.5)
    daily.end()


# ---- the place


@contextmanager
def _only_one() -> Iterator[None]:
    """The kernel frees the lock with its holder, however that ends."""
    settings.VAR_DIR.mkdir(parents=True, exist_ok=True)
    settings.VAR_DIR.chmod(0o700)
    with (settings.VAR_DIR / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(
                f"another `up` (pid {_pid_in(lock)}) runs on {settings.VAR_DIR}; "
                f"stop it or set QUANTUM_VAR_DIR"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _pid_in(lock: IO[str]) -> str:
    lock.seek(0)
    return lock.read().strip() or "unknown"


def _write_environment_once(say: Say) -> None:
    """Settings are read when they are imported, so a process that made them starts itself anew."""
    file = settings.VAR_DIR / "quantum.env"
    if os.environ.get("QUANTUM_ENV_FILE") or file.exists():
        if not settings.SECRET_KEY_GIVEN:
            raise CannotStart(
                f"SECRET_KEY is not set in {os.environ.get('QUANTUM_ENV_FILE') or file}: "
                f"set it to 50 random characters",
                exit_code=USAGE,
            )
        return
    write_once(file, _first_environment())
    say(f"wrote {file} with new secrets")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  the same command, once more


def _first_environment() -> str:
    """The keys are those of the paper exchange, and look like it: no other host would take them."""
    lines = [
        "# Made by `manage.py up`. Variables of the process environment win over this file.",
        f"SECRET_KEY={secrets.token_urlsafe(50)}",
        *(
            f"BINANCE_{use}_{part}=paper-{secrets.token_hex(24)}"
            for use in ("READ", "TRADE")
            for part in ("KEY", "SECRET")
        ),
        "POLICY_PROFILE=demo",
        "EXIT_BRAIN=demo",
    ]
    return "\n".join(lines) + "\n"


def write_once(file: Path, text: str) -> None:
    """Whole or not at all, readable by its owner only from the first byte on."""
    draft = file.with_name(file.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    draft.rename(file)


def _check_ports() -> None:
    wanted = [("QUANTUM_WEB_PORT", settings.QUANTUM_WEB_PORT)]
    if _uses_paper_exchange():
        wanted.append(("PAPER_URL", _paper_port()))
    for name, port in wanted:
        if not wait_until(lambda port=port: _is_free(port), within_s=PORT_FREE_S):  # type: ignore[misc]
            raise CannotStart(
                f"port {port} is taken; end what listens there (`ss -ltnp | grep :{port}`) "
                f"or set {name} to another",
                exit_code=DEPENDENCY,
            )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as failure:
            if failure.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


# ---- Redis and database


def _uses_embedded_valkey() -> bool:
    return any(
        str(settings.EMBEDDED_SOCKET) in url
        for url in (settings.REDIS_URL, settings.QUEUE_URL, settings.CACHE_URL)
    )


def _start_valkey(supervisor: Supervisor, say: Say) -> None:
    directory = settings.VAR_DIR / "valkey"
    embedded.prepare(directory=directory, unix_socket=settings.EMBEDDED_SOCKET)
    started_s = clock.monotonic_s()
    supervisor.add(
        _child("valkey", embedded.arguments(directory=directory, unix_socket=settings.EMBEDDED_SOCKET))
    )
    if not embedded.wait_until_ready(unix_socket=settings.EMBEDDED_SOCKET):
        raise CannotStart(f"Valkey does not answer; see {directory / 'valkey.log'}", exit_code=DEPENDENCY)
    say(f"valkey ready after {clock.monotonic_s() - started_s:.1f} s")


def _wait_for_redis() -> None:
    problem = ""

    def answers() -> bool:
        nonlocal problem
        try:
            with command_client() as client:
                return bool(client.ping())
        except RedisError as failure:
            problem = type(failure).__name__
            return False

    if not wait_until(answers, within_s=embedded.READY_S, step_s=0.2):
        raise CannotStart(
            f"Redis does not answer ({problem}); start it, or correct REDIS_URL, "
            f"or unset it for the embedded one",
            exit_code=DEPENDENCY,
        )


def _prepare_database(say: Say) -> None:
    from quantum import instance  # needs the models, which load after this module

    started_s = clock.monotonic_s()
    try:
        call_command("check", fail_level="ERROR", stdout=io.StringIO())
        call_command("migrate", verbosity=0, interactive=False)
        instance.ensure_here()
    except instance.WrongInstance as wrong:
        raise CannotStart(str(wrong), exit_code=USAGE) from wrong
    except SystemCheckError as wrong:
        raise CannotStart(str(wrong), exit_code=USAGE) from wrong
    except db.Error as failure:
        raise CannotStart(_database_in_words(failure), exit_code=DEPENDENCY) from failure
    say(f"database ready after {clock.monotonic_s() - started_s:.1f} s")


def _database_in_words(failure: db.Error) -> str:
    reason = (str(failure).strip() or type(failure).__name__).splitlines()[0]
    told = db.connection.settings_dict
    if db.connection.vendor != "sqlite":
        where = f"{told['NAME']} at {told['HOST'] or 'its socket'}"
        return f"the database {where} refuses ({reason}); start it and free space on its disk, or correct DATABASE_URL"
    if "malformed" in reason or "not a database" in reason:
        remedy = (
            "the file is broken: put its last backup in its place, or move it away and lose what it knows"
        )
    elif "full" in reason:
        remedy = "free space on its disk, or set QUANTUM_VAR_DIR to a folder on another"
    else:
        remedy = "make sure that its folder and its disk can be written, or correct DATABASE_URL"
    return f"the database {told['NAME']} refuses ({reason}); {remedy}"


def _make_login() -> str:
    """A first start makes `admin`; later ones say where its password is, if it is still that one."""
    file = settings.VAR_DIR / "admin_password"
    user = get_user_model().objects.filter(username="admin").first()
    if user is None:
        write_once(file, secrets.token_urlsafe(15) + "\n")
        password = file.read_text().strip()
        get_user_model().objects.create_superuser(username="admin", password=password)
    else:
        password = file.read_text().strip() if file.exists() else ""
        if not user.check_password(password):
            return "admin  (with the password you gave it)"
    return f"admin  {password}"


# ---- children


def _child(name: str, argv: list[str], *, drains: bool = False) -> Child:
    env = {**os.environ, "QUANTUM_VAR_DIR": str(settings.VAR_DIR)}
    if named := os.environ.get("QUANTUM_ENV_FILE"):
        env["QUANTUM_ENV_FILE"] = str(Path(named).resolve())
    return Child(name=name, argv=argv, env=env, cwd=settings.BASE_DIR, drains=drains)


def _manage(*arguments: str) -> list[str]:
    return [sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments]


def web_arguments() -> list[str]:
    return [
        *(sys.executable, "-m", "gunicorn", "quantum.wsgi:application"),
        *("--bind", f"127.0.0.1:{settings.QUANTUM_WEB_PORT}", "--workers", "1", "--threads", "4"),
        *("--log-level", "warning", "--graceful-timeout", "3", "--no-control-socket"),
    ]


def _uses_paper_exchange() -> bool:
    return settings.APPLY_MODE == "paper" or (
        settings.APPLY_MODE == "dry_run" and settings.DRY_RUN_HOST == "paper"
    )


def _paper_port() -> int:
    return urlsplit(settings.PAPER_URL).port or 80


def _paper_exchange() -> Child:
    return _child("paper exchange", [*_manage("paper_exchange"), "--seed-positions", *_demo()])


def _demo() -> list[str]:
    """Whoever demonstrates exits needs positions to exit from."""
    return ["--entry-bot"] if settings.EXIT_BRAIN == "demo" else []
