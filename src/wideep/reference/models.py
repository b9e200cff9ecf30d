"""Model cards: what a model is made of, as far as parallel layout and memory depend on it.

A card (`configs/models/<name>.yml`, or an operator's own: `wideep.reference.cards`) repeats the model's own
`config.json`. Parameter counts are not written down anywhere: they are computed from the card, and tests hold
the sums to the published totals.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from wideep.problems import Problem
from wideep.reference.cards import Shelf

HALF = 2
Count = Annotated[int, Field(ge=1)]
Amount = Annotated[int, Field(ge=0)]
# How weights are stored. fp8: 8-bit floats, scales per channel or tensor, or unsaid; fp4: 4 bits, unsaid how.
Format = Literal[
    "bf16", "fp8", "fp8-block", "fp8-channel", "fp8-tensor", "mxfp8", "int8", "int4", "w4afp8", "fp4",
    "nvfp4", "mxfp4",
]  # fmt: skip
Part = Literal["experts", "shared", "dense", "attention", "output", "linear", "embedding", "head", "draft"]
PARTS: tuple[Part, ...] = get_args(Part)
FORMATS: tuple[Format, ...] = get_args(Format)
# Parts whose format is that of another one, unless the card says otherwise.
LIKE: dict[Part, Part] = {"shared": "dense", "output": "attention", "linear": "attention"}
# Bytes of a weight without its scales.
WIDTH: dict[str, float] = {
    "bf16": 2.0,
    **dict.fromkeys(("fp8", "fp8-block", "fp8-channel", "fp8-tensor", "mxfp8", "int8"), 1.0),
    **dict.fromkeys(("int4", "w4afp8", "fp4", "nvfp4", "mxfp4"), 0.5),
}
# (bytes of a scale, weights that share it). One for each row or tensor is below 0.1 %. An operator's `fp4`,
# of which nobody knows more, counts as NVFP4. INT4 as compressed-tensors packs it: a 16-bit scale.
SCALES: dict[Format, tuple[int, int]] = {
    "fp8-block": (4, 128 * 128),
    "mxfp8": (1, 32),
    "int4": (2, 32),
    "w4afp8": (2, 128),
    "fp4": (1, 16),
    "nvfp4": (1, 16),
    "mxfp4": (1, 32),
}
# Bytes that the scales of a sparse attention's index cache take beside its 8-bit keys: 4 for 128.
INDEX_SCALE = 4 / 128


class _Card(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Formats(_Card):
    """How each part's weights are stored, where that is not the same in all of them."""

    experts: Format | None = Field(default=None, description="Routed experts.")
    shared: Format | None = Field(default=None, description="Shared experts; unset, as C(dense).")
    dense: Format | None = Field(default=None, description="Plain feed-forward blocks.")
    attention: Format | None = Field(default=None, description="Attention.")
    output: Format | None = Field(
        default=None, description="Attention's output projection; unset, as C(attention)."
    )
    linear: Format | None = Field(
        default=None, description="Layers with a state instead of a KV cache; unset, as C(attention)."
    )
    embedding: Format | None = Field(default=None, description="Token embedding; unset, 16 bits.")
    head: Format | None = Field(default=None, description="Output head; unset, 16 bits.")
    draft: Format | None = Field(
        default=None, description="All of the draft layers; unset, as in the main layers."
    )


class Window(_Card):
    """Layers that look back over a window only. Unset sizes are those of the other layers."""

    tokens: Count = Field(description="Tokens that such a layer looks back over.")
    layers: Count = Field(description="How many layers do.")
    heads: Count | None = Field(default=None, description="Query heads of such a layer.")
    kv_heads: Count | None = Field(default=None, description="Key and value heads of such a layer.")
    head_dim: Count | None = Field(default=None, description="Size of a head in such a layer.")
    v_head_dim: Count | None = Field(default=None, description="Size of a value in such a layer.")


