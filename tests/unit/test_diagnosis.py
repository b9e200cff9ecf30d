"""Each known cause by a line as programs really write it, and the messages made of them."""

from __future__ import annotations

from typing import Any

import pytest

from wideep import diagnosis
from wideep.diagnosis import explain, failure_message, progress_line

LINES = {
    "unknown-flag": "__main__.py: error: unrecognized arguments: --enable-ep-moe",
    "python-module-missing": "ModuleNotFoundError: No module named 'sglang.srt'",
    "program-missing": "wideep: cannot start nats: [Errno 2] No such file or directory: '/opt/nats-server'",
    "disk-full": "panic: write /data/etcd/member/wal/0.tmp: no space left on device",
    "compiler-missing": "FileNotFoundError: [Errno 2] No such file or directory: 'ninja'",
    "memory-fraction-low": "ValueError: Loaded weights leave no GPU memory for the KV cache under "
    "--mem-fraction-static=0.5. Raise --mem-fraction-static above 0.533 (minimum viable = …)",
    "cuda-out-of-memory": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 7.00 GiB.",
    "shared-memory": "Fatal Python error: Bus error",
    "host-out-of-memory": "Out of memory: Killed process 4711 (python3) total-vm:812345678kB",
    "memlock": "NCCL WARN Call to ibv_reg_mr failed with error Cannot allocate memory",
    "open-files": "OSError: [Errno 24] Too many open files: '/dev/shm/x'",
    "nvidia-peermem": "WARN: neither nv_peer_mem, or nvidia_peermem detected. Skipping transport.",
    "rdma-device": "ibgda.cpp:1420: cannot allocate memory: mlx5dv_devx_alloc_uar",
    "address-in-use": "OSError: [Errno 98] error while attempting to bind on address ('0.0.0.0', 8000): "
    "address already in use",
    "wrong-interface": "RuntimeError: Gloo connectFullMesh failed with [pair.cc:144] no error: "
    "remote=[127.0.0.1]:27451",
    "no-route": "socketStartConnect: Connect to 10.0.0.7<29500> failed : No route to host",
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


def test_every_cause_has_a_line_here() -> None:
    assert list(LINES) == [name for name, *_ in diagnosis._TABLE]


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
        ("port 8000 is answered by another process (pid 12)", "address-in-use"),
        (
            "RuntimeError: unable to write to file </torch_1>: No space left on device (28) in /dev/shm",
            "shared-memory",
        ),
        ("ended: terminated by SIGKILL", "host-out-of-memory"),
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
    assert explain(["torch.distributed.DistStoreError"])[0].cause.endswith("came to the rendezvous")


def test_ordinary_lines_mean_nothing() -> None:
    assert explain([]) == []
    assert explain(["INFO loaded model deepseek", "GET /health 200", "listening on 127.0.0.1:4222"]) == []


def test_each_cause_once_most_likely_first() -> None:
    lines = [LINES["connection-refused"], LINES["disk-full"], LINES["connection-refused"], LINES["disk-full"]]
    assert [cause.pattern for cause in explain(lines)] == ["disk-full", "connection-refused"]


def test_what_our_launcher_notes_is_no_cause_where_there_is_one() -> None:
    assert [c.pattern for c in explain([LINES["limit-low"], LINES["compiler-missing"]])] == [
        "compiler-missing"
    ]


def test_an_engine_that_prints_its_options_says_nothing() -> None:
    assert explain(["INFO server_args=ServerArgs(nccl_port=None, dist_timeout=None, memlock='x')"]) == []


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
