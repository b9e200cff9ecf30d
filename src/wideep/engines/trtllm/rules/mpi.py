"""Several hosts: one MPI world."""

from __future__ import annotations

from collections.abc import Iterator

from wideep.deployment.model import Deployment, Host
from wideep.engines.trtllm.options import Case
from wideep.engines.trtllm.rules.registry import rule
from wideep.problems import Problem

# trtllm-llmapi-launch hands its words to the shell without quotes.
SHELL_SPECIAL = frozenset(" \t\n*?[")
# What it names in TMPDIR (a UUID follows), and what a socket's address can have.
SOCKET_NAME, LONGEST_SOCKET = "rpc_test_" + 36 * "x", 107


def _differs(a: Host, b: Host, *, existing: bool) -> dict[str, tuple[str, str]]:
    """Return variable -> the two values, where mpirun would need other words for another host."""
    pairs = {
        "wideep_interface": (a.interface, b.interface),
        "wideep_state_dir": (a.state_dir, b.state_dir),
    }
    if existing:
        pairs["wideep_python"] = (a.python, b.python)
    return {variable: pair for variable, pair in pairs.items() if pair[0] != pair[1]}


@rule
def one_command(case: Case) -> Iterator[Problem]:
    """Mpirun starts one command on all hosts, in one directory, over one interface's name."""
    for replica in case.pool.replicas:
        for node in replica.nodes[1:]:
            found = _differs(replica.head.host, node.host, existing=case.settings.runtime == "existing")
            for variable, (here, there) in found.items():
                yield Problem(
                    f"differs from {replica.head.host.name}, the head of {replica.name} ({here} and {there}):"
                    " mpirun gives all hosts of a replica the same",
                    f"{variable} on host {node.host.name}",
                    "make the hosts of a replica alike, or use wideep_engine: sglang",
                )


@rule
def launcher_words(case: Case) -> Iterator[Problem]:
    """trtllm-llmapi-launch lets the shell split and expand what it is given."""
    if not case.spans_hosts:
        return
    words = {"wideep_model_path": case.settings.model_path}
    words |= {f"wideep_pools.{case.role}.extra_args.{k}": str(v) for k, v in case.extra.items()}
    for where, word in words.items():
        if SHELL_SPECIAL & set(word):
            yield Problem(
                f"{word!r} would be split or expanded by the shell of trtllm-llmapi-launch",
                where,
                "use a value without spaces and *, ? or [",
            )


@rule
def launcher_socket(case: Case) -> Iterator[Problem]:
    """Rank 0 meets its worker at a socket among temporary files; a longer path cannot be bound."""
    if not case.spans_hosts or case.settings.on_kubernetes:
        return
    for host in dict.fromkeys(replica.head.host for replica in case.pool.replicas):
        longest = LONGEST_SOCKET - len(f"/tmp/{SOCKET_NAME}")  # noqa: S108 - below the state directory
        if len(host.state_dir) > longest:
            yield Problem(
                f"the socket of trtllm-llmapi-launch would have a path longer than {LONGEST_SOCKET} bytes",
                f"wideep_state_dir on host {host.name}",
                f"use a directory whose path has {longest} characters at most",
            )


def one_mpirun(deployment: Deployment) -> Iterator[Problem]:
    """Open MPI names what it shares by host and process number, and each container counts from 1."""
    if not deployment.settings.in_container:
        return
    for host, own in deployment.workers_of.items():
        shared = [replica for replica, _ in own if len(replica.nodes) > 1]
        if len(shared) > 1:
            yield Problem(
                f"{len(shared)} replicas of several hosts have a part here: in containers their MPI processes"
                " get the same numbers, and so the same names in the host's shared memory",
                f"wideep_runtime, for host {host}",
                "give each replica hosts of its own, or set wideep_runtime: existing",
            )
