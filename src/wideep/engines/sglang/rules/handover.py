"""What prefill and decode have to agree on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wideep.engines.rules import balanced_somewhere, longest_prompt, pair, same_drafts, same_layout, warn
from wideep.engines.sglang.options import Case
from wideep.problems import Problem
from wideep.reference.memory import gib, listed


def shared_memory(cases: Sequence[Case]) -> Iterator[Problem]:
    """Pools on one GPU have to fit together; SGLang fails later, in the pool that starts last."""
    known = [(case, budget) for case in cases if (budget := case.budget()) and case.options.max_total_tokens]
    if len(known) < 2 or not cases[0].settings.share_gpus:
        return
    taken = {
        case.role: sum(b.weights.values())
        + sum(b.beside.values())
        + (case.options.max_total_tokens or 0) * b.kv_per_token
        for case, b in known
    }
    memory = min(budget.memory for _, budget in known)
    if sum(taken.values()) > memory:
        yield Problem(
            f"the pools share a GPU of {gib(memory)} and need {listed(taken)} of it",
            " and ".join(case.at("max_total_tokens") for case, _ in known),
            "lower them, or give the pools GPUs of their own (wideep_share_gpus: false)",
        )


def same_stages(cases: Sequence[Case]) -> Iterator[Problem]:
    """Decode finds each layer's cache by prefill's stages; SGLang asserts later, at the first request."""
    if both := pair(cases):
        prefill, decode = (case.stages for case in both)
        if decode not in (1, prefill):
            yield Problem(
                f"decode's pp-size {decode} is neither prefill's {prefill} nor 1",
                "wideep_pools.decode.extra_args.pp-size",
                f"set it to {prefill}, or remove it" if prefill > 1 else "remove it",
            )


def same_attention(cases: Sequence[Case]) -> Iterator[Problem]:
    """Windows and indexes go over whole, not cut for other GPUs; SGLang fails later, at the first transfer.

    It cuts keys and values of heads, and states of linear attention. Latent attention has nothing to cut.
    """
    both = pair(cases)
    card = both[0].card if both else None
    if both is None or card is None or card.attention.kind == "mla":
        return
    prefill, decode = both
    ours, theirs = prefill.attention_tp, decode.attention_tp
    windows = card.attention.window is not None or _has_windows(decode)
    indexed = card.attention.index is not None
    if indexed and prefill.stages > 1:
        yield Problem(
            f"SGLang does not hand over the index of {prefill.settings.model} from stages",
            "wideep_pools.prefill.extra_args.pp-size",
            "remove it",
        )
    if ours == theirs:
        return
    sizes = f"attention over {ours} GPUs in prefill and over {theirs} in decode"
    where = decode.at("data_parallel_size")
    remedy = "set the same tensor_parallel_size / data_parallel_size in both pools"
    if windows or indexed:
        kind = "hybrid models (layers with a sliding window)" if windows else "models with a sparse index"
        why = (
            f"SGLang does not support different TP sizes for non-MLA {kind}, and raises at the first request"
        )
        yield Problem(f"{sizes}: {why}", where, remedy)
    else:
        why = "SGLang cuts the KV cache of models without latent attention for each request, which is slow"
        yield warn(f"{sizes}: {why}", where, remedy)


def _has_windows(case: Case) -> bool:
    """Whether SGLang keeps a cache of its own for layers with a sliding window."""
    names = case.card.architectures if case.card else ()
    known = case.release.facts("sglang")["sliding_window"]
    return any(name in known for name in names) and not case.extra.get("disable-hybrid-swa-memory")


def handover(cases: Sequence[Case]) -> Iterator[Problem]:
    """What prefill and decode have to agree on."""
    yield from same_layout(cases)
    yield from same_stages(cases)
    yield from same_drafts(cases, decode_alone=True)
    yield from balanced_somewhere(cases)
    yield from same_attention(cases)
    yield from longest_prompt(cases, at="prefill")
    yield from shared_memory(cases)
