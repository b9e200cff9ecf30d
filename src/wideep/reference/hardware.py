"""Hardware cards: what a GPU system offers (`configs/hardware/<name>.yml`)."""

from __future__ import annotations

from functools import lru_cache

import yaml
from pydantic import BaseModel, ConfigDict, Field

from wideep.problems import Problem, suggest
from wideep.reference.paths import configs_dir

MIB = 1024**2
GIB = 1024**3


class GpuCard(BaseModel):
    """One kind of GPU system.

    memory_mib: what the driver reports as total. compute: compute capability times ten (SM 90 is Hopper).
    nvlink_domain: GPUs that reach each other over NVLink; more than a host has means multi-node NVLink.
    gpus_per_node, nics_per_node, nic_gbit: the usual build, which preflight compares with.
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


@lru_cache(maxsize=1)
def hardware_cards() -> dict[str, GpuCard]:
    """Return every card by name."""
    paths = sorted((configs_dir() / "hardware").glob("*.yml"))
    return {p.stem: GpuCard.model_validate(yaml.safe_load(p.read_text(encoding="utf-8"))) for p in paths}


def find_gpu(name: str, host: str) -> tuple[GpuCard | None, list[Problem]]:
    """Return the card that `wideep_gpu` of a host names, and what is wrong if there is none."""
    cards, where = hardware_cards(), f"wideep_gpu on host {host}"
    if name in cards:
        return cards[name], []
    if name:
        return None, [Problem(f"there is no hardware card '{name}'", where, suggest(name, cards))]
    remedy = f"set wideep_gpu to one of {', '.join(cards)}"
    return None, [Problem("the GPU is not named: memory is not checked", where, remedy, "warning")]
