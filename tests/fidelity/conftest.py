"""Suite `fidelity`: what we render, before the programs that have to accept it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The unit tests judge the same combinations.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fidelity: needs the pinned engine installed (no GPU)")
