"""Each known cause by a line as programs really write it, and the messages made of them.

Where a line is from: *package*, read in a package of SGLang 0.5.16's environment (its Python, or the words in
a library: NVSHMEM 3.4.5, UCX of NIXL 1.3.0, NCCL, CUDA's runtime 13); *source*, in a project's published
sources or manual; *report*, as users showed it, with names changed. The values in all of them are made up.
"""

from __future__ import annotations

from typing import Any

import pytest
from test_causes import SAID

from wideep.reports.causes import known
from wideep.reports.diagnosis import explain, failure_message, progress_line

LINES = {
    "unknown-flag": "__main__.py: error: unrecognized arguments: --enable-ep-moe",
    "python-module-missing": "ModuleNotFoundError: No module named 'sglang.srt'",
    # package: sglang, token_dispatcher/deepep.py
    "package-missing": "ImportError: DeepEP is not installed. Please install DeepEP package from "
    "https://github.com/deepseek-ai/deepep.",
    # report: sgl-project/sglang 13948
    "packages-mismatch": "- ImportError: /opt/venv/sgl_kernel/sm100/common_ops.abi3.so: undefined symbol: "
    "_ZNK3c106SymInt6sym_neERKS0_",
    "service-user": "ended: exit-code, status 217",
    "mpi-missing": "/bin/sh: 1: mpirun: not found",
    "program-missing": "wideep: cannot start nats: [Errno 2] No such file or directory: '/opt/nats-server'",
    "disk-full": "panic: write /data/etcd/member/wal/0.tmp: no space left on device",
    "compiler-missing": "FileNotFoundError: [Errno 2] No such file or directory: 'ninja'",
    # report: huggingface/huggingface_hub 4134; the words are the CUDA runtime's
    "fabric-manager": "RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda "
    "functions before calling NumCudaDevices() that might have already set an error? Error 802: system not "
    "yet initialized",
    # report: gpustack/gpustack 4678; the words are the CUDA runtime's
    "driver-mismatch": "RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda "
    "functions before calling NumCudaDevices() that might have already set an error? Error 803: system has "
    "unsupported display driver / cuda driver combination",
    # package: the CUDA runtime's text, after NCCL's words before it
    "driver-old": "decode01:91:91 [0] NCCL WARN Cuda failure 'CUDA driver version is insufficient for CUDA "
    "runtime version'",
    # package: the CUDA runtime's text
    "gpu-broken": "torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered",
    # package: sglang; seen on four H100
    "gpu-taken": "RuntimeError: The memory capacity is unbalanced. Some GPUs may be occupied by other "
    "processes. pre_model_load_memory=8.07",
    "attention-by-data": "RuntimeError: view size is not compatible with input tensor's size and stride",
    "memory-fraction-low": "ValueError: Loaded weights leave no GPU memory for the KV cache under "
    "--mem-fraction-static=0.5. Raise --mem-fraction-static above 0.533 (minimum viable = …)",
    "cuda-out-of-memory": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 7.00 GiB.",
    # source: TensorRT-LLM, examples/wide_ep/README.md
    "huge-pages": "RuntimeError: madvise(MADV_HUGEPAGE) failed.",
    "shared-memory": "Fatal Python error: Bus error",
    "host-out-of-memory": "Out of memory: Killed process 4711 (python3) total-vm:812345678kB",
    "memlock": "NCCL WARN Call to ibv_reg_mr failed with error Cannot allocate memory",
    "open-files": "OSError: [Errno 24] Too many open files: '/dev/shm/x'",
    "nvidia-peermem": "WARN: neither nv_peer_mem, or nvidia_peermem detected. Skipping transport.",
    # package: NVSHMEM; report: sgl-project/sglang 12949
    "nvshmem-version": "NVSHMEM device library version does not match with NVSHMEM host library version",
    # package: NVSHMEM; report: sgl-project/sglang 12533
    "rdma-rights": "/src/modules/transport/ibgda/ibgda.cpp:1889: NULL value cannot allocate mlx5dv_devx_uar",
    # package: NVSHMEM; report: deepseek-ai/DeepEP 38
    "rdma-connect": "/src/modules/transport/ibrc/ibrc.cpp:418: non-zero status: 110 ibv_modify_qp failed",
    # package: NVSHMEM; report: deepseek-ai/DeepEP 55
    "ibgda": "/host/transport/transport.cpp:nvshmemi_transport_init:275: init failed for transport: IBGDA",
    # package: UCX; report: openucx/ucx 9971 and others
    "ucx-transport": "[1736788625.693157] [decode01:521140:0]  select.c:630  UCX  ERROR   no active messages "
    "transport to <no debug data>: Unsupported operation",
    "address-in-use": "OSError: [Errno 98] error while attempting to bind on address ('0.0.0.0', 8000): "
    "address already in use",
    "wrong-interface": "RuntimeError: Gloo connectFullMesh failed with [pair.cc:144] no error: "
    "remote=[127.0.0.1]:27451",
    # package: torch; report: how it ends where the peer is another host
    "gloo-mesh": "RuntimeError: Gloo connectFullMesh failed with [/gloo/transport/tcp/pair.cc:144] no error: "
    "SO_ERROR: Connection refused, remote=[10.0.0.12]:27451",
    # report: microsoft/VirtualClient 752
    "ssh": "Host key verification failed.",
    # source: Open MPI 4, ORTE's help texts
    "mpi-daemon": "ORTE was unable to reliably start one or more daemons.",
    "no-route": "socketStartConnect: Connect to 10.0.0.7<29500> failed : No route to host",
    # source: DeepEP, deep_ep/buffer.py
    "ep-ranks": "AssertionError: Unsupported number of EP ranks: 12",
    # package: sglang, layers/moe/ep_moe/layer.py
    "deepep-weights": "NotImplementedError: Unquantized DeepEP MoE currently supports low_latency mode only",
    # source: DeepEP, csrc/deep_ep.cpp
    "dispatch-tokens": "RuntimeError: Failed: Assertion error csrc/deep_ep.cpp:1105 'x.size(0) == "
    "topk_idx.size(0) and x.size(0) <= num_max_dispatch_tokens_per_rank'",
    # package: sglang, disaggregation/nixl/conn.py
    "kv-layout": "ValueError: NIXL PD transfer: decode registered fewer KV regions (61) than prefill (62); "
    "unexpected geometry",
    # package: sglang, model_executor/model_runner_components/load_model_utils.py
    "load-unbalanced": "ValueError: TP rank 3 could finish the model loading, but there are other ranks that "
    "didn't finish loading. It is likely due to unexpected failures (e.g., OOM) or a slow node.",
    # package: sglang, disaggregation/prefill.py and common/conn.py
    "kv-peer": "Prefill bootstrap failed for request rank=3 req.rid='6ab1' req.bootstrap_room=17 with "
    "exception KVTransferError(bootstrap_room=17): Request 17 timed out after 300.4s in KVPoll.Bootstrapping",
    # source: DeepEP, csrc/deep_ep.cpp
    "deepep-timeout": "RuntimeError: DeepEP error: CPU recv timeout",
    # package: sglang, utils/watchdog.py
    "watchdog": "[2026-11-24 02:10:11 TP3] Scheduler watchdog timeout (self.watchdog_timeout=300, "
    "self.soft=False)",
    "rank-missing": "torch.distributed.DistStoreError: Timed out after 601 seconds waiting for clients. "
    "3/4 clients joined.",
    "nccl-timeout": "Watchdog caught collective operation timeout: WorkNCCL(SeqNum=12, OpType=SEND)",
    "deepgemm-jit": "Entering DeepGEMM JIT Pre-Compile session. It may takes a long time ",
    "model-missing": "OSError: Can't load tokenizer for '/models/r1'.",
    "etcd-downgrade": '{"level":"fatal","msg":"invalid downgrade; server version is lower than determined"}',
    "etcd-unreachable": "ERROR dynamo_runtime::transports::etcd: Unable to create lease.",
    "nats-unreachable": "failed to connect to NATS: IO error: Connection refused (os error 111)",
    "permission-denied": "PermissionError: [Errno 13] Permission denied: '/dev/infiniband/uverbs0'",
    "connection-refused": "requests.exceptions.ConnectionError: [Errno 111] Connection refused",
    "limit-low": "wideep: the hard limit for open files is 20000, the service wants 65536",
}


