"""Batches, tokens and graphs."""

from __future__ import annotations

from collections.abc import Iterator

from wideep.engines import rules as shared
from wideep.engines.rules import warn
from wideep.engines.trtllm.options import Case
from wideep.engines.trtllm.rules.registry import rule
from wideep.problems import Problem


@rule
def context_length(case: Case) -> Iterator[Problem]:
    """Buffers are made for the longest sequence, so it has to be known."""
    if case.options.context_length is None:
        yield Problem(
            "the longest sequence is unknown: buffers and token budgets depend on it",
            case.at("context_length"),
            "set context_length, or wideep_model_card",
        )
    yield from shared.context_length(case)


@rule
def prompts_fit(case: Case) -> Iterator[Problem]:
    """The lab's 256 tokens cannot take a prompt of 8192: TensorRT-LLM refuses such requests later.

    An error where that is half of the prompts that the operator allows or more; else it is a warning: what
    people run has a length that is rounded up, or the model's own.
    """
    o = case.options
    tokens, length = o.max_num_tokens or 0, o.context_length or 0
    if case.prefills and not o.chunked_prefill and tokens < length:
        yield Problem(
            f"max_num_tokens {tokens} is less than a prompt can be (context_length {length})",
            case.at("max_num_tokens"),
            f"raise it to {length}, leave it out, or set chunked_prefill: true",
            "error" if "context_length" in case.given and 2 * tokens < length else "warning",
        )
    elif case.prefills and o.chunked_prefill and tokens < (o.page_size or 1):
        yield Problem(
            f"chunks of {tokens} tokens are less than a block of {o.page_size}",
            case.at("max_num_tokens"),
            "raise it to some thousands, or leave it out",
        )


@rule
def step_fits(case: Case) -> Iterator[Problem]:
    """Each sequence of a full batch adds a token (and its drafts) to a step; silently, fewer are in it."""
    o, needed = case.options, (case.options.max_batch_size or 0) * case.draft_tokens
    if case.decodes and (o.max_num_tokens or 0) < needed:
        yield warn(
            f"max_num_tokens {o.max_num_tokens} is less than a full batch's {needed}: it is never full",
            case.at("max_num_tokens"),
            f"raise it to {needed}, or leave it out",
        )


@rule
def graph_sizes(case: Case) -> Iterator[Problem]:
    """TensorRT-LLM drops graphs beyond the largest batch; a larger batch decodes slowly, both silently."""
    o = case.options
    if not case.decodes:
        for option in ("cuda_graph_batch_sizes", "cuda_graph_max_bs"):
            if option in case.given:
                yield warn(
                    "CUDA graphs are for decoding, prefill runs without them",
                    case.at(option),
                    f"remove {option}",
                )
        return
    if not case.graphs:
        yield warn(
            "decoding without CUDA graphs is several times slower",
            case.at("cuda_graphs"),
            "remove cuda_graphs: false",
        )
        return
    sizes, batch = o.cuda_graph_batch_sizes or [0], o.max_batch_size or 0
    option = "cuda_graph_batch_sizes" if "cuda_graph_batch_sizes" in case.given else "cuda_graph_max_bs"
    if max(sizes) > batch:
        yield warn(
            f"graphs up to {max(sizes)} sequences, but batches end at max_batch_size {batch}:"
            " TensorRT-LLM drops the sizes above",
            case.at(option),
            f"raise max_batch_size to {max(sizes)}, or end at {batch}",
        )
    elif max(sizes) < batch:
        yield warn(
            f"no graph for the largest batch, max_batch_size {batch} (graphs end at {max(sizes)}): what is"
            " larger decodes several times slower",
            case.at(option),
            f"add {batch}, or leave max_batch_size out",
        )
    if "cuda_graph_batch_sizes" in case.given and o.cuda_graph_max_bs not in (None, max(sizes)):
        yield Problem(
            f"cuda_graph_max_bs {o.cuda_graph_max_bs} is not the largest of cuda_graph_batch_sizes",
            case.at("cuda_graph_max_bs"),
            "keep one of the two",
        )


@rule
def overlap_scheduler(case: Case) -> Iterator[Problem]:
    """TensorRT-LLM does not support it where the KV cache is handed over after a prompt."""
    if case.role == "prefill" and case.options.overlap_scheduler:
        yield Problem(
            "the overlap scheduler does not work in a prefill pool",
            case.at("overlap_scheduler"),
            "remove it: it is off for prefill and on elsewhere",
        )
