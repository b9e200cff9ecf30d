#!/usr/bin/env python3
"""Prove DeepEP, and what came after the first runs, on two or four GPUs of one host.

On the machine, in a checkout:

    tools/gpu_proof/wide_ep.py --results DIR [--steps machine,preflight,…] [--engine-python PATH]

As several_gpus.py. `all_to_all` deploys every way of handing over tokens beside each other on the same GPUs
(one port offset and one state directory each), then loads them in turn (PROOF_WAYS=none,auto chooses). Of the
same, `placement` records which experts are used, starts one more with copies placed by that, and compares;
`kill_rank` kills one rank. `halves` has prefill on one half of the GPUs and decode on the other;
`kill_…` and `same_id` use it.
`whole_memory` deploys what is compared with the plan's arithmetic. `two_workers` changes one option of two
workers under load, `kill_part` and `kill_part_again` kill the process of one GPU of them.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import several_gpus as several
from several_gpus import Several, by_process, count, lines_of, used

import proof as one
from proof import HERE, MODELS, Proof, StepError, end_group

STEPS: one.Steps = {name: one.STEPS[name] for name in ("machine", "preflight")}
FP8 = "deepseek_v3_small_fp8"
# Kernels are compiled as they are needed: SGLang itself compiles all of them first, in 10 minutes and more.
COMPILED_LATE = {"SGLANG_JIT_DEEPGEMM_PRECOMPILE": "false", "SGLANG_DG_USE_NVRTC": "1"}
# Others take memory of the same GPUs while one starts.
UNEQUAL = {"SGLANG_ENABLE_TP_MEMORY_INBALANCE_CHECK": "false"}
EPLB: dict[str, Any] = {"enabled": True, "redundant_experts": 8, "rebalance_iterations": 100}
DEEPEP: dict[str, Any] = {"a2a_backend": "deepep"}
MTP = {"algorithm": "mtp", "steps": 1, "topk": 1, "draft_tokens": 2}
# Name -> options, and other variables.
LOW_LATENCY = DEEPEP | {
    "deepep_mode": "low_latency",
    "dispatch_tokens_per_rank": 512,
    "chunked_prefill_size": 1024,
}
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "none": ({}, {}),
    "low-latency": (LOW_LATENCY, {}),
    "auto": (DEEPEP | {"deepep_mode": "auto"}, {}),
    "v2": ({"a2a_backend": "deepep_v2", "chunked_prefill_size": 4096}, {}),
    "eplb": (LOW_LATENCY, {"wideep_eplb": EPLB}),
    # Normal in prefill, low latency in decode, both over all GPUs; the KV cache goes by NIXL.
    "pools": (DEEPEP, {"wideep_share_gpus": True, "wideep_aggregated": False}),
    # The same, each on one half.
    "split": (DEEPEP, {"wideep_aggregated": False}),
    "overlap": (DEEPEP | {"deepep_mode": "auto", "two_batch_overlap": True}, {}),
    "mtp": (DEEPEP | {"deepep_mode": "auto", "speculative": MTP}, {}),
}
# What shows which experts are used; Dynamo hands on the engine's own routes by name.
RECORDED = "low-latency"
ROUTES = [f"{word}_expert_distribution_record" for word in ("start", "stop", "dump")]
if chosen := os.environ.get("PROOF_WAYS"):
    WAYS = {name: WAYS[name] for name in chosen.split(",")}
# So many of them find room on a GPU of 80 GB. The cache is small; the share is of what is free at the start.
SHARED = {"mem_fraction_static": 0.5, "max_total_tokens": 65536, "cuda_graph_max_bs": 32}
LOAD = {"requests": 192, "concurrency": 64, "words": 100, "tokens": 64}


def step(deadline_s: int) -> Any:
    """Add a step of this program."""
    return one.step(deadline_s, STEPS)


class Wide(Several):
    """Several deployments on the same GPUs."""

    deployment = ""

    def variables(self) -> dict[str, Any]:
        """Return what this machine decides; compiled kernels are shared by all deployments."""
        given = super().variables()
        if self.deployment:
            given |= {"wideep_deployment": self.deployment, "wideep_discovery": "file"}
            given |= {"wideep_event_plane": "zmq", "wideep_namespace": self.deployment}
            given["verify_request_timeout_s"] = 150
        return given

    def playbook(self, name: str, variables: dict[str, Any], *options: str) -> tuple[int, str, float]:
        """See `Proof`. Preflight refuses GPUs that others use, which is the point here."""
        beside = ("--skip-tags", "preflight") if self.deployment and name == "site" else ()
        return super().playbook(name, variables, *options, *beside)

    def made_pools(
        self, sizes: dict[str, int], env: dict[str, str], options: dict[str, Any]
    ) -> dict[str, Any]:
        """See `Several`."""
        cache = self.state.parent / "kernels"
        env = COMPILED_LATE | (UNEQUAL if self.deployment else {}) | env
        env |= {
            "SGLANG_DG_CACHE_DIR": f"{cache}/deep_gemm",
            "FLASHINFER_WORKSPACE_BASE": str(cache),
            "TRITON_CACHE_DIR": f"{cache}/triton",
            "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor",
            "TVM_FFI_CACHE_DIR": f"{cache}/tvm-ffi",
            "EP_JIT_CACHE_DIR": f"{cache}/deep_ep",
        }
        made = super().made_pools(sizes, env, options)
        if "speculative" in options and not self.simulate:
            for pool in made["wideep_pools"].values():
                pool["extra_args"]["json-model-override-args"] = '{"num_nextn_predict_layers": 1}'
        return made

    def beside(self, name: str, place: int) -> Wide:
        """Return another deployment on this machine, with ports and directories of its own."""
        other = copy.copy(self)
        other.results, other.name, other.deployment = self.log_dir, name, name
        other.state, other.offset = self.state.parent / f"state-{name}", 200 * (place + 1)
        other.log_dir.mkdir(parents=True, exist_ok=True)
        return other


# ---- small things ----------------------------------------------------------------------------------


def note(proof: Proof, found: dict[str, Any]) -> None:
    """Write what a step has found so far."""
    (proof.log_dir / "found.json").write_text(json.dumps(found, indent=1))


def first_requests(proof: Several, model: str) -> list[dict[str, Any]]:
    """Return how long the first requests took: one at a time, then several at once, of new lengths."""
    found = []
    shapes = [(1, 1, 20), (1, 1, 20), (1, 1, 200), (1, 1, 200), (1, 1, 1500), (1, 1, 1500)]
    shapes += [(8, 8, 200), (8, 8, 200), (32, 32, 200), (32, 32, 200)]
    for seed, (requests, width, words) in enumerate(shapes, 100):
        sizes = {"requests": requests, "concurrency": width, "words": words, "tokens": 16}
        answer = proof.load(proof.url, model, **sizes, seed=seed, timeout=90)
        row = {"at once": width, "words": words, "errors": answer["errors"]}
        if "ttft_ms" in answer:
            row |= {"first token ms": answer["ttft_ms"]["p95"], "whole ms": answer["e2e_ms"]["p95"]}
        found.append(row)
    return found


MEMORY = r"Load weight (begin|end)|KV Cache is allocated|max_total_num_tokens|Memory pool end|graph end"


def shown(proof: Several) -> dict[str, Any]:
    """Return of a deployment's workers what the logs say of memory and choices, and their commands."""
    workers = sorted(path.parent.name for path in proof.state.glob("services/*/launch.json"))
    workers = [name for name in workers if re.match("prefill|decode|aggregated", name)]
    return {
        name: {
            "memory": lines_of(proof, name, MEMORY, 16),
            "choices": lines_of(proof, name, several.CHOICES + "|[Dd]eep_?EP", 12),
            "argv": several.argv(proof, name),
        }
        for name in workers
    }


