#!/usr/bin/env python3
"""Prove on one GPU that what we render serves.

On the machine, in a checkout:

    tools/gpu_proof/proof.py --results DIR [--steps machine,preflight,…] [--engine-python PATH]

Each step has a deadline, leaves its result in DIR/results.json and its logs in DIR/<step>/, and ends what
it has started; a step that fails stops no other. Steps may be repeated and left out, but `measure` and
`kill` use the deployment of `aggregated`, which stays until `down` or the next deployment. Without
--engine-python the runtime is installed from the lock file (wideep_runtime: venv). Exit status: the number of
failed steps.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from wideep.reference.release import find_release

REPOSITORY = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
INVENTORY = REPOSITORY / "inventories" / "one_gpu"
MODELS = {"llama_8b": "wideep/llama-8b-shape", "deepseek_v3_small": "wideep/deepseek-v3-shape"}
FRONTEND, OFFSET_OF_HAND = 8000, 500
Steps = dict[str, tuple[int, "Callable[[Proof], dict[str, Any]]"]]
STEPS: Steps = {}


class StepError(Exception):
    """What a step expected and did not see."""


def step(deadline_s: int, steps: Steps = STEPS) -> Callable[..., Any]:
    """Add a step, in this order, with its deadline."""

    def add(function: Callable[[Proof], dict[str, Any]]) -> Callable[[Proof], dict[str, Any]]:
        steps[function.__name__] = (deadline_s, function)
        return function

    return add


class Proof:
    """Where things are, and how they are run."""

    inventory = INVENTORY

    def __init__(self, given: argparse.Namespace) -> None:
        self.results: Path = given.results
        self.state: Path = given.state
        self.engine_python: str = given.engine_python
        self.address: str = given.address
        self.etcd: str = given.etcd
        self.simulate: bool = given.simulate
        self.name = ""
        self.until = 0.0
        self.started: list[subprocess.Popen[bytes]] = []

    @property
    def log_dir(self) -> Path:
        """Return the directory of the step's logs."""
        return self.results / self.name

    @property
    def python(self) -> str:
        """Return the interpreter that has the engine."""
        return self.engine_python or str(
            self.state / "venv" / f"ai-dynamo-{find_release().dynamo}" / "bin" / "python"
        )

    def left(self) -> float:
        """Return the seconds until the step's deadline."""
        return max(1.0, self.until - time.monotonic())

    def run(self, log: str, argv: list[str], **env: str) -> tuple[int, str, float]:
        """Run a command to its end or the step's; return status (124: too slow), output, seconds."""
        begin = time.monotonic()
        path = self.log_dir / log
        with path.open("ab") as output:
            before = output.tell()
            try:
                done = subprocess.Popen(
                    argv,
                    cwd=REPOSITORY,
                    env={**os.environ, **env},
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except FileNotFoundError as missing:
                output.write(f"{missing}\n".encode())
                return 127, "", 0.0
            try:
                status = done.wait(self.left())
            except subprocess.TimeoutExpired:
                status = 124
            finally:
                end_group(done)
        text = path.read_bytes()[before:].decode(errors="replace")
        return status, text, round(time.monotonic() - begin, 1)

    def playbook(self, name: str, variables: dict[str, Any], *options: str) -> tuple[int, str, float]:
        """Run one of our playbooks on this machine."""
        argv = [sys.executable, "-m", "ansible", "playbook", "-i", str(self.inventory)]
        argv += [f"playbooks/{name}.yml", "-e", json.dumps(self.variables() | variables), *options]
        return self.run(
            f"{name}.log", argv, ANSIBLE_CONFIG=str(REPOSITORY / "ansible.cfg"), ANSIBLE_NOCOLOR="1"
        )

    def variables(self) -> dict[str, Any]:
        """Return what this machine decides of the inventory's variables."""
        given: dict[str, Any] = {"wideep_state_dir": str(self.state)}
        given["wideep_model_path"] = str(self.model("llama_8b"))
        if self.engine_python:
            given |= {"wideep_runtime": "existing", "wideep_python": self.engine_python}
        if self.simulate:
            return given | {"wideep_engine": "mocker", "wideep_pools": {}}
        libraries = os.environ.get("LD_LIBRARY_PATH", "")
        if libraries:
            # Services get none of the login's environment; some images have the driver's libraries only here.
            pools = self.inventory_pools()
            for pool in pools.values():
                pool["env"] = {"LD_LIBRARY_PATH": libraries}
            given["wideep_pools"] = pools
        return given

    def pools(self, **changes: Any) -> dict[str, Any]:
        """Return the inventory's pools with changed options (`extra_args` for those)."""
        pools = self.variables().get("wideep_pools") or self.inventory_pools()
        for pool in pools.values():
            extra = changes.get("extra_args", {})
            pool["options"] = {**pool["options"], **{k: v for k, v in changes.items() if k != "extra_args"}}
            pool["extra_args"] = {**pool["extra_args"], **extra}
        return {"wideep_pools": pools}

    def inventory_pools(self) -> dict[str, Any]:
        """Return `wideep_pools` of the inventory."""
        import yaml  # noqa: PLC0415 - the controller has it

        text = (self.inventory / "group_vars" / "all.yml").read_text()
        return dict(yaml.safe_load(text)["wideep_pools"])

    def model(self, shape: str) -> Path:
        """Return the directory of a model shape: our tokenizer, the shape's configuration, no weights."""
        models = REPOSITORY / "configs" / "models"
        place = self.state.parent / "models" / shape
        place.mkdir(parents=True, exist_ok=True)
        for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
            shutil.copyfile(models / "rehearsal" / name, place / name)
        shutil.copyfile(models / "shapes" / f"{shape}.json", place / "config.json")
        return place

    def deploy(self, name: str = "site", **variables: Any) -> dict[str, Any]:
        """Run `site` and return its times; the services' logs are kept whatever happens.

        Raises:
            StepError: it failed; the message is what the operator would have read.
        """
        status, output, seconds = self.playbook(name, variables)
        self.keep_logs()
        if status:
            raise StepError(f"{name} ended with {status} after {seconds} s: {told(output)}")
        return {"seconds": seconds, "recap": recap(output), "said": said(output)}

    def keep_logs(self) -> None:
        """Copy the services' logs and launches to the results."""
        for path in [*self.state.glob("log/*.log"), *self.state.glob("services/*/launch.json")]:
            name = path.name if path.parent.name == "log" else f"{path.parent.name}-launch.json"
            shutil.copyfile(path, self.log_dir / name)

    def start(self, log: str, argv: list[str], **env: str) -> subprocess.Popen[bytes]:
        """Start a process that is ended with the step."""
        with (self.log_dir / log).open("ab") as output:
            started = subprocess.Popen(
                argv,
                cwd=self.log_dir,
                env={**os.environ, **env},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(started)
        return started

    def load(self, url: str, model: str, **options: int) -> dict[str, Any]:
        """Put load on an endpoint."""
        argv = [self.python, str(HERE / "load.py"), url, model]
        for name, value in options.items():
            argv += [f"--{name}", str(value)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=self.left(), check=False)
        try:
            return dict(json.loads(done.stdout))
        except ValueError:
            raise StepError(f"load.py ended with {done.returncode}: {done.stderr[-500:]}") from None


# ---- small things ----------------------------------------------------------------------------------


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and all of its group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)


def told(output: str) -> str:
    """Return what Ansible said when it failed, without its own frame."""
    at = output.find("[ERROR]")
    return re.split(r"\n(?:Origin|fatal):", output[at if at >= 0 else -2000 :], maxsplit=1)[0][:6000]


def recap(output: str) -> str:
    """Return the counts of the last play recap."""
    lines = re.findall(r"^\S+\s*: (ok=.*)$", output, re.MULTILINE)
    return lines[-1].strip() if lines else ""


def said(output: str) -> list[str]:
    """Return what verification said."""
    found = re.search(r"^(\S+ serves at .*?)^try next", output, re.MULTILINE | re.DOTALL)
    return found.group(1).strip().splitlines() if found else []


def get(url: str, timeout: float = 5) -> str:
    """Return the body of a URL, empty where it does not answer."""
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=timeout) as answer:
        return str(answer.read().decode(errors="replace"))
    return ""


