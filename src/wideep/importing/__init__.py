"""Somebody's command, recipe or manifest in, an inventory out (docs/how-to/bring-your-own-command.md)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wideep.deployment.build import examine
from wideep.importing.build import Imported, build
from wideep.importing.commands import YAML, read_commands
from wideep.importing.graph import is_graph, read_graph
from wideep.importing.source import Lines, Recipe, read_text, refuse
from wideep.importing.srt import is_recipe, read_recipe
from wideep.importing.write import table, write
from wideep.inventory.settings import POOLS
from wideep.problems import suggest

__all__ = ["Done", "Imported", "build", "import_from", "read"]


@dataclass(frozen=True)
class Done:
    """An import that was written: its table, and its files."""

    imported: Imported
    table: str
    files: tuple[Path, ...]


def import_from(
    sources: Sequence[Path],
    out: Path,
    *,
    roles: Mapping[str, str] | None = None,
    variant: str = "",
    given: Mapping[str, str] | None = None,
    model: str = "",
    model_path: str = "",
    gpu: str = "",
    release: str = "",
    benchmark: bool = False,
) -> Done:
    """Write the inventory of sources into a new directory; `build` and `read` say what the arguments are.

    Raises RefusedError; nothing is written then.
    """
    recipe = read(
        sources,
        roles={role: Path(name) for role, name in (roles or {}).items()},
        variant=variant,
        given=given,
    )
    files = dict.fromkeys([*sources, *map(Path, (roles or {}).values())])
    source = ", ".join(file.name for file in files) + (f", variant {variant}" if variant else "")
    imported = build(
        recipe,
        source,
        model=model,
        model_path=model_path,
        gpu=gpu,
        release=release,
        name=_name(out, recipe),
        benchmark=benchmark,
    )
    deployment, _ = examine(imported.groups, imported.hosts)  # what is wrong the plan says
    rows = imported.rows + (imported.added(deployment) if deployment else [])
    return Done(imported, table(rows, source), tuple(write(imported, out)))


def _name(out: Path, recipe: Recipe) -> str:
    """Return what the deployment is called: as its directory, else as its source."""
    return Path(os.path.abspath(out)).name or recipe.name  # noqa: PTH100  a link keeps its name


def read(
    sources: Sequence[Path],
    *,
    roles: Mapping[str, Path] | None = None,
    variant: str = "",
    given: Mapping[str, str] | None = None,
) -> Recipe:
    """Return what sources describe. Raises RefusedError where that is nothing that can be read.

    roles: pool -> file with its command, or its engine YAML. variant: of an srt-slurm recipe.
    given: values of shell variables.
    """
    for role in roles or {}:
        if role not in POOLS:
            raise refuse(f"there is no pool '{role}'", "--role", suggest(role, POOLS))
    named = [(role, path) for role, path in (roles or {}).items()]
    by_role = {path.resolve() for _, path in named}
    alone = {path.resolve(): path for path in reversed(sources)}  # of a file that is named twice, once
    named = [("", alone[key]) for key in reversed(alone) if key not in by_role] + named
    if not named:
        raise refuse("no source", "wideep import", "name a script, a recipe or a manifest")
    for _, path in named:
        if path.suffix not in YAML:
            continue
        lines = Lines(read_text(path), str(path))
        whole = is_graph(lines) or is_recipe(lines)
        if whole and len(named) > 1:
            raise refuse("a recipe or a manifest is a whole", str(path), "give it alone")
        if whole:
            return read_graph(path, given or {}) if is_graph(lines) else read_recipe(path, variant)
    if variant:
        raise refuse("only a recipe has variants", "--variant", "leave it out")
    recipe = read_commands(named, given or {})
    if recipe is None:
        files = ", ".join(str(path) for _, path in named)
        raise refuse(
            "no worker is started there: no command of sglang.launch_server, dynamo.sglang, dynamo.trtllm or"
            " trtllm-serve, no srt-slurm recipe, no DynamoGraphDeployment",
            files,
            "give the script that starts the workers",
        )
    return recipe
