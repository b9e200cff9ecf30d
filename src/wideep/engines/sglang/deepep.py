"""DeepEP, and what hands over tokens as it does: numbers of GPUs, and formats of experts.

Read in SGLang (layers/moe/ep_moe/layer.py, arg_groups/moe_hook.py; the same in both releases) and DeepEP.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from wideep.reference.models import Format

# DeepEP counts ranks in groups of one host's GPUs (NUM_MAX_NVL_PEERS in its csrc/kernels/configs.cuh).
GROUP = 8
# Ranks that its normal kernels exist for (launch.cuh there, deep_ep/buffer.py) in 1.2.1, the oldest that
# SGLang's images have; and what later versions add.
SIZES = (2, 4, 8, 16, 24, 32, 64, 128, 144, 160)
LATER = (48, 96)
# Format of the experts -> kernels (moe_runner_backend) that take DeepEP's layouts, `auto` where SGLang finds
# one by itself. Formats that are not here have none: SGLang ends at the first batch.
RUNNERS: MappingProxyType[Format, tuple[str, ...]] = MappingProxyType(
    {
        "fp8-block": ("auto", "deep_gemm"),
        "fp8-tensor": ("auto", "deep_gemm"),  # its scales are repeated for blocks
        "w4afp8": ("auto", "cutlass"),
        "mxfp8": ("deep_gemm",),
        "bf16": ("deep_gemm",),
        "nvfp4": ("flashinfer_cutedsl",),
        "fp4": ("flashinfer_cutedsl",),
        "mxfp4": ("deep_gemm",),
    }
)
# Takes every format, if it is named.
ANY_FORMAT = "humming"
# Of experts of an unknown format.
UNKNOWN = ("auto", "deep_gemm", "cutlass", "flashinfer_cutedsl", ANY_FORMAT)
# What SGLang is known to serve so without being told more.
BY_DEFAULT: frozenset[Format] = frozenset({"fp8-block", "w4afp8"})


@dataclass(frozen=True)
class Objection:
    """What DeepEP has against a number of GPUs. each_host: it is about the GPUs of one host."""

    message: str
    remedy: str
    each_host: bool = False
    severity: Literal["error", "warning"] = "error"


def objection(size: int, *, nodes: int, each: int, linked: bool, mode: str) -> Objection | None:
    """Return what DeepEP has against `size` GPUs on `nodes` hosts, `each` of them on one.

    linked: NVLink spans the hosts. mode: of DeepEP.
    """
    other = "set a2a_backend: none"
    if size > GROUP and size % GROUP:
        return Objection(
            f"DeepEP counts GPUs in groups of {GROUP}, {size} are not whole", f"change it, or {other}"
        )
    if mode == "low_latency":  # finds its way by each GPU
        return None
    if nodes > 1 and each % min(GROUP, size) and not linked:
        return Objection(
            f"DeepEP's normal kernels take {GROUP} GPUs in a row for those of one host (NVLink), and a"
            f" replica has {each} on each",
            f"give a replica {GROUP} GPUs of each host, or {other}",
            each_host=True,
        )
    if size in LATER:
        return Objection(
            f"DeepEP's normal kernels know {size} GPUs in versions after 1.2.1 only",
            f"see that the image has a later one, or use {_sizes(size)} GPUs",
            severity="warning",
        )
    if size not in SIZES:
        message = f"DeepEP's normal kernels do not exist for {size} GPUs"
        return Objection(message, f"use {_sizes(size)} GPUs, or {other}")
    return None


def _sizes(size: int) -> str:
    """Return the numbers of GPUs beside `size` that DeepEP's normal kernels exist for."""
    below = [n for n in SIZES if n < size][-1:]
    return " or ".join(map(str, [*below, *[n for n in SIZES if n > size][:1]]))
