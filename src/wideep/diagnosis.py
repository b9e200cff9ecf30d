"""Why a service does not come up: known causes in its log, and the message for the operator."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CRASH_LOOP = 3  # so many exits while one waits: it will not come up by itself
SHOWN_LINES = 15
_LINE_WIDTH = 160


@dataclass(frozen=True)
class Cause:
    """A likely cause: `pattern` is its name in the table, `remedy` is what to do about it."""

    pattern: str
    cause: str
    remedy: str


# Name, regular expression (any case), cause, remedy. `{0}` is what the first group found.
# The order is that of the answer: an error that drags others behind it stands above them.
_TABLE: tuple[tuple[str, str, str, str], ...] = (
    (
        "unknown-flag",
        r"unrecognized arguments?: (.+)|flag provided but not defined: (.+)|unknown flag: (.+)",
        "the program does not know the option {0}",
        "remove it from extra_args, or install the version that has it (wideep_versions)",
    ),
    (
        "python-module-missing",
        r"No module named ['\"]?([\w.]+)",
        "the Python module {0} is not installed in the service's environment",
        "run the dynamo role's install step again; for an engine, check that its packages are in the runtime",
    ),
    (
        "program-missing",
        r"cannot start \S+: \[Errno 2\] No such file or directory: '([^']+)'|status 203\b",
        "the program or working directory {0} does not exist on the host",
        "run the install step of the service's role again",
    ),
    (
        "disk-full",
        r"no space left on device(?!.*/dev/shm)|ENOSPC|database space exceeded",
        "the disk is full",
        "free space below wideep_state_dir (df -h), then run again",
    ),
    (
        "compiler-missing",
        r"No such file or directory: '(?:[^']*/)?(ninja|nvcc)'|Could not find (nvcc|CUDA installation)",
        "the engine compiles kernels at its start and does not find {0}",
        "install CUDA's compiler (/usr/local/cuda) on the host and ninja in the runtime's environment, or "
        "set PATH and CUDA_HOME in wideep_pools.<pool>.env",
    ),
    (
        "memory-fraction-low",
        r"Raise --mem-fraction-static above ([\d.]*\d)|increase --mem-fraction-static",
        "mem_fraction_static leaves nothing for the KV cache after the weights (SGLang wants more than {0})",
        "raise mem_fraction_static; what others hold on the GPU counts as used (nvidia-smi), so with "
        "wideep_share_gpus lower the other pool's max_total_tokens",
    ),
    (
        "cuda-out-of-memory",
        r"CUDA out of memory|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAlloc",
        "the GPU has not enough free memory",
        "look with nvidia-smi for processes left over on the GPU; else lower the memory fraction, the graph "
        "batch sizes or the number of redundant experts",
    ),
    (
        "shared-memory",
        r"\bbus error\b|SIGBUS|no space left on device.*/dev/shm|/dev/shm.*(?:small|no space|insufficient)"
        r"|shm_open.*(?:fail|error)|shared memory.*(?:insufficient|fail|not enough)",
        "the shared memory file system (/dev/shm) is too small, or full of files that a killed run left",
        "enlarge it (mount -o remount,size=64G /dev/shm; TRT-LLM with EPLB needs the size of the expert "
        "weights), and remove leftovers in it while no rank runs",
    ),
    (
        "host-out-of-memory",
        r"out of memory: killed process|oom-kill|SIGKILL|\bMemoryError\b|std::bad_alloc",
        "the host ran out of memory, or something else killed the process with SIGKILL",
        "look into dmesg for 'Out of memory'; give the host more memory or run less on it",
    ),
    (
        "memlock",
        r"(?:ibv_\w+|memory regist\w+|mlock).*(?:cannot allocate memory|ENOMEM)"
        r"|memlock",
        "memory cannot be locked for RDMA: the memlock limit is too low",
        "systemd: the launch must lock memory (LimitMEMLOCK=infinity); supervisord: raise the hard limit in "
        "/etc/security/limits.d (memlock unlimited) and start supervisord from a new login",
    ),
    (
        "open-files",
        r"too many open files|EMFILE",
        "the limit of open files is low",
        "raise the hard limit (/etc/security/limits.d, or that of the container) to 65536 or more",
    ),
    (
        "nvidia-peermem",
        r"nv_peer_mem,? (?:or|nor) nvidia_peermem detected|nvidia_peermem.*not (?:loaded|found|detected)",
        "the kernel module nvidia_peermem is not loaded, so network cards cannot reach GPU memory",
        "modprobe nvidia_peermem and name it in /etc/modules-load.d, or use the dma-buf path",
    ),
    (
        "rdma-device",
        r"mlx5dv_devx|failed to (?:modify|create) QP|INIT2RTR|ibv_create_ah",
        "the RDMA device cannot be used: rights in a container, a wrong GID index, or an unreachable peer",
        "in a container pass /dev/infiniband and IPC_LOCK; else compare show_gids and the links of all hosts",
    ),
    (
        "address-in-use",
        r"address (?:already )?in use|EADDRINUSE|port \d+ is (?:already in use|answered by another process)",
        "the port is already in use",
        "find who holds it (ss -ltnp); end that process, or give the deployment other ports",
    ),
    (
        "wrong-interface",
        r"connectFullMesh.*127\.0\.0\.1|no socket interface found|169\.254\.\d+\.\d+"
        r"|unable to find (?:address|interface)|cannot assign requested address",
        "a wrong network interface or address was chosen",
        "set the interface that reaches the other hosts (ip route get HOST; wideep_interface); "
        "an address to listen on must be one of this host",
    ),
    (
        "no-route",
        r"no route to host|network is unreachable|EHOSTUNREACH|ENETUNREACH",
        "a peer cannot be reached over the network",
        "check routes and firewall between the hosts, and the address that the peer publishes",
    ),
    (
        "rank-missing",
        r"DistStoreError(?:.*?(\d+/\d+) clients joined)?|wait timeout after \d+ ?ms|rendezvous.*time"
        r"|timed out.*rendezvous|client socket has timed out after"
        r"|waits for (rank \d+ on \S+?)(?:,|\s|$)",
        "not all ranks of the replica came to the rendezvous ({0})",
        "look at the log of the rank that is missing; all need the same versions, options and leader address",
    ),
    (
        "nccl-timeout",
        r"collective operation timeout|NCCL.*time(?:d )?out|ncclRemoteError|NCCL error|ncclSystemError",
        "a collective operation between the ranks did not end: a rank died or a network path does not work",
        "find the first rank that stopped logging; run nccl-tests with the same environment; NCCL errors are "
        "often a rank out of memory",
    ),
    (
        "deepgemm-jit",
        r"deep_?gemm.*(?:jit|compil|warm ?up)",
        "DeepGEMM compiles its kernels, which takes 10 to 20 minutes at a first start",
        "wait with a longer deadline, or compile before (sglang.compile_deep_gemm) and keep the cache",
    ),
    (
        "model-missing",
        r"(?:model|tokenizer|config\.json|safetensors).*(?:no such file|not found|does not exist|is not a )"
        r"|(?:no such file|not found|does not exist|can't load|cannot find).*(?:tokenizer|config\.json|model)"
        r"|offline mode is enabled|HFValidationError",
        "the model directory is missing or incomplete (configuration, tokenizer or weights)",
        "check wideep_model_path on this host: it needs config.json, tokenizer.json and the weights",
    ),
    (
        "etcd-downgrade",
        r"invalid downgrade; server version is lower",
        "the data directory of etcd was written by a newer version",
        "install that version again; where nothing is to be kept, remove data/etcd below the state directory",
    ),
    (
        "etcd-unreachable",
        r"etcd.*(?:connection refused|unavailable|deadline|transport error|(?:unable|failed) to connect)"
        r"|lease.*(?:not found|lost|expired|fail)|(?:unable to create|lost|expired|failed).*\blease\b",
        "etcd cannot be reached, or the lease in it was lost",
        "look at the etcd service (state, log, disk latency) and at ETCD_ENDPOINTS",
    ),
    (
        "nats-unreachable",
        r"nats.*(?:connection refused|(?:unable|failed) to connect|no servers|timed out|io error)",
        "NATS cannot be reached",
        "look at the nats service (state, log) and at NATS_SERVER",
    ),
    (
        "permission-denied",
        r"permission denied|EACCES|operation not permitted|EPERM",
        "a file, port or device may not be used by the service's user",
        "look at owner and mode of the path in the log; ports below 1024 need root",
    ),
    (
        "connection-refused",
        r"connection refused|ECONNREFUSED",
        "nothing listens where the service connects to",
        "look at the address in the log and at the service behind it",
    ),
    (
        "limit-low",
        r"the hard limit for (open files|locked memory) is",
        "the limit for {0} is lower than the service wants",
        "raise it (/etc/security/limits.d, or that of the container) and start the service manager again",
    ),
)
_COMPILED = tuple((name, re.compile(regex, re.IGNORECASE), cause, fix) for name, regex, cause, fix in _TABLE)
# Said only of a line that shows nothing more specific.
_GENERAL = {"connection-refused", "permission-denied"}
# An engine that prints its options names everything that can go wrong.
_ECHO = re.compile(r"server_args=ServerArgs\(")
# What our own launcher notes at each start: said only where nothing else is known.
_NOTE = "limit-low"


def explain(log_lines: Sequence[str]) -> list[Cause]:
    """Return the known causes that the lines show, the most likely first, each once; [] if none is known."""
    found: dict[str, Cause] = {}
    for line in log_lines:
        if _ECHO.search(line):
            continue
        matches = [
            (name, match, cause, fix) for name, rx, cause, fix in _COMPILED if (match := rx.search(line))
        ]
        for name, match, cause, fix in matches:
            if name in _GENERAL and len(matches) > 1:
                continue
            what = next((group for group in match.groups() if group), "")
            text = cause.format(what).replace(" ()", "").replace("  ", " ")
            found.setdefault(name, Cause(name, text, fix))
    return [found[name] for name, *_ in _TABLE if name in found and (name != _NOTE or len(found) == 1)]


def progress_line(
    host: str, services: Sequence[Mapping[str, Any]], waited_s: float, deadlines: Mapping[str, int]
) -> str:
    """Return one line: what is waited for, how far it is, the last log line of the first that is pending."""
    pending = [service for service in services if not service["healthy"]]
    names = ", ".join(service["name"] for service in pending)
    first = pending[0]
    done = f"{len(services) - len(pending)} of {len(services)} healthy"
    line = (
        f"{host}: waiting for {names} ({done}, {waited_s:.0f} s of {deadlines[first['name']]} s); "
        f"{first['name']}: {first['health_detail']}"
    )
    if first["log_tail"]:
        line += f" | {first['log_tail'][-1]}"
    return line if len(line) <= 2 * _LINE_WIDTH else line[: 2 * _LINE_WIDTH - 1] + "…"


def failure_message(
    host: str, services: Sequence[Mapping[str, Any]], waited_s: float, deadlines: Mapping[str, int]
) -> str:
    """Return what the operator has to know of a wait that failed: which services, why, what to do."""
    pending = [service for service in services if not service["healthy"]]
    failed = [x for x in pending if x["exits"] >= CRASH_LOOP or waited_s >= deadlines[x["name"]]] or pending
    parts = [_failure(host, service, waited_s, deadlines[service["name"]]) for service in failed]
    others = ", ".join(service["name"] for service in pending if service not in failed)
    if others:
        parts.append(f"Not healthy yet either, but still in time: {others}.")
    return "\n".join(parts)


def _failure(host: str, service: Mapping[str, Any], waited_s: float, deadline_s: int) -> str:
    if service["exits"] >= CRASH_LOOP:
        head = f"ended {service['exits']} times in {waited_s:.0f} s"
    else:
        head = f"is not healthy after {waited_s:.0f} s (deadline {deadline_s} s)"
    seen = service["health_detail"]
    if service["pid"]:
        seen += f" (pid {service['pid']}, up {service['uptime_s']:.0f} s)"
    lines = [f"{service['name']} on {host} {head}.", f"  expected: {service['expected']}", f"  seen: {seen}"]
    # That nothing listens on its own port yet is what is to be explained.
    own_port = re.match(r"port \d+: connection refused", seen)
    for cause in explain([*service["log_tail"], *([] if own_port else [service["health_detail"]])])[:3]:
        lines += [f"  likely cause: {cause.cause}", f"    remedy: {cause.remedy}"]
    lines.append(f"  last lines of {service['log_file']}:")
    lines += [f"    | {line}" for line in service["log_tail"][-SHOWN_LINES:]]
    return "\n".join(lines)
