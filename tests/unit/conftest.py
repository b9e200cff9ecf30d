"""Unit tests are deterministic: the same examples on every machine, nothing remembered between runs."""

from __future__ import annotations

from pathlib import Path

from ansible.plugins.loader import init_plugin_loader
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

# Before anything imports from the collection, so that Ansible finds its plugins in this process too.
init_plugin_loader([str(Path(__file__).resolve().parents[2] / ".collections")])
