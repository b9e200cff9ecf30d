"""Runs the test suites, and says at the end what passed, what failed and what was left out.

usage: run_tests.py [SUITE ...]

Without a name: all. Two suites run at once, because most of their time is waiting; each one's output is shown
when it ends, that of a single suite as it comes. WIDEEP_JOBS=1: one after the other. Exit status 1 if one
failed; with WIDEEP_REQUIRE_ALL=1 (as CI sets) also if one was left out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
OLDEST = ROOT / ".cache" / "ansible-oldest"  # as tools/ansible_oldest makes it
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
KUBE = CACHE / "wideep" / "kube" / "bin"  # as tools/kube/build has it
RELEASES = sorted(path.parent.name for path in ROOT.glob("configs/releases/*/release.yml"))
PYTEST = ("python", "-m", "pytest")


@dataclass(frozen=True)
class Suite:
    """A suite: its commands, and what it needs.

    lacks: a text if the machine lacks it, else nothing. uses: what no two suites may use at once. venv: whose
    programs it runs.
    """

    name: str
    commands: tuple[Sequence[str], ...]
    lacks: Callable[[], str] = lambda: ""
    uses: frozenset[str] = frozenset()
    venv: Path = VENV


def _lacks_newest() -> str:
    oldest = (ROOT / "requirements" / "ansible-core-oldest.lock").read_text(encoding="utf-8").split()[0]
    mine = subprocess.run(
        [VENV / "bin" / "python", "-c", "import ansible.release as r; print(r.__version__)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    if oldest != f"ansible-core=={mine}":
        return ""
    return f".venv has the oldest ansible-core, {mine}, itself: later ones need Python 3.12 (make PYTHON=…)"


def _lacks_sglang() -> str:
    installed = (ROOT / ".cache" / "releases" / version / "ai-dynamo-sglang" for version in RELEASES)
    if os.environ.get("WIDEEP_FIDELITY") == "1" or all((path / ".lock").exists() for path in installed):
        return ""
    return "needs SGLang of each release, 13 GB of disk: WIDEEP_FIDELITY=1 make test installs it below .cache"


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


# The longest first, and the linters early: what fails there fails soon.
SUITES = (
    # Some of its tests run containers.
    Suite("system", ((*PYTEST, "tests/system"),), uses=frozenset({"podman"})),
    Suite(
        "lint",
        (
            ("ruff", "check", "."),
            ("ruff", "format", "--check", "."),
            ("mypy",),
            ("lint-imports", "--no-logo", "--no-cache"),
            ("yamllint", "--strict", "."),
            ("ansible-lint", "--offline", "-q"),
            ("tools/sanity",),
        ),
    ),
    Suite(
        "unit",
        ((*PYTEST, "tests/unit", "--cov=wideep", "--cov-report=term:skip-covered", "--cov-fail-under=96"),),
    ),
    Suite(
        "integration",
        (
            (
                *PYTEST,
                "tests/integration",
                "--cov",
                "--cov-config=tests/integration/coverage.ini",
                "--cov-report=term:skip-covered",
                "--cov-fail-under=85",
            ),
        ),
        uses=frozenset({"integration"}),
    ),
    Suite(
        "cluster",
        (
            ("tools/kube/build",),
            (
                *PYTEST,
                "tests/cluster",
                "--cov",
                "--cov-config=tests/cluster/coverage.ini",
                "--cov-report=term:skip-covered",
                "--cov-fail-under=90",
            ),
        ),
        lacks=_lacks_cluster,
        uses=frozenset({"kube"}),
    ),
    Suite(
        "fidelity",
        (*(("tools/sglang_env", v) for v in RELEASES), (*PYTEST, "tests/fidelity")),
        lacks=_lacks_sglang,
        uses=frozenset({"kube"}),
    ),
    Suite(
        "molecule-hosts",
        (("molecule", "test", "--scenario-name", "hosts"),),
        lacks=_lacks_hosts,
        uses=frozenset({"podman", "molecule"}),
    ),
    # The rows of `make proof` that a small machine has time for.
    Suite(
        "proof",
        (
            (
                *("python", "-m", "tools.proof", "--requests", "40", "--streams", "12", "--tokens", "80-160"),
                *("--only", "nothing", "--only", "load balancer changed", "--only", "restarted"),
            ),
        ),
        lacks=_lacks_hosts,
        uses=frozenset({"podman"}),
    ),
    Suite(
        "molecule-kubernetes",
        (("tools/kube/build",), ("molecule", "test", "--scenario-name", "kubernetes")),
        lacks=_lacks_cluster,
        uses=frozenset({"kube", "molecule"}),
    ),
    Suite(
        "molecule-default",
        (("molecule", "test", "--scenario-name", "default"),),
        uses=frozenset({"molecule"}),
    ),
    # What touches Ansible once more with the oldest ansible-core; the others run with the newest.
    Suite(
        "oldest",
        (
            ("tools/ansible_oldest",),
            ("ansible-lint", "--offline", "-q"),
            (*PYTEST, "tests/unit", "tests/integration"),
        ),
        lacks=_lacks_newest,
        uses=frozenset({"integration"}),
        venv=OLDEST,
    ),
    Suite(
        "molecule-oldest",
        (("tools/ansible_oldest",), ("molecule", "test", "--scenario-name", "default")),
        lacks=_lacks_newest,
        uses=frozenset({"molecule"}),
        venv=OLDEST,
    ),
)


@dataclass(frozen=True)
class Outcome:
    """How a suite ended."""

    name: str
    text: str
    seconds: float = 0.0


@dataclass
class Runner:
    """Runs suites, at most `jobs` at once, none beside one that uses the same."""

    jobs: int
    env: dict[str, str]
    waiting: list[Suite]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    in_use: set[str] = field(default_factory=set)
    running: set[str] = field(default_factory=set)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def run(self) -> None:
        """Return when all have ended."""
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self.jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self) -> None:
        while suite := self._next():
            outcome = Outcome(suite.name, "FAILED: the test runner itself")
            try:
                outcome = self._suite(suite)
            finally:
                with self.changed:
                    self.outcomes[suite.name] = outcome
                    self.in_use -= suite.uses
                    self.running.discard(suite.name)
                    self.changed.notify_all()

    def _next(self) -> Suite | None:
        with self.changed:
            while self.waiting:
                for suite in self.waiting:
                    if self.in_use.isdisjoint(suite.uses):
                        self.waiting.remove(suite)
                        self.in_use |= suite.uses
                        self.running.add(suite.name)
                        return suite
                self.changed.wait()
            return None

    def _suite(self, suite: Suite) -> Outcome:
        start, failed = time.monotonic(), ""
        with self._output(suite) as output:
            for command in suite.commands:
                print(f"\n=== {suite.name}: {' '.join(command)}", file=output, flush=True)
                programs = suite.venv / "bin"
                program = ROOT / command[0] if "/" in command[0] else programs / command[0]
                argv = [str(program), *command[1:]]
                env = self.env | {"PATH": os.pathsep.join([str(programs), self.env["PATH"]])}
                code = subprocess.run(
                    argv, cwd=ROOT, env=env, stdout=output, stderr=output, check=False
                ).returncode
                if code:
                    failed = f"FAILED: {' '.join(command[:2])} ended with {code}"
                    if suite.name != "lint":
                        break
        return Outcome(suite.name, failed or "passed", time.monotonic() - start)

    @contextmanager
    def _output(self, suite: Suite) -> Iterator[IO[str]]:
        """Give a suite a place for its output; with others beside it, show that when it has ended."""
        if self.jobs == 1:
            yield sys.stdout
            return
        with self.changed:
            print(f"=== begun: {', '.join(sorted(self.running))}", flush=True)
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
            try:
                yield output
            finally:
                output.seek(0)
                with self.changed:
                    shutil.copyfileobj(output, sys.stdout)
                    sys.stdout.flush()


def main(names: Sequence[str]) -> int:
    """Run the named suites, or all."""
    known = {suite.name for suite in SUITES}
    if unknown := [n for n in names if n not in known]:
        print(f"unknown suite {', '.join(unknown)}; there are: {', '.join(sorted(known))}", file=sys.stderr)
        return 2
    env = os.environ | {
        "PATH": os.pathsep.join([str(KUBE), os.environ["PATH"]]),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_FORCE_COLOR": "0",
    }
    chosen = [suite for suite in SUITES if not names or suite.name in names]
    lacking = {suite.name: reason for suite in chosen if (reason := suite.lacks())}
    waiting = [suite for suite in chosen if suite.name not in lacking]
    jobs = min(int(os.environ.get("WIDEEP_JOBS") or 2), len(waiting))
    runner = Runner(jobs, env, waiting)
    runner.run()
    outcomes = [
        runner.outcomes.get(suite.name) or Outcome(suite.name, f"left out: {lacking[suite.name]}")
        for suite in chosen
    ]
    print("\n=== suites")
    for outcome in outcomes:
        print(f"{outcome.name:20} {outcome.seconds:6.0f} s  {outcome.text}")
    bad = any(outcome.text.startswith("FAILED") for outcome in outcomes)
    return int(bad or (bool(lacking) and os.environ.get("WIDEEP_REQUIRE_ALL") == "1"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
