"""Catalogues of flags: what the programs of a release accept.

Each program is asked twice, with another home, working directory, hash seed and processor count: a default
that differs belongs to the machine and is stored as null with `"dynamic": true`.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from release_tool import parsers
from release_tool.folder import Release
from release_tool.locks import environment
from wideep.engines import ENGINES


def ask(python: Path, program: str, run: int) -> dict[str, Any]:
    """Run parsers.py under the release's interpreter, in a clean environment and an empty home."""
    with tempfile.TemporaryDirectory(prefix=f"catalogue-{run}-") as home:
        target = Path(home) / "parsers.json"
        command = [str(python), str(Path(parsers.__file__).resolve()), program, str(run), str(target)]
        env = {"PATH": os.environ["PATH"], "HOME": home, "TMPDIR": home, "HF_HUB_OFFLINE": "1"}
        env["PYTHONHASHSEED"] = str(run)
        done = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, check=False)
        if done.returncode or not target.exists():
            raise SystemExit(
                f"{program}: its parsers could not be read with {python}:\n{done.stderr[-3000:]}"
            )
        found: dict[str, Any] = json.loads(target.read_text())
        return found


def merge(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Keep what does not depend on the machine or on chance (the order of choices from a hash table)."""
    for flag, other in zip(first["flags"], second["flags"], strict=True):
        if flag["default"] != other["default"]:
            flag["default"], flag["dynamic"] = None, True
        if flag.get("choices") != other.get("choices"):
            flag["choices"] = sorted({*flag["choices"], *other["choices"]})
    return first


def text(catalogue: dict[str, Any]) -> str:
    """Return one flag a line, so that a new version shows as a readable difference."""
    head = {key: value for key, value in catalogue.items() if key != "flags"}
    lines = [json.dumps(head, indent=1)[:-2] + ',\n "flags": [']
    lines += [",\n".join("  " + json.dumps(flag, ensure_ascii=False) for flag in catalogue["flags"])]
    return "\n".join([*lines, " ]\n}\n"])


def make_catalogues(release: Release) -> list[Path]:
    """Ask each program of a release and write its catalogue. Raises SystemExit where versions differ."""
    python, pinned, made = environment(release, "ai-dynamo-sglang"), release.read(), []
    release.catalogues.mkdir(parents=True, exist_ok=True)
    for program in ("dynamo.frontend", *(engine.program for engine in ENGINES.values())):
        found = merge(ask(python, program, 1), ask(python, program, 2))
        for name, version in {"dynamo": found["version"], **found.get("engine", {})}.items():
            if version != ({"dynamo": pinned["dynamo"]} | pinned["engines"])[name]:
                raise SystemExit(f"{program} is of {name} {version}, release.yml says otherwise: correct it")
        path = release.catalogues / f"{program}.json"
        path.write_text(text(found), encoding="utf-8")
        made.append(path)
    return made
