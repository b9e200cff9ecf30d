"""The pinned versions (configs/versions.yml), typed."""

from __future__ import annotations

from functools import lru_cache

import yaml
from pydantic import BaseModel, ConfigDict

from wideep.reference.paths import configs_dir


class Versions(BaseModel):
    """Every pin of the project.

    engines: package -> version, as the Dynamo release pins them. packages: PyPI name -> version. minimum:
    program -> lowest version on hosts. images: use -> name with tag.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dynamo: str
    engines: dict[str, str]
    packages: dict[str, str]
    minimum: dict[str, str]
    images: dict[str, str]


@lru_cache(maxsize=1)
def versions() -> Versions:
    """Return the pins. Raises pydantic.ValidationError when the file does not have their form."""
    text = (configs_dir() / "versions.yml").read_text(encoding="utf-8")
    return Versions.model_validate(yaml.safe_load(text))
