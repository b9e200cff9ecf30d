"""The KV cache and attention."""

from __future__ import annotations

from collections.abc import Iterator

from wideep.engines import rules as shared
from wideep.engines.rules import warn
from wideep.engines.sglang.options import SPECULATIVE_FLAGS, Case
from wideep.engines.sglang.rules.registry import rule
from wideep.problems import Problem

# Attention backend -> page sizes that it works with (SGLang changes others silently).
PAGES = {
    "flashmla": (64,),
    "cutlass_mla": (128,),
    "trtllm_mla": (32, 64),
    "tokenspeed_mla": (32, 64),
    "cutedsl_mla": (32, 64),
    "trtllm_mha": (16, 32, 64),
}
MLA_ONLY = {"flashmla", "cutlass_mla", "trtllm_mla", "tokenspeed_mla", "cutedsl_mla"}
BLACKWELL_ONLY = {"cutlass_mla", "trtllm_mla", "tokenspeed_mla", "cutedsl_mla"}
HOPPER_ONLY = {"fa3", "flashmla"}
# Two flags that SGLang refuses together, and why.
EXCLUSIVE = (
    (
        "disaggregation-decode-enable-radix-cache",
        "speculative-algorithm",
        "drafts are not kept in a decode worker's prefix cache",
    ),
    (
        "disaggregation-decode-enable-radix-cache",
        "enable-hisparse",
        "sparse attention over the host's memory keeps no prefix cache",
    ),
    (
        "disable-cuda-graph-padding",
        "enable-torch-compile",
        "every batch size would be compiled by itself",
    ),
)


@rule
def page_size(case: Case) -> Iterator[Problem]:
    """Some attention kernels know certain page sizes only; SGLang changes others silently."""
    o = case.options
    backend, page = o.attention_backend or "", o.page_size or 1
    if backend in PAGES and page not in PAGES[backend]:
        yield Problem(
            f"attention_backend {backend} works with pages of {' or '.join(map(str, PAGES[backend]))} tokens,"
            f" not {page}: SGLang would change it, and prefill, decode and router could differ",
            case.at("page_size"),
            f"set page_size: {PAGES[backend][-1]} in all pools",
        )
    if case.only_page_size and page != case.only_page_size:
        yield warn(
            f"SGLang gives {case.settings.model} pages of {case.only_page_size} tokens, whatever is asked",
            case.at("page_size"),
            f"remove page_size, or set it to {case.only_page_size} in all pools",
        )
    if page < 16 and case.settings.router_mode == "kv":
        yield warn(
            f"pages of {page} tokens make a KV event of nearly every token",
            case.at("page_size"),
            "use 64, unless the attention backend wants another size",
        )


@rule
def attention_backend(case: Case) -> Iterator[Problem]:
    """Kernels are written for one attention scheme and one GPU generation."""
    o, gpu = case.options, case.gpu
    backend, where = o.attention_backend or "", case.at("attention_backend")
    mla = case.card is not None and case.card.attention.kind == "mla"
    # FlashAttention 3 has kernels for Ampere and Ada, too, but not for latent attention.
    elsewhere = backend == "fa3" and gpu is not None and gpu.compute // 10 == 8 and not mla
    if case.card and not mla and backend in MLA_ONLY:
        yield Problem(
            f"{backend} is for models with latent attention (MLA)", where, "remove attention_backend"
        )
    elif (
        gpu
        and not elsewhere
        and (
            (backend in BLACKWELL_ONLY and not gpu.blackwell)
            or (backend in HOPPER_ONLY and gpu.compute != 90)
        )
    ):
        wanted = "Blackwell" if backend in BLACKWELL_ONLY else "Hopper"
        yield Problem(
            f"{backend} runs on {wanted} only, not on {gpu.product}",
            where,
            "remove attention_backend: SGLang chooses the fastest one for the GPU",
        )


@rule
def chunked_prefill(case: Case) -> Iterator[Problem]:
    """SGLang divides the chunk by the data parallel size; what is left has to be whole pages."""
    o = case.options
    size, page = o.chunked_prefill_size, o.page_size or 1
    if not case.prefills or size is None or size < 1:
        return
    rank = case.chunk_per_rank
    if rank < page or rank % page:
        ranks = case.dp if o.dp_attention else 1
        yield Problem(
            f"chunked_prefill_size {size} is {rank} tokens for each of {ranks} ranks,"
            f" not a multiple of page_size {page}",
            case.at("chunked_prefill_size"),
            f"use a multiple of {page * ranks}, e.g. {8192 * ranks} (8192 a rank)",
        )


@rule
def context_length(case: Case) -> Iterator[Problem]:
    """SGLang refuses a longer one than the model's, unless the operator insists by environment.

    With words of another config.json (rope_scaling for YaRN) the model's own length is another, too.
    """
    if "json-model-override-args" not in case.extra:
        yield from shared.context_length(case, "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN")


@rule
def prefix_cache(case: Case) -> Iterator[Problem]:
    """SGLang keeps prompts that share a beginning in a radix tree."""
    yield from shared.prefixes(case, "radix_cache")


@rule
def exclusive_flags(case: Case) -> Iterator[Problem]:
    """Pairs of flags that SGLang refuses together."""
    for one, other, why in EXCLUSIVE:
        second = case.speculative if other == SPECULATIVE_FLAGS["algorithm"] else case.extra.get(other)
        if case.extra.get(one) and second:
            where = f"wideep_pools.{case.role}.extra_args.{one}"
            yield Problem(f"--{one} excludes --{other}: {why}", where, "remove one of the two")


@rule
def hierarchical_cache(case: Case) -> Iterator[Problem]:
    """A cache on the host extends the prefix cache."""
    if case.extra.get("enable-hierarchical-cache") and (
        case.role == "decode" or not case.options.radix_cache
    ):
        why = "a decode worker has none" if case.role == "decode" else "radix_cache is false"
        yield Problem(
            f"the hierarchical cache extends the prefix cache, and {why}",
            f"wideep_pools.{case.role}.extra_args.enable-hierarchical-cache",
            "remove it",
        )
