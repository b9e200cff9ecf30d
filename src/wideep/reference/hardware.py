"""Hardware cards: what a GPU system offers (`configs/hardware/<name>.yml`, or an operator's own)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from wideep.problems import Problem, suggest
from wideep.reference.cards import Shelf

MIB = 1024**2
GIB = 1024**3
TOLERANCE = 0.02  # drivers differ in how much memory they keep to themselves
# Builds of one GPU that differ in NVLink; the driver names them.
BUILDS = {"NVL", "PCIE"}


class GpuCard(BaseModel):
    """One kind of GPU system."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    product: str = Field(
        description="what it is, with the GPU's name as nvidia-smi has it (`NVIDIA H200 141GB`), by which"
        " preflight knows it"
    )
    source: str = Field(description="where the figures are from")
    memory_mib: int = Field(ge=1, description="memory of one GPU in MiB, as nvidia-smi reports it")
    compute: int = Field(ge=70, description="compute capability times ten: 90 is Hopper")
    gpus_per_node: int = Field(ge=1, description="GPUs of a host as it is usually built")
    nvlink_domain: int = Field(
        ge=1,
        description="GPUs that reach each other over NVLink; more than a host has means NVLink between hosts",
    )
    nics_per_node: int = Field(ge=0, description="RDMA devices of a host as it is usually built")
    nic_gbit: int = Field(ge=0, description="rate of each in Gbit/s")

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


HARDWARE: Shelf[GpuCard] = Shelf(GpuCard, "hardware", "hardware", "docs/how-to/your-own-gpu.md")


@lru_cache(maxsize=1)
def hardware_cards() -> dict[str, GpuCard]:
    """Return every card of the project by name."""
    return HARDWARE.all()


def own_card(name: str, places: Iterable[str | Path]) -> GpuCard | None:
    """Return an operator's card; None where the name is not one of theirs, or the card is broken."""
    path = HARDWARE.files(places).get(name)
    return HARDWARE.read(path)[0] if path and path != HARDWARE.files().get(name) else None


def cards_of(driver_name: str, memory_mib: int) -> list[str]:
    """Return the names of the cards that a GPU fits, those of its own build first."""
    fitting = {name: card for name, card in hardware_cards().items() if card.fits(driver_name, memory_mib)}
    return sorted(fitting, key=lambda name: not fitting[name].same_build(driver_name))


def _nearest(name: str, cards: Iterable[str]) -> str:
    """Return the remedy for a name that no card has: another GPU's card is no slip of the finger."""
    gpu = _gpu_of(name)
    of_this = [card for card in cards if _gpu_of(card) == gpu]
    return suggest(name, of_this) if of_this else suggest("", cards)


def find_gpu(name: str, host: str, places: Iterable[str | Path] = ()) -> tuple[GpuCard | None, list[Problem]]:
    """Return the card that `wideep_gpu` of a host names, and what is wrong if there is none.

    places: directories of the operator's that may have `hardware/`; their cards go before the project's.
    """
    cards, where = HARDWARE.files(places), f"wideep_gpu on host {host}"
    if name in cards:
        return HARDWARE.read(cards[name])
    if name:
        return None, [Problem(f"there is no hardware card '{name}'", where, _nearest(name, cards))]
    remedy = f"set wideep_gpu to one of {', '.join(cards)}"
    return None, [Problem("the GPU is not named: memory is not checked", where, remedy, "warning")]