def test_every_cause_has_a_line() -> None:
    """Those that more than one line of a component shows are in test_causes."""
    assert {*LINES, *(name for name, *_ in SAID)} == set(known().causes)


@pytest.mark.parametrize("name", LINES)
def test_a_real_line_names_its_cause_first(name: str) -> None:
    causes = explain(["INFO starting", LINES[name], "INFO bye"])
    assert causes[0].pattern == name
    assert causes[0].cause
    assert causes[0].remedy
    assert not {"{", "}"} & set(causes[0].cause + causes[0].remedy)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("etcd cluster is unavailable or misconfigured; error: connection refused", "etcd-unreachable"),
        ("lease 7587 not found, etcdserver: requested lease not found", "etcd-unreachable"),
        ("nats: no servers available for connection", "nats-unreachable"),
        ("listen tcp 127.0.0.1:4222: bind: address already in use", "address-in-use"),
        # package: sglang
        (
            "ImportError: Please install mooncake by following the instructions at "
            "https://kvcache-ai.github.io/Mooncake/getting_started/build.html to run SGLang with "
            "MooncakeTransferEngine.",
            "package-missing",
        ),
        (
            "ImportError: Please install NIXL by following the instructions at "
            "https://github.com/ai-dynamo/nixl/blob/main/README.md to run SGLang with NixlTransferEngine.",
            "package-missing",
        ),
        ("ImportError: torch reports CUDA 13 but nixl-cu13 is not installed", "package-missing"),
        (
            "Exception: flashinfer_python is installed with version 0.6.1, which is less than the minimum "
            "required version 0.6.14. Please uninstall the old version and reinstall the latest version",
            "packages-mismatch",
        ),
        ("AssertionError: Unquantized DeepEP low-latency MoE requires DeepGEMM BF16", "deepep-weights"),
        (
            "RuntimeError: Page size mismatch: prefill server has page_size=64, but decode server has "
            "page_size=1. Both servers must use the same --page-size value.",
            "kv-layout",
        ),
        (
            "Decode transfer failed for request rank=0 decode_req.req.rid='6ab1' with exception "
            "KVTransferError(bootstrap_room=17): Request 17 timed out after 300.1s in KVPoll.WaitingForInput",
            "kv-peer",
        ),
        (
            "Some requests timed out when bootstrapping, which means prefill instances fail to receive the "
            "KV indices from the decode instance of this request. If a greater mean TTFT is acceptable, you "
            "can 'export SGLANG_DISAGGREGATION_BOOTSTRAP_TIMEOUT=600' (10 minutes) to relax the timeout "
            "condition.",
            "kv-peer",
        ),
        (
            "Some requests fail to receive KV Cache transfer done signal after bootstrapping. If a greater "
            "mean TTFT is acceptable, you can 'export SGLANG_DISAGGREGATION_WAITING_TIMEOUT=600' (10 "
            "minutes) to relax the timeout condition.",
            "kv-peer",
        ),
        (
            "Lost connection with prefill instance (bootstrap_addr: 10.0.0.1:20002), 7 requests affected",
            "kv-peer",
        ),
        ("Prefill instance failed to register to bootstrap server after 5 retries", "kv-peer"),
        # package: NVSHMEM
        (
            "NVSHMEM provided an incompatible version of the transport interface. This transport supports "
            "transport API major version 9. Host has 8",
            "nvshmem-version",
        ),
        ("UID bootstrap version (3) is not compatible with NVSHMEM version (4)", "nvshmem-version"),
        (
            "ibgda.cpp:2966: Error in mlx5dv_devx_obj_modify for INIT2RTR_QP with syndrome 1e0f",
            "rdma-connect",
        ),
        ("ibgda.cpp:1120: ibv_modify_qp init2rtr for dct failed.", "rdma-connect"),
        ("NVSHMEM_IBGDA_NIC_HANDLER=cpu requires GDRCopy.", "ibgda"),
        # report: NVIDIA/nvshmem 33
        ("ibgda.cpp:2234: NULL value Unable to create ah.", "rdma-connect"),
        # package: UCX
        ("ib_mlx5_dv.c:90  UCX  ERROR mlx5dv_devx_alloc_uar(device=mlx5_0, flags=0x0) failed", "rdma-rights"),
        (
            "ib_iface.c:912  UCX  ERROR modify qp 0x1f3 to state 2 failed: Connection timed out",
            "rdma-connect",
        ),
        (
            "ib_md.c:309  UCX  ERROR ibv_reg_mr(address=0x7f, length=8, access=0xf) failed: Cannot allocate "
            "memory : Please set max locked memory (ulimit -l) to 'unlimited' (current: 8192 kbytes)",
            "memlock",
        ),
        (
            "ucp_context.c:900  UCX  ERROR no usable transports/devices (asked rc_x on network:mlx5_9:1)",
            "ucx-transport",
        ),
        # report: ai-dynamo/dynamo 1209
        (
            "ucp_context.c:1321 UCX  WARN  network device 'mlx5_bond_0:1' is not available, please use one "
            "or more of: 'bond0'(tcp), 'eth0'(tcp), 'lo'(tcp)",
            "ucx-transport",
        ),
        # source: openucx/ucx 11220
        (
            "UCX  WARN  network devices 'mlx5_8:1','mlx5_9:1' are not available, please use one or more of: "
            "'lo'(tcp), 'mlx5_0:1'(ib)",
            "ucx-transport",
        ),
        # report: /etc/hosts names the host 127.0.1.1, as Ubuntu does
        (
            "RuntimeError: Gloo connectFullMesh failed with [/gloo/transport/tcp/pair.cc:144] no error: "
            "SO_ERROR: Connection refused, remote=[127.0.1.1]:40411",
            "wrong-interface",
        ),
        # report: vllm-project/vllm 7074
        (
            "[E ProcessGroupGloo.cpp:144] Gloo connectFullMesh failed with [/gloo/tcp/pair.cc:144] no error",
            "gloo-mesh",
        ),
        (
            "[E ProcessGroupGloo.cpp:138] Gloo connectFullMesh failed with Connection reset by peer",
            "gloo-mesh",
        ),
        # package: torch, the CUDA runtime
        (
            "RuntimeError: The NVIDIA driver on your system is too old (found version 12080). Please update "
            "your GPU driver by downloading and installing a new version",
            "driver-old",
        ),
        ("CUDA error: uncorrectable NVLink error detected during the execution", "gpu-broken"),
        # source: NVIDIA's list of Xid messages
        ("NVRM: Xid (PCI:0000:17:00): 79, pid=4711, GPU has fallen off the bus.", "gpu-broken"),
        ("Failed to initialize NVML: Driver/library version mismatch", "driver-mismatch"),
        # report: deepseek-ai/DeepEP 553, 181
        ("RuntimeError: DeepEP error: timeout (dispatch CPU)", "deepep-timeout"),
        (
            "DeepEP dispatch NVL receiver timeout, channel: 0, RDMA: 0, nvl: 7, src RDMA: 1, src nvl: 1",
            "deepep-timeout",
        ),
        # source: DeepEP, csrc/kernels/utils.cuh
        ("DeepEP timeout check failed: rank = 3, thread = 1, value = 1)", "deepep-timeout"),
        # source: TensorRT-LLM, examples/wide_ep/README.md
        (
            "[decode01:452151:0:452151] Caught signal 7 (Bus error: nonexistent physical address)",
            "shared-memory",
        ),
        # report: Open MPI's mailing list, PRRTE's users
        ("bash: orted: command not found", "mpi-missing"),
        ("bash: line 1: prted: command not found", "mpi-missing"),
        ("PRTE has lost communication with a remote daemon.", "mpi-daemon"),
        ("An ORTE daemon has unexpectedly failed after launch and before", "mpi-daemon"),
        # OpenSSH's words; none of them is about a file
        ("ubuntu@decode02: Permission denied (publickey,gssapi-keyex,gssapi-with-mic,password).", "ssh"),
        ("ubuntu@decode02: Permission denied (publickey).", "ssh"),
        ("Permission denied, please try again.", "ssh"),
        ("ssh: connect to host 10.0.0.12 port 22: Connection refused", "ssh"),
        ("ssh: Could not resolve hostname decode02: Name or service not known", "ssh"),
        # systemd.exec(5)
        ("ended: exit-code, status 216", "service-user"),
        ("wideep-decode-0.service: Main process exited, code=exited, status=217/USER", "service-user"),
        ("ended: exit-code, status 200", "program-missing"),
        ("wideep-decode-0.service: Main process exited, code=exited, status=203/EXEC", "program-missing"),
        ("port 8000 is answered by another process (pid 12)", "address-in-use"),
        (
            "RuntimeError: unable to write to file </torch_1>: No space left on device (28) in /dev/shm",
            "shared-memory",
        ),
        ("ended: terminated by SIGKILL", "host-out-of-memory"),
        (
            "RuntimeError: Rank 0 scheduler died during initialization (exit code: -9). If exit code is -9"
            " (SIGKILL), a common cause is the OS OOM killer.",
            "host-out-of-memory",
        ),
        ("wideep: rank 2 on decode03 was killed by SIGKILL", "host-out-of-memory"),
        ("waits for rank 2 on decode03, rank 3 on decode04", "rank-missing"),
        (
            "torch.distributed.DistNetworkError: The client socket has timed out after 600000ms while trying"
            " to connect to (10.0.0.1, 21003).",
            "rank-missing",
        ),
        (
            "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:3690, remote process"
            " exited or there was a network error, NCCL version 2.27.7",
            "nccl-timeout",
        ),
        (
            "    | [rank9]:[E1124 02:10:11 ProcessGroupNCCL.cpp:685] [Rank 9] Watchdog caught collective"
            " operation timeout: WorkNCCL(SeqNum=7, OpType=ALLREDUCE, Timeout(ms)=600000)",
            "nccl-timeout",
        ),
        (
            "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network"
            " address. port: 21003, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in"
            " use",
            "address-in-use",
        ),
        ("decode01:91:91 [0] NCCL WARN Bootstrap : no socket interface found", "wrong-interface"),
        (
            "RuntimeError: [enforce fail at /gloo/transport/tcp/device.cc:84] ifa != nullptr. Unable to find"
            " address for: ens9f9",
            "wrong-interface",
        ),
        ("ended: exit-code, status 203", "program-missing"),
        ("/usr/bin/python3: No module named dynamo.mocker", "python-module-missing"),
        ("bind: Cannot assign requested address", "wrong-interface"),
        (
            "huggingface_hub.errors.OfflineModeIsEnabled: Cannot reach the hub: offline mode is enabled.",
            "model-missing",
        ),
        ("FileNotFoundError: [Errno 2] No such file or directory: '/models/r1/config.json'", "model-missing"),
    ],
)
def test_other_wordings(line: str, name: str) -> None:
    assert [cause.pattern for cause in explain([line])] == [name]


