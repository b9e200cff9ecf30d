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
from wideep.inventory.settings import PoolSettings
from wideep.problems import Problem, suggest
from wideep.wording import HOST_FILE, explain

# An engine is a package beside this file, and its section has the package's name.
SECTIONS = frozenset(found.name for found in iter_modules([str(Path(__file__).parent)]) if found.ispkg)
# What drafts, in words of ours; each engine knows some of them, by names of its own.
SpeculativeAlgorithm = Literal[
    "mtp", "frozen_kv_mtp", "eagle", "eagle3", "dflash", "dspark", "uno", "draft", "ngram"
]


class Speculative(BaseModel):
    """`speculative`: tokens that are drafted cheaply, and verified by the model in one step."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    algorithm: SpeculativeAlgorithm = Field(
        description="Who drafts. V(mtp), the model's own layers for it; V(eagle), V(eagle3) and V(dflash), a"
        " head in C(draft_model); V(draft), a small model there; V(ngram), what was read before."
    )
    steps: int | None = Field(
        default=None, ge=1, description="Tokens drafted one after the other; unset, the engine chooses."
    )
    draft_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Tokens of a sequence that one step verifies; unset, C(steps) + 1 where drafts do not"
        " branch.",
    )
    topk: int | None = Field(
        default=None, ge=1, description="Branches of each draft; V(1), none. Of SGLang only."
    )
    draft_model: str = Field(
        default="",
        pattern=HOST_FILE,
        description="Directory of the drafting model, where it is none of the model's own layers.",
    )

    @property
    def kind(self) -> str:
        """Return what prefill and decode have to agree on."""
        return "eagle" if self.algorithm == "mtp" else self.algorithm

    @property
    def verified(self) -> int | None:
        """Return the tokens of a sequence in one step; None where the engine chooses."""
        if self.topk in (None, 1) and self.steps:
            return self.steps + 1
        return self.draft_tokens


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
    speculative: Speculative | None = Field(
        default=None, description="Speculative decoding; unset, each step makes one token."
    )
    trust_remote_code: bool = Field(
        default=False, description="Whether Python code of the model directory is run."
    )


Options = TypeVar("Options", bound=CommonOptions)


def _level(name: str, pool: str) -> tuple[str, str] | None:
    """Return what is wrong and the remedy where a key is right, and a level too deep; None of others."""
    if name == "options" or name in SECTIONS:
        return f"'{name}' within the options, a level too deep", "write what is in it one level further up"
    if name in PoolSettings.model_fields:
        return "a key of the pool, and no option of its engine", f"write it as wideep_pools.{pool}.{name}"
    return None


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
            name, *below = map(str, item["loc"])
            wrong.add(name)
            place = ".".join([where, *([engine] if name in section else []), name, *below])
            if item["type"] == "extra_forbidden":
                known = Speculative.model_fields if below else kind.model_fields
                message, remedy = f"unknown option of {engine}", suggest([name, *below][-1], known)
                if not below and (found := _level(name, pool.name)):
                    message, remedy = found
                problems.append(Problem(message, place, remedy))
            else:
                message, wanted = explain(item)
                problems.append(Problem(message, place, wanted or f"correct {name}"))
        return kind.model_validate({k: v for k, v in values.items() if k not in wrong}), problems
