"""Wrong inventories through `ansible-playbook playbooks/site.yml`: what is said, and that nothing is touched.

Their hosts have example addresses. An SSH client of ours stands in the real one's place and leaves a trace
when it is called; a right inventory shows that it is.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from wideep import runner
from wideep.problems import Problem, together
from wrong_inventories import Wrong, read

WRONG = read()


@dataclass(frozen=True)
class Trial:
    """A run on a wrong inventory, and where it would have left something."""

    result: runner.Result
    calls: Path
    state: Path


def attempt(case: Wrong, base: Path, verb: str) -> Trial:
    """Write the inventory below `base` and run a verb on it."""
    base.mkdir()
    calls, state, client = base / "calls", base / "state", base / "ssh"
    client.write_text(f'#!/bin/sh\necho "$*" >> {calls}\nexit 255\n')
    client.chmod(0o755)
    variables = {"wideep_state_dir": str(state), "ansible_ssh_executable": str(client)}
    folder = case.write(base / "inventory", variables)
    return Trial(runner.run(verb, folder), calls, state)


@pytest.fixture(scope="session")
def base() -> Iterator[Path]:
    """A directory with a short path: a state directory with a long one is refused."""
    path = Path(tempfile.mkdtemp(prefix="wideep-wrong-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def trials(request: pytest.FixtureRequest, base: Path) -> dict[str, Trial]:
    """Run those that were selected, some at a time; name -> trial."""
    specs = [getattr(item, "callspec", None) for item in request.session.items]
    chosen = [spec.params["case"] for spec in specs if spec and isinstance(spec.params.get("case"), Wrong)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        runs: dict[str, Future[Trial]] = {
            case.name: pool.submit(attempt, case, base / str(number), "site")
            for number, case in enumerate(chosen)
        }
    return {name: run.result() for name, run in runs.items()}


def test_there_are_enough_and_each_is_named_once() -> None:
    names = [case.name for case in WRONG]
    assert len(names) == len(set(names))
    assert len(names) >= 25


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case.name)
def test_it_is_refused_and_nothing_is_touched(case: Wrong, trials: dict[str, Trial]) -> None:
    trial = trials[case.name]
    [failure] = trial.result.failures
    assert failure.refused, failure.message
    found = failure.details["problems"]
    shown = "\n".join(f"{p['where']}: {p['message']}; {p['remedy']}" for p in found)
    assert len(found) == len(case.refused), shown
    for expected in case.refused:
        assert any(
            expected["where"] in p["where"]
            and expected["says"] in p["message"]
            and expected["fix"] in p["remedy"]
            for p in found
        ), f"{expected} is not among:\n{shown}"
    told = together(Problem(p["message"], p["where"], p["remedy"]) for p in found)
    assert failure.message.startswith(f"nothing was changed: {len(told)} problem")
    assert all(stats.changed == stats.unreachable == 0 for stats in trial.result.stats.values())
    assert not trial.calls.exists(), "a host was contacted"
    assert not trial.state.exists(), "something was written"


def test_a_right_inventory_contacts_its_hosts(base: Path) -> None:
    trial = attempt(Wrong("right", "deepseek_r1_sglang", []), base / "right", "preflight")
    assert [failure.unreachable for failure in trial.result.failures] == [True] * 9, trial.result.failures
    assert len(trial.calls.read_text().splitlines()) >= 9
