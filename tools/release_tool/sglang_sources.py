"""What only SGLang's sources tell: which models divide attention by data, which experts take which tokens.

With DP attention, a GPU computes attention for the GPUs of one attention replica; the KV cache is made for
that. A model class that divides its heads by all GPUs instead starts, and ends at the first batch.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from release_tool.folder import Release
from release_tool.locks import environment, site_packages

PACKAGE = "sglang.srt.models"
# What a class hands its heads to, and the number that it has to divide them by.
ATTENTION = "RadixAttention"
BY_DATA = "attn_tp_size"
RUNNER = re.compile(r'register_(?:pre_permute|fused_func)\(\s*"(\w+)",\s*"(\w+)"')
# What all-to-alls and transfers of the KV cache import, and the lock file brings or not.
MODULES = ("deep_ep", "mooncake", "nixl", "nixl_ep", "pplx_kernels", "mori", "flashinfer")


@dataclass(frozen=True)
class Part:
    """A class, function or variable of a module: what it is made of, what it inherits, and what it says."""

    uses: frozenset[tuple[str, str]]
    bases: frozenset[tuple[str, str]]
    attends: bool
    words: frozenset[str]


def _words(node: ast.AST) -> frozenset[str]:
    found = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return frozenset(found | {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)})


def _attends(node: ast.AST) -> bool:
    calls = (n.func for n in ast.walk(node) if isinstance(n, ast.Call))
    return any(isinstance(f, ast.Name) and f.id == ATTENTION for f in calls)


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def _imports(tree: ast.Module) -> dict[str, tuple[str, str]]:
    """Return name -> (module, its name there), of what other modules of models bring."""
    found: dict[str, tuple[str, str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE}."):
            module = str(node.module).removeprefix(f"{PACKAGE}.")
            found |= {alias.asname or alias.name: (module, alias.name) for alias in node.names}
    return found


def _parts(directory: Path) -> tuple[dict[tuple[str, str], Part], dict[str, tuple[str, str]]]:
    """Return all parts by (module, name), and entry classes by their name in a config.json."""
    parts: dict[tuple[str, str], Part] = {}
    entries: dict[str, tuple[str, str]] = {}
    for path in sorted(directory.rglob("*.py")):
        module = ".".join(path.relative_to(directory).with_suffix("").parts)
        tree = ast.parse(path.read_bytes())
        place = _imports(tree) | {name: (module, name) for node in tree.body for name in _names(node)}
        for node in tree.body:
            words, bases = _words(node), getattr(node, "bases", [])
            inherited = frozenset(w for base in bases for w in _words(base))
            for name in _names(node):
                if name == "EntryClass":
                    entries |= {w: place[w] for w in words - {name} if w in place}
                    continue
                uses = frozenset(place[w] for w in words if w in place)
                kept = frozenset(place[w] for w in inherited if w in place)
                parts[module, name] = Part(uses - kept, kept, _attends(node), words)
    return parts, entries


def _attentions(
    place: tuple[str, str],
    parts: Mapping[tuple[str, str], Part],
    known: dict[tuple[str, str], frozenset[tuple[str, str]]],
) -> frozenset[tuple[str, str]]:
    """Return the parts that make the attention of one: what it is made of, else what it inherits."""
    if place in known or place not in parts:
        return known.get(place, frozenset())
    known[place] = frozenset()  # what comes back to it adds nothing
    part = parts[place]
    found = frozenset([place] if part.attends else [])
    for use in part.uses:
        found |= _attentions(use, parts, known)
    if not found:
        for base in part.bases:
            found |= _attentions(base, parts, known)
    known[place] = found
    return found


def attention_by_data(site_packages: Path) -> dict[str, list[str]]:
    """Return which model classes divide attention by data, which do not, and of which sources do not tell.

    The first make every attention for the GPUs of one attention replica, the second none; of the others some
    do, or none was found. A class that has an attention of its own is not judged by that of its base, which
    it replaces.
    """
    parts, entries = _parts(site_packages.joinpath(*PACKAGE.split(".")))
    found: dict[str, list[str]] = {"by_data": [], "whole": [], "unclear": []}
    for name, place in sorted(entries.items()):
        divided = [BY_DATA in parts[attention].words for attention in _attentions(place, parts, {})]
        told = bool(divided) and len(set(divided)) == 1
        found[("by_data" if divided[0] else "whole") if told else "unclear"].append(name)
    return found


def expert_runners(site_packages: Path) -> dict[str, list[str]]:
    """Return layout of tokens -> the expert kernels that take it, by what they register."""
    found: dict[str, set[str]] = {}
    for path in (site_packages / "sglang" / "srt" / "layers" / "moe").rglob("*.py"):
        for layout, runner in RUNNER.findall(path.read_text(encoding="utf-8")):
            found.setdefault(layout, set()).add(runner)
    return {layout: sorted(found[layout]) for layout in sorted(found)}


# What rules ask of architectures -> file below sglang/srt, variable that lists them.
LISTS = {
    "sliding_window": ("configs/model_config.py", "hybrid_swa_archs"),
    "deepep_v2": ("configs/moe_model_registry.py", "_DEEPEP_V2_MODELS"),
    "flashinfer_megamoe": ("arg_groups/moe_hook.py", "validated_architectures"),
}


def architectures(site_packages: Path) -> dict[str, list[str]]:
    """Return the lists of architectures that SGLang's own checks go by; empty where it has none."""
    found = {}
    for name, (file, variable) in LISTS.items():
        path = site_packages / "sglang" / "srt" / file
        tree = ast.parse(path.read_bytes()) if path.is_file() else ast.Module([], [])
        found[name] = sorted(_texts(variable, tree))
    return found


