"""Makes the folder of a release from the packages of that release, as far as a program can."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from release_tool.behaviour import make_behaviour
from release_tool.catalogues import make_catalogues
from release_tool.compare import make_changes
from release_tool.environment_names import make_environment
from release_tool.folder import ROOT, Release, version_key, versions
from release_tool.locks import environment, make_locks, site_packages
from release_tool.metrics import make_metrics
from release_tool.renamed import problems
from release_tool.sglang_sources import make_sglang

STEPS: tuple[tuple[str, Callable[[Release], object]], ...] = (
    ("flags", make_catalogues),
    ("SGLang's sources", make_sglang),
    ("environment variables", make_environment),
    ("metrics, scraped", make_metrics),
    ("behaviour, tried", make_behaviour),
    ("differences", make_changes),
)
BY_HAND = """\
What is left for a person:
- release.yml: read it whole; minimum, lock_overrides and their reasons were copied from {model}
- CHANGES.md: read it against src/wideep/engines and docs; what went away belongs into catalogues/renamed.yml
- catalogues/tensorrt-llm.json: from the sources of TensorRT-LLM {trtllm}; engines/trtllm.yml: was copied
- operator/: was copied from {model}; compare it with the CRD of the chart
- images: whether they exist
- tools/release check {version}; the suites, with wideep_release: {version}"""


def _begin(new: Release) -> Release:
    """Write a first release.yml after that of the nearest release; return the one that it was made after."""
    known = [version for version in versions() if version != new.version]
    older = [version for version in known if version_key(version) < version_key(new.version)]
    model = Release((older or known[::-1])[0])
    path = new.path / "release.yml"
    if path.exists():
        return model
    minor = version_key(new.version)[:2]
    before = next((version for version in older if version_key(version)[:2] < minor), "null")
    new.catalogues.mkdir(parents=True, exist_ok=True)
    text = (model.path / "release.yml").read_text(encoding="utf-8")
    text = re.sub(rf"(?<![\d.]){re.escape(model.version)}(?![\d.]*\d)", new.version, text)
    path.write_text(re.sub(r"(?m)^previous: .*$", f"previous: {before}", text), encoding="utf-8")
    return model


def _copy(new: Release, model: Release) -> None:
    for name in ("catalogues/renamed.yml", "engines/trtllm.yml", "operator/dynamographdeployment.yml"):
        source, target = model.path / name, new.path / name
        if source.exists() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def pinned_engines(packages: Path, names: list[str]) -> dict[str, str]:
    """Return the versions of engines that an installed ai-dynamo asks for."""
    (metadata,) = packages.glob("ai_dynamo-*.dist-info/METADATA")
    text = metadata.read_text(encoding="utf-8")
    found = {}
    for name in names:
        pin = re.search(rf"(?m)^Requires-Dist: {name}(?:\[.*?\])?==([^;\s]+)", text)
        if pin is None:
            raise SystemExit(f"{metadata} pins no {name}")
        found[name] = pin[1]
    return found


def with_engines(text: str, engines: dict[str, str]) -> str:
    """Return release.yml with other versions of engines."""
    rows = "".join(f"  {name}: {version}\n" for name, version in engines.items())
    return re.sub(r"(?m)^engines:\n(?:  .*\n)+", f"engines:\n{rows}", text)


def _write_engines(new: Release) -> None:
    packages = site_packages(environment(new, "ai-dynamo-sglang"))
    path, names = new.path / "release.yml", list(new.read()["engines"])
    text = with_engines(path.read_text(encoding="utf-8"), pinned_engines(packages, names))
    path.write_text(text, encoding="utf-8")


def add(version: str) -> None:
    """Do all that a program can, telling each step, then say what is left."""
    new = Release(version)
    model = _begin(new)
    _copy(new, model)
    print(f"{new.path.relative_to(ROOT)}: after {model.version}", flush=True)
    print("lock files", flush=True)
    make_locks(new)
    print("packages, 10 GB below .cache/releases", flush=True)
    _write_engines(new)
    for title, step in STEPS:
        print(title, flush=True)
        step(new)
    for problem in problems(new):
        print(f"catalogues/renamed.yml: {problem}")
    print(BY_HAND.format(version=version, model=model.version, trtllm=new.read()["engines"]["tensorrt-llm"]))
