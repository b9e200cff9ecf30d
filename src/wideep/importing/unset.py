"""What a source leaves to its environment: variables without a value, and what commands print."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from wideep.engines.importing import Row
from wideep.problems import Problem

# A variable, plain or with a complaint for where it is not set; arithmetic; what is not followed at all.
_PART = re.compile(
    r"\$\(\((?P<sum>.*?)\)\)|\$(?P<plain>[A-Za-z_]\w*|\d)|\$\{(?P<name>[A-Za-z_]\w*|\d)(?=\}|:?[?])"
    r"|(?P<other>\$\([^)]*\)?|\$\{[^}]*\}?|`[^`]*`?)",
    re.DOTALL,
)
# A setting of these states goes into the inventory.
TAKEN = ("kept", "renamed", "changed")


def names(value: Any) -> Iterator[str]:
    """Yield what has no value in a word, or in a list of words: names, and what else stands there."""
    for word in value if isinstance(value, list) else [value]:
        for match in _PART.finditer(word) if isinstance(word, str) else ():
            if match["sum"] is not None:
                yield from re.findall(r"[A-Za-z_]\w*", match["sum"])
            else:
                yield match["plain"] or match["name"] or match["other"]


def remedy(name: str, *more: str) -> str:
    """Return how to give a value."""
    if name.isidentifier() or name.isdecimal():
        return " or ".join([f"give --var {name}=…", *more])
    return " or ".join(["write into the script what it becomes", *more])


def sentence(name: str) -> str:
    """Return what is missing."""
    if name.isidentifier() or name.isdecimal():
        return f"{'$' if name.isdecimal() else ''}{name} has no value"
    return f"what {name} becomes is not known without running it"


def problems(rows: Iterable[Row]) -> list[Problem]:
    """Return a problem for everything without a value that an inventory would need."""
    behind: dict[str, list[Row]] = {}
    for row in rows:
        alone = row.name.startswith(("$", "`"))
        for name in names(row.name if alone else row.value if row.state in TAKEN else None):
            behind.setdefault(name, []).append(row)
    return [
        Problem(
            f"{sentence(name)}, and stands {_places(found)}",
            found[0].where,
            remedy(name, *(["--model-path DIR"] if all(is_path(row.name) for row in found) else [])),
        )
        for name, found in behind.items()
    ]


def is_path(flag: str) -> bool:
    """Whether a flag has the model's path."""
    return flag.lstrip("-").replace("_", "-") in ("model-path", "model")


def _places(rows: Sequence[Row]) -> str:
    named = list(dict.fromkeys(row.name for row in rows if not row.name.startswith(("$", "`"))))
    return f"behind {', '.join(named)}" if named else "among the flags"