def test_the_word_that_matters_is_in_the_cause() -> None:
    assert explain([LINES["unknown-flag"]])[0].cause == "the program does not know the option --enable-ep-moe"
    assert "sglang.srt is not installed" in explain([LINES["python-module-missing"]])[0].cause
    assert "(3/4 clients joined)" not in explain([LINES["rank-missing"]])[0].cause
    assert "(3/4)" in explain([LINES["rank-missing"]])[0].cause
    assert "(rank 2 on decode03)" in explain(["waits for rank 2 on decode03, rank 3 on x (stopped)"])[0].cause
    assert (
        "(decode02)"
        in explain(["ssh: Could not resolve hostname decode02: Name or service not known"])[0].cause
    )
    assert "(10.0.0.12]:27451)" not in explain([LINES["gloo-mesh"]])[0].cause
    assert "(10.0.0.12)" in explain([LINES["gloo-mesh"]])[0].cause
    assert "(Scheduler)" in explain([LINES["watchdog"]])[0].cause
    assert "over 12 GPUs" in explain([LINES["ep-ranks"]])[0].cause
    assert explain(["torch.distributed.DistStoreError"])[0].cause.endswith("came to the rendezvous")


def test_ordinary_lines_mean_nothing() -> None:
    assert explain([]) == []
    assert explain(["INFO loaded model deepseek", "GET /health 200", "listening on 127.0.0.1:4222"]) == []


