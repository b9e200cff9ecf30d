"""A small deployment of a release on this machine: a frontend, simulated workers, discovery by files.

Everything listens on loopback addresses only and ends with the block that started it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from release_tool.folder import ROOT

MODEL = "wideep/rehearsal"
MODEL_PATH = ROOT / "configs" / "models" / "rehearsal"
ADDRESS = "127.0.0.1"
# The system port has to be below the ports that the kernel hands out.
PORTS = iter(range(21000, 32000))
START_S = 60.0
STOP_S = 20.0


def free_port() -> int:
    """Return a port that nobody listens on; none is returned twice."""
    for port in PORTS:
        with socket.socket() as probe:
            try:
                probe.bind((ADDRESS, port))
            except OSError:
                continue
            return port
    raise SystemExit("no free port between 21000 and 32000")


def get(port: int, path: str) -> tuple[int, str]:
    """Return status and text of an answer; 0 where nobody answers."""
    try:
        with urllib.request.urlopen(f"http://{ADDRESS}:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


@dataclass
class Processes:
    """Processes of one release that belong together; what `env` sets to None is left out."""

    python: Path
    folder: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    bootstrap: int = 0

    def _start(self, name: str, words: list[str], env: Mapping[str, str | None]) -> None:
        common: dict[str, str | None] = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            "HF_HUB_OFFLINE": "1",
            "DYN_DISCOVERY_BACKEND": "file",
            "DYN_FILE_KV": str(self.folder / "discovery"),
            "DYN_REQUEST_PLANE": "tcp",
            "DYN_EVENT_PLANE": "zmq",
            "DYN_TCP_RPC_HOST": ADDRESS,
            "DYN_TCP_RESPONSE_STREAM_HOST": "lo",
        }
        (self.folder / "discovery").mkdir(exist_ok=True)
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [self.python, "-m", *words],
                cwd=self.folder,
                env={key: value for key, value in {**common, **env}.items() if value is not None},
                stdout=log,
                stderr=log,
            )

    def frontend(self, router: str = "kv", **env: str | None) -> int:
        """Start a frontend; return its port."""
        port = free_port()
        words = ["--http-host", ADDRESS, "--http-port", str(port), "--router-mode", router]
        words += ["--migration-limit", "3"]
        self._start("frontend", ["dynamo.frontend", *words], env)
        return port

    def worker(self, mode: str, name: str = "", **env: str | None) -> int:
        """Start a simulated worker (name: its mode, unless given); return its system port."""
        port = free_port()
        component = {"prefill": "prefill"}.get(mode, "backend")
        words = ["--model-path", str(MODEL_PATH), "--model-name", MODEL, "--speedup-ratio", "10"]
        words += ["--endpoint", f"dyn://dynamo.{component}.generate", "--disaggregation-mode", mode]
        words += ["--engine-type", "sglang", "--block-size", "64"]
        if mode == "prefill":
            self.bootstrap = free_port()
            words += ["--bootstrap-ports", str(self.bootstrap)]
        own = {
            "DYN_SYSTEM_PORT": str(port),
            "DYN_SYSTEM_HOST": ADDRESS,
            "DYN_SYSTEM_STARTING_HEALTH_STATUS": "ready",
            "DYN_TCP_RPC_PORT": str(free_port()),
        }
        self._start(name or mode, ["dynamo.mocker", *words], own | env)
        return port

    def kill(self, name: str) -> None:
        """End a process at once, without a word to the others."""
        self.running[name].kill()
        self.running[name].wait()

    def stop(self) -> None:
        """End all; what does not end by itself is killed."""
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def log(self, name: str) -> str:
        """Return the end of a process's log."""
        return (self.folder / f"{name}.log").read_text(errors="replace")[-2000:]


@contextmanager
def processes(python: Path, folder: Path) -> Iterator[Processes]:
    """Give a place for processes and end them afterwards."""
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        made = Processes(python, folder)
        stack.callback(made.stop)
        yield made


def listed(port: int, deadline_s: float = START_S) -> bool:
    """Whether a frontend lists the model before the deadline."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        status, text = get(port, "/v1/models")
        if status == 200 and json.loads(text).get("data"):
            return True
        time.sleep(0.25)
    return False


def complete(port: int, tokens: int = 16, model: str = MODEL) -> tuple[int, Any]:
    """Ask for a completion; return the status and the answer."""
    body: dict[str, Any] = {"model": model, "prompt": "one two three " * 80, "max_tokens": tokens}
    body["ignore_eos"] = True
    request = urllib.request.Request(
        f"http://{ADDRESS}:{port}/v1/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)
