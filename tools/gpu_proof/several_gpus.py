#!/usr/bin/env python3
"""Prove on several GPUs of one host that what we render serves.

On the machine, in a checkout:

    tools/gpu_proof/several_gpus.py --results DIR [--steps machine,preflight,…] [--engine-python PATH]

As proof.py, with the inventory sglang_single_node: prefill on the first half of the GPUs, decode on the
other, attention by data in each. Its options are kept; what is changed is the place, random weights, and with
PROOF_TRITON=1 in the environment the attention kernels (for a machine without FlashAttention 3). `kill_…` use
the deployment of `wide_dp`, which stays until the next one or `down`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import proof as one
from proof import FRONTEND, HERE, MODELS, REPOSITORY, Proof, StepError, end_group, main_process

MODELS |= {
    "deepseek_v3_small_fp8": "wideep/deepseek-v3-shape-fp8",
    "qwen3_8b": "wideep/qwen3-8b-shape",
}
STEPS: one.Steps = {name: one.STEPS[name] for name in ("machine", "preflight", "down")}
# SGLang's own names of GPUs, and the files of configs/hardware.
GPUS = {"H100": "h100-80gb", "H200": "h200-141gb"}
# Multicast over NVLink stays off: not every host's owner allows it.
QUIET = {"NCCL_NVLS_ENABLE": "0", "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1", "NVSHMEM_DISABLE_NVLS": "1"}


def step(deadline_s: int) -> Any:
    """Add a step of this program."""
    return one.step(deadline_s, STEPS)


class Several(Proof):
    """The same on all GPUs of this machine."""

    inventory = REPOSITORY / "inventories" / "sglang_single_node"
    # Of all ports: several deployments may stand beside each other.
    offset = 0

    @property
    def url(self) -> str:
        """Return the frontend's address."""
        return f"http://{self.address}:{FRONTEND + self.offset}"

    def variables(self) -> dict[str, Any]:
        """Return what this machine decides of the inventory's variables."""
        given: dict[str, Any] = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "wideep_address": self.address,
            "wideep_state_dir": str(self.state),
            "wideep_port_offset": self.offset,
            "wideep_gpus_per_node": count(),
            "wideep_gpu": next((card for word, card in GPUS.items() if word in gpu_name()), "h100-80gb"),
            "wideep_service_manager": "supervisord",
            "wideep_drain_timeout_s": 60,
            "wideep_start_deadline_s": 300,
            "nats_install_method": "pypi",
            "verify_words": False,
        } | self.shape("qwen3_8b")
        if self.engine_python:
            given |= {"wideep_runtime": "existing", "wideep_python": self.engine_python}
        if self.etcd:
            given |= {"etcd_install_method": "existing", "etcd_binary": self.etcd}
        else:
            given["wideep_discovery"] = "file"
        if self.simulate:
            given["wideep_engine"] = "mocker"
        return given | self.half()

    def shape(self, name: str) -> dict[str, Any]:
        """Return the variables of a model shape."""
        return {"wideep_model": MODELS[name], "wideep_model_path": str(self.model(name))}

    def half(self, env: dict[str, str] | None = None, **options: Any) -> dict[str, Any]:
        """Return pools prefill and decode with half of the GPUs each, and changed options."""
        each = count() // 2
        return self.made_pools(dict.fromkeys(("prefill", "decode"), each), env or {}, options)

    def whole(self, env: dict[str, str] | None = None, **options: Any) -> dict[str, Any]:
        """Return one pool with all GPUs, and changed options."""
        return {"wideep_aggregated": True} | self.made_pools({"aggregated": count()}, env or {}, options)

    def made_pools(
        self, sizes: dict[str, int], env: dict[str, str], options: dict[str, Any]
    ) -> dict[str, Any]:
        """Return `wideep_pools` as the inventory has them, for so many GPUs each."""
        if self.simulate:
            return {"wideep_pools": {role: {"gpus_per_node": size} for role, size in sizes.items()}}
        own = self.inventory_pools()["decode"]
        libraries = os.environ.get("LD_LIBRARY_PATH", "")
        # Services get none of the login's environment.
        env = QUIET | ({"LD_LIBRARY_PATH": libraries} if libraries else {}) | env
        # Multicast too; SGLang chooses it without DP attention only.
        extra: dict[str, Any] = {"enforce-disable-flashinfer-allreduce-fusion": True}
        if os.environ.get("PROOF_TRITON"):
            options = options | {"attention_backend": "triton"}
            extra["sampling-backend"] = "pytorch"
        return {
            "wideep_pools": {
                role: {
                    "gpus_per_node": size,
                    "options": own["options"]
                    | {"data_parallel_size": size, "load_format": "dummy"}
                    | options,
                    "extra_args": extra,
                    "env": env,
                }
                for role, size in sizes.items()
            }
        }