@pytest.mark.parametrize(
    "line",
    [
        # NCCL at level INFO, as its users show it: settings, and what it looks for first
        "decode01:91:91 [0] NCCL INFO NCCL_IB_TIMEOUT set by environment to 22.",
        "decode01:91:91 [0] NCCL INFO NET/Plugin : dlerror=libnccl-net.so: cannot open shared object file: "
        "No such file or directory No plugin found (libnccl-net.so), using internal implementation",
        "decode01:91:91 [0] NCCL INFO NET/Socket : Using [0]eth0:10.0.0.12<0> [1]usb0:169.254.3.1<0>",
        "decode01:91:91 [0] NCCL INFO NCCL_SOCKET_IFNAME set by environment to =eth0",
        # UCX below a warning
        "[1660872656.573] [decode01:41718:0] sock.c:128  UCX  DIAG  failed to read from "
        "/sys/class/net/eth6/bonding/ad_num_ports: No such file or directory, assuming 802.3ad bonding is "
        "disabled",
        "[1660872656.556] [decode01:41718:0] ucp_worker.c:1956 UCX  INFO  ep_cfg[1]: tag(rc_mlx5/mlx5_1:1);",
        # SGLang's notes at a start that goes well
        "Watchdog TokenizerManager initialized.",
        "Scheduler watchdog timeout (self.watchdog_timeout=30.0, self.soft=True)",
        "Please install mooncake for using remote instance transfer engine: pip install "
        "mooncake-transfer-engine",
        "Use DeepEP Config: {'normal_dispatch': {'num_sms': 96}, 'normal_combine': {'num_sms': 96}}",
        "UserWarning: Failed to load image Python extension: '/opt/venv/torchvision/image.so: undefined "
        "symbol: _ZN3c10'If you don't plan on using image functionality from `torchvision.io`, you can "
        "ignore this warning.",
        # a part of a word is no word
        "If you report this, please include what failed and the coordinates of what timed out",
        "GET /status 200, status 217 of 300 done",
    ],
)
def test_what_is_no_error_means_nothing(line: str) -> None:
    assert explain([line]) == []