def _texts(variable: str, tree: ast.Module) -> set[str]:
    """Return the texts that a variable lists, those of variables that are unpacked in it included."""
    found: set[str] = set()
    for node in ast.walk(tree):
        named = isinstance(node, ast.Assign) and [t.id for t in node.targets if isinstance(t, ast.Name)]
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            named = [node.target.id]
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or not named or variable not in named:
            continue
        value = node.value
        if isinstance(value, ast.Call) and value.args:
            value = value.args[0]  # frozenset({...})
        for item in value.keys if isinstance(value, ast.Dict) else getattr(value, "elts", []):
            if isinstance(item, ast.Constant):
                found.add(str(item.value))
            elif isinstance(item, ast.Starred) and isinstance(item.value, ast.Name):
                found |= _texts(item.value.id, tree)
    return found


def megamoe_on_hopper(site_packages: Path) -> bool:
    """Whether SGLang's check of the all-to-all `megamoe` lets Hopper pass."""
    path = site_packages / "sglang" / "srt" / "arg_groups" / "mega_moe_hook.py"
    return path.is_file() and "is_sm90" in path.read_text(encoding="utf-8")


def speculative(site_packages: Path) -> list[str]:
    """Return the names of what drafts: members of an enumeration, and a name that stands for one of them."""
    folder = site_packages / "sglang" / "srt" / "speculative"
    tree = ast.parse((folder / "spec_info.py").read_bytes())
    kinds = [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == "SpeculativeAlgorithm"]
    names = {
        name for kind in kinds for node in kind.body if isinstance(node, ast.Assign) for name in _names(node)
    }
    aliases = re.findall(
        r'_RESERVED_ALIASES = frozenset\(\{"(\w+)"\}\)', (folder / "spec_registry.py").read_text()
    )
    return sorted({*names, *aliases} - {"NONE"})


def make_sglang(release: Release) -> Path:
    """Write engines/sglang.json of a release, one name a line."""
    packages = site_packages(environment(release, "ai-dynamo-sglang"))
    found = {
        "version": release.read()["engines"]["sglang"],
        "modules": {name: (packages / name).is_dir() for name in MODULES},
        "expert_runners": expert_runners(packages),
        **{f"attention_{kind}": names for kind, names in attention_by_data(packages).items()},
        **architectures(packages),
        "speculative": speculative(packages),
        "megamoe_on_hopper": megamoe_on_hopper(packages),
    }
    path = release.path / "engines" / "sglang.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return path
