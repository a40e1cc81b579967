"""Hypothesis as this suite uses it: no clock in the verdict (the machine may be busy), no files left behind."""

from __future__ import annotations

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

__all__ = ["example", "given", "st"]

settings.register_profile(
    "quantum",
    deadline=None,
    database=None,
    derandomize=True,  # a red run is red again; new cases come with new tests
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("quantum")