# ---- small things ----------------------------------------------------------------------------------


def smi(what: str, columns: str) -> list[list[str]]:
    """Return what nvidia-smi answers to a query, a list for each line."""
    argv = ["nvidia-smi", f"--query-{what}={columns}", "--format=csv,noheader,nounits"]
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode == 0:
            return [[word.strip() for word in line.split(",")] for line in done.stdout.splitlines()]
    return []


@cache
def gpu_name() -> str:
    """Return the product name of the first GPU."""
    return next((row[0] for row in smi("gpu", "name")), "")


@cache
def count() -> int:
    """Return the number of GPUs, the inventory's where there is none."""
    return len(smi("gpu", "index")) or 4


def used() -> list[int]:
    """Return the used memory of each GPU in MiB."""
    return [int(row[0]) for row in smi("gpu", "memory.used")]


def by_process() -> list[str]:
    """Return who holds how much of which GPU: 'decode-0 sglang::scheduler_DP1_TP1 GPU 3: 66012 MiB'."""
    indices = {uuid: index for index, uuid in smi("gpu", "index,uuid")}
    names: dict[int, str] = {}
    for pid, name, _ in list(one.services()):
        names |= dict.fromkeys([pid, *descendants(pid)], name)
    lines = []
    for pid, uuid, memory in smi("compute-apps", "pid,gpu_uuid,used_memory"):
        with suppress(OSError):
            title = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode().strip()
            lines.append(
                f"{names.get(int(pid), '?')} {pid} {title} GPU {indices.get(uuid, uuid)}: {memory} MiB"
            )
    return sorted(lines)


@contextmanager
def watched(log: Path) -> Iterator[None]:
    """Write the used memory of all GPUs to a file, once a second, with the time since the start."""
    ended, begin = threading.Event(), time.monotonic()

    def look() -> None:
        with log.open("a") as file:
            while not ended.wait(1):
                file.write(f"{time.monotonic() - begin:6.1f} {used()}\n")
                file.flush()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def rank_process(service: str, rank: int, state: Path) -> int:
    """Return the scheduler of a tensor rank, of the only one where there is one."""
    for pid in descendants(main_process(service, state)):
        with suppress(OSError):
            title = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
            if title.startswith("sglang::scheduler") and (f"TP{rank}" in title or "TP" not in title):
                return pid
    raise StepError(f"no scheduler of rank {rank} below {service}")


def descendants(pid: int) -> list[int]:
    """Return the processes below one."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        below = parents.get(todo.pop(), [])
        found += below
        todo += below
    return found


def lines_of(proof: Proof, service: str, words: str, most: int = 30) -> list[str]:
    """Return the lines of a service's log in which a pattern is found, the last ones."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", (proof.log_dir / f"{service}.log").read_text(errors="replace"))
    lines = [line for line in text.splitlines() if "server_args=" not in line]
    return [line[:400] for line in lines if re.search(words, line)][-most:]


CHOICES = r"Use \S+ backend by default|moe_runner|DeepGEMM|All Reduce config|Using NIXL EP"