def wait_for(
    what: str, condition: Callable[[], bool], proof: Proof, *alive: subprocess.Popen[bytes]
) -> float:
    """Wait until a condition holds; return the seconds that took."""
    begin = time.monotonic()
    while not condition():
        dead = [p.args for p in alive if p.poll() is not None]
        if dead or time.monotonic() > proof.until:
            raise StepError(f"{what}: {'ended: ' + str(dead)[:300] if dead else 'too slow'}")
        time.sleep(0.2)
    return round(time.monotonic() - begin, 1)


def services(state: Path | None = None) -> Iterator[tuple[int, str, int]]:
    """Give pid, service and parent of every process of a deployment: that of a state directory, or any."""
    wanted = f"WIDEEP_STATE_DIR={state}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            env = (entry / "environ").read_bytes().split(b"\0")
            name = next((e[15:].decode() for e in env if e.startswith(b"WIDEEP_SERVICE=")), "")
            if name and (state is None or wanted in env):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                yield int(entry.name), name, parent


def main_process(service: str, state: Path | None = None) -> int:
    """Return the process of a service that the service manager started."""
    mine = {pid: parent for pid, name, parent in services(state) if name == service}
    heads = [pid for pid, parent in mine.items() if parent not in mine]
    # The grandchild that waits to clean up has no parent left but init.
    heads = [pid for pid in heads if mine[pid] != 1] or heads
    if not heads:
        raise StepError(f"no process of {service} runs")
    return heads[0]


