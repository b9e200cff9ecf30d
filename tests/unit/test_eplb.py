"""Expert placement: what is read, the balance of it, the method's properties, the files, the command."""

from __future__ import annotations

import itertools
import json
import pickle
import time
import zipfile
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from example_inventories import inventory
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from wideep.cli import app
from wideep.engines import ENGINES
from wideep.eplb import torch_file
from wideep.eplb.balance import balance
from wideep.eplb.placement import Cluster, Ints, in_order, place
from wideep.eplb.record import ROUTES, record
from wideep.eplb.recording import Recording, read, read_map
from wideep.eplb.work import Target, refuse_another_model, target, work_out
from wideep.plan import make_plan
from wideep.problems import RefusedError

RECORDED = Path(__file__).parent / "recordings" / "experts"


def skewed(layers: int = 61, experts: int = 256) -> Ints:
    """Return a load like published ones: some experts are asked for ten times as often as others."""
    load = np.random.default_rng(3).gamma(0.8, 10_000, (layers, experts)).astype(np.int64) + 1
    load[:3] = 0  # layers without experts
    return load


# -- the method ---------------------------------------------------------------------------------------------


@st.composite
def cases(draw: st.DrawFn) -> tuple[Ints, Cluster, int]:
    """Return a load, what it is spread over, and the groups of experts."""
    nodes, gpus_each, groups_each = draw(st.tuples(*[st.integers(1, 4)] * 3))
    gpus, groups = nodes * gpus_each, nodes * groups_each
    experts = groups * draw(st.integers(1, 4))
    slots_each = -(-experts // gpus) + draw(st.integers(0, 2))
    redundant = min(gpus * slots_each, gpus * experts) - experts
    redundant -= (experts + redundant) % gpus
    if redundant < 0 or redundant > experts * (gpus_each - 1):
        redundant, gpus = 0, nodes if experts % nodes == 0 else 1
        nodes = gpus
    layers = draw(st.integers(1, 3))
    counts = draw(st.lists(st.integers(0, 10**6), min_size=layers * experts, max_size=layers * experts))
    return np.array(counts, np.int64).reshape(layers, experts), Cluster(gpus, nodes, redundant), groups


@given(cases())
@settings(max_examples=300, deadline=None)
def test_every_expert_has_a_slot_every_slot_an_expert_and_gpus_are_filled_alike(
    case: tuple[Ints, Cluster, int],
) -> None:
    load, cluster, groups = case
    placed, hierarchical = place(load, cluster, groups)
    layers, experts = load.shape
    assert placed.shape == (layers, experts + cluster.redundant)
    assert placed.shape[1] % cluster.gpus == 0
    for row, asked in zip(placed.tolist(), load.tolist(), strict=True):
        copies = Counter(row)
        assert set(copies) == set(range(experts))
        assert max(copies.values()) <= cluster.gpus
        if hierarchical and any(asked):
            for group in range(groups):
                slots = [s for s, expert in enumerate(row) if expert // (experts // groups) == group]
                assert len({slot // (len(row) // cluster.nodes) for slot in slots}) == 1


@given(cases())
@settings(max_examples=100, deadline=None)
def test_no_load_is_lost_and_nothing_is_more_even_than_even(case: tuple[Ints, Cluster, int]) -> None:
    load, cluster, groups = case
    if not load.any():
        return
    found = balance(load, tuple(range(len(load))), place(load, cluster, groups)[0], cluster.gpus)
    assert found.gpus.sum() == pytest.approx(load.sum())
    assert min(found.ratios) >= 1 - 1e-9
    assert min(found.ratios) - 1e-9 <= found.overall <= found.worst[1] + 1e-9


def optimum(load: list[int], gpus: int, room: int) -> float:
    """Return the least load of the busiest GPU over all numbers of copies and all places of them."""
    slots, experts = gpus * room, len(load)
    best = float("inf")
    for extra in itertools.combinations_with_replacement(range(experts), slots - experts):
        copies = [1 + extra.count(expert) for expert in range(experts)]
        items = [load[e] / copies[e] for e in range(experts) for _ in range(copies[e])]

        best = min(best, _fill(items, ((0.0, 0),) * gpus, room))
    return best


def _fill(items: list[float], bins: tuple[tuple[float, int], ...], room: int) -> float:
    if not items:
        return max(carried for carried, _ in bins)
    found = float("inf")
    for carried, filled in set(bins):
        if filled < room:
            rest = list(bins)
            rest.remove((carried, filled))
            found = min(found, _fill(items[1:], (*rest, (carried + items[0], filled + 1)), room))
    return found


def test_small_cases_are_near_the_best_of_all_placements() -> None:
    random = np.random.default_rng(11)
    over = []
    for _ in range(24):
        experts, gpus = int(random.integers(3, 6)), int(random.integers(2, 4))
        redundant = (-experts) % gpus
        load = random.integers(1, 100, (1, experts))
        placed, _ = place(load, Cluster(gpus, 1, redundant))
        ours = balance(load, (0,), placed, gpus).gpus.max()
        over.append(ours / optimum(load[0].tolist(), gpus, (experts + redundant) // gpus))
    assert min(over) >= 1 - 1e-9  # else the brute force is wrong
    assert max(over) <= 1.4  # with few experts a greedy choice costs most
    assert np.mean(over) <= 1.08
    assert sum(ratio < 1.001 for ratio in over) >= 8


def test_deepseeks_size_is_placed_within_a_second_and_balanced() -> None:
    load = skewed()
    began = time.perf_counter()
    placed, hierarchical = place(load, Cluster(32, 1, 32))
    assert time.perf_counter() - began < 1
    assert not hierarchical
    layers = tuple(range(61))
    assert balance(load, layers, in_order(61, 256, 288), 32).overall > 1.9
    after = balance(load, layers, placed, 32)
    assert after.overall < 1.01
    assert after.layers == layers[3:]
    assert np.array_equal(placed[:3], in_order(3, 256, 288))


def test_the_hottest_expert_has_most_copies_on_gpus_of_its_own() -> None:
    load = np.full((1, 8), 10)
    load[0, 5] = 100
    placed, _ = place(load, Cluster(4, 1, 4))
    assert Counter(placed[0].tolist()).most_common(1)[0] == (5, 4)
    assert all(5 in gpu for gpu in placed[0].reshape(4, 3).tolist())


@pytest.mark.parametrize(
    ("cluster", "where", "said"),
    [
        (Cluster(32, 1, 16), "--redundant", "use 0 copies, or that and a multiple of 32"),
        (Cluster(24, 1, 0), "--redundant", "use 8 copies"),
        (Cluster(32, 3, 32), "--nodes", "nodes of one replica"),
        (Cluster(2, 1, 512), "--redundant", "at most 256 copies"),
    ],
)
def test_what_no_placement_fits_is_refused(cluster: Cluster, where: str, said: str) -> None:
    with pytest.raises(RefusedError, match=said) as refused:
        place(skewed(4), cluster)
    assert [p.where for p in refused.value.problems] == [where]


# -- what is read -------------------------------------------------------------------------------------------


def test_a_file_of_sglangs_recorder_is_read_without_torch() -> None:
    found = read(RECORDED / "stat.pt")  # torch.save of what _StatAccumulator.dump returns: 4 passes
    assert found.counts.tolist() == [
        [0] * 8,
        [75, 50, 886, 114, 65, 40, 59, 49],
        [101, 92, 79, 82, 108, 43, 77, 134],
    ]
    assert (found.layers, found.source, found.placed) == ((0, 1, 2), "SGLang", None)


def test_passes_of_all_ranks_add_up_by_the_expert_of_each_slot() -> None:
    found = read(RECORDED / "per_pass")
    assert found.placed is not None
    assert found.placed.tolist() == [[*range(8), 0, 1, 2, 3]] * 3
    files = [torch_file.load(file) for file in (RECORDED / "per_pass").glob("*.pt")]
    slots = sum(record["global_physical_count"] for file in files for record in file["records"])
    assert found.counts[1, 0] == slots[1, 0] + slots[1, 8]
    assert found.counts.sum() == slots.sum()
    assert read(RECORDED / "per_pass" / "per_pass_0.pt").counts.sum() < found.counts.sum()


def statistics(directory: Path, ranks: list[dict[str, list[int]]], **meta: int) -> Path:
    """Write what TensorRT-LLM writes: one file a rank, tensors named <iteration>_<layer>."""
    (directory / "meta_info.json").write_text(json.dumps(meta), encoding="utf-8")
    for rank, tensors in enumerate(ranks):
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        data = b""
        for name, values in tensors.items():
            own = np.array(values, "<i8").tobytes()
            header[name] = {
                "dtype": "I64",
                "shape": [len(values)],
                "data_offsets": [len(data), len(data) + len(own)],
            }
            data += own
        text = json.dumps(header).encode()
        content = len(text).to_bytes(8, "little") + text + data
        (directory / f"rank{rank}.safetensors").write_bytes(content)
    return directory


def test_statistics_of_tensorrt_llm_add_up_over_ranks_and_iterations(tmp_path: Path) -> None:
    first = {"50_3": [1, 2, 3, 4], "51_3": [1, 0, 0, 0], "50_4": [0, 0, 0, 9]}
    where = statistics(tmp_path, [first, {"50_3": [0, 0, 0, 1]}], num_experts=4, num_experts_per_token=2)
    (where / "rank0_raw.safetensors").write_bytes(b"each token's choice, which is not read")
    found = read(where)
    assert found.counts.tolist() == [[2, 2, 3, 5], [0, 0, 0, 9]]
    assert (found.layers, found.source) == ((3, 4), "TensorRT-LLM")


def evil(path: Path) -> Path:
    """Write a file whose pickle wants to run a program."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps(print))
    return path


def test_files_that_are_no_recording_are_refused(tmp_path: Path) -> None:
    other, silent, noise = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "c.pt"
    other.write_text('{"physical_to_logical_map": [[0]]}', encoding="utf-8")
    silent.write_text(json.dumps({"logical_count": [[[0, 0]]]}), encoding="utf-8")
    noise.write_bytes(b"PK no zip")
    for path, said in (
        (other, "logical_count"),
        (silent, "nothing was counted"),
        (noise, "no file of torch.save"),
        (evil(tmp_path / "d.pt"), "builtins.print"),
        (tmp_path / "missing.pt", "No such file"),
        (tmp_path, "last_physical_to_logical_map|no file of torch.save"),
    ):
        with pytest.raises(RefusedError, match=said) as refused:
            read(path)
        assert refused.value.problems[0].where == str(path)


# -- what is written ----------------------------------------------------------------------------------------


def test_both_files_are_read_back(tmp_path: Path) -> None:
    placed, _ = place(skewed(5, 8), Cluster(4, 1, 4))
    for name, engine in (("s.json", "sglang"), ("t.yml", "trtllm")):
        text = ENGINES[engine].placement(placed.tolist(), range(5))
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert np.array_equal(read_map(tmp_path / name, range(5), 8), placed)
    with pytest.raises(RefusedError, match="each of 9 experts"):
        read_map(tmp_path / "s.json", range(5), 9)
    with pytest.raises(RefusedError, match="no placement"):
        read_map(tmp_path / "t.yml", range(6), 8)


def test_the_picture_shows_every_layer_and_is_xml() -> None:
    done = work_out(Recording(skewed(), tuple(range(61)), "SGLang"), Cluster(32, 4, 32), 8)
    assert done.hierarchical
    root = ET.fromstring(done.svg())
    titles = [title.text or "" for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == 2 * 58
    assert titles[0].startswith("layer 3: ")
    assert len(done.svg()) < 300_000


# -- what a plan says ---------------------------------------------------------------------------------------

PLAN: dict[str, Any] = {
    "pools": [
        {
            "name": "decode",
            "replicas": [{"world_size": 32, "nodes": [{"host": f"d{n}", "rank": n} for n in range(4)]}],
        },
        {"name": "prefill", "replicas": [{"world_size": 16, "nodes": [{"host": "p0", "rank": 0}]}]},
    ],
    "settings": {
        "engine_flavour": "sglang",
        "model": "deepseek-ai/DeepSeek-R1",
        "model_card": "",
        "cards_dir": "",
        "eplb": {"redundant_experts": 32},
        "pools": {"prefill": {"eplb": {"redundant_experts": 16}}},
    },
}


def test_a_pool_of_a_plan_says_what_its_experts_are_spread_over() -> None:
    assert target(PLAN, "decode") == Target(Cluster(32, 4, 32), "sglang", groups=8, experts=256, layers=61)
    assert target(PLAN, "prefill").cluster == Cluster(16, 1, 16)
    with pytest.raises(RefusedError, match="no pool 'decodes'"):
        target(PLAN, "decodes")


def test_a_recording_of_another_model_is_refused() -> None:
    of = target(PLAN, "decode")
    refuse_another_model(Recording(skewed(), tuple(range(61)), "SGLang"), of, "x")
    refuse_another_model(Recording(skewed(58), tuple(range(3, 61)), "TensorRT-LLM"), of, "x")
    for counts in (skewed(60), skewed(61, 128)):
        with pytest.raises(RefusedError, match="61 with 256"):
            refuse_another_model(Recording(counts, tuple(range(len(counts))), "SGLang"), of, "x")


# -- the command --------------------------------------------------------------------------------------------


def run(*words: str | Path) -> str:
    done = CliRunner().invoke(app, ["eplb", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_place_shows_both_balances_and_writes_what_is_asked_for(tmp_path: Path) -> None:
    out, svg = tmp_path / "deep" / "o.json", tmp_path / "o.svg"
    told = run(
        "place",
        RECORDED / "stat.pt",
        "--gpus",
        "4",
        "--redundant",
        "4",
        "--engine",
        "sglang",
        "-o",
        out,
        "--svg",
        svg,
    )
    assert "4 GPUs with 3 slots each (4 copies)" in told
    assert f"written: {out}" in told
    assert np.array(json.loads(out.read_text())["physical_to_logical_map"]).shape == (3, 12)
    assert svg.read_text(encoding="utf-8").startswith("<svg")

    data = json.loads(
        run("place", RECORDED / "stat.pt", "--gpus", "4", "--redundant", "4", "--now", out, "--json")
    )
    assert data["before"] == data["after"]
    assert data["after"]["max_over_mean"] < 1.05
    assert list(data["after"]["layers"]) == ["1", "2"]


def test_balance_is_that_of_the_recorded_placement() -> None:
    assert "in the worst, layer 1" in run("balance", RECORDED / "per_pass", "--gpus", "2")
    data = json.loads(run("balance", RECORDED / "stat.pt", "--gpus", "2", "--json"))
    assert data["layers"]["1"] == pytest.approx(2 * (75 + 50 + 886 + 114) / 1338, abs=1e-4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "over how many GPUs"),
        (("--gpus", "3"), "do not divide by 3 GPUs"),
        (("--gpus", "4", "--engine", "vllm", "-o", "never.json"), "no placement is written for 'vllm'"),
        (("-i", "nowhere"), "no such inventory"),
    ],
)
def test_what_cannot_be_placed_is_refused(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        run("place", RECORDED / "stat.pt", *words)


def test_tensorrt_llms_counts_make_no_file_for_sglang(tmp_path: Path) -> None:
    where = statistics(tmp_path, [{"1_3": [5, 1, 1, 1]}], num_experts=4)
    with pytest.raises(RefusedError, match="every layer"):
        run("place", where, "--gpus", "2", "--engine", "sglang", "-o", tmp_path / "p.json")
    assert not (tmp_path / "p.json").exists()
    run("place", where, "--gpus", "2", "--engine", "trtllm", "-o", tmp_path / "p.yml")
    assert json.loads((tmp_path / "p.yml").read_text()).keys() == {"3"}


# -- recording ----------------------------------------------------------------------------------------------


class Worker(BaseHTTPRequestHandler):
    """Stands in for a worker's system port."""

    calls: ClassVar[list[str]] = []
    answers: ClassVar[dict[str, tuple[int, bytes]]] = {}

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.calls.append(self.path)
        status, text = self.answers.get(self.path, (200, b'{"result": null}'))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def worker() -> Any:
    Worker.calls.clear()
    Worker.answers.clear()
    server = HTTPServer(("127.0.0.1", 0), Worker)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_record_is_started_and_dumped_and_stopped_only_if_asked(worker: str) -> None:
    slept: list[float] = []
    record([worker], 5, stop=False, sleep=slept.append)
    start, dump, stop = (f"/engine/{route}" for route in ROUTES)
    assert (Worker.calls, slept) == ([start, dump], [5])
    record([worker + "/"], 0, stop=True, sleep=slept.append)
    assert Worker.calls[2:] == [start, dump, stop]


def test_a_worker_without_the_routes_says_how_it_gets_them(worker: str) -> None:
    Worker.answers[f"/engine/{ROUTES[0]}"] = (404, b"Route not found")
    with pytest.raises(RefusedError, match=r"engine-route: \[start_expert_distribution_record:tm"):
        run("record", worker, "-s", "0")
    Worker.answers[f"/engine/{ROUTES[0]}"] = (200, b'{"status": "error", "message": "no recorder"}')
    with pytest.raises(RefusedError, match="no recorder"):
        run("record", worker, "-s", "0")
    for url, said in (("http://127.0.0.1:1", "no answer"), ("file:///etc", "not a URL")):
        with pytest.raises(RefusedError, match=said):
            run("record", url, "-s", "0")


def test_the_routes_are_planned_as_the_remedy_says() -> None:
    extra = {"engine-route": [f"{route}:tm" for route in ROUTES]}
    groups, hosts = inventory(
        "deepseek_r1_sglang",
        wideep_pools={pool: {"nodes_per_replica": 4, "extra_args": extra} for pool in ("prefill", "decode")},
    )
    words = next(
        x for x in make_plan(groups, hosts).launches["decode01.example.com"] if "decode" in x.name
    ).argv
    assert [words[at + 1] for at, word in enumerate(words) if word == "--engine-route"] == extra[
        "engine-route"
    ]
