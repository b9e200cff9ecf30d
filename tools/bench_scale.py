"""How long plan and render take for 16 + 16 to 128 + 128 hosts, through the command and in Python alone.

usage: bench_scale.py [ROUNDS]

The inventories are the repository's own with more hosts in their pools; nothing is contacted. The cost of a
host is the slope between two sizes; with a cost linear in hosts, all slopes are the same. First come the
inventories as they are, with either engine.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from wideep.plan import make_plan
from wideep.render import render, table

ROOT = Path(__file__).resolve().parents[1]
SIZES = (16, 32, 64, 128)
SHIPPED = ("sglang_single_node", "deepseek_r1_sglang", "deepseek_r1_trtllm")
SHIPPED_LIMIT_S = 3.0
ENGINES = {"sglang": "deepseek_r1_sglang", "trtllm": "deepseek_r1_trtllm_h100"}
LIMIT_S = 10.0


def inventory(engine: str, each: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return hosts.yml (with `each` prefill and as many decode hosts) and the shared variables."""
    name = ENGINES[engine]
    shared = yaml.safe_load((ROOT / "inventories" / name / "group_vars" / "all.yml").read_text())
    pools = {}
    for network, pool in enumerate(("prefill", "decode"), 1):
        addresses = {f"{pool}{n:03}.example.com": f"10.{network}.0.{n}" for n in range(1, each + 1)}
        pools[pool] = {"hosts": {name: {"ansible_host": address} for name, address in addresses.items()}}
    control = {"hosts": {"control001.example.com": {"ansible_host": "10.0.0.1"}}}
    return {"all": {"children": {"control": control, "frontend": control, **pools}}}, shared


def in_python(tree: dict[str, Any], shared: dict[str, Any], directory: Path) -> tuple[float, float]:
    """Return the seconds of plan (with its table) and of render, without Ansible."""
    children = tree["all"]["children"]
    groups = {name: list(group["hosts"]) for name, group in children.items()}
    hosts = {host: {**shared, **own} for group in children.values() for host, own in group["hosts"].items()}
    begin = time.perf_counter()
    plan = make_plan(groups, hosts)
    table(plan)
    planned = time.perf_counter()
    render(make_plan(groups, hosts), directory)
    return planned - begin, time.perf_counter() - planned


def by_command(verb: str, folder: Path, *options: str) -> float:
    """Return the seconds of `wideep VERB`."""
    command = [str(Path(sys.executable).with_name("wideep")), verb, "-i", str(folder), *options]
    begin = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.monotonic() - begin


def shipped(rounds: int, out: Path) -> None:
    """Render the repository's inventories with either engine."""
    print("inventory            engine   render")
    for name in SHIPPED:
        for engine in ENGINES:
            # The single node uses `venv`, which cannot install TensorRT-LLM.
            runtime = ("-e", "wideep_runtime=container") if engine == "trtllm" else ()
            options = ("-e", f"wideep_engine={engine}", *runtime, "--output-dir", str(out))
            took = min(by_command("render", ROOT / "inventories" / name, *options) for _ in range(rounds))
            print(f"{name:20} {engine:7} {took:6.2f} s{'  TOO SLOW' if took > SHIPPED_LIMIT_S else ''}")


def measure(each: int, engine: str, base: Path) -> tuple[float, float, float, float]:
    """Return the seconds of plan and render, by the command and in Python."""
    (base / "group_vars").mkdir(parents=True)
    tree, shared = inventory(engine, each)
    (base / "hosts.yml").write_text(yaml.safe_dump(tree))
    (base / "group_vars" / "all.yml").write_text(yaml.safe_dump(shared))
    plan, render = by_command("plan", base), by_command("render", base, "--output-dir", str(base / "out"))
    return plan, render, *in_python(tree, shared, base / "alone")


def main(rounds: int) -> None:
    """Measure and print; the sizes take turns, and the fastest of the rounds counts."""
    print(f"fastest of {rounds} rounds, seconds")
    rows: dict[tuple[str, int], list[tuple[float, ...]]] = {}
    with tempfile.TemporaryDirectory() as directory:
        shipped(rounds, Path(directory) / "shipped")
        for number in range(rounds):
            for engine in ENGINES:
                for each in SIZES:
                    base = Path(directory) / f"{number}-{engine}-{each}"
                    rows.setdefault((engine, each), []).append(measure(each, engine, base))
    best = {key: [min(column) for column in zip(*runs, strict=True)] for key, runs in rows.items()}
    print("\nengine   hosts       plan  render  together   in Python: plan  render")
    for (engine, each), (plan, rendered, alone_plan, alone_render) in best.items():
        print(
            f"{engine:7}  {each:3} + {each:<3}  {plan:5.2f}   {rendered:5.2f}     {plan + rendered:5.2f}"
            f"              {alone_plan:5.3f}   {alone_render:5.3f}"
        )
    print()
    for engine in ENGINES:
        for what, columns in (("by the command", (0, 1)), ("in Python", (2, 3))):
            took = [sum(best[engine, each][column] for column in columns) for each in SIZES]
            slopes = [
                1000 * (took[n + 1] - took[n]) / (2 * (SIZES[n + 1] - SIZES[n])) for n in range(len(took) - 1)
            ]
            print(f"{engine}, {what}: milliseconds a host " + ", ".join(f"{slope:.1f}" for slope in slopes))
    slowest = max(plan + render for (_, each), (plan, render, *_) in best.items() if each <= 64)
    if slowest > LIMIT_S:
        raise SystemExit(f"plan and render of 64 + 64 hosts took {slowest:.1f} s, more than {LIMIT_S:g}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
