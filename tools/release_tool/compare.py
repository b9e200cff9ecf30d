"""What differs between two releases, by what is written down about each, for whoever moves to the later."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from release_tool.folder import Release
from release_tool.parsers import PROGRAMS
from release_tool.sglang_sources import LISTS

PIN = re.compile(r"^([\w.-]+)==(\S+)(.*)$", re.M)
ELSEWHERE = re.compile(r"sys_platform == '(darwin|win32|emscripten)'")


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _spelled(rows: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return every spelling of the flags."""
    return {
        name: row
        for row in rows
        for name in (row["flag"], *row.get("aliases", ()), *filter(None, [row.get("negative")]))
    }


def _listed(title: str, items: Iterable[str]) -> list[str]:
    found = list(items)
    return [f"- {title} ({len(found)}): " + ", ".join(found)] if found else []


def flags(old: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return lines about flags that went, came, are deprecated now or mean something else."""
    before, after = _spelled(old), _spelled(new)
    both = sorted(before.keys() & after.keys())
    lines = _listed("gone", (f"`{name}`" for name in sorted(before.keys() - after.keys())))
    lines += _listed("new", (f"`{name}`" for name in sorted(after.keys() - before.keys())))
    lines += _listed(
        "deprecated now",
        (
            f"`{name}`" + (f" (use {after[name]['replacement']})" if after[name].get("replacement") else "")
            for name in both
            if after[name].get("deprecated") and not before[name].get("deprecated")
        ),
    )
    own = [name for name in both if after[name]["flag"] == name]
    lines += _listed(
        "another default",
        (
            f"`{name}` {_word(before[name])} → {_word(after[name])}"
            for name in own
            if (before[name]["default"], before[name].get("dynamic"))
            != (after[name]["default"], after[name].get("dynamic"))
        ),
    )
    for title, one, other in (("values gone", before, after), ("values new", after, before)):
        changed = {
            name: [v for v in one[name]["choices"] if v not in other[name]["choices"]]
            for name in own
            if one[name].get("choices") and other[name].get("choices")
        }
        lines += _listed(
            title, (f"`{name}` {' '.join(map(str, values))}" for name, values in changed.items() if values)
        )
    return lines


def _word(row: Mapping[str, Any]) -> str:
    return "found out" if row.get("dynamic") else json.dumps(row["default"])


def names(old: Iterable[str], new: Iterable[str]) -> list[str]:
    """Return lines about names that went and came."""
    before, after = set(old), set(new)
    lines = _listed("gone", (f"`{name}`" for name in sorted(before - after)))
    return lines + _listed("new", (f"`{name}`" for name in sorted(after - before)))


def _pins(release: Release) -> dict[str, str]:
    text = release.lock("ai-dynamo-sglang").read_text(encoding="utf-8")
    return {name: version for name, version, marker in PIN.findall(text) if not ELSEWHERE.search(marker)}


def _paths(release: Release) -> set[str]:
    """Return the fields of TensorRT-LLM's YAML; none where they are not written down yet."""
    path = release.catalogues / "tensorrt-llm.json"
    return {row["path"] for row in _json(path)["fields"]} if path.exists() else set()


def report(old: Release, new: Release) -> str:
    """Return the whole report as Markdown."""
    lines = [f"# Dynamo {old.version} → {new.version}", "", "Made by `tools/release compare`."]

    def section(title: str, rows: list[str]) -> None:
        lines.extend(["", f"## {title}", "", *(rows or ["- nothing"])])

    before, after = old.read(), new.read()
    section(
        "Versions",
        [f"- {name} {before['engines'].get(name)} → {version}" for name, version in after["engines"].items()],
    )
    for program in PROGRAMS:
        one, other = (_json(release.catalogues / f"{program}.json")["flags"] for release in (old, new))
        section(f"Flags of {program}", flags(one, other))
    trees = [_paths(release) for release in (old, new)]
    section("Fields of TensorRT-LLM", names(*trees))
    variables = [_json(release.path / "environment.json") for release in (old, new)]
    for owner in variables[1]:
        section(f"Environment variables of {owner}", names(variables[0].get(owner, ()), variables[1][owner]))
    metrics = [_json(release.path / "metrics.json") for release in (old, new)]
    for program in metrics[1]:
        section(f"Metrics of {program}", names(metrics[0].get(program, ()), metrics[1][program]))
    behaviour = [_json(release.path / "behaviour.json") for release in (old, new)]
    section(
        "Behaviour",
        [
            f"- {row['what']} {'Yes' if row['holds'] else 'No'}; before: "
            f"{'yes' if behaviour[0][name]['holds'] else 'no'}."
            for name, row in behaviour[1].items()
            if name in behaviour[0] and behaviour[0][name]["holds"] != row["holds"]
        ],
    )
    sources = [_json(release.path / "engines" / "sglang.json") for release in (old, new)]
    for key in (*(f"attention_{kind}" for kind in ("by_data", "whole", "unclear")), *LISTS):
        section(f"SGLang: {key.replace('_', ' ')}", names(sources[0][key], sources[1][key]))
    runners = [
        {f"{layout}: {name}" for layout, known in found["expert_runners"].items() for name in known}
        for found in sources
    ]
    section("SGLang: expert kernels by layout of tokens", names(*runners))
    pins = [_pins(release) for release in (old, new)]
    changed = [
        f"- {name} {pins[0].get(name, 'not there')} → {pins[1].get(name, 'not there')}"
        for name in sorted(pins[0].keys() | pins[1].keys())
        if pins[0].get(name) != pins[1].get(name)
    ]
    section("Packages of the SGLang lock file", changed)
    return "\n".join(lines) + "\n"


def make_changes(release: Release) -> Path | None:
    """Write CHANGES.md of a release that has one before it."""
    previous = release.read()["previous"]
    if previous is None:
        return None
    path = release.path / "CHANGES.md"
    path.write_text(report(Release(previous), release), encoding="utf-8")
    return path
