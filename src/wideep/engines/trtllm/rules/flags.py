"""One way to say each thing: flags, fields and variables that follow from the plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from wideep.engines import rules as shared
from wideep.engines.trtllm.options import Case
from wideep.engines.trtllm.rules.registry import (
    ALSO_FIELDS,
    FIELDS,
    OPTION_OF,
    OWNED,
    OWNED_FIELDS,
    SECTIONS,
    rule,
)
from wideep.problems import Problem

# Environment variables that once chose what wideep_kv_transfer chooses.
OLD_TRANSFER = tuple(f"TRTLLM_USE_{name}_KVCACHE" for name in ("NIXL", "UCX", "MOONCAKE", "MPI"))


@rule
def flags_of_the_plan(case: Case) -> Iterator[Problem]:
    """The engine's YAML wins over flags silently; addresses and roles follow from the inventory."""
    yield from shared.flags_of_the_plan(case, OWNED, OPTION_OF)


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in tree.items():
        path = f"{above}{key}"
        yield path
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}.")


@rule
def fields_of_the_plan(case: Case) -> Iterator[Problem]:
    """`engine_args` is for what no option has: two values for one field would be one too many."""
    for path in _leaves(case.options.engine_args):
        where = f"{case.at('engine_args')}.{path}"
        if path in SECTIONS:
            if not isinstance(case.options.engine_args[path], Mapping):
                yield Problem(
                    f"{path} is no mapping: it would take the place of all fields of it that the plan sets",
                    where,
                    "set cuda_graphs: false instead"
                    if path == "cuda_graph_config"
                    else "remove it, or write {field: value} for further fields",
                )
        elif path in ALSO_FIELDS and ALSO_FIELDS[path] in case.given:
            yield Problem(
                f"{path} is what the option {ALSO_FIELDS[path]} decides, which is set, too",
                where,
                f"keep {case.at(ALSO_FIELDS[path])}, or this",
            )
        elif path in FIELDS:
            yield Problem(
                f"{path} has an option of its own, which rules can check",
                where,
                f"set {case.at(FIELDS[path])} instead",
            )
        elif path in OWNED_FIELDS:
            yield Problem(
                f"{path} is decided by {OWNED_FIELDS[path]}", where, "remove it here and set that instead"
            )


@rule
def transfer_variables(case: Case) -> Iterator[Problem]:
    """The YAML names the backend; the old switches do nothing, or another thing than it says."""
    for name in OLD_TRANSFER:
        if name in case.pool.settings.env:
            yield Problem(
                f"{name} is superseded by the engine's YAML, which names the backend",
                f"wideep_pools.{case.role}.env.{name}",
                "remove it and set wideep_kv_transfer",
            )


@rule
def package(case: Case) -> Iterator[Problem]:
    """There is no lock file to install it from."""
    if case.settings.in_venv:
        yield Problem(
            "this release has no lock file for TensorRT-LLM: wideep_runtime venv cannot install it",
            "wideep_runtime",
            "set wideep_runtime: container; or existing, and wideep_python to a Python that has TensorRT-LLM",
        )