def serve(proof: Several, shape: str, variables: dict[str, Any], **load: int) -> dict[str, Any]:
    """Deploy a shape, put load on it, and say what was seen."""
    before = used()
    made = proof.deploy(**proof.shape(shape), **variables)
    after_start = by_process()
    options = {"requests": 64, "concurrency": 16, "words": 400, "tokens": 64} | load
    cold = proof.load(proof.url, MODELS[shape], **options)
    warm = proof.load(proof.url, MODELS[shape], **options, seed=2)
    proof.keep_logs()
    workers = sorted({name for _, name, _ in one.services() if re.match("prefill|decode|aggregated", name)})
    found = {
        "made": made,
        "first load": cold,
        "second load": warm,
        "gpu_memory_before": before,
        "by_process_after_start": after_start,
        "by_process_after_load": by_process(),
        "logs": {name: one.timeline(proof, name) for name in workers},
        "choices": {name: lines_of(proof, name, CHOICES, 12) for name in workers},
        "argv": {name: argv(proof, name) for name in workers},
    }
    if cold["errors"] or warm["errors"]:
        (proof.log_dir / "found.json").write_text(json.dumps(found, indent=1))
        raise StepError(f"under load: {cold['errors']} {warm['errors']}")
    return found


def argv(proof: Proof, service: str) -> str:
    """Return the command of a service."""
    launch = json.loads((proof.state / "services" / service / "launch.json").read_text())
    return " ".join(launch["argv"])


def killed(
    proof: Several, service: str, rank: int, patience_s: float, shape: str = "qwen3_8b"
) -> dict[str, Any]:
    """Kill one rank's scheduler under load and watch; the load client says what its users saw."""
    model = MODELS[shape]
    words = [proof.python, str(HERE / "load.py"), proof.url, model, "--requests", "100000"]
    words += ["--concurrency", "16", "--tokens", "256", "--timeout", "30"]
    out = proof.log_dir / "load.json"
    with out.open("wb") as file:
        busy = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
    proof.started.append(busy)
    time.sleep(8)
    before, memory = by_process(), used()
    victim = rank_now(proof, service, rank)
    begin, serves = time.monotonic(), 0.0
    with watched(proof.log_dir / "memory.txt"):
        os.kill(victim, signal.SIGKILL)
        probe = {"requests": 1, "concurrency": 1, "words": 20, "tokens": 8, "timeout": 10}
        # Requests go to whoever is registered: what counts is that the new processes answer.
        while not serves and time.monotonic() - begin < patience_s:
            time.sleep(0.5)
            anew = rank_now(proof, service, rank) not in (0, victim) and healthy(proof, service)
            if anew and proof.load(proof.url, model, **probe)["good"]:
                serves = round(time.monotonic() - begin, 1)
        time.sleep(5 if serves else 0)
    busy.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        busy.wait(40)
    end_group(busy)
    proof.keep_logs()
    found = {
        "killed": f"rank {rank} of {service}",
        "serves_again_after_s": serves,
        "load": json.loads(out.read_text() or "{}"),
        "gpu_memory_before": memory,
        "gpu_memory_after": used(),
        "by_process_before": before,
        "by_process_after": by_process(),
        "log": one.timeline(proof, service),
    }
    if not serves:
        found["end_of_log"] = (
            (proof.log_dir / f"{service}.log").read_text(errors="replace")[-6000:].splitlines()
        )
        (proof.log_dir / "found.json").write_text(json.dumps(found, indent=1))
        raise StepError(f"{service} did not serve again in {patience_s} s: {used()} MiB used")
    return found


def rank_now(proof: Several, service: str, rank: int) -> int:
    """Return the process of a rank, simulated the service's own; 0 while there is none."""
    with suppress(StepError):
        if proof.simulate:
            return main_process(service, proof.state)
        return rank_process(service, rank, proof.state)
    return 0


def healthy(proof: Several, service: str) -> bool:
    """Whether a worker's own port says that it is ready."""
    launch = json.loads((proof.state / "services" / service / "launch.json").read_text())
    answer = one.get(f"http://{proof.address}:{launch['env']['DYN_SYSTEM_PORT']}/health")
    return '"status":"ready"' in answer