class Compressed(_Card):
    """Layers that keep one entry for several tokens (DeepSeek-V4), besides a short window."""

    every: Count = Field(description="Tokens that share an entry.")
    layers: Count = Field(description="How many layers do.")
    window: Amount = Field(default=0, description="Latest tokens that are kept whole beside.")


class Linear(_Card):
    """Layers with a state of constant size instead of a KV cache (linear attention, Mamba)."""

    layers: Count = Field(description="How many layers have one.")
    parameters: Count = Field(description="Weights of one such layer.")
    state_bytes: Count = Field(
        description="Bytes of one sequence's state in one layer, on all GPUs together."
    )


class Index(_Card):
    """Sparse attention: an index picks the tokens that a layer looks at. It has a cache of its own."""

    layers: Count = Field(description="How many layers have an index.")
    heads: Count = Field(description="Heads of the index.")
    head_dim: Count = Field(description="Size of such a head, and of the key that is cached for each token.")
    tokens: Count = Field(description="Tokens that are picked.")
    every: Count = Field(default=1, description="Tokens that share a cached key.")


class Totals(_Card):
    """Weights of attention in all layers together, where the sizes above do not tell them."""

    divided: Amount = Field(description="What tensor parallelism divides.")
    whole: Amount = Field(description="What every GPU has whole.")


class Attention(_Card):
    """Attention of the layers. Sizes of C(gqa) are heads, of C(mla) ranks of compressed keys and values."""

    kind: Literal["gqa", "mla"] = Field(
        description="C(gqa) caches keys and values of heads, C(mla) one latent vector for a token."
    )
    heads: Count = Field(description="Query heads of a layer.")
    head_dim: Count = Field(description="Size of a head; for C(mla) without its rotary part.")
    kv_heads: Count = Field(default=1, description="Key and value heads, for C(gqa).")
    v_head_dim: Amount = Field(default=0, description="Size of a value; for C(gqa) unset, that of a head.")
    gated: bool = Field(
        default=False, description="Whether the output of each head has a gate (Qwen3-Next), for C(gqa)."
    )
    q_lora_rank: Amount | None = Field(
        default=None,
        description="Rank of the compressed queries, for C(mla); unset, they are not compressed.",
    )
    kv_lora_rank: Amount = Field(default=0, description="Rank of keys and values, for C(mla).")
    rope_head_dim: Amount = Field(default=0, description="Rotary part of a head, for C(mla).")
    entry_bytes: Count | None = Field(
        default=None,
        description="Bytes of what one layer caches for a token, where that has a form of its own whatever"
        " C(kv_cache_dtype) says (DeepSeek-V4, C(584)).",
    )
    window: Window | None = Field(default=None, description="Layers with a sliding window.")
    compressed: tuple[Compressed, ...] = Field(
        default=(), description="Layers with one entry for several tokens."
    )
    linear: Linear | None = Field(default=None, description="Layers with a state instead of a KV cache.")
    index: Index | None = Field(default=None, description="The index of sparse attention.")
    parameters: Totals | None = Field(default=None, description="Weights, where the sizes do not tell them.")


class Experts(_Card):
    """The mixture-of-experts layers. Sizes are of one expert."""

    routed: Count = Field(description="Experts of a layer that the router chooses from.")
    shared: Amount = Field(description="Experts of a layer that every token goes through.")
    per_token: Count = Field(description="Routed experts of a token.")
    intermediate_size: Count = Field(description="Inner size of an expert.")
    shared_intermediate_size: Count | None = Field(
        default=None, description="Inner size of a shared expert, where it is another."
    )
    groups: Count = Field(
        default=1, description="Groups of the router, which EPLB's hierarchical algorithms keep on one node."
    )


class Draft(_Card):
    """The model's own layers that guess further tokens (multi-token prediction)."""

    layers: Count = Field(description="How many there are.")
    moe: bool = Field(default=True, description="Whether they have experts, as the main layers have.")


