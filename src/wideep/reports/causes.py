"""Causes of failed starts, as data: `configs/diagnosis/<component>.yml`, one file for each component.

A file has causes with their remedies, what programs say when they meet one, and what sounds like one and is
harmless. A line of any file may mean a cause of any other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from wideep.reference.paths import configs_dir


def _pattern(text: str) -> str:
    re.compile(text)
    return text


Regex = Annotated[str, AfterValidator(_pattern)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KnownCause(_Strict):
    """What can be wrong. `{0}` in the cause is what the first group of the line's pattern found.

    rank: the lower, the earlier it stands: an error that drags others behind it comes before them. weight:
    general, a line that shows anything else does not mean it; echo, it is said where nothing else is found.
    """

    name: str
    rank: int
    cause: str
    remedy: str
    weight: Literal["", "general", "echo"] = ""


class Line(_Strict):
    """What a program says: a regular expression of any case.

    near: what one of the next lines before or after it says. seen: where these words are from, a package as
    it is installed, published source or manual, a user's report, or unread: nowhere but in memory.
    """

    means: str
    says: Regex
    near: Regex = ""
    seen: Literal["package", "source", "report", "unread"]


class Harmless(_Strict):
    """What names trouble and is none. why: for whom to read."""

    says: Regex
    why: str


class Component(_Strict):
    """One file. read_in: the releases and sources in which its words were looked up."""

    component: str
    read_in: str
    causes: tuple[KnownCause, ...] = ()
    lines: tuple[Line, ...] = Field(min_length=1)
    harmless: tuple[Harmless, ...] = ()


@dataclass(frozen=True)
class Known:
    """All files together, compiled. causes: in the order of the answer."""

    causes: dict[str, KnownCause]
    lines: tuple[tuple[Line, re.Pattern[str], re.Pattern[str] | None], ...]
    harmless: tuple[re.Pattern[str], ...]


def components() -> dict[str, Component]:
    """Return every file by its name.

    Raises:
        FileNotFoundError: the files of the collection are not there.
    """
    paths = sorted((configs_dir() / "diagnosis").glob("*.yml"))
    return {p.stem: Component.model_validate(yaml.safe_load(p.read_text(encoding="utf-8"))) for p in paths}


@lru_cache(maxsize=1)
def known() -> Known:
    """Return what all components know."""
    files = components().values()
    causes = sorted((cause for file in files for cause in file.causes), key=lambda cause: cause.rank)
    return Known(
        {cause.name: cause for cause in causes},
        tuple(
            (line, re.compile(line.says, re.IGNORECASE), _compiled(line.near))
            for file in files
            for line in file.lines
        ),
        tuple(re.compile(entry.says, re.IGNORECASE) for file in files for entry in file.harmless),
    )


def _compiled(regex: str) -> re.Pattern[str] | None:
    return re.compile(regex, re.IGNORECASE) if regex else None
