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
        "remove it from extra_args, or choose the release that has it (wideep_release)",
    ),
    (
        "python-module-missing",
        r"No module named ['\"]?([\w.]+)",
        "the Python module {0} is not installed in the service's environment",
        "run the dynamo role's install step again; for an engine, check that its packages are in the runtime",
    ),
    (
        "package-missing",
        r"(DeepEP|nixl-cu\d+) is not installed|Please install (mooncake|NIXL) by following",
        "the package {0} is not installed in the engine's environment",
        "use the release's image (wideep_runtime: container), or install it in the environment of "
        "wideep_python; else do without: a2a_backend in wideep_pools.<pool>.options, or wideep_kv_transfer",
    ),
    (
        "packages-mismatch",
        r"undefined symbol: (\w+)|less than the minimum required version",
        "packages of the engine's environment were built for other versions of each other ({0})",
        "install the environment anew from its lock file (wideep_runtime: venv), or use the release's image "
        "as it is: no package and no LD_LIBRARY_PATH of others",
    ),
    (
        "service-user",
        r"exit-code, status 21[67]\b|status=21[67]/(?:USER|GROUP)",
        "systemd does not find the user or the group of the service",
        "create the account on this host (getent passwd USER), or correct wideep_service_user",
    ),
    (
        "mpi-missing",
        r"\b(mpirun|orted|prted): (?:command )?not found",
        "{0} of Open MPI is not found",
        "install the same Open MPI on every host of the replica, and set "
        "wideep_pools.<pool>.options.trtllm.mpirun to its absolute path, which counts on the other hosts too",
    ),
    (
        "program-missing",
        r"cannot start \S+: \[Errno 2\] No such file or directory: '([^']+)'"
        r"|exit-code, status 20[03]\b|status=(?:200/CHDIR|203/EXEC)",
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
        "fabric-manager",
        r"system not yet initialized|System_?NotReady|SYSTEM_NOT_READY",
        "CUDA cannot use the GPUs yet (802): their NVLink switches are not set up",
        "nvidia-fabricmanager must run, in the driver's version (systemctl status); `nvidia-smi -q` then "
        "says Completed and Success under Fabric",
    ),
    (
        "driver-mismatch",
        r"unsupported display driver / cuda driver combination|SystemDriverMismatch|SYSTEM_DRIVER_MISMATCH"
        r"|driver/library version mismatch",
        "libcuda and the loaded driver are of different versions (803)",
        "reboot after an update of the driver; for containers make CDI's description anew (nvidia-ctk cdi "
        "generate), and keep the image's own libcuda (/usr/local/cuda/compat) out of LD_LIBRARY_PATH",
    ),
    (
        "driver-old",
        r"driver version is insufficient for CUDA runtime|NVIDIA driver on your system is too old"
        r"|cudaErrorInsufficientDriver|forward compatibility was attempted on non supported",
        "the driver is too old for the engine's CUDA",
        "update the driver, and fabric manager with it, then reboot: playbooks/preflight.yml says from which "
        "version on",
    ),
    (
        "gpu-broken",
        r"uncorrectable (?:ECC|NVLink) error|ECCUncorrectable|NvlinkUncorrectable|\bXid \(PCI\b"
        r"|fallen off the bus|\bGPU is lost",
        "a GPU reports a hardware error (ECC, NVLink or Xid)",
        "see `nvidia-smi -q -d ECC,ROW_REMAPPER` and `dmesg | grep Xid`; reboot, and take the host out of "
        "its pool if it comes back",
    ),
    (
        "gpu-taken",
        r"memory capacity is unbalanced\. Some GPUs may be occupied",
        "other processes hold memory of some of the replica's GPUs",
        "nvidia-smi names them; `status` shows services of this deployment that are not in the plan any more",
    ),
    (
        "attention-by-data",
        r"view size is not compatible with input tensor's size and stride",
        "a tensor has another shape than the engine expects; with data_parallel_size above 1 the model is "
        "one whose attention SGLang cannot divide by data (a Llama, a Qwen2)",
        "set data_parallel_size: 1, or serve a model that can; `architecture` in the model's card "
        "(configs/models) lets the plan refuse this",
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
        "huge-pages",
        r"madvise\(MADV_HUGEPAGE\) failed",
        "transparent huge pages are switched off, which TensorRT-LLM's EPLB needs for its experts",
        "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled; playbooks/tune.yml keeps it "
        "(host_tuning_transparent_hugepages)",
    ),
    (
        "shared-memory",
        r"\bbus error\b|SIGBUS|no space left on device.*/dev/shm|/dev/shm.*(?:small|no space|insufficient)"
        r"|shm_open.*(?:fail|error)|shared memory.*(?:insufficient|fail|not enough)",
        "the shared memory file system (/dev/shm) is too small, or full of files that a killed run left",
        "enlarge it (host_tuning_shm_gb and playbooks/tune.yml, or wideep_container.shm; TensorRT-LLM's EPLB "
        "needs the size of the expert weights), and remove leftovers in it while no rank runs",
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
        r"|memlock|max locked memory",
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
        "nvshmem-version",
        r"NVSHMEM (?:device library version|version in CUmodule or CUlibrary) does not match"
        r"|incompatible version of the transport interface|bootstrap returned an incompatible version"
        r"|bootstrap version \(\d+\) is not compatible with NVSHMEM|UID Bootstrap versions not compatible",
        "two versions of NVSHMEM meet: DeepEP was built with another than the one that is loaded",
        "use the release's image as it is, the same on every host; in an environment of your own, build "
        "DeepEP against the NVSHMEM there, and keep others out of LD_LIBRARY_PATH and LD_PRELOAD",
    ),
    (
        "rdma-rights",
        r"mlx5dv_devx_(?:alloc_)?uar|DEVX requested but not supported",
        "the process may not drive the RDMA device by itself (DevX)",
        "containers get /dev/infiniband and IPC_LOCK where wideep_network names devices; if that is not "
        "enough, add --cap-add=SYS_RAWIO to wideep_container.options. Without a container: see who may open "
        "/dev/infiniband",
    ),
    (
        "rdma-connect",
        r"failed to (?:modify|create) QP|modify qp \S+ to state|error modifying QP|INIT2RTR"
        r"|ibv_modify_qp (?:\w+ for dct )?failed|failed to ibv_modify_qp|ibv_create_ah|Unable to create ah",
        "RDMA connections do not come up: a wrong GID, or a card that another host's cannot reach",
        "wideep_network.gid_index must be RoCE v2 over IPv4 on every device of every host (`show_gids`); on "
        "InfiniBand see `ibstat` and the subnet manager. DeepEP needs every card to reach every other one, "
        "so rails that are separate networks don't do",
    ),
    (
        "ibgda",
        r"init failed for transport: IBGDA|NIC_HANDLER=cpu requires GDRCopy",
        "NVSHMEM cannot let GPUs drive the network cards (IBGDA)",
        "earlier lines of NVSHMEM say why (cards that are not mlx5, nvidia_peermem, rights); else run "
        "playbooks/tune.yml with host_tuning_ibgda and reboot, or load GDRCopy's gdrdrv",
    ),
    (
        "ucx-transport",
        r"no active messages transport to|no usable transports/devices"
        r"|network devices? ('[^']+'\S*) (?:is|are) not available",
        "UCX, which carries the KV cache, has no network device that reaches the peer ({0})",
        "wideep_network.rdma_devices must be names that `ibdev2netdev` lists on this host, and up; a "
        "container needs /dev/infiniband",
    ),
    (
        "address-in-use",
        r"address (?:already )?in use|EADDRINUSE|port \d+ is (?:already in use|answered by another process)",
        "the port is already in use",
        "find who holds it (ss -ltnp); end that process, or give the deployment other ports",
    ),
    (
        "wrong-interface",
        r"connectFullMesh.*\[127\.|no socket interface found|169\.254\.\d+\.\d+"
        r"|unable to find (?:address|interface)|cannot assign requested address",
        "a wrong network interface or address was chosen",
        "set the interface that reaches the other hosts (ip route get HOST; wideep_interface); "
        "an address to listen on must be one of this host",
    ),
    (
        "gloo-mesh",
        r"connectFullMesh failed(?!.*\[127\.)(?:.*remote=\[?([\w.:-]*\w))?",
        "the ranks of a replica do not all reach each other through Gloo ({0})",
        "wideep_interface must be that of the route between the hosts (`ip route get ADDRESS`); ranks choose "
        "their ports, so open all among these hosts; or a rank ended, then its own log says why",
    ),
    (
        "ssh",
        r"Host key verification failed|(?:(\S+): )?Permission denied \([\w,-]*(?:publickey|password)"
        r"|Permission denied, please try again"
        r"|ssh: (?:connect to host|Could not resolve hostname) ([\w.:-]*\w)",
        "mpirun does not get to another host of the replica through SSH ({0})",
        "`ssh -o BatchMode=yes ADDRESS true` must work for the service's user (wideep_service_user), from "
        "the head to every host of the replica: key, known_hosts, port",
    ),
    (
        "mpi-daemon",
        r"(?:ORTE|PRTE) (?:was unable to reliably start|has lost communication)"
        r"|(?:ORTE|PRTE) daemon has unexpectedly failed",
        "mpirun's daemon on another host did not start, or was lost",
        "earlier lines say why (SSH, Open MPI missing, a host that is down); else check that all have one "
        "version of Open MPI, room in /tmp, and every port open among them: daemons call the head back",
    ),
    (
        "no-route",
        r"no route to host|network is unreachable|EHOSTUNREACH|ENETUNREACH",
        "a peer cannot be reached over the network",
        "check routes and firewall between the hosts, and the address that the peer publishes",
    ),
    (
        "ep-ranks",
        r"Unsupported number of EP ranks: (\d+)",
        "DeepEP has no settings for experts over {0} GPUs",
        "change nodes_per_replica or gpus_per_node of wideep_pools.<pool>: DeepEP has them for 2, 4, 8, 16, "
        "24, 32, 64, 128, 144 and 160",
    ),
    (
        "deepep-weights",
        r"Unquantized DeepEP (?:MoE|low-latency MoE) (?:currently|requires)",
        "DeepEP computes experts of unquantized weights (BF16) in one mode only",
        "take FP8 weights, or set in wideep_pools.<pool>.options deepep_mode: low_latency with "
        "moe_runner_backend: deep_gemm, or a2a_backend: none",
    ),
    (
        "dispatch-tokens",
        r"x\.size\(0\) <= num_max_dispatch_tokens_per_rank",
        "a step has more tokens than DeepEP's low-latency buffers take",
        "raise dispatch_tokens_per_rank in wideep_pools.<pool>.options (at most 1024; buffers grow with it), "
        "or lower cuda_graph_max_bs and max_running_requests; prefill wants deepep_mode: normal",
    ),
    (
        "kv-layout",
        r"decode registered fewer KV regions|Page size mismatch: prefill|KV cache dtype mismatch: prefill",
        "prefill and decode do not lay out the KV cache alike",
        "give both pools one model, page_size and kv_cache_dtype, and prefill no speculation that decode "
        "lacks (wideep_pools.<pool>.options and extra_args)",
    ),
    (
        "load-unbalanced",
        r"TP rank (\d+) could finish the model loading",
        "rank {0} has the model loaded, and another one had not 480 s later",
        "see the logs of the ranks that don't say this: out of memory, or a slow disk. SGLang's limit is "
        "fixed: have the model on equally fast disks (wideep_model_path)",
    ),
    (
        "kv-peer",
        r"in KVPoll\.(Bootstrapping|WaitingForInput)|timed out when bootstrapping"
        r"|fail to receive KV Cache transfer done signal|Lost connection with prefill instance"
        r"|healthy before, but now it is down|failed to register to bootstrap server",
        "the other pool did not answer in time for a transfer of the KV cache ({0})",
        "look for a worker of it that is down, or ports that are closed to this host; if it stays after "
        "prefill was started again, restart decode. SGLANG_DISAGGREGATION_BOOTSTRAP_TIMEOUT and "
        "SGLANG_DISAGGREGATION_WAITING_TIMEOUT (wideep_pools.<pool>.env) help slow peers, not dead ones",
    ),
    (
        "deepep-timeout",
        r"DeepEP (?:error|timeout|dispatch|combine)\b.*\btime ?out|DeepEP timeout",
        "a rank waited in DeepEP for another one in vain (100 s): it compiles kernels still, or is dead",
        "find the first rank that stopped logging; for kernels, start again with the cache that is filled "
        "now, or compile before (sglang.compile_deep_gemm with the same options)",
    ),
    (
        "watchdog",
        r"(?:(\w+) )?watchdog timeout \((?!.*\bsoft=True)",
        "SGLang's watchdog ended the engine: one step took longer than watchdog_timeout_s ({0})",
        "the stacks above it say what it waited for, mostly a rank that is dead: look for the first one that "
        "stopped logging. Raise wideep_pools.<pool>.options.watchdog_timeout_s only for steps that are slow",
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
        r"|\blease\b.*(?:not found|lost|expired|fail)|(?:unable to create|lost|expired|failed).*\blease\b",
        "etcd cannot be reached, or the lease in it was lost",
        "look at the etcd service (state, log, disk latency) and at ETCD_ENDPOINTS",
    ),
    (
        "nats-unreachable",
        r"\bnats.*(?:connection refused|(?:unable|failed) to connect|no servers|timed out|io error)",
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
# Names what can go wrong, and is no error: an engine's options, what libraries tell at level INFO, an
# extension of torchvision that no engine uses.
_ECHO = re.compile(
    r"server_args=ServerArgs\(|\bNCCL INFO\b|\bUCX +(?:INFO|DIAG|DEBUG|TRACE)\b"
    r"|Failed to load image Python extension"
    r"|scheduler died .*exit code: (?!-9\)).*If exit code is -9"  # a hint about what did not happen
)
# What our own launcher notes at each start: said only where nothing else is known.
_NOTE = "limit-low"
_NOTED = next(regex for name, regex, _, _ in _COMPILED if name == _NOTE)


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
    # A note of our own launcher would stand there until the engine says something.
    if first["log_tail"] and not _NOTED.search(first["log_tail"][-1]):
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
