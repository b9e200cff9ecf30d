"""`wideep eplb`: balance of a recording, a placement of it, and the recording itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wideep import runner
from wideep.eplb.record import record
from wideep.problems import Problem, RefusedError

if TYPE_CHECKING:
    from wideep.eplb.placement import Ints
    from wideep.eplb.recording import Recording
    from wideep.eplb.work import Target

app = typer.Typer(
    help="Expert placement: record the load, see its balance, place the experts.", no_args_is_help=True
)

Source = Annotated[
    Path,
    typer.Argument(
        metavar="RECORDING",
        help="File of SGLang's recorder (.pt, .json), directory of several, or TensorRT-LLM's statistics.",
    ),
]
Inventory = Annotated[
    Path | None,
    typer.Option(
        "--inventory", "-i", help="Inventory whose pool it is for: GPUs, nodes, copies, groups, engine."
    ),
]
Pool = Annotated[str, typer.Option("--pool", help="Pool of that inventory: prefill, decode or aggregated.")]
Gpus = Annotated[
    int | None, typer.Option("--gpus", min=1, help="GPUs of one replica, over which experts are spread.")
]
Nodes = Annotated[int | None, typer.Option("--nodes", min=1, help="Nodes of one replica.")]
Redundant = Annotated[
    int | None, typer.Option("--redundant", min=0, help="Copies beside the experts (redundant_experts).")
]
Groups = Annotated[
    int | None,
    typer.Option("--groups", min=1, help="Groups of experts that stay on a node; 1 places globally."),
]
Now = Annotated[
    Path | None,
    typer.Option("--now", help="Placement in force, to compare with. Default: as recorded, or in order."),
]
Json = Annotated[bool, typer.Option("--json", help="Print only JSON on standard output.")]


@app.command("record")
def _record(
    workers: Annotated[
        list[str], typer.Argument(metavar="URL...", help="System ports of the first ranks: http://HOST:PORT.")
    ],
    seconds: Annotated[float, typer.Option("--seconds", "-s", min=0, help="How long to count.")] = 60,
    *,
    stop: Annotated[
        bool, typer.Option("--stop", help="Stop counting afterwards; not for workers whose EPLB is on.")
    ] = False,
) -> int:
    """Have running workers of SGLang count experts and write the counts on their hosts."""
    record(workers, seconds, stop=stop)
    print(
        f"counted for {seconds:g} s; each worker's first host has expert_distribution_recorder_<time>.pt"
        " in SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR (unset: /tmp)"
    )
    return 0


@app.command("balance")
def _balance(
    source: Source,
    *,
    inventory: Inventory = None,
    pool: Pool = "decode",
    gpus: Gpus = None,
    redundant: Redundant = None,
    now: Now = None,
    as_json: Json = False,
) -> int:
    """Say how evenly a recorded load is spread: the busiest GPU over the mean, by layer and overall."""
    from wideep.eplb import work  # noqa: PLC0415 - numpy is not for every verb to load

    recording, of, placed = _read(
        source, now, inventory, pool, gpus=gpus, nodes=None, redundant=redundant, groups=None
    )
    found = work.before(recording, of.cluster, placed)
    if as_json:
        print(json.dumps(work.figures(found), indent=2))
        return 0
    layer, ratio = found.worst
    print(f"busiest GPU / mean: {found.overall:.2f} over all layers, {ratio:.2f} in the worst, layer {layer}")
    for number, value in zip(found.layers, found.ratios, strict=True):
        print(f"layer {number:>3}  {value:6.2f}  {'#' * round(20 * min(value - 1, 3))}")
    return 0


@app.command("place")
def _place(
    source: Source,
    *,
    inventory: Inventory = None,
    pool: Pool = "decode",
    gpus: Gpus = None,
    nodes: Nodes = None,
    redundant: Redundant = None,
    groups: Groups = None,
    engine: Annotated[
        str,
        typer.Option("--engine", help="Whose file it is: sglang or trtllm. Default: the inventory's."),
    ] = "",
    now: Now = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File that the engine begins with.")] = None,
    svg: Annotated[Path | None, typer.Option("--svg", help="Picture of the load before and after.")] = None,
    as_json: Json = False,
) -> int:
    """Place experts and copies by a recorded load, and show the balance before and after."""
    from wideep.eplb import work  # noqa: PLC0415 - numpy is not for every verb to load

    recording, of, placed = _read(
        source, now, inventory, pool, gpus=gpus, nodes=nodes, redundant=redundant, groups=groups
    )
    done = work.work_out(recording, of.cluster, of.groups, placed)
    for path, text in (
        (out, done.file(engine or of.engine) if out else ""),
        (svg, done.svg() if svg else ""),
    ):
        if path:
            _write(path, text)
    if as_json:
        print(json.dumps(done.data, indent=2))
        return 0
    print(done.text)
    for path in filter(None, (out, svg)):
        print(f"written: {path}")
    return 0


def _read(
    source: Path, now: Path | None, inventory: Path | None, pool: str, **given: int | None
) -> tuple[Recording, Target, Ints | None]:
    """Return a recording, the pool that it is for, and the placement to compare with."""
    from wideep.eplb.recording import read, read_map  # noqa: PLC0415 - numpy is not for every verb to load
    from wideep.eplb.work import refuse_another_model  # noqa: PLC0415

    recording = read(source)
    of = _target(inventory, pool, **given)
    refuse_another_model(recording, of, str(source))
    return recording, of, read_map(now, recording.layers, recording.experts) if now else None


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RefusedError(
            [Problem(f"cannot be written: {error}", str(path), "name another place")]
        ) from error


def _target(inventory: Path | None, pool: str, **given: int | None) -> Target:
    """Return a pool of an inventory with what options say over it; without an inventory, the options."""
    from wideep.eplb.placement import Cluster  # noqa: PLC0415 - numpy is not for every verb to load
    from wideep.eplb.work import Target, target  # noqa: PLC0415

    if inventory is None and given["gpus"] is None:
        remedy = "name the pool's inventory (-i), or --gpus and, where there are copies, --redundant"
        raise RefusedError(
            [Problem("it is not told over how many GPUs the experts are spread", "--gpus", remedy)]
        )
    of = target(_plan(inventory), pool, [_folder(inventory)]) if inventory else Target(Cluster(1), "")
    cluster = Cluster(
        gpus=given["gpus"] or of.cluster.gpus,
        nodes=given["nodes"] or of.cluster.nodes,
        redundant=of.cluster.redundant if given["redundant"] is None else given["redundant"],
    )
    return Target(cluster, of.engine, given["groups"] or of.groups, of.experts, of.layers)


def _folder(inventory: Path) -> Path:
    return inventory if inventory.is_dir() else inventory.parent


def _plan(inventory: Path) -> dict[str, Any]:
    """Return the data of an inventory's plan. Raises RefusedError with what refused it."""
    if not inventory.exists():
        raise RefusedError(
            [Problem("no such inventory", str(inventory), "name a directory or file that is there")]
        )
    result = runner.run("plan", [str(inventory)], extra_vars=[{"wideep_output": "json"}], record=False)
    if result.rc:
        said = "; ".join(failure.message for failure in result.failures) or result.status
        remedy = f"see `wideep plan -i {inventory}`"
        raise RefusedError([Problem(f"its plan is refused: {said}", str(inventory), remedy)])
    plan: dict[str, Any] = result.data["wideep_data"]
    return plan
