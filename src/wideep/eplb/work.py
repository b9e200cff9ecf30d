"""Balance and placement of a recording, as the command shows and writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wideep.engines import ENGINES
from wideep.eplb.balance import Balance, balance
from wideep.eplb.picture import picture
from wideep.eplb.placement import Cluster, Ints, check, in_order, place
from wideep.eplb.recording import Recording
from wideep.problems import Problem, RefusedError, suggest
from wideep.reference.models import find_model


@dataclass(frozen=True)
class Placed:
    """A recording before and after: the placement, both balances, and what was asked for."""

    recording: Recording
    cluster: Cluster
    groups: int
    hierarchical: bool
    placed: Ints
    before: Balance
    after: Balance

    @property
    def data(self) -> dict[str, Any]:
        """Return the figures for programs."""
        return {
            "source": self.recording.source,
            "tokens": int(self.recording.counts.sum()),
            "experts": self.recording.experts,
            "gpus": self.cluster.gpus,
            "nodes": self.cluster.nodes,
            "redundant_experts": self.cluster.redundant,
            "hierarchical": self.hierarchical,
            "before": figures(self.before),
            "after": figures(self.after),
        }

    @property
    def text(self) -> str:
        """Return the figures for people."""
        slots = self.recording.experts + self.cluster.redundant
        how = (
            f"groups of experts stay on one of {self.cluster.nodes} nodes"
            if self.hierarchical
            else "globally"
        )
        return "\n".join(
            (
                f"{self.recording.source}: {int(self.recording.counts.sum())} choices of an expert in"
                f" {len(self.before.layers)} layers with {self.recording.experts} experts",
                f"{self.cluster.gpus} GPUs with {slots // self.cluster.gpus} slots each"
                f" ({self.cluster.redundant} copies), placed {how}",
                "",
                "busiest GPU / mean    all layers    worst layer",
                _row("before", self.before),
                _row("after", self.after),
            )
        )

    def file(self, engine: str) -> str:
        """Return the file that an engine begins with. Raises RefusedError."""
        known = [name for name, one in ENGINES.items() if one.places]
        if engine not in known:
            raise RefusedError(
                [Problem(f"no placement is written for '{engine}'", "--engine", f"use {' or '.join(known)}")]
            )
        return ENGINES[engine].placement(self.placed.tolist(), self.recording.layers)

    def svg(self) -> str:
        """Return the picture."""
        copies = f"{self.recording.experts} experts and {self.cluster.redundant} copies"
        return picture(f"{copies} on {self.cluster.gpus} GPUs", self.before, self.after)


def figures(of: Balance) -> dict[str, Any]:
    """Return a balance for programs: max/mean overall and by layer."""
    layer, ratio = of.worst
    return {
        "max_over_mean": round(of.overall, 4),
        "worst_layer": {"layer": layer, "max_over_mean": round(ratio, 4)},
        "layers": {str(number): round(value, 4) for number, value in zip(of.layers, of.ratios, strict=True)},
    }


def _row(name: str, of: Balance) -> str:
    layer, ratio = of.worst
    return f"{name:<22}{of.overall:>10.2f}    {ratio:>5.2f} (layer {layer})"


def before(recording: Recording, cluster: Cluster, now: Ints | None = None) -> Balance:
    """Return the balance of the placement in force: the one given, the one recorded, or experts in order."""
    slots = recording.experts + cluster.redundant
    placed = now if now is not None else recording.placed
    if placed is None:
        check(recording.experts, cluster)
        placed = in_order(len(recording.counts), recording.experts, slots)
    if cluster.gpus < 1 or placed.shape[1] % cluster.gpus:
        raise RefusedError(
            [
                Problem(
                    f"{placed.shape[1]} slots of the placement in force do not divide by {cluster.gpus} GPUs",
                    "--gpus",
                    "name the GPUs of one replica",
                )
            ]
        )
    return balance(recording.counts, recording.layers, placed, cluster.gpus)


def work_out(recording: Recording, cluster: Cluster, groups: int, now: Ints | None = None) -> Placed:
    """Return a placement and what it changes. Raises RefusedError for numbers that no placement fits."""
    placed, hierarchical = place(recording.counts, cluster, groups)
    return Placed(
        recording=recording,
        cluster=cluster,
        groups=groups,
        hierarchical=hierarchical,
        placed=placed,
        before=before(recording, cluster, now),
        after=balance(recording.counts, recording.layers, placed, cluster.gpus),
    )


@dataclass(frozen=True)
class Target:
    """What a pool of a plan is: what its experts are spread over, its engine, and its model's experts."""

    cluster: Cluster
    engine: str
    groups: int = 1
    experts: int | None = None
    layers: int | None = None


def target(plan: Mapping[str, Any], pool: str, places: Sequence[str | Path] = ()) -> Target:
    """Return what a plan's data says of a pool; `places` may hold model cards. Raises RefusedError."""
    pools = {found["name"]: found for found in plan["pools"] if found["replicas"]}
    if pool not in pools:
        raise RefusedError([Problem(f"the plan has no pool '{pool}'", "--pool", suggest(pool, pools))])
    settings, replica = plan["settings"], pools[pool]["replicas"][0]
    own = (settings["pools"].get(pool) or {}).get("eplb") or {}
    card, _ = find_model(
        settings["model_card"], settings["model"], [*filter(None, [settings["cards_dir"]]), *places]
    )
    experts = card.experts if card else None
    return Target(
        cluster=Cluster(
            gpus=replica["world_size"],
            nodes=len({part["host"] for part in replica["nodes"]}),
            redundant=own.get("redundant_experts") or settings["eplb"]["redundant_experts"],
        ),
        engine=settings["engine_flavour"],
        groups=experts.groups if experts else 1,
        experts=experts.routed if experts else None,
        layers=card.layers if card else None,
    )


def refuse_another_model(recording: Recording, of: Target, where: str) -> None:
    """Refuse a recording whose experts or layers are not those of the plan's model."""
    whole = recording.source == "SGLang" and of.layers is not None
    if (of.experts or recording.experts) != recording.experts or (
        whole and of.layers != len(recording.counts)
    ):
        counted = f"{len(recording.counts)} layers with {recording.experts} experts"
        message = f"it counts {counted}; the plan's model has {of.layers} with {of.experts}"
        raise RefusedError([Problem(message, where, "give a recording of this model")])