def gpu_memory() -> str:
    """Return used and total memory of the GPU."""
    argv = ["nvidia-smi", "--query-gpu=memory.used,memory.total", "--format=csv,noheader"]
    with contextlib.suppress(OSError):
        return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False).stdout.strip()
    return ""


# ---- steps -----------------------------------------------------------------------------------------


@step(90)
def machine(proof: Proof) -> dict[str, Any]:
    """What this is: the GPU, the versions, the machine; raw outputs for recordings."""
    raw = {
        "nvidia-smi-q-x.xml": ["nvidia-smi", "-q", "-x"],
        "nvidia-smi-topo-m.txt": ["nvidia-smi", "topo", "-m"],
        "nvidia-smi-nvlink-s.txt": ["nvidia-smi", "nvlink", "-s"],
        "nvidia-smi-topo-p2p-r.txt": ["nvidia-smi", "topo", "-p2p", "r"],
        "nvidia-smi.txt": ["nvidia-smi"],
        "nvcc.txt": ["nvcc", "--version"],
        "lscpu.txt": ["lscpu"],
        "ip.txt": ["ip", "addr"],
        "shm.txt": ["df", "/dev/shm"],
        "ulimit.txt": ["sh", "-c", "ulimit -a"],
        "ldconfig.txt": ["sh", "-c", "ldconfig -p | grep -E 'libcuda|libnvidia-ml'"],
        "tree.txt": [
            "sh",
            "-c",
            "cd / && grep -rs '' proc/driver/nvidia/version proc/driver/nvidia/params"
            " proc/sys/kernel/osrelease proc/sys/kernel/numa_balancing proc/sys/vm/nr_hugepages proc/meminfo"
            " sys/kernel/mm/transparent_hugepage/enabled sys/class/infiniband/*/ports/*/state"
            " sys/bus/pci/devices/*/iommu_group/type; ls -d dev/nvidia*",
        ],
    }
    for name, argv in raw.items():
        proof.run(name, argv)
    versions = (
        "import json, importlib.metadata as m\n"
        "names = 'ai-dynamo sglang sglang-kernel torch triton nixl flashinfer-python transformers'.split()\n"
        "print(json.dumps({n: next((d.version for d in m.distributions(name=n)), '') for n in names}))\n"
    )
    _, packages, _ = proof.run("packages.json", [proof.python, "-c", versions])
    query = "name,driver_version,memory.total,vbios_version,pstate,clocks.max.sm,persistence_mode"
    argv = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
    _, gpu, _ = proof.run("gpu.csv", argv)
    return {
        "gpu": gpu.strip(),
        "packages": json.loads(packages.strip().splitlines()[-1]),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "path": os.environ.get("PATH", ""),
        "ld_library_path": os.environ.get("LD_LIBRARY_PATH", ""),
        "tools": {name: shutil.which(name) or "" for name in ("nvcc", "ninja", "gcc", "xz", "ip", "c++")},
        "systemd": Path("/run/systemd/system").exists(),
    }


