"""What a release knows of TensorRT-LLM, typed (`configs/releases/<version>/engines/trtllm.yml`)."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from wideep.reference.hardware import GpuCard
from wideep.reference.models import Format, ModelCard
from wideep.reference.release import Release

# What a format may be, of which a card does not say more.
UNSAID: dict[str, tuple[Format, ...]] = {
    "fp8": ("fp8", "fp8-block", "fp8-channel", "fp8-tensor"),
    "fp4": ("fp4", "nvfp4"),
}
# First and last compute capability of a range, times ten.
Compute = tuple[tuple[int, int], ...]


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Fact(_Row):
    """source: key of `sources`. unsure: read for another version than this one."""

    source: str
    unsure: bool = False


def _within(compute: Compute, gpu: GpuCard) -> bool:
    return any(low <= gpu.compute <= high for low, high in compute)


def of_experts(card: ModelCard) -> tuple[Format, ...]:
    """Return how a model's experts may be stored: several formats where its card does not say which."""
    name = card.format_of("experts")
    return UNSAID.get(name, (name,))


def label(card: ModelCard) -> str:
    """Return the format of a model's experts as a person writes it."""
    return card.format_of("experts").partition("-")[0].upper()


class Kernels(_Row):
    """Formats of experts and GPUs that a backend has kernels for."""

    formats: tuple[Format, ...]
    compute: Compute


class MoeBackend(_Fact):
    """A backend for the experts. architectures: beginnings of the only ones it is for; empty means all."""

    runs: tuple[Kernels, ...]
    balances: bool
    architectures: tuple[str, ...] = ()

    def suits(self, gpu: GpuCard, card: ModelCard) -> bool:
        """Whether it has kernels for a model's experts on a GPU."""
        if self.architectures and card.architecture and not card.architecture.startswith(self.architectures):
            return False
        wanted = set(of_experts(card))
        return any(wanted & set(row.formats) and _within(row.compute, gpu) for row in self.runs)


class Choice(_Fact):
    """A backend that is taken by itself. wider_than: only where the experts are on more GPUs."""

    backend: str
    formats: tuple[Format, ...]
    compute: Compute
    wider_than: int = 0
    why: str


class Unverified(_Fact):
    """Formats whose experts TensorRT-LLM moves without having verified it."""

    formats: tuple[Format, ...]


class Balancing(_Fact):
    """architectures: how the names of the models' classes begin whose experts are balanced."""

    architectures: tuple[str, ...]
    unverified: Unverified


class Transceiver(_Fact):
    """What moves the KV cache. python: backends for which `auto` is the Python one; C++ for all others."""

    default: str
    python: tuple[str, ...]
    deprecated: tuple[str, ...]

    def of(self, backend: str) -> str:
        """Return the one that is taken for a backend."""
        return "PYTHON" if backend in self.python else "CPP"


class Drafts(_Fact):
    """words: our names of what drafts -> the engine's (speculative_config.decoding_type)."""

    words: dict[str, str]


class AllToAll(_Fact):
    """What carries tokens to experts. variable: by which it is forced. older: what earlier versions read.

    words: our names -> theirs. one_host, hosts, of_each: GPUs of one host, or hosts of so many GPUs, in which
    DeepEP works.
    """

    variable: str
    older: tuple[str, ...]
    words: dict[str, tuple[str, ...]]
    one_host: tuple[int, ...]
    hosts: tuple[int, ...]
    of_each: int


class TrtllmFacts(_Row):
    """What the rules go by. version: TensorRT-LLM's. sources: mark -> what was read."""

    version: str
    sources: dict[str, str]
    moe_backends: dict[str, MoeBackend]
    gone_backends: dict[str, _Fact]
    choice: tuple[Choice, ...]
    fallback: str
    eplb: Balancing
    transceiver: Transceiver
    drafts: Drafts
    all_to_all: AllToAll

    @model_validator(mode="after")
    def _names_are_explained(self) -> TrtllmFacts:
        facts: list[Any] = [*self.moe_backends.values(), *self.gone_backends.values(), *self.choice]
        facts += [self.eplb, self.eplb.unverified, self.transceiver, self.drafts, self.all_to_all]
        marks = {fact.source for fact in facts}
        if marks != self.sources.keys():
            raise ValueError(f"sources and marks differ: {', '.join(sorted(marks ^ self.sources.keys()))}")
        named = {self.fallback, *(row.backend for row in self.choice)}
        if unknown := named - self.moe_backends.keys():
            raise ValueError(f"no such backend: {', '.join(sorted(unknown))}")
        return self

    def backend(
        self, gpu: GpuCard | None, card: ModelCard | None, ep: int, *, balanced: bool = False
    ) -> tuple[str, str]:
        """Return the backend for a model's experts on `ep` GPUs, and why. balanced: one that can balance."""
        if gpu is None or card is None:
            return self.fallback, f"model or GPU is unknown, and {self.fallback} runs on all of them"
        fitting = (row for row in self.choice if _within(row.compute, gpu))
        here = [row for row in fitting if self.moe_backends[row.backend].balances or not balanced]
        own = label(card)
        same = [row for row in here if set(row.formats) & set(of_experts(card))]
        for row in same:
            if ep > row.wider_than:
                return row.backend, row.why
        if not same and not gpu.blackwell:
            return self.fallback, f"TensorRT-LLM has no other for {gpu.product} and {own} weights"
        if not same:
            return self.fallback, f"the other backends are for FP8 and FP4 weights, not for {own}"
        others = ", ".join(f"{row.backend} is for more than {row.wider_than} GPUs" for row in same)
        return self.fallback, f"{own} weights on {ep} GPUs; {others}"


def facts(release: Release) -> TrtllmFacts:
    """Return what a release knows.

    Raises:
        FileNotFoundError: the release has nothing about TensorRT-LLM.
        pydantic.ValidationError: the file does not have the form.
    """
    return TrtllmFacts.model_validate(release.facts("trtllm"))
