"""Where experts and their copies lie: the method that DeepSeek published as EPLB, for all layers at once.

Two steps, both greedy. Copies go one by one to the expert whose copies carry most. Then slots are packed,
heaviest first, each into the lightest bin that has room. The hierarchical form first packs whole groups of
experts onto nodes, so that a token that is routed to few groups reaches few nodes, and then takes both steps
on each node by itself; the global form takes the cluster as one node.

Ours beyond the method: an expert has no more copies than there are GPUs for them, and a GPU gets a second
copy of an expert only where no other has room. Layers that counted nothing keep the experts' order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wideep.problems import Problem, RefusedError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cluster:
    """What a replica's experts are spread over. `redundant` copies lie beside the experts."""

    gpus: int
    nodes: int = 1
    redundant: int = 0


def place(load: Ints, cluster: Cluster, groups: int = 1) -> tuple[Ints, bool]:
    """Return the expert of each slot, by layer, and whether groups were kept on nodes.

    `load` is layers x experts. Slots of a GPU are neighbours, GPUs of a node too. Raises RefusedError.
    """
    layers, experts = load.shape
    check(experts, cluster)
    hierarchical = cluster.nodes > 1 and groups > 1 and groups % cluster.nodes == 0 and experts % groups == 0
    weight = load.astype(np.float64)
    nodes = cluster.nodes if hierarchical else 1
    members = _by_node(weight, groups, nodes) if hierarchical else np.tile(np.arange(experts), (layers, 1))
    slots = experts + cluster.redundant

    # One row for each layer's node from here on.
    each = np.take_along_axis(weight, members, axis=1).reshape(layers * nodes, experts // nodes)
    copied, share = _copies(each, slots // nodes, most=cluster.gpus // nodes)
    order = _packed(share, cluster.gpus // nodes, copied)
    local = np.take_along_axis(copied, order, axis=1)
    placed = np.take_along_axis(members.reshape(layers * nodes, -1), local, axis=1).reshape(layers, slots)
    silent = weight.sum(axis=1) == 0
    placed[silent] = in_order(int(silent.sum()), experts, slots)
    return placed, hierarchical


def in_order(layers: int, experts: int, slots: int) -> Ints:
    """Return where experts begin if nobody says: in their order, the first ones again as copies."""
    return np.tile(np.arange(slots, dtype=np.int64) % experts, (layers, 1))


def check(experts: int, cluster: Cluster) -> None:
    """Refuse what no placement can satisfy."""
    slots = experts + cluster.redundant
    problems = []
    if cluster.gpus < 1 or slots % cluster.gpus:
        problems.append(
            Problem(
                f"{experts} experts and {cluster.redundant} copies do not divide by {cluster.gpus} GPUs",
                "--redundant",
                f"use {(-experts) % max(cluster.gpus, 1)} copies, or that and a multiple of {cluster.gpus}",
            )
        )
    if cluster.nodes < 1 or cluster.gpus % cluster.nodes:
        problems.append(
            Problem(
                f"{cluster.gpus} GPUs do not divide by {cluster.nodes} nodes",
                "--nodes",
                "name the nodes of one replica",
            )
        )
    if slots > experts * cluster.gpus > 0:
        problems.append(
            Problem(
                f"{slots} slots are more than one copy of {experts} experts for each of {cluster.gpus} GPUs",
                "--redundant",
                f"use at most {experts * (cluster.gpus - 1)} copies",
            )
        )
    if problems:
        raise RefusedError(problems)


def _by_node(weight: Floats, groups: int, nodes: int) -> Ints:
    """Return the experts of each node one after the other, whole groups packed by their load."""
    layers, experts = weight.shape
    size = experts // groups
    order = _packed(weight.reshape(layers, groups, size).sum(axis=2), nodes)
    members: Ints = (order[:, :, None] * size + np.arange(size)).reshape(layers, experts)
    return members


def _copies(weight: Floats, slots: int, most: int) -> tuple[Ints, Floats]:
    """Return the expert of each slot, still unplaced, and the load that it carries."""
    rows, experts = weight.shape
    every = np.arange(rows)
    count = np.ones((rows, experts), np.int64)
    chosen = np.tile(np.arange(slots, dtype=np.int64), (rows, 1))
    for slot in range(experts, slots):
        carried = np.where(count < most, weight / count, -1.0)
        fullest = carried.argmax(axis=1)
        chosen[:, slot] = fullest
        count[every, fullest] += 1
    return chosen, np.take_along_axis(weight / count, chosen, axis=1)


def _packed(weight: Floats, bins: int, kind: Ints | None = None) -> Ints:
    """Return the items of each bin, bin after bin, all of the same number: lightest bin with room first.

    Bins that hold an item of the same kind come last.
    """
    rows, items = weight.shape
    room = items // bins
    every = np.arange(rows)
    carried, filled = np.zeros((rows, bins)), np.zeros((rows, bins), np.int64)
    kinds = 1 if kind is None else int(np.max(kind)) + 1
    held = np.zeros((rows, bins, kinds), np.bool_)
    packed = np.empty((rows, items), np.int64)
    again = weight.sum(axis=1, keepdims=True) + 1  # more than any bin carries
    for item in np.argsort(-weight, axis=1, kind="stable").T:
        cost = np.where(filled < room, carried, np.inf)
        if kind is not None:
            same = kind[every, item]
            cost = np.where(held[every, :, same], cost + again, cost)
        lightest = cost.argmin(axis=1)
        packed[every, lightest * room + filled[every, lightest]] = item
        filled[every, lightest] += 1
        carried[every, lightest] += weight[every, item]
        if kind is not None:
            held[every, lightest, same] = True
    return packed
