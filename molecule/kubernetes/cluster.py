#!/usr/bin/env python3
"""The cluster of this scenario: the bed (tools/kube), and the controller that stands for Dynamo's operator.

usage: cluster.py up|down
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OFFSET = 500
STATE = ROOT / ".cache" / "kube-bed" / str(OFFSET)
BED = [sys.executable, str(ROOT / "tools" / "kube" / "bed.py"), "--offset", str(OFFSET)]
CONTROLLER = str(ROOT / "tests" / "cluster" / "controller.py")


def dynamo_python() -> Path:
    """Return a Python that has Dynamo: that of the tests, made when it is missing."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    environments = importlib.import_module("environments")
    return Path(environments.dynamo()) / "python"


def is_controller(pid: int) -> bool:
    """Whether a process is the controller of this scenario."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").split("\0")
    except OSError:
        return False
    return CONTROLLER in words and str(STATE / "kubeconfig") in words


def up() -> None:
    """Start both."""
    subprocess.run([*BED, "up"], check=True)
    folder = STATE / "serve"
    folder.mkdir(exist_ok=True)
    words = [sys.executable, CONTROLLER, "--kubeconfig", str(STATE / "kubeconfig"), "--serve", str(folder)]
    words += ["--python", str(dynamo_python()), "--model", str(ROOT / "configs" / "models" / "rehearsal")]
    words += ["--etcd", f"http://127.0.0.1:{23790 + OFFSET}"]
    with (STATE / "log" / "controller.log").open("ab") as log:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    (STATE / "controller.pid").write_text(f"{process.pid}\n", encoding="utf-8")


def down() -> None:
    """End both: first the controller, which ends what it started."""
    file = STATE / "controller.pid"
    pid = int(file.read_text(encoding="utf-8")) if file.exists() else 0
    if pid and is_controller(pid):
        os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + 90
        while is_controller(pid) and time.monotonic() < end:
            time.sleep(0.2)
    subprocess.run([*BED, "down"], check=True)


if __name__ == "__main__":
    {"up": up, "down": down}[sys.argv[1]]()
