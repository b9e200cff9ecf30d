"""Engine options as an operator writes them, under `wideep_pools.<pool>.options`.

What engines share has one name here, so that `wideep_engine` alone switches between them. An engine's own
options stand beside these, or in a section of the engine's name, which other engines skip:

    options:
      data_parallel_size: 32
      sglang: {mem_fraction_static: 0.85}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wideep.deployment.model import Pool
from wideep.inventory.wording import explain
from wideep.problems import Problem, suggest

# An engine is a package beside this file, and its section has the package's name.
SECTIONS = frozenset(found.name for found in iter_modules([str(Path(__file__).parent)]) if found.ispkg)


class CommonOptions(BaseModel):
    """Options of every engine. What is unset follows from the pool's GPUs, its role and the model."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    tensor_parallel_size: int | None = Field(
        default=None, ge=1, description="GPUs that divide each layer; unset, all of a replica."
    )
    data_parallel_size: int | None = Field(
        default=None,
        ge=1,
        description="Attention replicas within it (with C(dp_attention), they divide the same GPUs).",
    )
    expert_parallel_size: int | None = Field(
        default=None, ge=1, description="GPUs that the experts are spread over."
    )
    dp_attention: bool | None = Field(
        default=None, description="Whether attention is divided by data, each part with sequences of its own."
    )
    page_size: int | None = Field(default=None, ge=1, description="Tokens of a KV block.")
    kv_cache_dtype: Literal["auto", "bf16", "fp8"] = Field(
        default="auto", description="Type of the KV cache's numbers; V(auto) is the model's own."
    )
    context_length: int | None = Field(default=None, ge=1, description="Longest sequence, in tokens.")
    cuda_graph_max_bs: int | None = Field(
        default=None,
        ge=1,
        description="Largest batch of one rank for which a CUDA graph is captured, in sequences.",
    )
    load_format: Literal["auto", "dummy"] = Field(
        default="auto", description="V(dummy) makes random weights instead of reading the model's."
    )
    trust_remote_code: bool = Field(
        default=False, description="Whether Python code of the model directory is run."
    )


Options = TypeVar("Options", bound=CommonOptions)


def parse_options(pool: Pool, engine: str, kind: type[Options]) -> tuple[Options, list[Problem]]:
    """Return a pool's options for one engine, and what is wrong with them (then without the wrong ones)."""
    where = f"wideep_pools.{pool.name}.options"
    shared = {k: v for k, v in pool.settings.options.items() if k not in SECTIONS}
    section = pool.settings.options.get(engine) or {}
    if not isinstance(section, Mapping):
        remedy = f"write {engine}: {{option: value}}"
        return kind(), [Problem("the section is not a mapping", f"{where}.{engine}", remedy)]
    values: dict[str, Any] = {**shared, **section}
    try:
        return kind.model_validate(values), []
    except ValidationError as error:
        problems, wrong = [], set()
        for item in error.errors():
            name = str(item["loc"][0])
            wrong.add(name)
            place = f"{where}.{engine}.{name}" if name in section else f"{where}.{name}"
            if item["type"] == "extra_forbidden":
                problems.append(
                    Problem(f"unknown option of {engine}", place, suggest(name, kind.model_fields))
                )
            else:
                message, wanted = explain(item)
                problems.append(Problem(message, place, wanted or f"correct {name}"))
        return kind.model_validate({k: v for k, v in values.items() if k not in wrong}), problems
