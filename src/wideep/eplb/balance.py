"""How evenly a placement spreads a load: the busiest GPU over the average one, since all wait for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wideep.eplb.placement import Floats, Ints


@dataclass(frozen=True)
class Balance:
    """Load of GPUs in tokens, and max/mean: of each layer that counted something, and of all of them.

    `overall` weighs layers by their load: it is the factor by which experts take longer than if all GPUs had
    the same. 1.0 is perfect; SGLang's metric of balance is its inverse.
    """

    layers: tuple[int, ...]
    gpus: Floats
    ratios: tuple[float, ...]
    overall: float

    @property
    def worst(self) -> tuple[int, float]:
        """Return the layer whose busiest GPU is busiest, and its ratio."""
        ratio = max(self.ratios)
        return self.layers[self.ratios.index(ratio)], ratio


def balance(counts: Ints, layers: tuple[int, ...], placed: Ints, gpus: int) -> Balance:
    """Return the balance of a placement, an expert's tokens divided evenly by its copies.

    An engine that prefers a copy on the same GPU or node divides them less evenly. Layers that counted
    nothing are left out.
    """
    counted = np.flatnonzero(counts.sum(axis=1))
    load, slots = counts[counted].astype(np.float64), placed[counted]
    copies = np.zeros_like(load)
    np.add.at(copies, (np.arange(len(counted))[:, None], slots), 1)
    carried = np.take_along_axis(load / np.maximum(copies, 1), slots, axis=1)
    by_gpu = carried.reshape(len(counted), gpus, -1).sum(axis=2)
    highest, mean = by_gpu.max(axis=1), by_gpu.mean(axis=1)
    return Balance(
        layers=tuple(layers[row] for row in counted),
        gpus=by_gpu,
        ratios=tuple(float(ratio) for ratio in highest / mean),
        overall=float(highest.sum() / mean.sum()),
    )
