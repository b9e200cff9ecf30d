"""Hardware cards: what a GPU system offers (`configs/hardware/<name>.yml`)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

import yaml
from pydantic import BaseModel, ConfigDict, Field

from wideep.problems import Problem, suggest
from wideep.reference.paths import configs_dir

MIB = 1024**2
GIB = 1024**3
TOLERANCE = 0.02  # drivers differ in how much memory they keep to themselves
# Builds of one GPU that differ in NVLink; the driver names them.
BUILDS = {"NVL", "PCIE"}


class GpuCard(BaseModel):
    """One kind of GPU system.

    memory_mib: what the driver reports as total. compute: compute capability times ten (SM 90 is Hopper).
    nvlink_domain: GPUs that reach each other over NVLink; more than a host has means multi-node NVLink.
    gpus_per_node, nics_per_node, nic_gbit: the usual build, which preflight compares with. product: has the
    GPU's name as the driver has it (`H200`), by which preflight knows it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    product: str
    source: str
    memory_mib: int = Field(ge=1)
    compute: int = Field(ge=70)
    gpus_per_node: int = Field(ge=1)
    nvlink_domain: int = Field(ge=1)
    nics_per_node: int = Field(ge=0)
    nic_gbit: int = Field(ge=0)

    @property
    def memory(self) -> int:
        """Return the memory of one GPU in bytes."""
        return self.memory_mib * MIB

    @property
    def blackwell(self) -> bool:
        """Whether the data-centre Blackwell kernels run (SM 100 and 103)."""
        return self.compute // 10 == 10

    @property
    def fp8(self) -> bool:
        """Whether it calculates in FP8 (from Ada on)."""
        return self.compute >= 89

    @property
    def deep_gemm(self) -> bool:
        """Whether DeepGEMM has kernels for it (SGLang: from Hopper on, but not for SM 120)."""
        return self.compute >= 90 and self.compute != 120

    @property
    def multi_node_nvlink(self) -> bool:
        """Whether NVLink spans hosts."""
        return self.nvlink_domain > self.gpus_per_node

    def named(self, driver_name: str) -> bool:
        """Whether it is of the GPU that the driver calls so (`NVIDIA H20-3e`, `NVIDIA-B200`)."""
        return _gpu_of(driver_name) in _words(self.product)

    def fits(self, driver_name: str, memory_mib: int) -> bool:
        """Whether a GPU is what the card describes: its name, and its memory."""
        return self.named(driver_name) and abs(memory_mib / self.memory_mib - 1) <= TOLERANCE

    def same_build(self, driver_name: str) -> bool:
        """Whether the driver's name speaks for the same kind of board: some of a name have other NVLinks."""
        return BUILDS & set(_words(driver_name)) == BUILDS & set(_words(self.product))


def _words(text: str) -> list[str]:
    return re.findall(r"[A-Z0-9]+", text.upper())


def _gpu_of(name: str) -> str:
    """Return the word of a product's name that says which GPU it is: `NVIDIA A800-SXM4-80GB` -> A800."""
    return next((word for word in _words(name) if word not in {"NVIDIA", "TESLA"}), "")


@lru_cache(maxsize=1)
def hardware_cards() -> dict[str, GpuCard]:
    """Return every card by name."""
    paths = sorted((configs_dir() / "hardware").glob("*.yml"))
    return {p.stem: GpuCard.model_validate(yaml.safe_load(p.read_text(encoding="utf-8"))) for p in paths}


def cards_of(driver_name: str, memory_mib: int) -> list[str]:
    """Return the names of the cards that a GPU fits, those of its own build first."""
    fitting = {name: card for name, card in hardware_cards().items() if card.fits(driver_name, memory_mib)}
    return sorted(fitting, key=lambda name: not fitting[name].same_build(driver_name))


def _nearest(name: str, cards: Iterable[str]) -> str:
    """Return the remedy for a name that no card has: another GPU's card is no slip of the finger."""
    gpu = _gpu_of(name)
    of_this = [card for card in cards if _gpu_of(card) == gpu]
    return suggest(name, of_this) if of_this else suggest("", cards)


def find_gpu(name: str, host: str) -> tuple[GpuCard | None, list[Problem]]:
    """Return the card that `wideep_gpu` of a host names, and what is wrong if there is none."""
    cards, where = hardware_cards(), f"wideep_gpu on host {host}"
    if name in cards:
        return cards[name], []
    if name:
        return None, [Problem(f"there is no hardware card '{name}'", where, _nearest(name, cards))]
    remedy = f"set wideep_gpu to one of {', '.join(cards)}"
    return None, [Problem("the GPU is not named: memory is not checked", where, remedy, "warning")]
