"""One way to say each thing: what the plan decides, options and environment do not."""

from __future__ import annotations

from collections.abc import Iterator

from wideep.engines import rules as shared
from wideep.engines.rules import warn
from wideep.engines.sglang.options import DISPATCH_ENV, SPECULATIVE_FLAGS, V2_ENV, Case
from wideep.engines.sglang.rules.registry import FLAGS, OWNED, rule
from wideep.problems import Problem

# Variable of the environment -> the option that decides it.
# Library -> its module, as the release's facts name it.
MODULES = {"DeepEP": "deep_ep", "Mooncake": "mooncake", "pplx-kernels": "pplx_kernels"}
ENV_OF = dict.fromkeys((*DISPATCH_ENV.values(), V2_ENV), "dispatch_tokens_per_rank")
OPTION_OF = {flag: option for option, flag in FLAGS.items()} | {"disable-radix-cache": "radix_cache: false"}
# How long a request waits for its other side, in seconds: 300 unless set.
PATIENCE = ("SGLANG_DISAGGREGATION_WAITING_TIMEOUT", "SGLANG_DISAGGREGATION_BOOTSTRAP_TIMEOUT")
LONGEST_WAIT_S, DAY_S = 600, 86400


@rule
def flags_of_the_plan(case: Case) -> Iterator[Problem]:
    """Ranks, addresses and ports follow from the inventory; typed options are checked, extra_args are not."""
    drafts = dict.fromkeys(SPECULATIVE_FLAGS.values(), "speculative") if case.options.speculative else {}
    yield from shared.flags_of_the_plan(case, OWNED, OPTION_OF | drafts)


@rule
def environment_of_options(case: Case) -> Iterator[Problem]:
    """A rule that looks at an option would judge another number than the one in force."""
    for name, option in ENV_OF.items():
        if name in case.pool.settings.env:
            yield Problem(
                f"{option} has to be known to rules, which do not read the environment",
                f"wideep_pools.{case.role}.env.{name}",
                f"remove it and set wideep_pools.{case.role}.options.sglang.{option}",
            )


@rule
def packages(case: Case) -> Iterator[Problem]:
    """SGLang's own packages are what `venv` installs; SGLang fails later, when it imports another one."""
    if not case.settings.in_venv:
        return
    a2a = "" if case.dense else case.options.a2a_backend
    brought = case.release.facts("sglang")["modules"]
    wanted = {
        "DeepEP": f"a2a_backend {a2a}" if a2a in ("deepep", "deepep_v2") else "",
        "pplx-kernels": "a2a_backend pplx" if a2a == "pplx" else "",
        "Mooncake": "wideep_kv_transfer mooncake"
        if case.disaggregated and case.settings.kv_transfer == "mooncake"
        else "a2a_backend mooncake"
        if a2a == "mooncake"
        else "",
    }
    for package, reason in wanted.items():
        if reason and brought[MODULES[package]]:
            yield warn(
                f"{reason}: {package} comes with SGLang's own packages, and this project has not run it",
                "wideep_runtime",
                "set wideep_runtime: container for the image that it was built with",
            )
        elif reason:
            yield Problem(
                f"{reason} needs the package {package}, which SGLang's own packages do not bring: the"
                " environment of wideep_runtime: venv lacks it",
                "wideep_runtime",
                "set wideep_runtime: container (the official image has it), or existing with a wideep_python"
                " that has it",
            )


@rule
def transfer_backend(case: Case) -> Iterator[Problem]:
    """UCX by itself is TensorRT-LLM's; SGLang has it below NIXL only."""
    if case.disaggregated and case.settings.kv_transfer == "ucx":
        flag = case.release.catalogue("dynamo.sglang").find("--disaggregation-transfer-backend")
        known = ", ".join(map(str, (flag.choices if flag else None) or ()))
        yield Problem(
            f"SGLang has no transfer backend ucx (it has {known}); its NIXL goes over UCX",
            "wideep_kv_transfer",
            "set it to nixl, whose UCX_* variables are the same, or to mooncake",
        )


@rule
def patience(case: Case) -> Iterator[Problem]:
    """A request whose other side died waits so long, with its memory; SGLang takes any number silently."""
    for name in PATIENCE:
        value = case.pool.settings.env.get(name, "")
        if not value.isdecimal() or int(value) <= LONGEST_WAIT_S:
            continue
        where = f"wideep_pools.{case.role}.env.{name}"
        message = (
            f"{value} s hide a dead prefill or decode worker: its requests wait so long, and so do their"
            " clients"
        )
        remedy = f"leave it out (300 s), or use at most {LONGEST_WAIT_S}"
        if int(value) >= DAY_S:
            yield shared.for_benchmarks(case, message, where, remedy)
        else:
            yield warn(message, where, remedy)
