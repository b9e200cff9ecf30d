"""Suite `fidelity`: what we render, before the programs that have to accept it."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fidelity: needs the pinned engine installed (no GPU)")
