"""The servers of the Lua suites, for every suite of this folder."""

from tests.contract.servers import real_server, redis7, server

__all__ = ["real_server", "redis7", "server"]
