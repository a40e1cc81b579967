"""The ACL file on real servers: each user against each kind of key, what nobody may do, and a whole exit under it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from django.conf import settings as django_settings
from django.core.cache import caches
from django.core.management import call_command
from pytest_django.fixtures import Settings
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError
from redis.retry import Retry

from apply.glance import glance
from permits.policy import inputs
from quantum import embedded, redis_users
from quantum.exchange.paper.process import PaperExchangeProcess
from quantum.keys import Keys
from quantum.processes import die_with_parent
from quantum.redis import Client, NoPassword, command_client
from tests.contract.servers import NOT_HERE
from tests.house import House, wait_for

USERS = ("governor", "p33", "apply", "warden", "web", "viewer", "host")
PLAN = "67e6da21fa9fe506"
TABLE = """
kind                governor  p33  apply  warden  web  viewer  host
governor_permit     rw        -    rw     -       rw   r       -
p33_permit          -         rw   rw     -       rw   r       -
reserved_governor   rw        -    rw     rw      rw   r       -
reserved_p33        -         rw   rw     rw      rw   r       -
pair                rw        rw   -      -       rw   r       -
receipt             rw        rw   rw     r       rw   r       -
wake                rw        rw   rw     -       rw   r       -
slot                -         -    rw     rw      r    r       -
trading_state       r         r    rw     r       rw   r       -
hold                r         r    rw     r       rw   r       -
ledger              -         rw   rw     rw      r    r       -
snapshot            r         rw   r      r       r    r       -
feed_wake           rw        rw   rw     rw      rw   r       -
fills_wake          -         rw   rw     -       -    r       -
plan_stream         rw        rw   rw     rw      rw   r       -
result_stream       -         -    rw     rw      r    r       -
dead_letters        rw        rw   rw     r       rw   r       -
proposal            -         -    -      r       rw   r       -
proposal_stream     -         -    -      rw      rw   r       -
dead_letters_proposals -      -    -      rw      rw   r       -
stream_published    -         -    -      rw      rw   r       -
result_published    -         -    rw     rw      r    r       -
lease_governor      rw        -    -      r       r    r       r
lease_p33           -         rw   -      r       r    r       r
lease_apply         -         -    rw     r       r    r       r
lease_warden        -         -    -      rw      r    r       r
heartbeat_governor  rw        -    -      r       r    r       -
heartbeat_p33       -         rw   -      r       r    r       -
heartbeat_apply     -         -    rw     r       r    r       -
heartbeat_warden    -         -    -      rw      r    r       -
canary              -         -    -      -       r    r       rw
instance            rw        rw   rw     rw      rw   r       rw
queue               -         -    -      -       -    -       rw
cache               -         -    -      -       rw   -       -
foreign             -         -    -      -       -    -       -
"""
"""What each user may do with each kind of key, written by hand: the product's own table must come to the same."""
ROWS = [line.split() for line in TABLE.strip().splitlines()[1:]]
ALLOWED = {(row[0], user): access for row in ROWS for user, access in zip(USERS, row[1:], strict=True)}
MAY_DELETE = set(USERS) - {"viewer", "host"}
DANGEROUS = (
    "FLUSHALL", "FLUSHDB", "CONFIG GET *", "CONFIG SET maxmemory 1", "KEYS *", "SCRIPT FLUSH", "SCRIPT KILL",
    "DEBUG JMAP", "SHUTDOWN NOSAVE", "ACL LIST", "ACL SETUSER web on nopass", "CLIENT LIST", "CLIENT KILL 1:1",
    "MONITOR", "SAVE", "BGREWRITEAOF", "REPLICAOF 127.0.0.1 1", "SWAPDB 0 1", "MODULE LIST", "FUNCTION FLUSH",
    "SLOWLOG RESET", "LATENCY RESET", "RENAME a b", "RESTORE a 0 b", "MIGRATE h 1 k 0 1", "PUBLISH a b",
    "XGROUP DESTROY quantum:stream:apply.plan apply", "XDEL quantum:stream:apply.plan 1-1", "RANDOMKEY",
)  # fmt: skip


