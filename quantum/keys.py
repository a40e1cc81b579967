"""Every Redis key, stream and group of ours. The only module that spells the key words.

The first word is the setting KEY_PREFIX (default `quantum`). Set as `{quantum:acct1}`
it is a hash tag: all keys of one instance then live on one slot of a Redis Cluster.
"""

from __future__ import annotations

from msgspec import Struct

GOVERNOR_GROUP = "governor"
P33_GROUP = "p33"
APPLY_GROUP = "apply"
INTAKE_GROUP = "intake"


class Keys(Struct, frozen=True):
    prefix: str = "quantum"

    # streams
    @property
    def plan_stream(self) -> str:
        return f"{self.prefix}:stream:apply.plan"

    @property
    def result_stream(self) -> str:
        return f"{self.prefix}:stream:apply.result"

    @property
    def proposal_stream(self) -> str:
        return f"{self.prefix}:stream:harvest.proposal"

    def dead_letters(self, stream: str) -> str:
        return f"{self.prefix}:dead:{stream.removeprefix(self.prefix + ':stream:')}"

    # permits
    def governor_permit(self, plan_id: str) -> str:
        return f"{self.prefix}:permit:{plan_id}"

    def p33_permit(self, plan_id: str) -> str:
        return f"{self.prefix}:permit:p33:{plan_id}"

    def pair(self, plan_id: str) -> str:
        """The companion hash: digest, and per gate the expiry of its permit."""
        return f"{self.prefix}:pair:{plan_id}"

    def reserved(self, gate: str) -> str:
        """A hash: what this gate's live and spent permits hold of its limits, by plan."""
        return f"{self.prefix}:reserved:{gate}"

    def wake(self, plan_id: str) -> str:
        return f"{self.prefix}:wake:{plan_id}"

    def receipt(self, plan_id: str) -> str:
        return f"{self.prefix}:receipt:{plan_id}"

    def slot(self, symbol: str) -> str:
        return f"{self.prefix}:slot:{symbol}"

    # trading state and holds
    @property
    def trading_state(self) -> str:
        return f"{self.prefix}:state:trading"

    def hold(self, symbol: str) -> str:
        return f"{self.prefix}:reconcile:hold:{symbol}"

    # positions
    def ledger(self, symbol: str) -> str:
        return f"{self.prefix}:position:ledger:{symbol}"

    def snapshot(self, symbol: str) -> str:
        return f"{self.prefix}:position:snapshot:{symbol}"

    @property
    def feed_wake(self) -> str:
        """A list: anything pushed here makes the feed read the exchange at once."""
        return f"{self.prefix}:feed:wake"

    def fills_wake(self, plan_id: str) -> str:
        """A list: ids of trades of the plan's order that have just been stored."""
        return f"{self.prefix}:feed:fills:{plan_id}"

    # proposals
    def proposal(self, symbol: str) -> str:
        """A hash that an exit brain outside keeps: its newest word on this symbol."""
        return f"{self.prefix}:harvest:proposal:{symbol}"

    # apply
    def stream_published(self, plan_id: str) -> str:
        return f"{self.prefix}:apply:stream_published:{plan_id}"

    def result_published(self, plan_id: str) -> str:
        return f"{self.prefix}:apply:result_published:{plan_id}"

    # running
    def lease(self, role: str) -> str:
        """One for all hosts: a second host stands by."""
        return f"{self.prefix}:lease:{role}"

    def heartbeat(self, role: str, host: str) -> str:
        return f"{self.prefix}:heartbeat:{role}:{host}"

    @property
    def canary(self) -> str:
        return f"{self.prefix}:canary"

    @property
    def instance(self) -> str:
        return f"{self.prefix}:meta:instance"

    @property
    def cluster_name(self) -> str:
        """django-q2's queue name; contains the prefix so that two instances never share it."""
        return f"{self.prefix}:qcluster"