class Published(_Card):
    """What the model's publisher says of its size, which the figures above have to add up to."""

    parameters: float | None = Field(default=None, gt=0, description="Weights in billions.")
    with_draft: bool = Field(default=False, description="Whether draft layers are among them.")
    checkpoint: float | None = Field(
        default=None, gt=0, description="Size of the checkpoint's weights in GB (10^9 bytes)."
    )
    source: str = Field(description="Who says it.")


class Parsers(_Card):
    """An engine's names of the parsers for this model's answers."""

    reasoning: str = Field(default="", description="What takes the reasoning out.")
    tool: str = Field(default="", description="What takes tool calls out.")


class ModelCard(_Card):
    """One model. Only what has no default must be there."""

    names: tuple[str, ...] = Field(description="Names by which C(wideep_model) finds the card.")
    source: str = Field(description="Where the figures are from.")
    architecture: str = Field(
        default="", description="First of C(architectures) in config.json, the class that serves it."
    )
    decoder: str = Field(
        default="", description="Class of the language model, where C(architecture) only wraps it."
    )
    weights: Literal["bf16", "fp8", "fp4", "int8", "int4"] = Field(
        description="Width of the experts' weights (of all linear layers, if there are none)."
    )
    formats: Formats = Field(default=Formats(), description="Formats by part, which say more than the width.")
    block: Count = Field(default=1, description="Rows and columns that share a scale, for FP8 in blocks.")
    group: Count | None = Field(
        default=None, description="Weights in a row that share a scale, where it is not the format's usual."
    )
    layers: Count = Field(description="Layers, without draft layers.")
    dense_layers: Amount = Field(
        description="Layers with a plain feed-forward block; all layers when there are no experts."
    )
    hidden_size: Count = Field(description="Size of a token between the layers.")
    intermediate_size: Count = Field(description="Inner size of the plain feed-forward blocks.")
    vocabulary: Count = Field(description="Tokens of the embedding.")
    context_length: Count = Field(description="Longest sequence in tokens.")
    tied_embeddings: bool = Field(default=False, description="Whether the output head is the embedding.")
    attention: Attention = Field(description="What the layers cache and how large they are.")
    experts: Experts | None = Field(default=None, description="Unset, the model is dense.")
    draft: Draft | None = Field(default=None, description="Draft layers in the checkpoint.")
    other_parameters: Amount = Field(
        default=0, description="Weights outside the language model (vision, audio), in 16 bits."
    )
    own_code: bool | None = Field(
        default=None,
        description="Whether configuration or tokenizer are code in the repository (trust_remote_code);"
        " unset, unknown.",
    )
    published: Published | None = Field(
        default=None, description="Totals of the publisher's, which tests hold the sums to within 0.5 %."
    )
    parsers: dict[str, Parsers] = Field(default={}, description="By engine, names of the parsers of answers.")

    @model_validator(mode="after")
    def _layers_are_enough(self) -> ModelCard:
        a = self.attention
        special = sum(c.layers for c in a.compressed) + sum(x.layers for x in (a.window, a.linear) if x)
        if special > self.layers or self.dense_layers > self.layers:
            raise ValueError(f"more layers are described than the model's {self.layers}")
        return self

    # ---- what rules ask ----

    def format_of(self, part: Part) -> Format:
        """Return how a part's weights are stored."""
        own: Format | None = getattr(self.formats, part)
        if own:
            return own
        if part in LIKE:
            return self.format_of(LIKE[part])
        if part == "draft":
            return self.format_of("experts" if self.experts and self.draft_moe else "dense")
        # Most 4-bit checkpoints leave attention as it was.
        if part in ("embedding", "head") or (part == "attention" and WIDTH[self.weights] < 1):
            return "bf16"
        return "fp8-block" if self.weights == "fp8" and self.block > 1 else self.weights

    def bytes_of(self, part: Part) -> float:
        """Return the bytes of one weight of a part, scales included."""
        name = self.format_of(part)
        scale, weights = SCALES.get(name, (0, 1))
        if name == "fp8-block" and self.block > 1:
            weights = self.block**2
        elif self.group and name in SCALES:
            weights = self.group
        return WIDTH[name] + scale / weights

    @property
    def quantized(self) -> bool:
        """Whether any part has fewer than 16 bits."""
        return any(self.format_of(part) != "bf16" for part in PARTS)

    @property
    def hybrid(self) -> bool:
        """Whether layers differ in what they cache: windows, states or compressed entries beside others."""
        a = self.attention
        return bool(a.window or a.linear or a.compressed)

    @property
    def sparse(self) -> bool:
        """Whether an index picks the tokens that attention looks at."""
        return self.attention.index is not None

    @property
    def needs_own_code(self) -> bool | None:
        """Whether the repository's own code has to be trusted; None where it is unknown."""
        return self.own_code

    @property
    def architectures(self) -> tuple[str, ...]:
        """Return the classes that serve it, the wrapper first; empty where unknown."""
        return tuple(name for name in (self.architecture, self.decoder) if name)

    @property
    def decoder_architecture(self) -> str:
        """Return the class of the language model itself; empty where unknown."""
        return self.decoder or self.architecture

    @property
    def draft_layers(self) -> int:
        """Return the number of the checkpoint's own draft layers."""
        return self.draft.layers if self.draft else 0

    @property
    def draft_moe(self) -> bool:
        """Whether the draft layers have experts."""
        return self.draft is not None and self.draft.moe and self.experts is not None

    @property
    def window_layers(self) -> int:
        """Return the number of layers with a sliding window."""
        return self.attention.window.layers if self.attention.window else 0

    @property
    def linear_layers(self) -> int:
        """Return the number of layers with a state instead of a KV cache."""
        return self.attention.linear.layers if self.attention.linear else 0

    @property
    def full_layers(self) -> int:
        """Return the number of layers that cache every token whole."""
        compressed = sum(kind.layers for kind in self.attention.compressed)
        return self.layers - self.window_layers - self.linear_layers - compressed

    def parser(self, engine: str, kind: Literal["reasoning", "tool"]) -> str:
        """Return an engine's name of a parser; empty where the card has none."""
        return str(getattr(self.parsers[engine], kind)) if engine in self.parsers else ""

    # ---- parameters ----

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
    def shared_layer(self) -> int:
        """Return the parameters of one layer's shared experts."""
        if self.experts is None:
            return 0
        size = self.experts.shared_intermediate_size or self.experts.intermediate_size
        return 3 * self.hidden_size * size * self.experts.shared

    @property
    def gate_parameters(self) -> int:
        """Return the parameters of all routers."""
        return self.moe_layers * self.hidden_size * self.experts.routed if self.experts else 0

    @property
    def shared_parameters(self) -> int:
        """Return the parameters of the shared experts and of the routers' gates."""
        return self.moe_layers * self.shared_layer + self.gate_parameters

    @property
    def dense_layer(self) -> int:
        """Return the parameters of one plain feed-forward block."""
        return 3 * self.hidden_size * self.intermediate_size

    @property
    def dense_parameters(self) -> int:
        """Return the parameters of the plain feed-forward blocks."""
        return (self.dense_layers if self.experts else self.layers) * self.dense_layer

    @property
    def attention_layer(self) -> tuple[int, int]:
        """Return one full layer's attention: (what tensor parallelism divides, what every GPU has whole)."""
        a, hidden = self.attention, self.hidden_size
        if a.parameters:
            return a.parameters.divided // self.layers, a.parameters.whole // self.layers
        if a.kind == "gqa":
            return self._grouped(a.heads, a.kv_heads, a.head_dim, a.v_head_dim or a.head_dim), 0
        queries = a.heads * (a.head_dim + a.rope_head_dim)
        whole = hidden * (a.kv_lora_rank + a.rope_head_dim)
        divided = a.kv_lora_rank * a.heads * (a.head_dim + a.v_head_dim) + a.heads * a.v_head_dim * hidden
        if a.q_lora_rank:
            whole += hidden * a.q_lora_rank
            divided += a.q_lora_rank * queries
        else:
            divided += hidden * queries
        return divided, whole

    def _grouped(self, heads: int, kv_heads: int, key: int, value: int) -> int:
        outputs = heads * value * (2 if self.attention.gated else 1)
        return self.hidden_size * (heads * key + kv_heads * (key + value) + outputs)

    @property
    def attention_parameters(self) -> tuple[int, int]:
        """Return attention's parameters: (what tensor parallelism divides, what every GPU has whole)."""
        a = self.attention
        if a.parameters:
            return a.parameters.divided, a.parameters.whole
        divided, whole = self.attention_layer
        normal = self.layers - self.window_layers - self.linear_layers
        total, everywhere = normal * divided, normal * whole
        if a.window:
            w, key = a.window, a.window.head_dim or a.head_dim
            value = w.v_head_dim or a.v_head_dim or key
            each = self._grouped(w.heads or a.heads, w.kv_heads or a.kv_heads, key, value)
            total += w.layers * (each if a.kind == "gqa" else divided)
            everywhere += w.layers * whole
        if a.linear:
            total += a.linear.layers * a.linear.parameters
        if a.index:
            queries = (a.q_lora_rank or self.hidden_size) * a.index.heads * a.index.head_dim
            everywhere += a.index.layers * (queries + self.hidden_size * (a.index.head_dim + a.index.heads))
        return total, everywhere

    @property
    def output_parameters(self) -> int:
        """Return the parameters of attention's output projections, which are among those that are divided."""
        a = self.attention
        if a.parameters:
            return 0
        return (self.layers - self.linear_layers) * a.heads * (a.v_head_dim or a.head_dim) * self.hidden_size

    @property
    def linear_parameters(self) -> int:
        """Return the parameters of the layers with a state, which are among those that are divided."""
        a = self.attention
        return a.linear.layers * a.linear.parameters if a.linear and not a.parameters else 0

    @property
    def embedding_parameters(self) -> int:
        """Return the parameters of the token embedding; an untied output head has as many again."""
        return self.vocabulary * self.hidden_size

    @property
    def draft_parameters(self) -> int:
        """Return the parameters of the draft layers; embedding and head are those of the model."""
        if self.draft is None:
            return 0
        block = self.dense_layer
        if self.experts and self.draft_moe:
            block = self.experts.routed * (self.expert_parameters + self.hidden_size) + self.shared_layer
        return self.draft.layers * (sum(self.attention_layer) + block + 2 * self.hidden_size**2)

    @property
    def parameters(self) -> int:
        """Return the total without draft layers, norms and biases (these are below 0.1 %)."""
        embeddings = self.embedding_parameters * (1 if self.tied_embeddings else 2)
        layers = self.routed_parameters + self.shared_parameters + self.dense_parameters
        return layers + sum(self.attention_parameters) + embeddings + self.other_parameters

    @property
    def active_parameters(self) -> int:
        """Return the parameters that work on a token, the embedding once included."""
        if self.experts is None:
            return self.parameters
        idle = self.experts.routed - self.experts.per_token
        return self.parameters - self.moe_layers * idle * self.expert_parameters

    # ---- the KV cache ----

    def kv_values_per_token(self, attention_tp: int) -> int:
        """Return how many numbers one GPU caches for a token, over all layers that cache every token.

        attention_tp: GPUs that share one sequence's attention. MLA caches one latent vector, which each of
        them holds whole; GQA's key and value heads are divided (one head at least).
        """
        return self.full_layers * self.kv_layer(attention_tp) + sum(
            kind.layers * self.kv_layer(attention_tp) // kind.every for kind in self.attention.compressed
        )

    def kv_layer(self, attention_tp: int) -> int:
        """Return how many numbers one GPU caches for a token in one layer that caches all of it."""
        a = self.attention
        if a.kind == "mla":
            return a.kv_lora_rank + a.rope_head_dim
        return max(1, a.kv_heads // attention_tp) * (a.head_dim + (a.v_head_dim or a.head_dim))

    def entry(self, attention_tp: int, each: float) -> float:
        """Return the bytes that one GPU caches for a token in one layer. each: bytes of a number."""
        return self.attention.entry_bytes or self.kv_layer(attention_tp) * each

    def kv_bytes(self, attention_tp: int, each: float) -> float:
        """Return the bytes that a token takes on one GPU for good. each: bytes of a cached number."""
        a = self.attention
        keys = a.index.layers * a.index.head_dim * (1 + INDEX_SCALE) / a.index.every if a.index else 0.0
        entries = self.full_layers + sum(kind.layers / kind.every for kind in a.compressed)
        return entries * self.entry(attention_tp, each) + keys

    def sequence_bytes(self, attention_tp: int, each: float) -> float:
        """Return the bytes that a sequence takes on one GPU beside: full windows, and states."""
        a, total = self.attention, 0.0
        if a.window:
            w, key = a.window, a.window.head_dim or a.head_dim
            heads = max(1, (w.kv_heads or a.kv_heads) // attention_tp)
            value = w.v_head_dim or a.v_head_dim or key
            own = heads * (key + value) * each if a.kind == "gqa" else self.entry(attention_tp, each)
            total += w.layers * w.tokens * own
        for kind in a.compressed:
            total += kind.layers * kind.window * self.entry(attention_tp, each)
        if a.linear:
            total += a.linear.layers * a.linear.state_bytes / attention_tp
        return total


MODELS: Shelf[ModelCard] = Shelf(ModelCard, "models", "model", "docs/reference/model-cards.md")


@lru_cache(maxsize=1)
def _known_names() -> frozenset[str]:
    """Return what the project's cards call their models, without owners: asked for each worker of a plan."""
    return frozenset(full.rpartition("/")[2] for found in MODELS.contents() for full in found["names"])


def of_another_model(directory: str, model: str) -> list[Problem]:
    """Return a warning where a model directory has the name of another model that we know."""
    name = PurePosixPath(directory).name
    mine = model.rpartition("/")[2]
    if name == mine or name not in _known_names():
        return []
    return [
        Problem(
            f"the directory has the name of {name}, and {model} would be served from it",
            "wideep_model_path",
            f"name the directory of {mine}, or set wideep_model to what is in this one",
            "warning",
        )
    ]


def _names(content: Mapping[str, Any]) -> list[Any]:
    found = content.get("names")
    return found if isinstance(found, list) else [found]


def _mentions(path: Path, model: str) -> bool:
    """Whether a file that is no YAML has a model's name in its text."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return re.search(rf"(?<![\w./-]){re.escape(model)}(?![\w/-])", text) is not None


def find_model(
    card: str, model: str, places: Iterable[str | Path] = ()
) -> tuple[ModelCard | None, list[Problem]]:
    """Return the card named `card`, else the one that lists `model`, and what is wrong if there is none.

    places: directories of the operator's that may have `models/`; their cards go before the project's.
    """
    places = tuple(places)
    if card:
        return MODELS.find(card, places, "wideep_model_card")
    path, unread = MODELS.holding(places, lambda content: model in _names(content))
    # A file that cannot be read and names the model is what the operator means, whatever else there is.
    path = next((broken for broken in unread if _mentions(broken, model)), path)
    if path:
        return MODELS.read(path)
    broken = f" ({', '.join(map(str, unread))} cannot be read)" if unread else ""
    return None, [
        Problem(
            f"no model card lists '{model}'{broken}: its experts and its memory are not checked",
            "wideep_model",
            "make one with `wideep model add` of its config.json, or set wideep_model_card to one of"
            f" {', '.join(MODELS.files(places))}",
            "warning",
        )
    ]