# ---- steps -----------------------------------------------------------------------------------------


@step(420)
def wide_dp(proof: Several) -> dict[str, Any]:
    """The inventory as it is: a dense model, attention by data, prefill and decode on different GPUs."""
    return serve(proof, "qwen3_8b", proof.half())


@step(200)
def kill_decode(proof: Several) -> dict[str, Any]:
    """SIGKILL to one rank of the decode worker."""
    return killed(proof, "decode-0", 1, 120)


@step(200)
def kill_prefill(proof: Several) -> dict[str, Any]:
    """SIGKILL to one rank of the prefill worker, which also shows what it held."""
    return killed(proof, "prefill-0", 1, 120)


@step(400)
def kill_decode_mappings_kept(proof: Several) -> dict[str, Any]:
    """The same with UCX told to keep its mappings of its peers' memory, as it does by itself."""
    made = serve(proof, "qwen3_8b", proof.half({"UCX_CUDA_IPC_CACHE": "y"}))
    return {"made": made, "kill": killed(proof, "decode-0", 1, 120)}


@step(420)
def mappings_kept_or_not(proof: Several) -> dict[str, Any]:
    """What it costs that UCX maps its peer's memory for each transfer: long prompts, short answers."""
    found: dict[str, Any] = {}
    for kept in ("n", "y"):
        proof.deploy(**proof.half({"UCX_CUDA_IPC_CACHE": kept}))
        sizes = {"requests": 96, "words": 4000, "tokens": 16}
        rounds = [
            proof.load(proof.url, MODELS["qwen3_8b"], **sizes, concurrency=width, seed=seed)
            for seed, width in ((1, 8), (2, 8), (3, 8), (4, 1))
        ]
        found[f"UCX_CUDA_IPC_CACHE={kept}"] = rounds
        (proof.log_dir / "found.json").write_text(json.dumps(found, indent=1))
    return found


@step(420)
def experts_halves(proof: Several) -> dict[str, Any]:
    """Experts over the GPUs of each pool, disaggregated, with EPLB."""
    each = count() // 2
    eplb = {"enabled": True, "redundant_experts": each, "rebalance_iterations": 100}
    found = serve(proof, "deepseek_v3_small", proof.half() | {"wideep_eplb": eplb}, requests=192, words=100)
    moved = {name: lines_of(proof, name, "EPLBManager|ep rebalanc", 12) for name in ("prefill-0", "decode-0")}
    return found | {"eplb": moved}


@step(420)
def experts_whole(proof: Several) -> dict[str, Any]:
    """FP8 experts over all GPUs with DeepGEMM; its kernels are compiled when they are first used."""
    env = {"SGLANG_JIT_DEEPGEMM_PRECOMPILE": "false"}
    return serve(proof, "deepseek_v3_small_fp8", proof.whole(env, moe_runner_backend="deep_gemm"))


@step(420)
def experts_whole_eplb(proof: Several) -> dict[str, Any]:
    """16 bit experts over all GPUs with EPLB."""
    eplb = {"enabled": True, "redundant_experts": count(), "rebalance_iterations": 100}
    found = serve(proof, "deepseek_v3_small", proof.whole() | {"wideep_eplb": eplb}, requests=192, words=100)
    return found | {"eplb": lines_of(proof, "aggregated-0", "EPLBManager|ep rebalanc", 12)}


@step(420)
def experts_all_to_all(proof: Several) -> dict[str, Any]:
    """FP8 experts over all GPUs, tokens handed over by NIXL's all-to-all: low-latency kernels only."""
    env = {"SGLANG_JIT_DEEPGEMM_PRECOMPILE": "false"}
    sizes = {"dispatch_tokens_per_rank": 512, "chunked_prefill_size": 512 * count()}
    return serve(proof, "deepseek_v3_small_fp8", proof.whole(env, a2a_backend="nixl", **sizes))


if __name__ == "__main__":
    sys.exit(one.main(Several, STEPS))