@step(90)
def preflight(proof: Proof) -> dict[str, Any]:
    """Our own checks of this machine for this deployment."""
    status, output, seconds = proof.playbook("preflight", {"preflight_verbose": True}, "-v")
    at = output.find("TASK [wideep.dynamo.preflight : Judge")
    return {"status": status, "seconds": seconds, "report": output[at:][:9000].splitlines()}


@step(60)
def refused(proof: Proof) -> dict[str, Any]:
    """What cannot run on one GPU is refused before the engine sees it."""
    moe = {
        "wideep_model": MODELS["deepseek_v3_small"],
        "wideep_model_path": str(proof.model("deepseek_v3_small")),
    }
    cases = {
        "expert parallelism over 2": proof.pools(expert_parallel_size=2),
        "DeepEP": proof.pools(a2a_backend="deepep"),
        "EPLB": {"wideep_eplb": {"enabled": True, "redundant_experts": 8}},
    }
    found = {}
    for name, variables in cases.items():
        status, output, _ = proof.playbook("plan", moe | variables | {"wideep_engine": "sglang"})
        if status == 0:
            raise StepError(f"{name} was accepted")
        found[name] = told(output).strip().splitlines()
        (proof.log_dir / "plan.log").rename(proof.log_dir / f"plan-{name.split()[0].lower()}.log")
    return found


@step(420)
def aggregated(proof: Proof) -> dict[str, Any]:
    """One worker; NATS and etcd from their wheels, all on loopback. Then again: nothing may change."""
    first = proof.deploy()
    again = proof.deploy()
    if "changed=0" not in again["recap"]:
        raise StepError(f"the second run changed something: {again['recap']}")
    return {
        "first": first,
        "again": again,
        "gpu_memory": gpu_memory(),
        "logs": timeline(proof, "aggregated-0"),
    }


def timeline(proof: Proof, service: str) -> list[str]:
    """Return the lines of an engine's log that say how far it was when."""
    words = (
        r"Load weight (begin|end)|KV Cache is allocated|Capture .*graph|max_total_num_tokens|fired up"
        r"|start \d+\)"
    )
    text = (proof.log_dir / f"{service}.log").read_text(errors="replace")
    return [line[:300] for line in text.splitlines() if re.search(words, line)][-30:]


@step(420)
def measure(proof: Proof) -> dict[str, Any]:
    """Our deployment, the same engine started by hand with the same flags, SGLang's own server; in turn."""
    launch = json.loads((proof.state / "services" / "aggregated-0" / "launch.json").read_text())
    frontend = json.loads((proof.state / "services" / "frontend" / "launch.json").read_text())
    model = MODELS["llama_8b"]
    hand = by_hand(proof, launch, frontend)
    places = {"deployment": f"http://127.0.0.1:{FRONTEND}", "by hand": hand}
    if not proof.simulate:
        places["sglang http"] = sglang_server(proof, launch)
    processes = tuple(proof.started)
    ready = {name: wait_for(name, listed(url, model), proof, *processes) for name, url in places.items()}
    shape = {"requests": 96, "concurrency": 16, "words": 200, "tokens": 64}
    for url in places.values():
        proof.load(url, model, **shape | {"requests": 32, "seed": 99})
    rounds = []
    for turn in range(5):
        order = list(places) if turn % 2 == 0 else list(places)[::-1]
        row = {name: proof.load(places[name], model, **shape, seed=turn) for name in order}
        rounds.append(row)
        (proof.log_dir / "rounds.json").write_text(json.dumps(rounds, indent=1))
    single = {
        name: proof.load(url, model, requests=12, concurrency=1, words=200, tokens=64, seed=77)
        for name, url in places.items()
    }
    bad = [r for row in [*rounds, single] for r in row.values() if r["errors"]]
    if bad:
        raise StepError(f"answers were not what was asked for: {bad[0]['errors']}")
    return {
        "ready_s": ready,
        "gpu_memory": gpu_memory(),
        "shape": shape,
        "rounds": rounds,
        "single": single,
        "summary": summary(rounds, single),
    }


def listed(url: str, model: str) -> Callable[[], bool]:
    """Return whether an endpoint lists the model."""
    return lambda: model in get(f"{url}/v1/models")


