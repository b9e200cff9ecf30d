"""Model cards: what a model is made of, as far as parallel layout and memory depend on it.

A card (`configs/models/<name>.yml`) repeats the model's own `config.json`. Parameter counts are not written
down anywhere: they are computed from the card, and tests hold the sums to the published totals.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import PurePosixPath
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from wideep.problems import Problem, suggest
from wideep.reference.paths import configs_dir

# Bytes of one weight as the checkpoint stores it; embeddings and the output head stay in 16 bits.
WEIGHT_BYTES = {"bf16": 2.0, "fp8": 1.0, "fp4": 0.5}
HALF = 2
Count = Annotated[int, Field(ge=1)]


class _Card(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Attention(_Card):
    """Attention of every layer. `kind` gqa: heads, kv_heads, head_dim. `kind` mla: the ranks and dims.

    q_lora_rank: none means that queries are not compressed. v_head_dim: mla only.
    """

    kind: Literal["gqa", "mla"]
    heads: Count
    head_dim: Count
    kv_heads: Count = 1
    q_lora_rank: int | None = None
    kv_lora_rank: int = 0
    rope_head_dim: int = 0
    v_head_dim: int = 0


class Experts(_Card):
    """The mixture-of-experts layers. Sizes are of one expert.

    groups: expert groups of the router, which EPLB's hierarchical algorithms keep on one node.
    """

    routed: Count
    shared: int = Field(ge=0)
    per_token: Count
    intermediate_size: Count
    groups: int = Field(default=1, ge=1)


class ModelCard(_Card):
    """One model. All parameter counts are of the main model, without multi-token-prediction layers.

    architecture: the class that serves it, as in `architectures` of its config.json; empty where unknown.
    dense_layers: layers with a plain feed-forward block; all layers when there are no experts.
    weights: type of the linear layers' weights; `block`: rows and columns that share a scale (FP8).
    """

    names: tuple[str, ...]
    source: str
    architecture: str = ""
    weights: Literal["bf16", "fp8", "fp4"]
    block: int = Field(default=1, ge=1)
    layers: Count
    dense_layers: int = Field(ge=0)
    hidden_size: Count
    intermediate_size: Count
    vocabulary: Count
    context_length: Count
    tied_embeddings: bool = False
    attention: Attention
    experts: Experts | None = None

    @property
    def moe_layers(self) -> int:
        """Return the number of layers with experts."""
        return self.layers - self.dense_layers if self.experts else 0

    @property
    def expert_parameters(self) -> int:
        """Return the parameters of one expert in one layer (gate, up and down projection)."""
        return 3 * self.hidden_size * self.experts.intermediate_size if self.experts else 0

    @property
    def routed_parameters(self) -> int:
        """Return the parameters of all routed experts in all layers."""
        return self.moe_layers * self.experts.routed * self.expert_parameters if self.experts else 0

    @property
    def shared_parameters(self) -> int:
        """Return the parameters of the shared experts and of the routers' gates."""
        if self.experts is None:
            return 0
        gate = self.hidden_size * self.experts.routed
        return self.moe_layers * (self.experts.shared * self.expert_parameters + gate)

    @property
    def dense_parameters(self) -> int:
        """Return the parameters of the plain feed-forward blocks."""
        dense = self.dense_layers if self.experts else self.layers
        return dense * 3 * self.hidden_size * self.intermediate_size

    @property
    def attention_parameters(self) -> tuple[int, int]:
        """Return attention's parameters: (what tensor parallelism divides, what every GPU has whole)."""
        a, hidden = self.attention, self.hidden_size
        if a.kind == "gqa":
            return self.layers * hidden * a.head_dim * 2 * (a.heads + a.kv_heads), 0
        queries = a.heads * (a.head_dim + a.rope_head_dim)
        whole = hidden * (a.kv_lora_rank + a.rope_head_dim)
        divided = a.kv_lora_rank * a.heads * (a.head_dim + a.v_head_dim) + a.heads * a.v_head_dim * hidden
        if a.q_lora_rank:
            whole += hidden * a.q_lora_rank
            divided += a.q_lora_rank * queries
        else:
            divided += hidden * queries
        return self.layers * divided, self.layers * whole

    @property
    def embedding_parameters(self) -> int:
        """Return the parameters of the token embedding; an untied output head has as many again."""
        return self.vocabulary * self.hidden_size

    @property
    def parameters(self) -> int:
        """Return the total, without norms and biases (below 0.1 %)."""
        embeddings = self.embedding_parameters * (1 if self.tied_embeddings else 2)
        layers = self.routed_parameters + self.shared_parameters + self.dense_parameters
        return layers + sum(self.attention_parameters) + embeddings

    def kv_values_per_token(self, attention_tp: int) -> int:
        """Return how many numbers one GPU caches for a token, over all layers.

        attention_tp: GPUs that share one sequence's attention. MLA caches one latent vector, which each of
        them holds whole; GQA's key and value heads are divided (one head at least).
        """
        a = self.attention
        if a.kind == "mla":
            return self.layers * (a.kv_lora_rank + a.rope_head_dim)
        return self.layers * 2 * max(1, a.kv_heads // attention_tp) * a.head_dim


@lru_cache(maxsize=1)
def _cards() -> dict[str, ModelCard]:
    paths = sorted((configs_dir() / "models").glob("*.yml"))
    return {p.stem: ModelCard.model_validate(yaml.safe_load(p.read_text(encoding="utf-8"))) for p in paths}


def of_another_model(directory: str, model: str) -> list[Problem]:
    """Return a warning where a model directory has the name of another model that we know."""
    name = PurePosixPath(directory).name
    mine = model.rpartition("/")[2]
    known = {full.rpartition("/")[2] for found in _cards().values() for full in found.names}
    if name == mine or name not in known:
        return []
    return [
        Problem(
            f"the directory has the name of {name}, and {model} would be served from it",
            "wideep_model_path",
            f"name the directory of {mine}, or set wideep_model to what is in this one",
            "warning",
        )
    ]


def find_model(card: str, model: str) -> tuple[ModelCard | None, list[Problem]]:
    """Return the card named `card`, else the one that lists `model`, and what is wrong if there is none."""
    cards = _cards()
    if card:
        if card in cards:
            return cards[card], []
        return None, [Problem(f"there is no model card '{card}'", "wideep_model_card", suggest(card, cards))]
    for found in cards.values():
        if model in found.names:
            return found, []
    return None, [
        Problem(
            f"no model card lists '{model}': its experts and its memory are not checked",
            "wideep_model",
            f"set wideep_model_card to one of {', '.join(cards)}, or add configs/models/<name>.yml",
            "warning",
        )
    ]
