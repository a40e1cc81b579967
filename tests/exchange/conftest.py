"""The same paper exchange that its own tests use, one process for each file."""

from tests.paper.conftest import desk, running

__all__ = ["desk", "running"]
