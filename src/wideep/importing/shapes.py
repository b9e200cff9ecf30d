"""What a YAML source has to look like before it is read: anything else is one problem with its line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from wideep.problems import Problem, RefusedError
from wideep.wording import shown

Where = Callable[..., str]


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _is_count(value: Any) -> bool:
    text = str(value)
    return not isinstance(value, bool) and text.isascii() and text.isdecimal() and len(text) < len("1000000")


# Kind -> whether a value is of it, and how to write one.
KINDS: dict[str, tuple[Callable[[Any], bool], str, str]] = {
    "mapping": (_is_mapping, "a mapping of names to values", "write `name: value` lines below it"),
    "fields": (
        lambda value: isinstance(value, Mapping),
        "a mapping of names to values",
        "write `name: value` lines below it",
    ),
    "list": (lambda value: isinstance(value, list), "a list", "write `- item` lines below it"),
    "text": (lambda value: isinstance(value, str | int | float), "a text", "write one value"),
    "number": (_is_count, "a whole number", "write the number, as nothing fills in templates here"),
}


def check(tree: Any, table: Mapping[str, str], where: Where) -> None:
    """Raise RefusedError with all that is of another shape. What is not there, or null, is of any.

    table: dotted path, with patterns for keys (and `*` for items of a list) -> kind. where: file and line
    of a path.
    """
    problems, wrong = [], set[tuple[str, ...]]()
    for pattern, kind in table.items():
        fits, what, remedy = KINDS[kind]
        for path, value in _places(tree, pattern.split(".") if pattern else []):
            if value is None or fits(value) or any(path[:n] in wrong for n in range(len(path) + 1)):
                continue
            wrong.add(path)
            name = ".".join(path) or "the file"
            if isinstance(value, Mapping) and kind in ("mapping", "fields"):
                what, remedy = "one with texts for names", "write names in quotes where they are numbers"
            problems.append(Problem(f"{name} is {shown(value)}, not {what}", where(*path), remedy))
    if problems:
        raise RefusedError(problems)


def _places(
    tree: Any, pattern: Sequence[str], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not pattern:
        yield path, tree
        return
    items = tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        if fnmatchcase(str(key), pattern[0]):
            yield from _places(value, pattern[1:], (*path, str(key)))