class Server:
    """A server of its own that knows nobody but the users of the file."""

    def __init__(self, binary: str, folder: Path, *, keys: Keys, separate: bool) -> None:
        self.socket, self.keys = folder / "acl.sock", keys
        self.passwords = {name: f"password-of-{name}-{os.urandom(8).hex()}" for name in redis_users.USERS}
        self.users_dir = folder / "users"
        self.users_dir.mkdir()
        for name, password in self.passwords.items():
            path = self.users_dir / f"{name}.password"
            path.touch(mode=0o600)
            path.write_text(password + "\n")
        hashes = {name: redis_users.hashed(password) for name, password in self.passwords.items()}
        file = folder / "users.acl"
        admin = f"user test-admin on >{self.users_dir.name} ~* &* +@all\n"
        file.write_text(redis_users.acl_file(keys, secrets=hashes, separate=separate) + admin)
        self.process = subprocess.Popen(
            [binary, "--port", "0", "--unixsocket", str(self.socket), "--dir", str(folder), "--save", "",
             "--enable-debug-command",
                "yes",
                "--appendonly", "no", "--aclfile", str(file)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, process_group=0,
            preexec_fn=die_with_parent(os.getpid()),
        )  # fmt: skip
        self.admin = self.client("test-admin", password=self.users_dir.name)
        wait_for(self._answers, what="the server to take the ACL file")

    def client(self, user: str, *, password: str = "") -> Client:
        return redis_py.Redis(
            unix_socket_path=str(self.socket),
            username=user,
            password=password or self.passwords[user],
            socket_timeout=5,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )

    def _answers(self) -> bool:
        assert self.process.poll() is None, "the server refused the ACL file"
        try:
            return bool(self.admin.ping())
        except RedisError:
            return False

    def key(self, kind: str) -> str:
        """One key of this kind, as the product spells it."""
        keys, at = self.keys, kind.rpartition("_")[2]
        made: dict[str, Callable[[], str]] = {
            "plan_stream": lambda: keys.plan_stream,
            "result_stream": lambda: keys.result_stream,
            "dead_letters": lambda: keys.dead_letters(keys.plan_stream),
            "dead_letters_proposals": lambda: keys.dead_letters(keys.proposal_stream),
            "proposal_stream": lambda: keys.proposal_stream,
            "feed_wake": lambda: keys.feed_wake,
            "trading_state": lambda: keys.trading_state,
            "canary": lambda: keys.canary,
            "instance": lambda: keys.instance,
            "queue": lambda: f"django_q:{keys.cluster_name}:q",
            "cache": lambda: f"{keys.prefix}:1:django.contrib.sessions.cachedabc",
            "foreign": lambda: "another:program",
        }
        if kind in made:
            return made[kind]()
        if kind.startswith(("lease", "reserved")):
            return str(getattr(keys, kind.partition("_")[0])(at))
        if kind.startswith("heartbeat"):
            return keys.heartbeat(at, "host-1")
        symbols = ("slot", "hold", "ledger", "snapshot", "proposal")
        return str(getattr(keys, kind)("BTCUSDT" if kind in symbols else PLAN))

    def end(self) -> None:
        self.process.kill()
        self.process.wait(5)


BINARIES = {"valkey": embedded.arguments(directory=Path(), unix_socket=Path())[0], "redis7": "redis-server"}
CASES = [
    ("valkey", "quantum", True),
    ("valkey", "{quantum:acct1}", True),
    ("valkey", "quantum", False),
    ("redis7", "quantum", True),
    ("redis7", "quantum", False),
]


@pytest.fixture(
    scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}-{'sep' if case[2] else 'plain'}"
)
def case(request: pytest.FixtureRequest) -> Iterator[tuple[Server, bool]]:
    name, prefix, separate = request.param
    binary = shutil.which(BINARIES[name])
    if binary is None:
        pytest.skip(NOT_HERE)
    with tempfile.TemporaryDirectory(prefix="quantum-acl-") as folder:
        server = Server(binary, Path(folder), keys=Keys(prefix=prefix), separate=separate)
        yield server, separate
        server.end()


@pytest.fixture(scope="module")
def server(case: tuple[Server, bool]) -> Server:
    return case[0]


def may(call: Callable[[], Any]) -> bool:
    """Whether the server let it pass; what the command then made of the key does not matter."""
    try:
        call()
    except NoPermissionError:
        return False
    except ResponseError as answer:
        return "can't access at least one" not in str(answer) and "No permission" not in str(answer)
    return True


