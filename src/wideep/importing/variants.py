"""The variants of an srt-slurm recipe: overrides of a base, lists that go together, and sweeps."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from wideep.importing.source import Lines, refuse


def variants(document: Mapping[str, Any], lines: Lines) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and content of each variant; of a plain recipe the one that there is, without a name."""
    if "base" not in document:
        yield from _sweep("", dict(document))
        return
    base = document["base"]
    names = [key for key in document if key.startswith(("override_", "zip_override_"))]
    for key in names:
        over = document[key] or {}
        if not isinstance(over, Mapping):
            raise refuse(f"{key} is not a mapping", lines.of(key), "write the keys of base that it changes")
        if key.startswith("override_"):
            yield from _sweep(key, merged(base, over))
            continue
        for number in range(_rounds(over, lines, key)):
            yield from _sweep(f"{key}[{number}]", merged(base, _slice(over, number)))
    yield from _sweep("base", base)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tree with another over it; null takes a key away, lists are replaced."""
    result = copy.deepcopy(dict(base))
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def _lists(tree: Any) -> Iterator[list[Any]]:
    for value in tree.values() if isinstance(tree, Mapping) else ():
        if isinstance(value, list):
            yield value
        else:
            yield from _lists(value)


def _rounds(tree: Any, lines: Lines, key: str) -> int:
    lengths = {len(one) for one in _lists(tree)} - {1}
    if len(lengths) > 1 or 0 in lengths:
        raise refuse(
            f"the lists of {key} have different lengths: {', '.join(map(str, sorted(lengths)))}",
            lines.of(key),
            "give all the same length, or one",
        )
    return lengths.pop() if lengths else 1


def _slice(tree: Any, number: int) -> Any:
    if isinstance(tree, Mapping):
        return {key: _slice(value, number) for key, value in tree.items()}
    return tree[0 if len(tree) == 1 else number] if isinstance(tree, list) else tree


def _sweep(name: str, recipe: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a recipe for each combination of the parameters that its workers depend on."""
    own = recipe.get("sweep")
    parameters = {k: v for k, v in own.items() if isinstance(v, list)} if isinstance(own, Mapping) else {}
    rest = {key: value for key, value in recipe.items() if key not in ("benchmark", "sweep", "name")}
    used = [key for key in parameters if any(f"{{{key}}}" in text for text in _texts(rest))]
    if not used:
        yield name, recipe
        return
    for values in product(*(parameters[key] for key in used)):
        chosen = dict(zip(used, values, strict=True))
        label = ",".join(f"{key}={value}" for key, value in chosen.items())
        yield f"{name}:{label}" if name else label, _filled(recipe, chosen)


def _texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, Mapping):
        for value in tree.values():
            yield from _texts(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _texts(value)
    elif isinstance(tree, str):
        yield tree


def _filled(tree: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(tree, Mapping):
        return {key: _filled(value, values) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_filled(value, values) for value in tree]
    if not isinstance(tree, str):
        return tree
    whole = re.fullmatch(r"\{(\w+)\}", tree)
    if whole and whole[1] in values:
        return values[whole[1]]
    for key, value in values.items():
        tree = tree.replace(f"{{{key}}}", str(value))
    return tree
