"""Prometheus' own programs: those of the machine, or of the distribution's package, unpacked below .cache."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from places import REPOSITORY

PLACE = REPOSITORY / ".cache" / "prometheus"


def program(name: str) -> Path:
    """Return `prometheus` or `promtool`; skips where the machine cannot have it."""
    if found := shutil.which(name):
        return Path(found)
    unpacked = PLACE / "usr" / "bin" / name
    if not unpacked.exists() and shutil.which("apt-get"):
        PLACE.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["apt-get", "download", "-q", "prometheus"], cwd=PLACE, capture_output=True, check=False
        )
        for package in PLACE.glob("prometheus_*.deb"):
            subprocess.run(["dpkg-deb", "--extract", package, PLACE], check=True)
    if not unpacked.exists() and os.environ.get("WIDEEP_REQUIRE_ALL") != "1":
        pytest.skip(f"needs {name}: Debian's package prometheus, or its lists for apt-get download")
    return unpacked
