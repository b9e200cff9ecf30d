"""Upstream's own CRDs, where a directory `shared/crds` lies beside the checkout or above it.

They are not part of the project. Without them tests that need them are skipped and say so.
"""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any

import pytest
import yaml
from places import REPOSITORY

GROVE = "0.1.0-alpha.12"
GROVE_KINDS = ("podcliquesets", "podcliques", "podcliquescalinggroups")


def directory() -> Path | None:
    """Return where they are; None where they are not."""
    found = (parent / "shared" / "crds" for parent in REPOSITORY.parents)
    return next((path for path in found if path.is_dir()), None)


def real(name: str) -> dict[str, Any]:
    """Return a CRD by its file's name, without conversion, which is the operator's; else skip the test."""
    path = directory()
    if path is None:
        pytest.skip("upstream's CRDs are not there (shared/crds)")
    with lzma.open(path / f"{name}.yaml.xz") as file:
        made = dict(yaml.safe_load(file))
    made["spec"].pop("conversion", None)
    return made


def graphs(release: str, version: str) -> dict[str, Any]:
    """Return that of graphs, with one version of the API: nothing converts between them here."""
    made = real(f"dynamographdeployments-{release}")
    (only,) = (own for own in made["spec"]["versions"] if own["name"] == version)
    made["spec"]["versions"] = [{**only, "served": True, "storage": True}]
    return made


def grove() -> list[dict[str, Any]]:
    """Return Grove's."""
    return [real(f"grove.io_{kind}-{GROVE}") for kind in GROVE_KINDS]
