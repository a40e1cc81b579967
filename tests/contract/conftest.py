"""The servers of the Lua suites and the consumers of the stream suites, for every suite of this folder."""

from tests.contract.consumers import consume
from tests.contract.servers import real_server, redis7, server

__all__ = ["consume", "real_server", "redis7", "server"]
