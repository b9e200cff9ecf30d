"""Runs the test suites, and says at the end what passed, what failed and what was left out.

usage: run_tests.py [SUITE ...]

Without a name: all. Exit status 1 if one failed; with WIDEEP_REQUIRE_ALL=1 (as CI sets) also if one was
left out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = ROOT / ".venv" / "bin"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
KUBE = CACHE / "wideep" / "kube" / "bin"  # as tools/kube/build has it
PYTEST = ("python", "-m", "pytest")


@dataclass(frozen=True)
class Suite:
    """A suite: its commands, and what it needs (a text if the machine lacks it, else nothing)."""

    name: str
    commands: tuple[Sequence[str], ...]
    lacks: Callable[[], str] = lambda: ""


def _lacks_sglang() -> str:
    if os.environ.get("WIDEEP_FIDELITY") == "1" or (ROOT / ".cache" / "sglang" / ".lock").exists():
        return ""
    return "needs SGLang itself, 10 GB of disk: WIDEEP_FIDELITY=1 make test installs it below .cache"


def _lacks_cluster() -> str:
    if os.environ.get("WIDEEP_CLUSTER") == "1" or (KUBE / "kube-apiserver").exists():
        return ""
    return "needs a Kubernetes API server: WIDEEP_CLUSTER=1 make test builds one, once, in ten minutes"


def _lacks_hosts() -> str:
    if os.geteuid() != 0:
        return "needs root"
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    tools = ("podman", "runc", "iptables", "debootstrap", "ssh", "ssh-keygen")
    missing = [tool for tool in tools if not shutil.which(tool, path=path)]
    missing += [tool for tool in ("netavark", "aardvark-dns") if not Path("/usr/lib/podman", tool).exists()]
    if missing:
        return f"needs {', '.join(missing)} (tools/hosts_image names the packages)"
    groups = Path("/sys/fs/cgroup")
    if not any((groups / name).exists() for name in ("unified", "cgroup.controllers")):
        return "needs cgroups of version 2, alone or hybrid"
    return "" if os.access(groups, os.W_OK) else "needs writable cgroups"


SUITES = (
    Suite(
        "lint",
        (
            ("ruff", "check", "."),
            ("ruff", "format", "--check", "."),
            ("mypy",),
            ("yamllint", "--strict", "."),
            ("ansible-lint", "--offline", "-q"),
        ),
    ),
    Suite(
        "unit",
        ((*PYTEST, "tests/unit", "--cov=wideep", "--cov-report=term:skip-covered", "--cov-fail-under=95"),),
    ),
    Suite("fidelity", (("tools/sglang_env",), (*PYTEST, "tests/fidelity")), lacks=_lacks_sglang),
    Suite("integration", ((*PYTEST, "tests/integration"),)),
    Suite("system", ((*PYTEST, "tests/system"),)),
    Suite("cluster", (("tools/kube/build",), (*PYTEST, "tests/cluster")), lacks=_lacks_cluster),
    Suite(
        "molecule-kubernetes",
        (("tools/kube/build",), ("molecule", "test", "--scenario-name", "kubernetes")),
        lacks=_lacks_cluster,
    ),
    Suite("molecule-default", (("molecule", "test", "--scenario-name", "default"),)),
    Suite("molecule-hosts", (("molecule", "test", "--scenario-name", "hosts"),), lacks=_lacks_hosts),
)


def main(names: Sequence[str]) -> int:
    """Run the named suites, or all."""
    known = {suite.name for suite in SUITES}
    if unknown := [n for n in names if n not in known]:
        print(f"unknown suite {', '.join(unknown)}; there are: {', '.join(sorted(known))}", file=sys.stderr)
        return 2
    env = os.environ | {
        "PATH": os.pathsep.join([str(BIN), str(KUBE), os.environ["PATH"]]),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_FORCE_COLOR": "0",
    }
    outcomes: list[tuple[str, str, float]] = []
    for suite in SUITES:
        if names and suite.name not in names:
            continue
        reason = suite.lacks()
        if reason:
            outcomes.append((suite.name, f"left out: {reason}", 0.0))
            continue
        start = time.monotonic()
        failed = ""
        for command in suite.commands:
            print(f"\n=== {suite.name}: {' '.join(command)}", flush=True)
            program = ROOT / command[0] if "/" in command[0] else BIN / command[0]
            code = subprocess.run([str(program), *command[1:]], cwd=ROOT, env=env, check=False).returncode
            if code:
                failed = f"FAILED: {' '.join(command[:2])} ended with {code}"
                if suite.name != "lint":
                    break
        outcomes.append((suite.name, failed or "passed", time.monotonic() - start))
    print("\n=== suites")
    for name, outcome, seconds in outcomes:
        print(f"{name:20} {seconds:6.0f} s  {outcome}")
    bad = any(o.startswith("FAILED") for _, o, _ in outcomes)
    left_out = any(o.startswith("left out") for _, o, _ in outcomes)
    return int(bad or (left_out and os.environ.get("WIDEEP_REQUIRE_ALL") == "1"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