def expected(user: str, kind: str, *, separate: bool) -> str:
    """Without read-only keys whoever may read a key may write it, if he has a command that writes."""
    access = ALLOWED[kind, user]
    return "rw" if access == "r" and not separate and user != "viewer" else access


@pytest.mark.parametrize("user", USERS)
def test_a_user_reads_and_writes_what_the_table_says_and_nothing_else(
    case: tuple[Server, bool], user: str
) -> None:
    server, separate = case
    client = server.client(user)
    for kind, *_ in ROWS:
        key, access = server.key(kind), expected(user, kind, separate=separate)
        got = {
            "read": may(lambda: client.get(key)),
            "write": may(lambda: client.set(key, "1")),
            "delete": may(lambda: client.delete(key)),
            "script": may(lambda: client.eval("return redis.call('GET', KEYS[1])", 1, key)),
            "inside": may(lambda: client.eval(f"return redis.call('SET', '{key}', '1')", 0)),
        }
        scripts = user not in ("viewer", "host")
        assert got == {
            "read": "r" in access,
            "write": "w" in access,
            "delete": "w" in access and user in MAY_DELETE,
            "script": "w" in access and scripts,  # a key of a script counts as read and written
            "inside": "w" in access and scripts,  # and a key that was not declared is still looked at
        }, f"{user} and {kind}"


def test_every_kind_of_key_that_keys_py_spells_is_in_the_table() -> None:
    spelled = {name for name in vars(Keys) if not name.startswith("_")} - {"prefix", "cluster_name"}
    in_table = {kind for kind, *_ in ROWS}
    covered = in_table | {kind.rpartition("_")[0] for kind in in_table}
    assert spelled <= covered, f"not tried: {spelled - covered}"
    assert {kind for kind, *_ in ROWS} - {"foreign"} == set(redis_users.patterns(Keys()))


def test_a_gate_never_reaches_the_other_gates_permit_by_a_longer_name(server: Server) -> None:
    """`permit:*` would cover `permit:p33:*`: the reason why the pattern spells sixteen digits."""
    governor, p33 = server.client("governor"), server.client("p33")
    keys = server.keys
    for client, key in (
        (governor, keys.p33_permit(PLAN)),
        (governor, keys.governor_permit(f"p33:{PLAN}")),
        (governor, keys.governor_permit(PLAN + "0")),
        (governor, keys.governor_permit("*")),
        (p33, keys.governor_permit(PLAN)),
        (p33, keys.p33_permit("")),
    ):
        assert not may(lambda: client.set(key, "forged")), key


def test_a_governor_without_a_snapshot_may_wake_the_feed(server: Server, settings: Settings) -> None:
    """After a wipe: else each plan ends in an error of Redis instead of an answer, for as long as none comes."""
    settings.KEYS = server.keys
    server.admin.delete(server.keys.snapshot("BTCUSDT"), server.keys.feed_wake)
    found = inputs.Snapshots(client=server.client("governor")).size_of(House.make())
    assert found.missing == "no snapshot of BTCUSDT"
    assert server.admin.llen(server.keys.feed_wake) == 1


def test_the_warden_alone_may_ask_to_be_told_of_changes(server: Server) -> None:
    ask = ("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", server.keys.proposal(""))
    for user in USERS:
        client = server.client(user)
        assert may(lambda: client.execute_command(*ask)) is (user == "warden"), user


@pytest.mark.parametrize("user", USERS)
def test_nobody_may_empty_configure_list_or_stop_the_server(server: Server, user: str) -> None:
    client = server.client(user)
    for words in DANGEROUS:
        if user == "web" and words.startswith("XDEL"):
            continue  # a person ends a dead letter; a stream that it writes the web could always delete whole
        with pytest.raises(ResponseError) as refused:
            client.execute_command(*words.replace("quantum:", f"{server.keys.prefix}:").split())
        text = str(refused.value).lower()
        assert "permission" in text or "unknown command" in text, f"{user}: {words}: {text}"
    assert server.process.poll() is None


