"""All-to-alls beside DeepEP: what each wants of GPUs, experts and layout.

Read in SGLang (arg_groups/moe_hook.py, mega_moe_hook.py). Which of them a release has, its catalogue says.
"""

from __future__ import annotations

from collections.abc import Iterator

from wideep.engines.sglang.options import V2_ENV, Case
from wideep.engines.sglang.rules.registry import rule
from wideep.problems import Problem

# Of other makers' accelerators.
FOREIGN = {
    "mori": "its expert kernels are AMD's (aiter)",
    "ascend_fuseep": "it is Ascend's",
    "ascend_tp": "it is Ascend's",
}
FOUR_BITS = ("fp4", "nvfp4", "mxfp4")
# Blackwell of data centres, as compute capability times ten.
SM100 = (100, 103)


def _refuse(case: Case, why: str, remedy: str, option: str = "a2a_backend") -> Problem:
    return Problem(f"a2a_backend {case.options.a2a_backend} {why}", case.at(option), remedy)


@rule
def foreign_all_to_all(case: Case) -> Iterator[Problem]:
    """SGLang starts them and fails later, when a package is missing or the first token is sent."""
    backend = case.options.a2a_backend or "none"
    if backend in FOREIGN and not case.dense:
        why = f"cannot serve {case.settings.model} here: {FOREIGN[backend]}"
        yield _refuse(case, why, "set a2a_backend: deepep, or none")


@rule
def megamoe(case: Case) -> Iterator[Problem]:
    """One kernel for all of it: FP8 in blocks on Hopper, 4 bits on Blackwell; silently unused for others."""
    if case.options.a2a_backend != "megamoe" or case.dense:
        return
    name, compute = case.expert_format, case.gpu.compute if case.gpu else None
    on_hopper = case.release.facts("sglang")["megamoe_on_hopper"]
    instead = "set a2a_backend: deepep, or none"
    if compute is not None and compute not in (*SM100, *((90,) if on_hopper else ())):
        gpus = "Hopper or Blackwell of data centres" if on_hopper else "Blackwell of data centres"
        yield _refuse(case, f"needs {gpus}, not {case.gpu.product if case.gpu else ''}", instead)
    elif name is None:
        return
    elif compute == 90 or (on_hopper and compute is None and name == "fp8-block"):
        if name != "fp8-block":
            yield _refuse(case, f"has kernels for FP8 in blocks on Hopper, not for {name} experts", instead)
    elif name not in FOUR_BITS:
        why = f"cannot serve {case.settings.model} here: its one kernel is for FP4 experts only, not {name}"
        yield _refuse(case, why, instead)


@rule
def flashinfer_megamoe(case: Case) -> Iterator[Problem]:
    """FlashInfer's kernel for all of it: Blackwell, an attention replica on each GPU, known architectures."""
    o = case.options
    if o.a2a_backend != "flashinfer_megamoe" or case.dense:
        return
    instead = "use another a2a_backend"
    known = case.release.facts("sglang")["flashinfer_megamoe"]
    names = case.card.architectures if case.card else ()
    if case.gpu and case.gpu.compute not in SM100:
        yield _refuse(case, f"needs Blackwell of data centres (SM 100), not {case.gpu.product}", instead)
    if not o.dp_attention or case.dp != case.tp:
        why = f"needs dp_attention with data_parallel_size {case.tp}"
        yield _refuse(case, why, f"set data_parallel_size: {case.tp}, or {instead}")
    if case.runner not in ("auto", "flashinfer_megamoe"):
        why = f"needs moe_runner_backend flashinfer_megamoe, not {case.runner}"
        yield _refuse(case, why, "remove moe_runner_backend", "moe_runner_backend")
    if names and known and names[0] not in known:
        yield _refuse(case, f"is not validated for {names[0]}", instead)
    if case.expert_format and case.expert_format not in (*FOUR_BITS, "mxfp8"):
        yield _refuse(case, f"takes MXFP8, NVFP4 or MXFP4 experts, not {case.expert_format}", instead)


@rule
def deepep_v2(case: Case) -> Iterator[Problem]:
    """DeepEP's second version: one kernel, known architectures, a buffer for prompts and steps alike."""
    o, limit = case.options, case.options.dispatch_tokens_per_rank or 0
    if o.a2a_backend != "deepep_v2" or case.dense:
        return
    known = case.release.facts("sglang")["deepep_v2"]
    names = case.card.architectures if case.card else ()
    if names and known and names[0] not in known:
        yield _refuse(case, f"is not validated for {names[0]}", "set a2a_backend: deepep, or none")
    if case.runner not in ("auto", "deep_gemm"):
        why = f"works with moe_runner_backend deep_gemm only, not {case.runner}"
        yield _refuse(case, why, "remove moe_runner_backend", "moe_runner_backend")
    drafts, own = case.speculative, case.extra.get("speculative-moe-a2a-backend")
    if drafts and drafts.algorithm != "ngram" and own in (None, "deepep_v2"):
        where = f"wideep_pools.{case.role}.extra_args.speculative-moe-a2a-backend"
        yield Problem("a2a_backend deepep_v2 is not validated for draft layers", where, "set it to none")
    sizes = {"chunked_prefill_size": case.chunk_per_rank} if case.prefills else {}
    if case.decodes and case.graphs:
        sizes["cuda_graph_max_bs"] = case.captured_per_rank * case.draft_tokens
    for option, tokens in sizes.items():
        if tokens > limit:
            yield Problem(
                f"{tokens} tokens of a rank are more than the {limit} that {V2_ENV} makes room for",
                case.at(option),
                f"raise dispatch_tokens_per_rank to {tokens}, or lower {option}",
            )


@rule
def pplx(case: Case) -> Iterator[Problem]:
    """Perplexity's kernels hand over between attention replicas, in the low-latency layout."""
    o = case.options
    if o.a2a_backend != "pplx" or case.dense:
        return
    if not o.dp_attention or case.dp < 2:
        why = "needs dp_attention with data_parallel_size 2 or more"
        yield _refuse(case, why, f"set data_parallel_size: {case.tp}")
    if case.runner not in ("auto", "deep_gemm"):
        why = f"works with moe_runner_backend deep_gemm only, not {case.runner}"
        yield _refuse(case, why, "remove moe_runner_backend", "moe_runner_backend")
