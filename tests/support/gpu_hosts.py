"""Hosts made from tests/unit/recordings: a tree of files, and programs on PATH that print what is there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.wideep.dynamo.plugins.module_utils import gpu_facts
from places import REPOSITORY

from wideep.preflight.gpu_model import GpuFacts
from wideep.preflight.model import read_facts

if TYPE_CHECKING:
    import pytest

RECORDINGS = REPOSITORY / "tests" / "unit" / "recordings"
SYSTEMS = sorted(path.parent.name for path in RECORDINGS.glob("*/tree.txt"))
# A file with the ending .rc has the exit status.
NVIDIA_SMI = """#!/bin/sh
case "$*" in
  "-q -x") name=nvidia-smi-q-x.xml ;;
  "topo -m") name=nvidia-smi-topo-m.txt ;;
  "nvlink -s") name=nvidia-smi-nvlink-s.txt ;;
  *) echo "not recorded: $*" >&2; exit 2 ;;
esac
cat "{folder}/$name" || exit 2
exit $(cat "{folder}/${{name%.*}}.rc" 2>/dev/null || echo 0)
"""
SYSTEMCTL = """#!/bin/sh
for last; do :; done
cat "{folder}/systemctl-${{last%.service}}.txt" 2>/dev/null || exit 1
"""
FABRIC_MANAGER = """#!/bin/sh
cat "{folder}/nv-fabricmanager--version.txt" 2>/dev/null
"""


def make_host(system: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the root of a host like the recorded one; its programs come first on PATH."""
    folder = RECORDINGS / system
    root, programs = place / "root", place / "bin"
    for line in (folder / "tree.txt").read_text().splitlines():
        # Names of PCI devices have colons too: the text begins after the first colon of the last part.
        head, _, last = line.rpartition("/") if line.startswith("sys/bus/pci") else ("", "", line)
        name, _, text = last.partition(":")
        path = root / head / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(f"{text}\n" if text else "")
    (root / "dev/shm").mkdir(parents=True, exist_ok=True)
    programs.mkdir()
    for name, script in (
        ("nvidia-smi", NVIDIA_SMI),
        ("systemctl", SYSTEMCTL),
        ("nv-fabricmanager", FABRIC_MANAGER),
        # Not those of the machine that tests run on.
        ("ibstat", "#!/bin/sh\nexit 127\n"),
        ("dcgmi", "#!/bin/sh\nexit 127\n"),
    ):
        (programs / name).write_text(script.format(folder=folder))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return root


def replace_tool(place: Path, name: str, recording: str) -> None:
    """Let a program of `make_host` say what is in a recording, and exit as it did."""
    file = RECORDINGS / recording
    code = file.with_suffix(".rc")
    status = code.read_text().strip() if code.is_file() else "0"
    (place / "bin" / name).write_text(f"#!/bin/sh\ncat '{file}'\nexit {status}\n")


def gather(system: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what the module gathers on such a host."""
    return gpu_facts.gather(make_host(system, place, monkeypatch))


def typed(facts: dict[str, Any]) -> GpuFacts:
    """Return the facts as the judge sees them."""
    whole = read_facts(
        {
            **{"user": "ops", "root": False, "pythons": [], "listeners": [], "clock": {"time": 0}},
            "memory": {"total": 1, "available": 1},
            "limits": {},
            "ephemeral": {"first": 1, "last": 2},
            "gpu": facts,
        }
    )
    assert whole.gpu is not None
    return whole.gpu