def test_nobody_comes_in_without_a_password_or_with_a_wrong_one(server: Server) -> None:
    stranger = redis_py.Redis(unix_socket_path=str(server.socket), protocol=2)
    with pytest.raises(AuthenticationError):
        stranger.get("x")
    for user in (*USERS, "default"):
        with pytest.raises(AuthenticationError):
            server.client(user, password="wrong").ping()


def test_a_prefix_is_taken_word_for_word() -> None:
    patterns = redis_users.patterns(Keys(prefix="a[b]*?^\\"))
    assert patterns["canary"] == r"a\[b\]\*\?\^\\:canary"


def test_the_probe_tells_servers_apart_without_changing_them(server: Server) -> None:
    assert redis_users.knows_separate_access(server.client("web"))
    with pytest.raises(NoPermissionError):  # which is no answer
        redis_users.knows_separate_access(server.client("viewer"))


# ---- the product under it


def test_a_password_that_others_can_read_is_refused(settings: Settings, tmp_path: Path) -> None:
    settings.REDIS_USERS_DIR = str(tmp_path)
    with pytest.raises(NoPassword, match="redis_acl"):
        command_client(user="p33")
    path = tmp_path / "p33.password"
    path.write_text("secret")
    path.chmod(0o644)
    with pytest.raises(NoPassword, match="chmod 600"):
        command_client(user="p33")


@pytest.fixture
def acl_server(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Redis, queue and cache of this test on a server with users; told to the processes as to the settings."""
    folder = Path(tempfile.mkdtemp(prefix="quantum-acl-"))
    server = Server(BINARIES["valkey"], folder, keys=django_settings.KEYS, separate=True)
    url = f"unix://{server.socket}"

    def as_user(name: str, db: int) -> str:
        return f"unix://{name}@{server.socket}?db={db}&password={server.passwords[name]}"

    told = {
        "REDIS_URL": url,
        "REDIS_USERS_DIR": str(server.users_dir),
        "QUEUE_URL": as_user("host", 1),
        "CACHE_URL": as_user("web", 2),
    }
    for name, value in told.items():
        setattr(settings, name, value)
        monkeypatch.setenv(name, value)
    yield server
    server.end()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_whole_exit_runs_under_it(
    acl_server: Server, keys: None, paper: PaperExchangeProcess, transactional_db: None
) -> None:
    """Every role in a worker of a real qcluster, the plan published as the pages' user."""
    house = House(redis=command_client(), paper=paper)
    try:
        qcluster = house.spawn("qcluster")
        names = redis_users.ROLES
        wait_for(
            lambda: all(house.redis.mget([django_settings.KEYS.lease(name) for name in names])),
            what="all roles to take their leases",
            within_s=20,
        )
        wait_for(lambda: house.redis.exists(django_settings.KEYS.trading_state), what="the state to be armed")
        wait_for(house._adopted, what="the positions to be adopted")
        row = house.exit()
        assert (row.state, row.error) == ("filled", "")
        assert {client["user"] for client in acl_server.admin.client_list()} >= set(names)
        assert glance.look().running is not None
        with pytest.raises(SystemExit):  # whatever it finds, it may look
            call_command("doctor")
        plan = house.publish()
        call_command("permit_list")
        call_command("permit_show", plan.plan_id)
        call_command("hold", "ETHUSDT", reason="looked at under the users")
        call_command("hold", "ETHUSDT", lift=True, reason="looked at under the users")
        with contextlib.suppress(SystemExit):
            call_command("trading_state", "halt", reason="looked at under the users")
        refused = [entry for entry in acl_server.admin.acl_log() if entry["reason"] != "auth"]
        assert not [entry for entry in refused if "setinfo" not in entry["object"]], refused
        qcluster.terminate()
        qcluster.wait(10)
    finally:
        house.stop()


def test_sessions_and_failed_logins_are_kept_under_it(acl_server: Server, settings: Settings) -> None:
    made = {**django_settings.CACHES["default"], "LOCATION": os.environ["CACHE_URL"]}
    settings.CACHES = {"default": made}
    cache = caches["default"]
    cache.set("django.contrib.sessions.cached-x", {"a": 1}, 60)
    assert cache.add("axes-x", 1, 60)
    assert cache.incr("axes-x") == 2
    assert cache.get("django.contrib.sessions.cached-x") == {"a": 1}
    assert cache.touch("axes-x", 30)
    assert cache.delete("axes-x")
