"""Who may do what in Redis: one user per role, as lines of an ACL file.

Everything is denied but what stands here. A key that a script takes counts as read and written,
so a gate can reach the pair, the receipt and the wake-up of a plan; it never reaches the other
gate's permit. No user has a command that empties, configures, lists or stops the server.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from msgspec import Struct
from redis.exceptions import ResponseError

from quantum.keys import Keys
from quantum.redis import Client

READ, WRITE = "read", "read and write"
PLAN_ID = "[0-9a-f]" * 16
"""Not `*`: that would make every p33 permit one of the Governor's too."""
ANY = "*"

_ALL = "ping select info time get mget exists ttl pttl"
_ROLE = (
    f"{_ALL} set getex del expire pexpire eval evalsha multi exec @hash rpush xadd xinfo|groups xlen xpending"
)
_CONSUMER = f"{_ROLE} blpop xreadgroup xack xautoclaim xgroup|create"
_COMMANDS = {
    "governor": _CONSUMER,
    "p33": f"{_CONSUMER} lpop",
    "apply": _CONSUMER,
    "warden": f"{_CONSUMER} xtrim client|tracking",
    "web": f"{_ROLE} xtrim xautoclaim xrange xrevrange scan incrby persist llen command xdel",
    "viewer": f"{_ALL} scan type strlen hget hmget hgetall hlen llen lrange xrange xrevrange xlen "
    "xinfo|groups xinfo|stream xpending",
    "host": f"{_ALL} set rpush blpop llen",
}
USERS = tuple(_COMMANDS)
ROLES = ("governor", "p33", "apply", "warden")

_WRITERS = {
    "governor_permit": "governor apply web",
    "p33_permit": "p33 apply web",
    "reserved_governor": "governor apply warden web",
    "reserved_p33": "p33 apply warden web",
    "pair": "governor p33 web",
    "receipt": "governor p33 apply web",
    "wake": "governor p33 apply web",
    "slot": "apply warden",
    "trading_state": "apply web",
    "hold": "apply web",
    "ledger": "p33 apply warden",
    "snapshot": "p33",
    "feed_wake": "governor p33 apply warden web",
    "fills_wake": "p33 apply",
    "plan_stream": "governor p33 apply warden web",
    "result_stream": "apply warden",
    "dead_letters": "governor p33 apply web",
    "proposal": "web",
    "proposal_stream": "warden web",
    "dead_letters_proposals": "warden web",
    "stream_published": "warden web",
    "result_published": "apply warden",
    **{f"{kind}_{role}": role for kind in ("lease", "heartbeat") for role in ROLES},
    "canary": "host",
    "instance": "governor p33 apply warden web host",
    "queue": "host",
    "cache": "web",
}
_READERS = {
    "receipt": "warden",
    "slot": "web",
    "trading_state": "governor p33 warden",
    "hold": "governor p33 warden",
    "ledger": "web",
    "snapshot": "governor apply warden web",
    "proposal": "warden",
    "result_stream": "web",
    "result_published": "web",
    "dead_letters": "warden",
    **{f"lease_{role}": "warden web host" for role in ROLES},
    **{f"heartbeat_{role}": "warden web" for role in ROLES},
    "canary": "web",
}
_NOT_FOR_VIEWERS = frozenset({"queue", "cache"})
"""Jobs and sessions: whoever reads a session's key is logged in as its owner."""


class User(Struct, frozen=True):
    name: str
    commands: tuple[str, ...]
    keys: Mapping[str, str]
    """Pattern -> READ or WRITE."""

    def line(self, *, secret: str, separate: bool) -> str:
        """separate: the server knows %R~; without it a reader may write what it may read, by the key alone."""
        sign = {READ: "%R~" if separate else "~", WRITE: "~"}
        patterns = [sign[access] + pattern for pattern, access in self.keys.items()]
        commands = [f"+{command}" for command in self.commands]
        return " ".join([f"user {self.name} on {secret} resetchannels", *patterns, "-@all", *commands])


def patterns(keys: Keys) -> dict[str, str]:
    """Kind of key -> pattern. The prefix is taken word for word, whatever a glob would make of it."""
    cluster_name = _literal(keys.cluster_name)
    keys = Keys(prefix=_literal(keys.prefix))
    return {
        "governor_permit": keys.governor_permit(PLAN_ID),
        "p33_permit": keys.p33_permit(PLAN_ID),
        "reserved_governor": keys.reserved("governor"),
        "reserved_p33": keys.reserved("p33"),
        "pair": keys.pair(PLAN_ID),
        "receipt": keys.receipt(PLAN_ID),
        "wake": keys.wake(ANY),  # `doctor` asks one that belongs to no plan
        "slot": keys.slot(ANY),
        "trading_state": keys.trading_state,
        "hold": keys.hold(ANY),
        "ledger": keys.ledger(ANY),
        "snapshot": keys.snapshot(ANY),
        "feed_wake": keys.feed_wake,
        "fills_wake": keys.fills_wake(PLAN_ID),
        "plan_stream": keys.plan_stream,
        "result_stream": keys.result_stream,
        "dead_letters": keys.dead_letters(keys.plan_stream),
        "proposal": keys.proposal(ANY),
        "proposal_stream": keys.proposal_stream,
        "dead_letters_proposals": keys.dead_letters(keys.proposal_stream),
        "stream_published": keys.stream_published(PLAN_ID),
        "result_published": keys.result_published(PLAN_ID),
        **{f"lease_{role}": keys.lease(role) for role in ROLES},
        **{f"heartbeat_{role}": keys.heartbeat(role, ANY) for role in ROLES},
        "canary": keys.canary,
        "instance": keys.instance,
        "queue": f"django_q:{cluster_name}:{ANY}",  # django-q2's own way of naming
        "cache": f"{keys.prefix}:1:{ANY}",  # Django's: prefix, version, key
    }


def users(keys: Keys) -> list[User]:
    kinds = patterns(keys)
    return [
        User(
            name=name,
            commands=tuple(_COMMANDS[name].split()),
            keys={pattern: access for kind, pattern in kinds.items() if (access := _access(name, kind))},
        )
        for name in USERS
    ]


def _access(name: str, kind: str) -> str:
    if name in _WRITERS[kind].split():
        return WRITE
    if name == "viewer":
        return "" if kind in _NOT_FOR_VIEWERS else READ
    return READ if name in _READERS.get(kind, "").split() else ""


def acl_file(keys: Keys, *, secrets: Mapping[str, str], separate: bool) -> str:
    """secrets: user -> what the line carries of its password, e.g. `#<sha256>`. Nobody else may come in."""
    lines = [user.line(secret=secrets[user.name], separate=separate) for user in users(keys)]
    return "\n".join(["user default off resetkeys resetchannels -@all", *lines]) + "\n"


def hashed(password: str) -> str:
    return "#" + hashlib.sha256(password.encode()).hexdigest()


def knows_separate_access(client: Client) -> bool:
    """Key flags and %R~ came together; asked for the one, without changing anything at the server."""
    try:
        client.execute_command("COMMAND GETKEYSANDFLAGS", "GET", "x")
    except ResponseError as answer:
        if "unknown subcommand" in str(answer).lower():
            return False
        raise
    return True


def _literal(text: str) -> str:
    return re.sub(r"([*?\[\]\\^])", r"\\\1", text)
