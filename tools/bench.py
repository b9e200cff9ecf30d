"""How long a run that changes nothing takes, against playbooks of as many tasks that do nothing.

usage: bench.py [ROUNDS]

Needs a deployment: `make up` first. The playbooks run in turns, and the ratios of their medians are printed,
since seconds differ from machine to machine. Two playbooks are compared with:

- as many tasks, each a `ping` of the host;
- like for like: a `ping` for a task that runs Python on the host, an `assert` for one of the controller alone
  (assertions, includes, the plan, the report).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from wideep import runner

ROOT = Path(__file__).resolve().parents[1]
INVENTORY = ROOT / "inventories" / "local"
# Actions that the controller does alone; all others start Python on the host.
ON_CONTROLLER = {
    "assert",
    "validate_argument_spec",
    "include_role",
    "include_tasks",
    "plan",
    "report",
    "summary",
}


def tasks_of(result: runner.Result) -> list[tuple[str, str]]:
    """Return (play, action) of every task that ran."""
    found = []
    for event in result.events:
        if event.get("event") == "runner_on_ok":
            data: dict[str, Any] = event["event_data"]
            found.append((data["play"], data["task_action"].rpartition(".")[2]))
    return found


def bare(tasks: list[tuple[str, str]], *, pings_only: bool) -> str:
    """Return a playbook of as many tasks that do nothing."""
    plays: list[dict[str, Any]] = []
    for play, action in tasks:
        if not plays or plays[-1]["name"] != play:
            plays.append({"name": play, "hosts": "localhost", "gather_facts": False, "tasks": []})
        if action in ON_CONTROLLER and not pings_only:
            plays[-1]["tasks"].append(
                {"name": action, "ansible.builtin.assert": {"that": "true", "quiet": True}}
            )
        else:
            plays[-1]["tasks"].append({"name": action, "ansible.builtin.ping": {}})
    return yaml.safe_dump(plays, sort_keys=False)


def seconds(playbook: Path) -> float:
    """Return how long ansible-playbook takes for a playbook that has to change nothing."""
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(INVENTORY), str(playbook)]
    env = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    start = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode or "changed=0" not in done.stdout:
        raise SystemExit(f"{playbook.name} did not run without a change:\n{done.stdout[-2000:]}{done.stderr}")
    return time.monotonic() - start


def main(rounds: int) -> None:
    """Compare and print."""
    result = runner.run("site", INVENTORY)
    if result.status != "successful" or result.stats["localhost"].changed:
        raise SystemExit("there is no deployment that needs no change; run `make up` first")
    tasks = tasks_of(result)
    on_host = sum(action not in ON_CONTROLLER for _, action in tasks)
    with tempfile.TemporaryDirectory() as directory:
        playbooks = [ROOT / "playbooks" / "site.yml"]
        for name, pings_only in (("pings", True), ("like-for-like", False)):
            playbooks.append(Path(directory) / f"{name}.yml")
            playbooks[-1].write_text(bare(tasks, pings_only=pings_only))
        runs = [[seconds(playbook) for playbook in playbooks] for _ in range(rounds)]
    site, pings, alike = (statistics.median(column) for column in zip(*runs, strict=True))
    print(f"{len(tasks)} tasks, {on_host} of them on the host; median of {rounds} rounds, in turns")
    print(f"second `make up`                {site:5.1f} s")
    print(f"as many pings                   {pings:5.1f} s   ratio {site / pings:.2f}")
    print(f"like for like ({on_host:2} pings)        {alike:5.1f} s   ratio {site / alike:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
