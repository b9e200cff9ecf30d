"""Inventories for tests, in the form that `wideep.plan.make_plan` takes: groups, and variables by host."""

from __future__ import annotations

from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st
from places import REPOSITORY

from wideep.deployment.build import POOLS
from wideep.plan import make_plan
from wideep.problems import Problem, RefusedError, together

GPUS = 8

Groups = dict[str, list[str]]
Hosts = dict[str, dict[str, Any]]


@lru_cache
def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def inventory(name: str, **variables: Any) -> tuple[Groups, Hosts]:
    """Return an inventory of the repository as Ansible hands it over, with variables changed."""
    folder = REPOSITORY / "inventories" / name
    tree, shared = deepcopy((_read(folder / "hosts.yml")["all"], _read(folder / "group_vars" / "all.yml")))
    groups = {group: list(own["hosts"]) for group, own in tree["children"].items()}
    hosts: Hosts = {}
    for part in (tree, *tree["children"].values()):
        for host, own in (part.get("hosts") or {}).items():
            hosts.setdefault(host, {}).update(own or {})
    return groups, {host: {**shared, **own, **variables} for host, own in hosts.items()}


def local(**variables: Any) -> tuple[Groups, Hosts]:
    """Return inventories/local with a state directory of every machine, with variables changed."""
    return inventory("local", **{"wideep_state_dir": "/srv/wideep", **variables})


def cluster(*, control: int = 1, prefill: int = 2, decode: int = 2, **variables: Any) -> tuple[Groups, Hosts]:
    """Return an inventory of remote hosts: control-0 (frontend too), …, prefill-0, …, decode-0, …"""
    groups = {
        "control": [f"control-{n}" for n in range(control)],
        "frontend": ["control-0"],
        "prefill": [f"prefill-{n}" for n in range(prefill)],
        "decode": [f"decode-{n}" for n in range(decode)],
    }
    names = [name for group in ("control", "prefill", "decode") for name in groups[group]]
    hosts = {
        name: {"ansible_host": f"10.0.0.{n}", "wideep_state_dir": "/srv/wideep", **variables}
        for n, name in enumerate(names, 1)
    }
    return groups, hosts


def refusal(groups: Groups, hosts: Hosts) -> list[Problem]:
    """Return the problems for which the plan is refused; each is complete."""
    with pytest.raises(RefusedError) as refused:
        make_plan(groups, hosts)
    check_complete(refused.value)
    return list(refused.value.problems)


def check_complete(refused: RefusedError) -> None:
    """Assert that an operator can act on every problem."""
    assert refused.problems
    for problem in together(refused.problems):
        assert problem.severity == "error"
        for text in (problem.message, problem.where, problem.remedy):
            assert text.strip()
            assert text in str(refused)


@st.composite
def valid(draw: st.DrawFn, *, multi_node: bool, overlap: bool = True) -> tuple[Groups, Hosts]:
    """Draw a deployment of 1 to 40 hosts that must be accepted.

    multi_node: with replicas of several nodes, which the mocker refuses. overlap: hosts may serve two pools.
    """
    count = draw(st.integers(1 if overlap else 2, 40))
    names = [f"node-{n}" for n in range(count)]
    disaggregated = draw(st.booleans())
    pools = ["prefill", "decode"] if disaggregated else ["aggregated"]
    shared = disaggregated and (count == 1 or (overlap and draw(st.booleans())))
    cut = draw(st.integers(1, count - 1)) if disaggregated and not shared else count
    parts = {"prefill": names[:cut], "decode": names if shared else names[cut:], "aggregated": names}
    groups: Groups = {
        "control": names[: draw(st.sampled_from([n for n in (1, 3, 5) if n <= count]))],
        "frontend": names[-draw(st.integers(1, min(3, count))) :],
        "unrelated": names,
    }
    settings: dict[str, Any] = {}
    for pool in pools:
        there = draw(st.permutations(parts[pool]))
        width = draw(st.integers(1, min(4, len(there)))) if multi_node else 1
        per_node = 1 if width > 1 else draw(st.integers(1, 3))
        groups[pool] = there[: width * draw(st.integers(1, len(there) // width))]
        most = GPUS // (2 if shared else 1) // per_node
        settings[pool] = {"nodes_per_replica": width, "replicas_per_node": per_node}
        if shared or draw(st.booleans()):
            settings[pool]["gpus_per_node"] = draw(st.integers(1, most))
    common = {
        "wideep_pools": settings,
        "wideep_gpus_per_node": GPUS,
        "wideep_state_dir": "/srv/wideep",
        "wideep_event_plane": draw(st.sampled_from(["nats", "zmq"])),
        "wideep_port_offset": draw(st.sampled_from([0, 1000, 9000])),
    }
    hosts = {name: {**common, "ansible_host": f"10.0.0.{n}"} for n, name in enumerate(names, 1)}
    if count == 1 and draw(st.booleans()):
        del hosts["node-0"]["ansible_host"]
        hosts["node-0"]["ansible_connection"] = "local"
    return groups, hosts


words = st.one_of(
    st.sampled_from(["", "~", "~nobody-here/x", "/srv/x", "kv", "nats", "sglang", "mocker"]), st.text()
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
POOL_KEYS = [
    "nodes_per_replica",
    "replicas_per_node",
    "gpus_per_node",
    "options",
    "extra_args",
    "env",
    "other",
]
OPTIONS = ["block_size", "data_parallel_size", "kv_blocks", "speedup_ratio", "blocksize"]
FLAGS = ["block-size", "block_size", "num-workers", "endpoint", "--speedup-ratio", "no-such"]
pool_values = st.one_of(
    anything,
    st.integers(-1, 12),
    st.dictionaries(st.sampled_from(OPTIONS + FLAGS), anything | st.integers(0, 99), max_size=3),
)
pools_anything = st.dictionaries(
    st.sampled_from([*POOLS, "dekode"]),
    anything | st.dictionaries(st.sampled_from(POOL_KEYS), pool_values, max_size=3),
    max_size=3,
)
