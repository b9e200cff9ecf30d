"""Speculative decoding (SGLang: arg_groups/speculative_hook.py)."""

from __future__ import annotations

from collections.abc import Iterator

from wideep.engines import rules as shared
from wideep.engines.sglang.options import ALGORITHMS, Case
from wideep.engines.sglang.rules.registry import rule
from wideep.problems import Problem

# Algorithms that draft one token after the other.
CHAINS = ("mtp", "eagle", "eagle3", "frozen_kv_mtp", "draft")
# And what has no draft layers of the model's own to use.
WITH_MODEL = ("eagle3", "dflash", "draft")
WITHOUT_DP_ATTENTION = ("ngram", "dflash", "draft")
# Attention kernels for drafts that branch over pages of several tokens.
BRANCHING_BACKENDS = ("flashinfer", "fa3", "triton")


@rule
def drafts_of_the_release(case: Case) -> Iterator[Problem]:
    """Each release knows some algorithms."""
    drafts, known = case.speculative, case.release.facts("sglang")["speculative"]
    name = ALGORITHMS.get(drafts.algorithm) if drafts else None
    if drafts and name and name not in known:
        there = ", ".join(ours for ours, theirs in ALGORITHMS.items() if theirs in known)
        where = f"{case.at('speculative')}.algorithm"
        yield Problem(f"this release's SGLang does not know {drafts.algorithm}", where, f"use one of {there}")


@rule
def own_drafts(case: Case) -> Iterator[Problem]:
    """See `wideep.engines.rules.own_drafts`."""
    yield from shared.own_drafts(case)


@rule
def draft_numbers(case: Case) -> Iterator[Problem]:
    """SGLang chooses all numbers or none: with some of them it fails later, while it reads its arguments."""
    drafts, where = case.speculative, case.at("speculative")
    if drafts is None or drafts.algorithm not in CHAINS:
        return
    if drafts.steps is None and (drafts.topk or drafts.draft_tokens):
        yield Problem(
            "drafts with a topk or a number of draft tokens and without a number of steps: SGLang refuses it",
            where,
            "set steps, e.g. to 3; or leave the others out",
        )
    elif drafts.steps and (drafts.topk or 1) > 1 and not drafts.draft_tokens:
        yield Problem(
            f"drafts that branch (topk {drafts.topk}) want a number of draft_tokens",
            where,
            "set draft_tokens, e.g. to 8; or topk: 1",
        )
    elif drafts.steps and drafts is not case.options.speculative and not drafts.topk:
        yield Problem(
            "--speculative-num-steps without --speculative-eagle-topk: SGLang fails at it",
            where,
            "set speculative-eagle-topk: 1, or options.speculative instead of flags",
        )


@rule
def draft_layout(case: Case) -> Iterator[Problem]:
    """What drafts is not written for every layout; SGLang refuses these."""
    drafts, where, o = case.speculative, case.at("speculative"), case.options
    if drafts is None:
        return
    if drafts.algorithm in WITHOUT_DP_ATTENTION and o.dp_attention and case.dp > 1:
        yield Problem(
            f"SGLang's {ALGORITHMS[drafts.algorithm]} does not support DP attention",
            where,
            "use mtp or eagle, or set data_parallel_size: 1",
        )
    if drafts.algorithm in WITH_MODEL and not drafts.draft_model:
        yield Problem(
            f"{ALGORITHMS[drafts.algorithm]} drafts with a model of its own, and none is named",
            where,
            "set draft_model to its directory on the hosts",
        )
    backend = o.attention_backend
    if (drafts.topk or 1) > 1 and (o.page_size or 1) > 1 and backend not in (None, *BRANCHING_BACKENDS):
        yield Problem(
            f"drafts that branch (topk {drafts.topk}) over pages of {o.page_size} tokens work with"
            f" {', '.join(BRANCHING_BACKENDS)} only, not with {backend}",
            where,
            "set topk: 1, or another attention_backend",
        )