def test_the_first_of_two_is_the_one_that_drags_the_other() -> None:
    peermem, ibgda = LINES["nvidia-peermem"], LINES["ibgda"]
    assert [x.pattern for x in explain([ibgda, peermem])] == ["nvidia-peermem", "ibgda"]
    # NCCL's words for it, which are about a time too
    line = (
        "decode01:91:91 [0] NCCL WARN Call to ibv_modify_qp failed with 110 Connection timed out, on dev "
        "mlx5_0:1, curr state INIT, next state RTR, local GID index 3, local GID ::ffff:10.0.0.1, remote GID "
        "fe80::1"
    )
    assert [x.pattern for x in explain([line])] == ["rdma-connect"]
    assert explain([LINES["mpi-daemon"], LINES["ssh"]])[0].pattern == "ssh"


def test_each_cause_once_most_likely_first() -> None:
    lines = [LINES["connection-refused"], LINES["disk-full"], LINES["connection-refused"], LINES["disk-full"]]
    assert [cause.pattern for cause in explain(lines)] == ["disk-full", "connection-refused"]


def test_what_our_launcher_notes_is_no_cause_where_there_is_one() -> None:
    assert [c.pattern for c in explain([LINES["limit-low"], LINES["compiler-missing"]])] == [
        "compiler-missing"
    ]


