"""The memory of one GPU: weights by part, KV cache, and what must stay free beside them.

Weights and the KV cache's cost per token follow from the model card, scales of quantized weights included.
What an engine needs beside them is an estimate; each figure says what it is from. Sizes are bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from wideep.reference.hardware import GIB, MIB
from wideep.reference.models import HALF, Format, ModelCard, Part

KvType = Literal["auto", "bf16", "fp8"]
KV_BYTES: dict[KvType, int] = {"auto": 2, "bf16": 2, "fp8": 1}
# Plain feed-forward blocks are a model's first layers, unless more than this share of all have one.
FEW = 0.25
# What a flag that names a quantization makes of the parts; what is not named stays as the card has it.
QUANTIZATION: dict[str, dict[Part, Format]] = {
    "fp8": dict.fromkeys(("experts", "dense", "attention"), "fp8"),
    "w8a8_fp8": dict.fromkeys(("experts", "dense", "attention"), "fp8-channel"),
    "modelopt_fp8": dict.fromkeys(("experts", "dense", "attention"), "fp8-tensor"),
    "mxfp8": dict.fromkeys(("experts", "dense", "attention"), "mxfp8"),
    "w8a8_int8": dict.fromkeys(("experts", "dense", "attention"), "int8"),
    "modelopt_fp4": {"experts": "nvfp4", "dense": "nvfp4", "attention": "bf16"},
    "mxfp4": {"experts": "mxfp4"},
    "w4afp8": {"experts": "w4afp8", "dense": "fp8", "attention": "fp8"},
}
# CUDA context, kernels' code, NCCL's channels: an estimate.
RUNTIME = 2 * GIB
# SGLang's own figure for a captured decode graph (server_args.py: reserve_for_graph_mb).
GRAPH_PER_SEQUENCE = 2 * MIB
# DeepEP's NVLink and RDMA buffers of the normal mode: an estimate, the library's hint is of that order.
ALL_TO_ALL_NORMAL = 2 * GIB
# Tensors of hidden size alive at once in a layer: an estimate.
ACTIVATION_TENSORS = 20
# Those of them that tensor parallelism does not divide: a layer's input, output, residual, and one beside.
WHOLE_TENSORS = 4


@dataclass(frozen=True)
class Layout:
    """How the weights of one replica are divided. Every field is a number of GPUs or of experts.

    attention: GPUs that share a sequence's attention (tensor parallel size / data parallel size).
    dense, shared, embedding, head: GPUs that divide dense blocks, shared experts, embedding, output head.
    expert, redundant: expert parallel size, copies beside the model's experts. stages: of a pipeline.
    """

    tensor: int
    attention: int
    dense: int
    shared: int
    embedding: int
    head: int
    expert: int = 1
    redundant: int = 0
    stages: int = 1


# All of it on one GPU, or on disk.
WHOLE = Layout(tensor=1, attention=1, dense=1, shared=1, embedding=1, head=1)


def quantized(card: ModelCard, flag: str) -> tuple[ModelCard | None, str]:
    """Return the card with the weights that an engine's `--quantization` names, and what is to be said of it.

    None where nobody knows what the flag makes of the weights. Nothing is said where the card has them so.
    """
    parts = QUANTIZATION.get(flag)
    here = card.format_of("experts" if card.experts else "dense")
    if parts is None:
        return None, f"what quantization {flag} makes of the weights is not known: memory is not checked"
    wanted = parts["experts"]
    if here == wanted or (wanted.startswith("fp8") and here.startswith("fp8")):
        return card, ""
    if wanted in ("nvfp4", "mxfp4") and here == "fp4":
        return card, ""
    formats = card.formats.model_copy(update=dict(parts) | {"shared": None})
    changed = card.model_copy(update={"formats": formats})
    said = f"memory is computed for experts in {wanted}, as quantization {flag} has them (the card: {here})"
    return changed, said


def weights(card: ModelCard, layout: Layout, *, drafts: bool = False) -> dict[str, int]:
    """Return the bytes of weights on one GPU by part: of a pipeline, on one of the fullest stage.

    drafts: the engine loads the model's own draft layers, too.
    """
    whole = _parts(card, layout, drafts=drafts)
    if layout.stages == 1:
        return {name: round(value) for name, value in whole.items() if value or name != "others"}
    own = math.ceil(card.layers / layout.stages)
    few = bool(card.experts) and card.dense_layers < FEW * card.layers
    dense = min(card.dense_layers, own) if few else card.dense_layers * own / card.layers
    last_dense = max(0, own - card.moe_layers) if few else dense
    stages = []
    for plain, with_head in ((dense, False), (last_dense, True)):
        share = {
            "attention": own / card.layers,
            "dense layers": (plain / card.dense_layers if card.dense_layers else 0)
            if card.experts
            else own / card.layers,
            "experts": (own - plain) / card.moe_layers if card.moe_layers else 0,
            "draft layers": with_head,
            "others": not with_head,
        }
        share["shared experts"] = share["experts"]
        held = {name: value * share.get(name, 1) for name, value in whole.items()}
        held["embeddings"] = _head(card, layout) if with_head else _embedding(card, layout)
        stages.append({name: round(value) for name, value in held.items() if value})
    return max(stages, key=lambda held: sum(held.values()))


def _embedding(card: ModelCard, layout: Layout) -> float:
    return card.bytes_of("embedding") * card.embedding_parameters / layout.embedding


def _head(card: ModelCard, layout: Layout) -> float:
    # Alone on the last stage of a pipeline it is there even where it is the embedding.
    return card.bytes_of("head") * card.embedding_parameters / layout.head


def _parts(card: ModelCard, layout: Layout, *, drafts: bool) -> dict[str, float]:
    """Return the bytes of a GPU that has all layers."""
    attended, dense = card.bytes_of("attention"), card.bytes_of("dense")
    divided, whole = card.attention_parameters
    otherwise = card.output_parameters * (card.bytes_of("output") - attended)
    otherwise += card.linear_parameters * (card.bytes_of("linear") - attended)
    parts = {
        "attention": (attended * divided + otherwise) / layout.attention + attended * whole,
        "dense layers": dense * card.dense_parameters / layout.dense,
        "embeddings": _embedding(card, layout) + (0 if card.tied_embeddings else _head(card, layout)),
        "others": float(HALF * card.other_parameters),
    }
    if card.experts:
        held = (card.experts.routed + layout.redundant) / layout.expert
        slice_of_expert = card.expert_parameters * layout.expert / layout.tensor
        each = held * slice_of_expert
        parts["experts"] = card.bytes_of("experts") * card.moe_layers * each
        shared = card.bytes_of("shared") * card.moe_layers * card.shared_layer
        parts["shared experts"] = (shared + HALF * card.gate_parameters) / layout.shared
    if drafts and card.draft_layers:
        parts["draft layers"] = card.draft_layers * _draft_layer(card, layout)
    return parts


def _draft_layer(card: ModelCard, layout: Layout) -> float:
    """Return the bytes of one draft layer, divided as the main layers are; its projection is whole."""
    own = card.formats.draft

    def size(part: Part) -> float:
        return card.bytes_of("draft" if own else part)

    divided, whole = card.attention_layer
    total = size("attention") * (divided / layout.attention + whole) + HALF * 2 * card.hidden_size**2
    if card.experts is None or not card.draft_moe:
        return total + size("dense") * card.dense_layer / layout.dense
    held = (card.experts.routed + layout.redundant) / layout.tensor * card.expert_parameters
    shared = size("shared") * card.shared_layer + HALF * card.hidden_size * card.experts.routed
    return total + size("experts") * held + shared / layout.shared


def low_latency_buffers(experts: int, tokens: int, hidden: int) -> int:
    """Return the bytes of DeepEP's low-latency buffers: two sets of send and receive (its csrc/config.hpp).

    experts: with redundant ones. tokens: the most that one rank dispatches in a step.
    """
    message = 2 * hidden + 4 * (hidden // 128)
    return 4 * experts * tokens * message


def activations(card: ModelCard, tokens: int, shared: int = 1) -> int:
    """Return an estimate of the working memory for a forward pass over `tokens` on one GPU.

    shared: GPUs that share a sequence's attention; each has the tokens, and its part of what is made of them.
    """
    made = (ACTIVATION_TENSORS - WHOLE_TENSORS) * card.hidden_size
    if card.experts:
        made += card.experts.per_token * (2 * card.hidden_size + 3 * card.experts.intermediate_size)
    else:
        made += 3 * card.intermediate_size
    return round(tokens * (WHOLE_TENSORS * card.hidden_size + made / shared)) * HALF


@dataclass(frozen=True)
class Budget:
    """One GPU's memory.

    fraction: share of it that the engine gives to weights and KV cache. beside: what the rest has to hold.
    states: of that share, what sequences take whatever their length (windows, states of linear attention).
    """

    memory: int
    fraction: float
    weights: dict[str, int]
    kv_per_token: int
    beside: dict[str, int] = field(default_factory=dict)
    states: int = 0

    @property
    def kv(self) -> int:
        """Return what is left for the KV cache; negative when the weights do not fit."""
        return round(self.memory * self.fraction) - sum(self.weights.values())

    @property
    def kv_tokens(self) -> int:
        """Return how many tokens one GPU can cache."""
        return max(0, self.kv - self.states) // max(1, self.kv_per_token)

    @property
    def rest(self) -> int:
        """Return what stays beside weights and KV cache."""
        return self.memory - round(self.memory * self.fraction)

    @property
    def text(self) -> str:
        """Return it in one line, for people."""
        return (
            f"of {gib(self.memory)}: weights {gib(sum(self.weights.values()))}, KV cache {gib(self.kv)}"
            f" ({self.kv_tokens} tokens), beside them {gib(self.rest)}, of which an estimated"
            f" {gib(sum(self.beside.values()))} are needed"
        )

    def lowest_fraction(self, tokens: int) -> float:
        """Return the fraction that weights and a cache of so many tokens take."""
        return (sum(self.weights.values()) + self.states + tokens * self.kv_per_token) / self.memory

    def highest_fraction(self) -> float:
        """Return the fraction that leaves enough beside it."""
        return 1 - sum(self.beside.values()) / self.memory


def gib(size: int | float) -> str:
    """Return bytes as text: 1.5 GiB."""
    return f"{size / GIB:.1f} GiB"


def listed(parts: dict[str, int]) -> str:
    """Return parts as text, the largest first: `experts 21.4 + attention 10.6 GiB`."""
    ordered = sorted(parts.items(), key=lambda item: -item[1])
    return " + ".join(f"{name} {size / GIB:.1f}" for name, size in ordered) + " GiB"


def kv_bytes_per_token(
    card: ModelCard, dtype: KvType, attention_tp: int, *, stages: int = 1, drafts: bool = False
) -> int:
    """Return the bytes that a token takes in one GPU's KV cache, on the fullest stage of a pipeline.

    attention_tp: GPUs that share a sequence's attention. drafts: the model's own draft layers cache, too.
    """
    each = KV_BYTES[dtype]
    own = math.ceil(card.layers / stages) / card.layers
    guessed = card.draft_layers * card.entry(attention_tp, each) if drafts else 0
    return round(card.kv_bytes(attention_tp, each) * own + guessed)


def kv_bytes_per_sequence(card: ModelCard, dtype: KvType, attention_tp: int, *, stages: int = 1) -> int:
    """Return the bytes that a sequence takes there beside its tokens: full windows, and states."""
    own = math.ceil(card.layers / stages) / card.layers
    return round(card.sequence_bytes(attention_tp, KV_BYTES[dtype]) * own)
