"""How the programs of a release behave where wideep's code leans on it, tried with simulated workers."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from release_tool.folder import Release
from release_tool.live import ADDRESS, MODEL, Processes, complete, get, listed, processes
from release_tool.locks import environment

# Longer than any start that succeeded.
NEVER_S = 25.0
HIGH_PORT = 40731
LISTENING = "0A"


def frontend_is_healthy_alone(run: Processes) -> bool:
    """The frontend's /health answers 200 before there is a worker."""
    port = run.frontend()
    return _status(port, "/health") == 200


def model_readiness_is_told(run: Processes) -> bool:
    """GET /v1/models/MODEL/ready tells whether a model is served."""
    port = run.frontend()
    run.worker("agg")
    listed(port)
    status, text = get(port, f"/v1/models/{MODEL}/ready")
    return status == 200 and bool(json.loads(text).get("ready"))


def health_needs_a_starting_status(run: Processes) -> bool:
    """A worker's /health answers 503 for ever, unless DYN_SYSTEM_STARTING_HEALTH_STATUS=ready."""
    port = run.frontend()
    worker = run.worker("agg", DYN_SYSTEM_STARTING_HEALTH_STATUS=None)
    return listed(port) and _status(worker, "/health", after_s=3) == 503


def responses_come_back_to_an_address(run: Processes) -> bool:
    """DYN_TCP_RESPONSE_STREAM_HOST may be an address, not only the name of an interface."""
    port = run.frontend(DYN_TCP_RESPONSE_STREAM_HOST=ADDRESS)
    run.worker("agg", DYN_TCP_RESPONSE_STREAM_HOST=ADDRESS)
    return listed(port, NEVER_S) and complete(port)[0] == 200


def worker_needs_a_system_port(run: Processes) -> bool:
    """The model of a worker without DYN_SYSTEM_PORT is never listed."""
    port = run.frontend()
    run.worker("agg", DYN_SYSTEM_PORT=None)
    return not listed(port, NEVER_S)


def system_port_may_be_high(run: Processes) -> bool:
    """A worker's system port may be higher than 32767."""
    port = run.frontend()
    run.worker("agg", DYN_SYSTEM_PORT=str(HIGH_PORT))
    return listed(port, NEVER_S)


def frontend_takes_an_rpc_port(run: Processes) -> bool:
    """A frontend with DYN_TCP_RPC_PORT lists the model, as one without."""
    port = run.frontend(DYN_TCP_RPC_PORT="20999")
    run.worker("agg")
    return listed(port, NEVER_S)


def mocker_bootstraps_on_all_addresses(run: Processes) -> bool:
    """The simulated prefill worker opens its bootstrap port on all addresses of the machine."""
    port = run.frontend()
    run.worker("prefill")
    run.worker("decode")
    listed(port)
    time.sleep(2)
    return run.bootstrap in _open_on_all_addresses()


TRIALS: tuple[Callable[[Processes], bool], ...] = (
    frontend_is_healthy_alone,
    model_readiness_is_told,
    health_needs_a_starting_status,
    responses_come_back_to_an_address,
    worker_needs_a_system_port,
    system_port_may_be_high,
    frontend_takes_an_rpc_port,
    mocker_bootstraps_on_all_addresses,
)


def _status(port: int, path: str, after_s: float = 0.0) -> int:
    """Return the status once somebody answers."""
    time.sleep(after_s)
    end = time.monotonic() + NEVER_S
    while (status := get(port, path)[0]) == 0 and time.monotonic() < end:
        time.sleep(0.25)
    return status


def _open_on_all_addresses() -> set[int]:
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        address, port = local.split(":")
        if state == LISTENING and address == "00000000":
            found.add(int(port, 16))
    return found


def make_behaviour(release: Release) -> Path:
    """Try everything and write behaviour.json of a release."""
    python = environment(release, "ai-dynamo-sglang")
    rows = {}
    with tempfile.TemporaryDirectory(prefix="wideep-behaviour-") as folder:
        for trial in TRIALS:
            with processes(python, Path(folder) / trial.__name__) as run:
                holds = trial(run)
            rows[trial.__name__] = {"holds": holds, "what": str(trial.__doc__)}
    path = release.path / "behaviour.json"
    lines = [f" {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return path