def test_an_engine_that_prints_its_options_says_nothing() -> None:
    options = "watchdog_timeout=300, soft_watchdog_timeout=None, moe_a2a_backend='deepep', deepep_mode='auto'"
    line = f"INFO server_args=ServerArgs(nccl_port=None, dist_timeout=None, memlock='x', {options})"
    assert explain([line]) == []


def test_that_nothing_listens_on_its_own_port_is_no_cause() -> None:
    late = service("c", health_detail="port 20000: connection refused", log_tail=["INFO loading"])
    assert "likely cause" not in failure_message("h1", [late], 30, {"c": 30})


def service(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "healthy": False,
        "health_detail": "HTTP 503",
        "expected": "GET http://127.0.0.1:1/ answers 200",
        "pid": 7,
        "uptime_s": 3.2,
        "exits": 0,
        "log_file": f"/log/{name}",
        "log_tail": [f"line {i}" for i in range(20)],
        **changes,
    }


def test_progress_is_one_line_of_bounded_length() -> None:
    services = [service("a", healthy=True), service("b"), service("c", log_tail=["x" * 900])]
    line = progress_line("h1", services, 12.4, {"a": 9, "b": 60, "c": 60})
    assert line == "h1: waiting for b, c (1 of 3 healthy, 12 s of 60 s); b: HTTP 503 | line 19"
    assert len(progress_line("h1", [service("c", log_tail=["x" * 900])], 1, {"c": 60})) == 320
    assert progress_line("h1", [service("c", log_tail=[])], 1, {"c": 60}).endswith("c: HTTP 503")
    note = "wideep: the hard limit for open files is 4096, the service wants 65536"
    assert progress_line("h1", [service("c", log_tail=[note])], 1, {"c": 60}).endswith("c: HTTP 503")


def test_a_failure_says_what_where_why_and_what_to_do() -> None:
    crashed = service(
        "b", exits=3, pid=0, health_detail="ended: exit status 1", log_tail=[LINES["disk-full"]]
    )
    late = service("c")
    in_time = service("d")
    fine = service("a", healthy=True)
    text = failure_message("h1", [fine, crashed, late, in_time], 30.2, {"a": 9, "b": 60, "c": 30, "d": 60})
    assert text.splitlines()[:7] == [
        "b on h1 ended 3 times in 30 s.",
        "  expected: GET http://127.0.0.1:1/ answers 200",
        "  seen: ended: exit status 1",
        "  likely cause: the disk is full",
        "    remedy: free space below wideep_state_dir (df -h), then run again",
        "  last lines of /log/b:",
        "    | panic: write /data/etcd/member/wal/0.tmp: no space left on device",
    ]
    assert "c on h1 is not healthy after 30 s (deadline 30 s)." in text
    assert "seen: HTTP 503 (pid 7, up 3 s)" in text
    assert "    | line 4\n" not in text
    assert "    | line 5\n" in text
    assert text.endswith("Not healthy yet either, but still in time: d.")
    assert failure_message("h1", [late], 30.2, {"c": 30}).endswith("    | line 19")
