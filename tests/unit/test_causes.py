# ruff: noqa: E501 - a table, one row a line
"""Causes as data: files are whole, and the words of programs lead to the cause that has a remedy for them.

The values in all lines are made up; where the words are from stands beside their pattern (`seen`).
"""

from __future__ import annotations

import re

import pytest

from wideep.reports.causes import components, known
from wideep.reports.diagnosis import explain

# Cause -> what is said when it is met, and a word of the remedy.
SAID: list[tuple[str, str, str]] = [
    ("nvidia-peermem", "E0612 rdma_context.cpp:201] Failed to register memory 0x7f00: Bad address [14]", "peermem"),
    ("nvidia-peermem", "E0612 rdma_context.cpp:201] Failed to register memory 0x7f00: Invalid argument [22]", "dma"),
    ("nvidia-peermem", "RuntimeError: Mooncake memory registration failed (ret=-200)", "peermem"),
    ("kv-peer", "KVTransferError(bootstrap_room=3): Decode instance could be dead, remote mooncake session h:1 is", ""),
    ("kv-peer", "KVTransferError: Failed to get kvcache from prefill instance, it might be dead", "worker"),
    ("kv-peer", "[2026-11-01] Failed to get prefill server info: 404, Prefill server info not ready", "worker"),
    ("kv-peer", "sock.c:334  UCX  ERROR   connect(fd=88, dest_addr=10.0.0.3:40000) failed: Connection refused", ""),
    ("mooncake-tcp", "E06 tcp_transport.cpp:140] Session::writeBody failed. Error: Bad address (value: 14)", "devices"),
    ("rdma-devices", "ValueError: Invalid IB devices specified for all GPUs: ['mlx5_7']. Available devices: ['mlx5_0']", ""),
    ("rdma-devices", "ValueError: Invalid InfiniBand devices: ['mlx5_7']. Available devices: ['mlx5_0']", "ibdev2netdev"),
    ("rdma-devices", "E11 transfer_engine.cpp:9] Failed to install transport rdma: no RDMA device found", "rdma_devices"),
    ("ucx-no-cuda", "W ucx_utils.cpp:631] 8 NVIDIA GPU(s) were detected, but UCX CUDA support was not found!", "UCX_TLS"),
    ("ucx-no-cuda", "E ucx_utils.cpp:585] VRAM memory is detected as host by UCX.", "cuda_copy"),
    ("ucx-no-cuda", "ucp_context.c:1321 UCX  WARN  transports 'cuda_ipc','cuda_copy' are not available, please use", ""),
    ("ucx-no-cuda", "ucp_context.c:1321 UCX  WARN  transport 'cuda_copy' is not available, please use one or more of", ""),
    ("ucx-transport", "ucp_worker.c:1412 UCX  ERROR uct_iface_open(tcp/ens9) failed: Invalid parameter", "rdma_devices"),
    ("packages-mismatch", "UCX  WARN  UCP API version is incompatible: required >= 1.20, actual 1.18.0", "LD_LIBRARY_PATH"),
    ("packages-mismatch", "ImportError: cannot import name 'matmul_ogs' from 'triton_kernels' (unknown location)", "image"),
    ("rdma-connect", "NET/IB : Got completion from peer 10.0.0.2<4> with error 12, opcode 0, len 0, vendor err 129", "gid"),
    ("rdma-connect", "NET/IB: Got completion from peer 10.0.0.2<4> with status=IBV_WC_RETRY_EXC_ERR(12) opcode=IBV_", ""),
    ("rdma-connect", "ib_mlx5_log.c:171  Transport retry count exceeded on mlx5_3:1/RoCE (synd 0x15 vend 0x81)", "card"),
    ("rdma-connect", "ucp_ep.c  UCX  ERROR ep 0x7f: error 'Endpoint timeout' on rc_mlx5/mlx5_0:1", "gid_index"),
    ("rdma-connect", "ibvwrap.cc:187 NCCL WARN Call to ibv_modify_qp failed with error Network is unreachable", "gid_index"),
    ("rdma-connect", "/nvshmem/src/modules/transport/ibrc/ibrc.cpp:349: NULL value qp creation failed", "QP_DEPTH"),
    ("kv-transfer", "ib_mlx5_log.c:179  UCX  ERROR Local protection error on mlx5_0:1/RoCE (synd 0x4)", "UCX"),
    ("kv-transfer", "srd_iface.c:221  UCX  ERROR send completion[0] with error on rdmap1s0/0x5: Work Request Flushed Error", ""),
    ("kv-transfer", "nixl_cu13._bindings.nixlRemoteDisconnectError: NIXL_ERR_REMOTE_DISCONNECT", "peer"),
    ("kv-transfer", "nixl._bindings.nixlBackendError: NIXL_ERR_BACKEND", "peer"),
    ("kv-transfer", "E nixl_agent.cpp:545] registerMem: registration failed for the specified or all potential", "peer"),
    ("kv-transfer", "ib_mlx5_log.c:179  UCX  ERROR Remote access error on mlx5_2:1/IB (synd 0x13)", "UCX"),
    ("nccl-timeout", "NET/IB: Got completion from peer 10.0.0.2<4> with status=IBV_WC_WR_FLUSH_ERR(5) opcode=", "rank"),
    ("illegal-access", "CUDA error: device-side assert triggered", "first"),
    ("gpu-newer", "UserWarning: NVIDIA GB300 with CUDA capability sm_103 is not compatible with the current PyTorch installation.", ""),
    ("rdma-devices", "Error: stat /dev/infiniband: no such file or directory", "rdma_devices"),
    ("nccl-net", "NCCL WARN Failed to initialize any NET plugin", "NCCL_NET"),
    ("nccl-net", "ncclInvalidUsage: This usually reflects invalid usage. Error: network IB not found.", "/dev/infiniband"),
    ("cuda-out-of-memory", "/nvshmem/src/host/mem/mem_heap.cpp:1590: non-zero status: 2 cuMemCreate failed", "fraction"),
    ("cuda-out-of-memory", "alloc.h:228 NCCL WARN Cuda failure 2 'out of memory'", "fraction"),
    ("cuda-out-of-memory", "[TensorRT-LLM][ERROR] CUDA runtime error in cudaMalloc(&b, n): out of memory", "fraction"),
    ("cuda-out-of-memory", "Capture cuda graph failed: CUDA out of memory. Tried to allocate 1.00 GiB.", "graph"),
    ("wrong-interface", "nvshmemx_api.h:63: non-zero status: 7: Connection timed out, exiting...", "wideep_interface"),
    ("imex", "cuda_ipc_cache.c:300 UCX  ERROR   cuMemImportFromShareableHandle failed: invalid resource handle", "MNNVL"),
    ("imex", "transport/p2p.cc:352 NCCL WARN Cuda failure 800 'operation not permitted'", "nvidia-imex"),
    ("imex", "RuntimeError: MnnvlMemory: cuMemCreate failed, CUDA_ERROR_NOT_PERMITTED", "nvidia-caps-imex-channels"),
    ("imex", "Error: failed to open /dev/nvidia-caps-imex-channels/channel0: No such file or directory", "channel"),
    ("gpu-ordinal", "transport/p2p.cc:352 NCCL WARN Cuda failure 101 'invalid device ordinal'", "gpus_per_node"),
    ("gpu-shared", "NCCL WARN Duplicate GPU detected : rank 2 and rank 0 both on CUDA device 9b000", "CUDA_VISIBLE_DEVICES"),
    (
        "gpu-shared",
        "DistBackendError: NCCL error in: NCCLUtils.cpp:77, invalid usage, NCCL version 2.27.5 Duplicate GPU"
        " detected : rank 2 and rank 0 both on CUDA device 9b000",
        "CUDA_VISIBLE_DEVICES",
    ),
    ("gpu-busy", "torch.AcceleratorError: CUDA error: CUDA-capable device(s) is/are busy or unavailable", "nvidia-smi -c"),
    ("gpu-newer", "torch.AcceleratorError: CUDA error: no kernel image is available for execution on the device", ""),
    ("gpu-newer", "Ninja build failed. Ninja output: nvcc fatal : Unsupported gpu architecture 'compute_103a'", "cuda"),
    ("gpu-newer", "ptxas fatal : Value 'sm_103a' is not defined for option 'gpu-name'", "/usr/local/cuda"),
    ("gpu-newer", "RuntimeError: Triton Error [CUDA]: device kernel image is invalid", "wideep_release"),
    ("compiler-missing", "OSError: CUDA_HOME environment variable is not set. Please set it to your CUDA root", "CUDA_HOME"),
    ("compiler-failed", "RuntimeError: Assertion failed: csrc/jit/compiler.hpp:171, DeepGEMM NVCC compilation failed", ""),
    ("compiler-failed", "RuntimeError: Ninja build failed. Ninja output: error: expected ';'", "nvcc"),
    ("fabric-manager", "nvidia-smi: Fabric State In Progress", "nvidia-fabricmanager"),
    ("nvls", "transport/nvls.cc:254 NCCL WARN Failed to bind NVLink SHARP (NVLS) Multicast memory of size 2", "NVLS"),
    ("peer-access", "[TensorRT-LLM][ERROR] Assertion failed: Peer access from 0 to 3 not supported", "nvlink"),
    ("deepep-buffers", "RuntimeError: Failed: CUDA error /x/DeepEP/csrc/deep_ep.cpp:230 'invalid argument'", "NVSHMEM"),
    ("illegal-access", "CUDA error: an illegal memory access was encountered", "CUDA_LAUNCH_BLOCKING"),
    ("nccl-cuda", "NCCL error in: NCCLUtils.cpp:94, unhandled cuda error (run with NCCL_DEBUG=INFO)", "Cuda failure"),
    ("nvshmem-start", "NVSHMEM API called before NVSHMEM initialization has completed", "NVSHMEM"),
    ("model-newer", "The checkpoint has model type `kimi_k9` but Transformers does not recognize this architecture.", ""),
    ("model-newer", "ValueError: Model architectures ['NewForCausalLM'] are not supported for now. Supported", "release"),
    ("model-needs-code", "ValueError: The repository /m contains custom code which must be executed to", "trust_remote_code"),
    ("does-not-divide", "output_size of gate's and up's weight = 96 is not divisible by weight quantization block_n = 128", ""),
    ("does-not-divide", "AssertionError: Attention heads 40 must be divisible by tp 16", "tensor_parallel_size"),
    ("does-not-divide", "AssertionError: 201088 is not divisible by 12", "tensor_parallel_size"),
    ("context-length", "ValueError: User-specified context_length (9) is greater than the derived context_length (8).", ""),
    ("weights-shape", "KeyError: 'model.layers.3.mlp.experts.w13_weight_scale_inv'", "config.json"),
    ("weights-shape", "RuntimeError: The size of tensor a (576) must match the size of tensor b (512)", "wideep_model_path"),
    ("attention-tp", "PD Disaggregation does NOT support PD different TP sizes for non-MLA SWA hybrid models yet.", "same"),
    ("not-disaggregated", "Kimi does not support PD disaggregation with speculative decoding yet; disable it", "aggregated"),
    ("rank-missing", "The client socket has failed to connect to any network address of (10.0.0.5, 20003).", "leader"),
    ("etcd-space", "etcdserver: mvcc: database space exceeded", "defrag"),
    ("shared-memory", "shmutils.cc:87 NCCL WARN Error: failed to extend /dev/shm/nccl-a to 9 bytes, error: No space left on device (28)", "shm"),
    ("cdi", "Error: setting up CDI devices: unresolvable CDI devices nvidia.com/gpu=3", "nvidia-ctk cdi generate"),
    ("image-missing", "Error: initializing source docker://h/x:1.0: reading manifest 1.0 in h/x: unauthorized", "secrets_registries"),
    ("memlock", "ibv_create_cq(cqe=9) failed: Cannot allocate memory : Please set max locked memory", "LimitMEMLOCK"),
    ("mpi-abort", "MPI_ABORT was invoked on rank 3 in communicator MPI_COMM_WORLD with errorcode 1.", "rank"),
    ("jit-lock", "[TP5] Waiting for lock on /var/lib/wideep/cache/tvm-ffi/lock", "lock"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "line", "word"), SAID)