def by_hand(proof: Proof, launch: dict[str, Any], frontend: dict[str, Any]) -> str:
    """Start the same worker and frontend without us: same flags, own ports, discovery by files."""
    port = FRONTEND + OFFSET_OF_HAND
    own = {"127.0.0.1:20003": "127.0.0.1:20503", "tcp://*:20020": "tcp://*:20520"}
    argv = list(launch["argv"])
    for before, after in own.items():
        argv = [word.replace(before, after) for word in argv]
    keys = ("SGLANG_", "FLASHINFER_", "TRITON_", "TORCHINDUCTOR_", "TVM_FFI", "CUDA_VISIBLE")
    engine = {k: v for k, v in launch["env"].items() if k.startswith(keys)}
    shared = {
        "DYN_DISCOVERY_BACKEND": "file",
        "DYN_FILE_KV": str(proof.log_dir / "discovery"),
        "DYN_REQUEST_PLANE": "tcp",
        "DYN_EVENT_PLANE": "zmq",
        "DYN_TCP_RPC_HOST": "127.0.0.1",
        "DYN_TCP_RESPONSE_STREAM_HOST": "lo",
        "HF_HUB_OFFLINE": "1",
    }
    worker = {"DYN_SYSTEM_PORT": "20500", "DYN_SYSTEM_HOST": "127.0.0.1", "DYN_TCP_RPC_PORT": "20501"}
    worker["PATH"] = launch["env"].get("PATH", os.environ["PATH"])
    proof.start("hand-worker.log", argv, **shared, **engine, **worker)
    words = [str(port) if word == str(FRONTEND) else word for word in frontend["argv"]]
    proof.start("hand-frontend.log", words, **shared)
    return f"http://127.0.0.1:{port}"


def sglang_server(proof: Proof, launch: dict[str, Any]) -> str:
    """Start SGLang's own HTTP server with the same engine flags."""
    argv, port = launch["argv"], "20600"
    words, skip = [], {"--endpoint", "--kv-events-config", "--dist-init-addr", "--host"}
    position = 3
    while position < len(argv):
        if argv[position] in skip:
            position += 2
            continue
        words.append(argv[position])
        position += 1
    keys = ("SGLANG_", "FLASHINFER_", "TRITON_", "TORCHINDUCTOR_", "TVM_FFI", "CUDA_VISIBLE")
    engine = {k: v for k, v in launch["env"].items() if k.startswith(keys) and k != "SGLANG_HOST_IP"}
    engine |= {"HF_HUB_OFFLINE": "1", "PATH": launch["env"].get("PATH", os.environ["PATH"])}
    command = [argv[0], "-m", "sglang.launch_server", *words, "--host", "127.0.0.1", "--port", port]
    proof.start("sglang-http.log", [*command, "--nccl-port", "20603"], **engine)
    return f"http://127.0.0.1:{port}"