def ends(proof: Several, service: str) -> list[str]:
    """Return the end of a service's log."""
    path = proof.log_dir / f"{service}.log"
    return path.read_text(errors="replace")[-5000:].splitlines() if path.exists() else []


def deployed(proof: Wide, options: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
    """Deploy the MoE shape with one way of handing over tokens; return what was seen, or why it failed."""
    begin = time.monotonic()
    try:
        options = SHARED | {"moe_runner_backend": "deep_gemm"} | options
        roles = ("prefill", "decode") if "wideep_aggregated" in variables else ("aggregated",)
        whole = len(roles) == 1 or "wideep_share_gpus" in variables
        env = {"SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR": str(proof.state.parent / "recorded")}
        pools = proof.made_pools(dict.fromkeys(roles, count() if whole else count() // 2), env, options)
        for pool in pools["wideep_pools"].values():
            # Kernels of 42 lengths would be compiled.
            pool.get("extra_args", {})["cuda-graph-backend-prefill"] = "disabled"
            if proof.deployment == RECORDED and not proof.simulate:
                pool["extra_args"] |= {"expert-distribution-recorder-mode": "stat", "engine-route": ROUTES}
        given = {"wideep_aggregated": True} | pools | proof.shape(FP8) | variables
        if proof.simulate:
            given.pop("wideep_eplb", None)
        made = proof.deploy(**given)
    except (StepError, OSError, ValueError) as error:
        seconds = round(time.monotonic() - begin, 1)
        workers = ("aggregated-0", "prefill-0", "decode-0")
        logs = {name: end for name in workers if (end := ends(proof, name))}
        return {"failed": str(error), "seconds": seconds, "end_of_log": logs}
    return {"made": made, "seen": shown(proof)}


def standing(proof: Wide) -> list[Wide]:
    """Return the deployments of `all_to_all` that serve."""
    path = proof.results / "all_to_all" / "found.json"
    found = json.loads(path.read_text())["started"]
    host = copy.copy(proof)
    host.name = "all_to_all"
    path = proof.results / "placement" / "found.json"
    found |= json.loads(path.read_text())["started"] if path.exists() else {}
    names = [*WAYS, "static"]
    return [host.beside(name, place) for place, name in enumerate(names) if "made" in found.get(name, {})]


def stopped(proof: Wide, *names: str) -> float:
    """Take deployments of `all_to_all` down, all at once; return the seconds."""
    begin = time.monotonic()
    going = [other for other in standing(proof) if not names or other.name in names]
    with ThreadPoolExecutor(len(WAYS)) as pool:
        list(pool.map(lambda x: x.playbook("teardown", {"wideep_drain_timeout_s": 5}), going))
    return round(time.monotonic() - begin, 1)


# ---- steps -----------------------------------------------------------------------------------------


@step(560)
def all_to_all(proof: Wide) -> dict[str, Any]:
    """DeepEP in each of its modes, its second version, with EPLB, with MTP, and none, beside each other."""
    found: dict[str, Any] = {"gpu_memory_before": used(), "started": {}}
    others = {name: proof.beside(name, place) for place, name in enumerate(WAYS)}

    def start(name: str) -> None:
        other = others[name]
        other.until = time.monotonic() + 400
        found["started"][name] = deployed(other, *WAYS[name])
        note(proof, found)

    with several.watched(proof.log_dir / "memory.txt"), ThreadPoolExecutor(len(WAYS)) as pool:
        list(pool.map(start, WAYS))
    found["by_process"] = by_process()
    serving = [other for name, other in others.items() if "made" in found["started"][name]]
    for other in serving:
        other.until = proof.until
        other.started = []
    found["first requests"] = {}
    note(proof, found)
    if "none" not in [other.name for other in serving] or len(serving) == 1:
        raise StepError(f"too few serve to compare: {[other.name for other in serving]}")
    warm(proof, serving, found)
    compared(proof, serving, found)
    return {key: value for key, value in found.items() if key != "started"} | {
        "serving": [other.name for other in serving],
        "failed": {n: s["failed"][:600] for n, s in found["started"].items() if "failed" in s},
    }


def warm(proof: Wide, serving: list[Wide], found: dict[str, Any]) -> None:
    """Let each deployment compile what it needs, all at once."""

    def one_of_them(other: Wide) -> tuple[str, Any]:
        with suppress(StepError, subprocess.SubprocessError):
            begin = time.monotonic()
            rounds = [
                other.load(other.url, MODELS[FP8], **LOAD | {"requests": 64}, seed=seed, timeout=100)
                for seed in (91, 92)
            ]
            return other.name, {"seconds": round(time.monotonic() - begin, 1), "rounds": rounds}
        return other.name, "failed"

    with ThreadPoolExecutor(len(serving)) as pool:
        found["warm-up, all at once"] = dict(pool.map(one_of_them, serving))
    note(proof, found)


def compared(proof: Wide, serving: list[Wide], found: dict[str, Any], rounds: int = 3) -> None:
    """Load the deployments in turn, the order changing."""
    found["rounds"] = []
    for turn in range(rounds):
        row: dict[str, Any] = {}
        found["rounds"].append(row)
        for other in serving if turn % 2 == 0 else serving[::-1]:
            try:
                row[other.name] = other.load(other.url, MODELS[FP8], **LOAD, seed=turn, timeout=60)
            except (StepError, subprocess.SubprocessError) as error:
                row[other.name] = {"failed": str(error)[:300]}
            other.keep_logs()
            note(proof, found)
            if time.monotonic() > proof.until - 5:
                return
    found["output_tokens_per_s"] = {
        other.name: [row.get(other.name, {}).get("output_tokens_per_s") for row in found["rounds"]]
        for other in serving
    }
    found["eplb"] = {
        other.name: lines_of(other, "aggregated-0", "EPLBManager|ep rebalanc|balancedness", 12)
        for other in serving
        if "eplb" in other.name
    }
    found["accepted"] = {
        other.name: lines_of(other, "aggregated-0", "accept (len|rate)", 4)
        for other in serving
        if "mtp" in other.name
    }


@step(150)
def again(proof: Wide) -> dict[str, Any]:
    """The comparison once more, of what still serves."""
    found: dict[str, Any] = {}
    serving = standing(proof)
    for other in serving:
        other.until, other.started = proof.until, []
    compared(proof, serving, found)
    return found


def engine_route(other: Wide, service: str, route: str) -> str:
    """Call one of the engine's own routes on the system port of a worker; return the answer."""
    launch = json.loads((other.state / "services" / service / "launch.json").read_text())
    url = f"http://{other.address}:{launch['env']['DYN_SYSTEM_PORT']}/engine/{route}"
    request = urllib.request.Request(url, b"{}", {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(answer.read(2000).decode(errors="replace"))


COUNTS = """
import json, sys, torch
counts = torch.load(sys.argv[1], weights_only=True, map_location="cpu")["logical_count"]
print(json.dumps({"shape": list(counts.shape), "counts": counts.sum(0).tolist()}))
"""


@step(330)
def placement(proof: Wide) -> dict[str, Any]:
    """Record which experts a load uses, place copies by that, compare: off, online, from the recording."""
    found: dict[str, Any] = {"started": {}}
    serving = {other.name: other for other in standing(proof)}
    for other in serving.values():
        other.until, other.started = proof.until, []
    source = serving[RECORDED]
    before = set((proof.state.parent / "recorded").glob("*.pt"))
    found["answers"] = [engine_route(source, "aggregated-0", ROUTES[0])]
    found["load while recording"] = source.load(source.url, MODELS[FP8], **LOAD, seed=77)
    found["answers"] += [engine_route(source, "aggregated-0", route) for route in ROUTES[1:]]
    files = sorted(set((proof.state.parent / "recorded").glob("*.pt")) - before)
    note(proof, found)
    if not files:
        raise StepError(f"nothing was recorded: {found['answers']}")
    recorded = proof.log_dir / "recorded.pt"
    shutil.copyfile(files[-1], recorded)
    _, output, _ = proof.run("counts.json", [proof.python, "-c", COUNTS, str(recorded)])
    found["experts"] = json.loads(output.strip().splitlines()[-1])
    note(proof, found)
    host = copy.copy(proof)
    static = host.beside("static", len(WAYS))
    static.until = time.monotonic() + 200
    # Read by the engine; nothing is measured or moved while it serves.
    eplb = {"enabled": False, "redundant_experts": EPLB["redundant_experts"], "placement": str(recorded)}
    found["started"]["static"] = deployed(static, LOW_LATENCY, {"wideep_eplb": eplb})
    note(proof, found)
    static.until, static.started = proof.until, []
    chosen = [serving[name] for name in (RECORDED, "eplb") if name in serving] + [static]
    warm(proof, chosen, found)
    compared(proof, chosen, found)
    return found


@step(170)
def kill_rank(proof: Wide) -> dict[str, Any]:
    """SIGKILL to rank 1 of a worker whose experts are spread by DeepEP."""
    others = {other.name: other for other in standing(proof)}
    other = others.get("auto") or others.get("low-latency") or others["none"]
    other.results, other.name, other.until, other.started = proof.log_dir, other.name, proof.until, []
    other.log_dir.mkdir(exist_ok=True)
    try:
        return several.killed(other, "aggregated-0", 1, 130, FP8)
    finally:
        for process in other.started:
            end_group(process)


@step(90)
def stop_all(proof: Wide) -> dict[str, Any]:
    """Take down what `all_to_all` left."""
    return {"seconds": stopped(proof), "gpu_memory": used(), "by_process": by_process()}


@step(260)
def halves(proof: Wide) -> dict[str, Any]:
    """Prefill on one half, decode on the other, KV cache by NIXL; the first requests, then load."""
    found: dict[str, Any] = {"made": proof.deploy(**proof.half(cuda_graph_max_bs=64))}
    found["by_process"] = by_process()
    found["seen"] = shown(proof)
    note(proof, found)
    found["first requests"] = first_requests(proof, MODELS["qwen3_8b"])
    note(proof, found)
    found["load"] = [
        proof.load(proof.url, MODELS["qwen3_8b"], requests=128, concurrency=16, words=400, tokens=64, seed=n)
        for n in (1, 2)
    ]
    proof.keep_logs()
    return found


SAME_ID = """
import asyncio, json, sys
import aiohttp
url, model = sys.argv[1:]
async def ask(session, words, tokens):
    body = {"model": model, "max_tokens": tokens, "ignore_eos": True,
            "messages": [{"role": "user", "content": "able about " * words}]}
    name = "00000000-0000-4000-8000-00000000beef"
    headers = {"x-request-id": name, "x-dynamo-request-id": name}
    async with session.post(url + "/v1/chat/completions", json=body, headers=headers) as answer:
        text = await answer.text()
        usage = json.loads(text).get("usage") if answer.status == 200 else None
        return {"status": answer.status, "tokens": (usage or {}).get("completion_tokens"),
                "id": text[:60], "error": "" if answer.status == 200 else text[:400]}
async def main():
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=40)) as session:
        one = await ask(session, 50, 16)
        after = await ask(session, 50, 16)
        both = await asyncio.gather(*(ask(session, 50 + n, 400) for n in range(4)), return_exceptions=True)
        print(json.dumps({"one": one, "after it": after, "four at once": [str(x) if isinstance(x, Exception)
                          else x for x in both]}))
asyncio.run(main())
"""


@step(60)
def same_id(proof: Wide) -> dict[str, Any]:
    """Requests with the same id, one after the other and at the same time, to routers of both kinds."""
    launch = json.loads((proof.state / "services" / "frontend" / "launch.json").read_text())
    words, port = list(launch["argv"]), str(one.FRONTEND + 90)
    words[words.index("--http-port") + 1] = port
    words[words.index("--router-mode") + 1] = "round-robin"
    url = f"http://{proof.address}:{port}"
    proof.start("round-robin.log", words, **launch["env"])
    one.wait_for("the second frontend", one.listed(url, MODELS["qwen3_8b"]), proof)
    found: dict[str, Any] = {}
    for router, place in (("kv", proof.url), ("round-robin", url)):
        _, output, _ = proof.run(f"{router}.txt", [proof.python, "-c", SAME_ID, place, MODELS["qwen3_8b"]])
        last = output.strip().splitlines()[-1:] or [""]
        with suppress(ValueError):
            found[router] = json.loads(last[0])
    proof.keep_logs()
    seen = "already|[Dd]uplicate|inhibit|cannot_connect"
    services = ("frontend", "round-robin", "prefill-0", "decode-0")
    return found | {name: lines_of(proof, name, seen, 12) for name in services}


@step(170)
def kill_decode(proof: Wide) -> dict[str, Any]:
    """SIGKILL to the decode worker under load."""
    return several.killed(proof, "decode-0", 0, 100)


@step(170)
def kill_decode_again(proof: Wide) -> dict[str, Any]:
    """The same once more: what the first left behind would be missing now."""
    return several.killed(proof, "decode-0", 0, 100)


@step(170)
def kill_prefill(proof: Wide) -> dict[str, Any]:
    """SIGKILL to the prefill worker under load."""
    return several.killed(proof, "prefill-0", 0, 100)


@step(100)
def whole_memory(proof: Wide) -> dict[str, Any]:
    """Experts over both GPUs alone on them, the share of memory as the plan chooses it."""
    options = LOW_LATENCY | {"cuda_graph_max_bs": 32, "moe_runner_backend": "deep_gemm"}
    made = proof.deploy(**proof.shape(FP8), **proof.whole(**options), wideep_eplb=EPLB)
    return {"made": made, "seen": shown(proof), "by_process": by_process()}


@step(300)
def two_workers(proof: Wide) -> dict[str, Any]:
    """Two workers of half the GPUs each; one option changes under load."""
    found: dict[str, Any] = {}

    def pools(**options: Any) -> dict[str, Any]:
        made = proof.whole(**options)
        pool = made["wideep_pools"]["aggregated"]
        pool |= {"gpus_per_node": count() // 2, "replicas_per_node": 2}
        if "options" in pool:
            pool["options"]["data_parallel_size"] = count() // 2
        return made

    found["made"] = proof.deploy(**pools(cuda_graph_max_bs=16))
    found["first requests"] = first_requests(proof, MODELS["qwen3_8b"])
    found["seen"] = shown(proof)
    note(proof, found)
    words = [proof.python, str(HERE / "load.py"), proof.url, MODELS["qwen3_8b"], "--requests", "100000"]
    out = proof.log_dir / "load.json"
    with out.open("wb") as file:
        busy = subprocess.Popen(
            [*words, "--concurrency", "8", "--tokens", "128", "--timeout", "30"],
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    proof.started.append(busy)
    time.sleep(5)
    try:
        found["changed"] = proof.deploy(**pools(cuda_graph_max_bs=24))
    finally:
        busy.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            busy.wait(40)
        end_group(busy)
    found["load"] = json.loads(Path(out).read_text() or "{}")
    return found


@step(200)
def kill_part(proof: Wide) -> dict[str, Any]:
    """SIGKILL to the process of one GPU of a worker of `two_workers`, which does not notice it itself."""
    return several.killed(proof, "aggregated-0", 1, 130)


@step(200)
def kill_part_again(proof: Wide) -> dict[str, Any]:
    """The same once more."""
    return several.killed(proof, "aggregated-0", 1, 130)


@step(90)
def down(proof: Wide) -> dict[str, Any]:
    """Stop and remove the deployment of `halves` and those after it."""
    status, output, seconds = proof.playbook(
        "teardown", {"wideep_keep_state": True, "wideep_confirm": True, "wideep_drain_timeout_s": 10}
    )
    if status:
        raise StepError(f"teardown ended with {status}: {one.told(output)}")
    return {"seconds": seconds, "gpu_memory": used(), "by_process": by_process()}


if __name__ == "__main__":
    sys.exit(one.main(Wide, STEPS))
