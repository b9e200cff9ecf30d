"""The folders of releases: which there are, and what one's release.yml says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
RELEASES = ROOT / "configs" / "releases"
CACHE = ROOT / ".cache" / "releases"


def version_key(version: str) -> tuple[int, ...]:
    """Return a version as numbers that compare."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def versions() -> list[str]:
    """Return the releases that there are, the newest first."""
    found = (path.parent.name for path in RELEASES.glob("*/release.yml"))
    return sorted(found, key=version_key, reverse=True)


@dataclass(frozen=True)
class Release:
    """The folder of one release."""

    version: str

    @property
    def path(self) -> Path:
        """Where its data is."""
        return RELEASES / self.version

    @property
    def cache(self) -> Path:
        """Where its packages are installed; made again from the lock files when it is gone."""
        return CACHE / self.version

    @property
    def catalogues(self) -> Path:
        """Where the flags of its programs are."""
        return self.path / "catalogues"

    def lock(self, name: str) -> Path:
        """Return the lock file of a program."""
        return self.path / "locks" / f"{name}.lock"

    def read(self) -> dict[str, Any]:
        """Return what release.yml says."""
        found: dict[str, Any] = yaml.safe_load((self.path / "release.yml").read_text(encoding="utf-8"))
        return found


def release(version: str | None = None) -> Release:
    """Return a release that there is, the newest unless named. Raises SystemExit naming those there are."""
    known = versions()
    if version is None and known:
        return Release(known[0])
    if version not in known:
        raise SystemExit(
            f"there is no {RELEASES.relative_to(ROOT)}/{version}/release.yml; there are: {', '.join(known)}"
        )
    return Release(version)