def summary(rounds: list[dict[str, Any]], single: dict[str, Any]) -> dict[str, Any]:
    """Return the medians over the rounds, and the ratios to our deployment."""

    def middle(values: list[float]) -> float:
        return sorted(values)[len(values) // 2]

    names = list(rounds[0])
    table: dict[str, Any] = {}
    for name in names:
        rows = [row[name] for row in rounds]
        table[name] = {
            "output_tokens_per_s": middle([r["output_tokens_per_s"] for r in rows]),
            "ttft_ms_p50": middle([r["ttft_ms"]["p50"] for r in rows]),
            "tpot_ms_p50": middle([r["tpot_ms"]["p50"] for r in rows]),
            "e2e_ms_p50": middle([r["e2e_ms"]["p50"] for r in rows]),
            "single_e2e_ms_p50": single[name]["e2e_ms"]["p50"],
            "single_ttft_ms_p50": single[name]["ttft_ms"]["p50"],
            "single_tpot_ms_p50": single[name]["tpot_ms"]["p50"],
        }
    ours = "deployment"
    table["throughput of our deployment / other, by round"] = {
        name: [round(r[ours]["output_tokens_per_s"] / r[name]["output_tokens_per_s"], 4) for r in rounds]
        for name in names
        if name != ours
    }
    return table


@step(300)
def kill(proof: Proof) -> dict[str, Any]:
    """SIGKILL to the engine under load; how long until it serves again, with nobody's help."""
    return killed(proof, "aggregated-0", f"http://127.0.0.1:{FRONTEND}")


def killed(proof: Proof, service: str, url: str) -> dict[str, Any]:
    """Kill a service under load and watch."""
    model = MODELS["llama_8b"]
    argv = [proof.python, str(HERE / "load.py"), url, model, "--requests", "4000", "--concurrency", "16"]
    busy = proof.start("load-while-killed.log", [*argv, "--tokens", "256", "--timeout", "60"])
    time.sleep(4)
    pid = main_process(service)
    children = sum(1 for _, name, _ in services() if name == service)
    begin = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    failed = 0
    probe = {"requests": 1, "concurrency": 1, "words": 20, "tokens": 8, "timeout": 10}
    while True:
        time.sleep(0.5)
        answer = proof.load(url, model, **probe)
        if answer["good"]:
            break
        failed += 1
        if time.monotonic() > proof.until:
            raise StepError("it did not serve again in time")
    seconds = round(time.monotonic() - begin, 1)
    end_group(busy)
    proof.keep_logs()
    new = main_process(service)
    if new == pid:
        raise StepError("the killed process still runs")
    return {
        "service": service,
        "killed_pid": pid,
        "processes_of_it": children,
        "new_pid": new,
        "serves_again_after_s": seconds,
        "probes_that_failed": failed,
        "gpu_memory_after": gpu_memory(),
        "log": timeline(proof, service),
    }


@step(60)
def down(proof: Proof) -> dict[str, Any]:
    """Stop and remove the deployment; the runtime and the compiled kernels stay for the next step."""
    status, output, seconds = proof.playbook("teardown", {"wideep_keep_state": True, "wideep_confirm": True})
    left = sorted({name for _, name, _ in services()})
    if status or left:
        raise StepError(f"teardown ended with {status}, left {left}: {told(output)}")
    # The steps differ in etcd's version, and an older one does not read what a newer one wrote.
    shutil.rmtree(proof.state / "data", ignore_errors=True)
    return {"seconds": seconds, "gpu_memory": gpu_memory()}


@step(420)
def disaggregated(proof: Proof) -> dict[str, Any]:
    """Prefill and decode on the same GPU, KV cache by NIXL, on this machine's own address."""
    variables: dict[str, Any] = {"wideep_aggregated": False, "wideep_address": proof.address}
    if proof.etcd:
        variables |= {"etcd_install_method": "existing", "etcd_binary": proof.etcd}
    else:
        variables["wideep_discovery"] = "file"
    url = f"http://{proof.address}:{FRONTEND}"
    made = proof.deploy(**variables)
    load = proof.load(url, MODELS["llama_8b"], requests=64, concurrency=8, words=400, tokens=64)
    proof.keep_logs()
    if load["errors"]:
        raise StepError(f"under load: {load}")
    return {"made": made, "load": load, "discovery": variables.get("wideep_discovery", "etcd")} | {
        "gpu_memory": gpu_memory(),
        "prefill": timeline(proof, "prefill-0"),
        "decode": timeline(proof, "decode-0"),
    }


@step(300)
def kill_decode(proof: Proof) -> dict[str, Any]:
    """The same with the decode worker of `disaggregated`."""
    return killed(proof, "decode-0", f"http://{proof.address}:{FRONTEND}")


@step(420)
def experts(proof: Proof) -> dict[str, Any]:
    """An MoE shape with latent attention; discovery by files, events over ZeroMQ: no NATS, no etcd."""
    variables: dict[str, Any] = {
        "wideep_model": MODELS["deepseek_v3_small"],
        "wideep_model_path": str(proof.model("deepseek_v3_small")),
        "wideep_discovery": "file",
        "wideep_event_plane": "zmq",
    }
    made = proof.deploy(**variables)
    url, model = f"http://127.0.0.1:{FRONTEND}", MODELS["deepseek_v3_small"]
    load = proof.load(url, model, requests=32, concurrency=8, words=200, tokens=64)
    proof.keep_logs()
    if load["errors"]:
        raise StepError(f"under load: {load}")
    return {"made": made, "load": load, "gpu_memory": gpu_memory(), "log": timeline(proof, "aggregated-0")}


@step(300)
def out_of_memory(proof: Proof) -> dict[str, Any]:
    """More weights than the GPU has: CUDA's own error, and what our wait makes of it."""
    return failing(proof, proof.pools(extra_args={"json-model-override-args": '{"num_hidden_layers": 400}'}))


@step(300)
def fraction_too_low(proof: Proof) -> dict[str, Any]:
    """Weights that are more than the memory fraction allows."""
    override = '{"num_hidden_layers": 180}'
    changes = {"mem_fraction_static": 0.5, "extra_args": {"json-model-override-args": override}}
    return failing(proof, proof.pools(**changes))


def failing(proof: Proof, variables: dict[str, Any]) -> dict[str, Any]:
    """Deploy what cannot start; return the message of the wait."""
    try:
        proof.deploy(**variables, wideep_start_deadline_s=150)
    except StepError as error:
        return {"message": str(error).splitlines(), "gpu_memory_after": gpu_memory()}
    raise StepError("it started")


@step(420)
def prefill_graphs(proof: Proof) -> dict[str, Any]:
    """CUDA graphs of prompts too, for few lengths."""
    extra = {"cuda-graph-backend-prefill": "breakable", "cuda-graph-max-bs-prefill": 256}
    made = proof.deploy(**proof.pools(extra_args=extra))
    return {"made": made, "gpu_memory": gpu_memory(), "log": timeline(proof, "aggregated-0")}


@step(420)
def defaults(proof: Proof) -> dict[str, Any]:
    """SGLang's own choice of attention, sampling and graphs: what a real inventory leaves unset."""
    pools = proof.pools()["wideep_pools"]
    for pool in pools.values():
        pool["options"].pop("attention_backend")
        pool["extra_args"] = {}
    made = proof.deploy(wideep_pools=pools)
    return {"made": made, "gpu_memory": gpu_memory(), "log": timeline(proof, "aggregated-0")}


# ---- the run ---------------------------------------------------------------------------------------


def own_address() -> str:
    """Return the address of the default route, else of the first interface that is not loopback."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    with contextlib.suppress(OSError):
        return socket.gethostbyname(socket.gethostname())
    return "127.0.0.1"


def main(make: type[Proof] = Proof, steps: Steps = STEPS) -> int:
    """Run the steps; return the number that failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--state", type=Path, default=Path("/var/tmp/wideep-proof/state"))
    parser.add_argument("--steps", default=",".join(steps))
    parser.add_argument("--engine-python", default="", help="has SGLang and Dynamo; unset: installed by us")
    parser.add_argument("--address", default=own_address())
    parser.add_argument(
        "--etcd", default="", help="etcd 3.6 for the disaggregated step; unset: discovery by files"
    )
    parser.add_argument(
        "--simulate", action="store_true", help="rehearse the steps with Dynamo's simulated engine"
    )
    given = parser.parse_args()
    given.results = given.results.resolve()
    names = [name for name in given.steps.split(",") if name]
    if unknown := [name for name in names if name not in steps]:
        parser.error(f"unknown steps {', '.join(unknown)}; there are {', '.join(steps)}")
    proof, failed = make(given), 0
    given.results.mkdir(parents=True, exist_ok=True)
    book = given.results / "results.json"
    results = json.loads(book.read_text()) if book.exists() else {}
    for name in names:
        deadline, function = steps[name]
        proof.name, proof.until = name, time.monotonic() + deadline
        proof.log_dir.mkdir(exist_ok=True)
        begin, entry = time.time(), {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        print(f"== {name} (at most {deadline} s)", flush=True)
        try:
            entry |= {"passed": True, "result": function(proof)}
        except (StepError, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            failed += 1
            entry |= {"passed": False, "why": f"{type(error).__name__}: {error}"}
            proof.keep_logs()
            print(str(error)[:1500], flush=True)
        for process in proof.started:
            end_group(process)
        proof.started.clear()
        entry["seconds"] = round(time.time() - begin, 1)
        results[name] = entry
        book.write_text(json.dumps(results, indent=1) + "\n")
        print(f"== {name}: {'passed' if entry['passed'] else 'FAILED'} in {entry['seconds']} s", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
