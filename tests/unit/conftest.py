"""Unit tests are deterministic: the same examples on every machine, nothing remembered between runs."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "repository",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repository")