def test_what_a_program_says_has_one_cause(name: str, line: str, word: str) -> None:
    (cause,) = explain(["INFO loading", line, "INFO bye"])
    assert cause.pattern == name
    assert word in cause.remedy


@pytest.mark.parametrize(
    "line",
    [
        "[TP0] Disable prefill CUDA graph because the model is not a language model",
        "kill_process_tree: 3 process(es) still alive after 5.0s SIGKILL; continuing to wait up to 30.0s total.",
        "PyTorch was not found. Models won't be available and only tokenizers, configuration and file/data"
        " utilities can be used.",
        "UCX  WARN  transports 'dc','dc_x' are not available, please use one or more of: cuda, ib, rc, self",
    ],
)
def test_a_harmless_line_is_no_cause(line: str) -> None:
    assert explain([line]) == []


def test_what_follows_from_a_cause_is_none_beside_it() -> None:
    memory = "include/alloc.h:228 NCCL WARN Cuda failure 2 'out of memory'"
    torch = "torch.distributed.DistBackendError: NCCL error in: NCCLUtils.cpp:94, unhandled cuda error"
    assert [cause.pattern for cause in explain([memory, torch])] == ["cuda-out-of-memory"]


def test_the_next_line_says_which_file_system_is_full() -> None:
    full, place = (
        "OSError: [Errno 28] No space left on device",
        '  File "/x/multiprocessing/shared_memory.py", line 1',
    )
    assert [cause.pattern for cause in explain([full, place])] == ["shared-memory"]
    assert [cause.pattern for cause in explain([place, "", "", full])] == ["shared-memory"]
    assert [cause.pattern for cause in explain([full])] == ["disk-full"]
    assert [cause.pattern for cause in explain([full, *[""] * 5, place])] == ["disk-full"]


def test_every_file_is_whole() -> None:
    files = components()
    names = [cause.name for file in files.values() for cause in file.causes]
    ranks = [cause.rank for file in files.values() for cause in file.causes]
    assert len(set(names)) == len(names) == len(set(ranks))
    meant = {line.means for file in files.values() for line in file.lines}
    assert meant == set(names)


def test_a_cause_has_room_for_what_its_lines_find() -> None:
    for line, pattern, _ in known().lines:
        cause = known().causes[line.means].cause
        if "{0}" in cause:
            continue
        assert not set(re.findall(r"[{}]", cause)), line.means
        assert pattern.groups == 0, f"{line.says} finds what {line.means} does not say"
