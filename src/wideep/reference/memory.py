"""The memory of one GPU: weights by part, KV cache, and what must stay free beside them.

Weights and the KV cache's cost per token follow from the model card exactly. What an engine needs beside them
is an estimate; each figure says what it is from. Sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from wideep.reference.hardware import GIB, MIB
from wideep.reference.models import HALF, WEIGHT_BYTES, ModelCard

KV_BYTES = {"auto": 2, "bf16": 2, "fp8": 1}
# CUDA context, kernels' code, NCCL's channels: an estimate.
RUNTIME = 2 * GIB
# SGLang's own figure for a captured decode graph (server_args.py: reserve_for_graph_mb).
GRAPH_PER_SEQUENCE = 2 * MIB
# DeepEP's NVLink and RDMA buffers of the normal mode: an estimate, the library's hint is of that order.
ALL_TO_ALL_NORMAL = 2 * GIB
# Tensors of hidden size alive at once in a layer: an estimate.
ACTIVATION_TENSORS = 20


@dataclass(frozen=True)
class Layout:
    """How the weights of one replica are divided. Every field is a number of GPUs or of experts.

    attention: GPUs that share a sequence's attention (tensor parallel size / data parallel size).
    dense, shared, embedding, head: GPUs that divide dense blocks, shared experts, embedding, output head.
    expert, redundant: expert parallel size, copies beside the model's experts.
    """

    tensor: int
    attention: int
    dense: int
    shared: int
    embedding: int
    head: int
    expert: int = 1
    redundant: int = 0


def weights(card: ModelCard, layout: Layout) -> dict[str, int]:
    """Return the bytes of weights on one GPU by part."""
    size = WEIGHT_BYTES[card.weights]
    divided, whole = card.attention_parameters
    parts = {
        "attention": size * (divided / layout.attention + whole),
        "dense layers": size * card.dense_parameters / layout.dense,
        "embeddings": HALF
        * card.embedding_parameters
        * (1 / layout.embedding + (0 if card.tied_embeddings else 1 / layout.head)),
    }
    if card.experts:
        held = (card.experts.routed + layout.redundant) / layout.expert
        slice_of_expert = card.expert_parameters * layout.expert / layout.tensor
        parts["experts"] = size * card.moe_layers * held * slice_of_expert
        parts["shared experts"] = size * card.shared_parameters / layout.shared
    return {name: round(value) for name, value in parts.items()}


def low_latency_buffers(experts: int, tokens: int, hidden: int) -> int:
    """Return the bytes of DeepEP's low-latency buffers: two sets of send and receive (its csrc/config.hpp).

    experts: with redundant ones. tokens: the most that one rank dispatches in a step.
    """
    message = 2 * hidden + 4 * (hidden // 128)
    return 4 * experts * tokens * message


def activations(card: ModelCard, tokens: int) -> int:
    """Return an estimate of the working memory for a forward pass over `tokens` on one GPU."""
    values = ACTIVATION_TENSORS * card.hidden_size
    if card.experts:
        values += card.experts.per_token * (2 * card.hidden_size + 3 * card.experts.intermediate_size)
    else:
        values += 3 * card.intermediate_size
    return tokens * values * HALF


@dataclass(frozen=True)
class Budget:
    """One GPU's memory.

    fraction: share of it that the engine gives to weights and KV cache. beside: what the rest has to hold.
    """

    memory: int
    fraction: float
    weights: dict[str, int]
    kv_per_token: int
    beside: dict[str, int] = field(default_factory=dict)

    @property
    def kv(self) -> int:
        """Return what is left for the KV cache; negative when the weights do not fit."""
        return round(self.memory * self.fraction) - sum(self.weights.values())

    @property
    def kv_tokens(self) -> int:
        """Return how many tokens one GPU can cache."""
        return max(0, self.kv) // self.kv_per_token

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
        return (sum(self.weights.values()) + tokens * self.kv_per_token) / self.memory

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


def kv_bytes_per_token(card: ModelCard, dtype: Literal["auto", "bf16", "fp8"], attention_tp: int) -> int:
    """Return the bytes that a token takes in one GPU's KV cache."""
    return card.kv_values_per_token(attention_tp) * KV_BYTES[dtype]
