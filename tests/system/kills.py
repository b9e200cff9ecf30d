"""What a killed worker costs: clients stream without a pause, one worker is killed, all requests count.

.venv/bin/python -m tests.system.kills --release 1.6.1 --router kv --killed decode --runs 8 --clients 8

Deploys inventories/local in a directory and on ports of its own, and removes it. Prints a JSON line a run and
the row for docs/explanation/failures.md. Statuses of 503 are counted apart: the frontend itself refused; from
the first of them to the last is the outage.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from waiting import until

from tests.system.conftest import Deployment, free_offset
from tests.system.load import Answer, ask, instances

TOKENS = 60
BEFORE_S, AFTER_S = 2.0, 12.0
MODEL = "deepseek-ai/DeepSeek-R1"


def one(deployment: Deployment, service: str, number_of_clients: int) -> list[Answer]:
    """Kill a worker under load; return every request of the clients. The worker is back afterwards."""
    everyone = instances(deployment.url)
    victim = deployment.pids()[service]
    stop, answers = threading.Event(), []

    def client(number: int) -> None:
        while not stop.is_set():
            answers.append(ask(deployment.url, MODEL, number, TOKENS))

    with ThreadPoolExecutor(number_of_clients) as pool:
        clients = [pool.submit(client, number) for number in range(number_of_clients)]
        time.sleep(BEFORE_S)
        os.kill(victim, signal.SIGKILL)
        time.sleep(AFTER_S)
        stop.set()
        for each in clients:
            each.result()
    until("it runs again", lambda: deployment.pids().get(service, victim) != victim)
    until("all are registered", lambda: len(instances(deployment.url)) == len(everyone))
    time.sleep(2)
    return answers


def main() -> None:
    """Deploy, kill as often as asked, remove."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--release", default="")
    parser.add_argument("--router", default="kv")
    parser.add_argument("--killed", action="append", choices=("prefill", "decode"))
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--set", type=json.loads, default={}, help="more variables, as JSON")
    given = parser.parse_args()
    state_dir = Path(tempfile.mkdtemp(prefix="wideep-kills-"))
    variables: dict[str, Any] = {"wideep_release": given.release, "wideep_router_mode": given.router}
    variables |= given.set
    deployment = Deployment(state_dir, free_offset(5000), variables)
    try:
        deployment.run("site").raise_for_status()
        for role in given.killed or ("decode", "prefill"):
            total: Counter[str] = Counter()
            failed, longest = [], 0.0
            for run in range(given.runs):
                answers = one(deployment, f"{role}-{run % 2}", given.clients)
                kinds = Counter(answer.kind for answer in answers)
                total += kinds
                failed.append(len(answers) - kinds["complete"])
                refused = [answer.start for answer in answers if answer.kind == "refused"]
                outage = round(max(refused) - min(refused), 1) if refused else 0.0
                longest = max(longest, outage)
                print(json.dumps({"killed": role, "run": run, "outage_s": outage, **kinds}), flush=True)
            lost = ", ".join(f"{total[kind]} {kind}" for kind in ("refused", "failed", "empty", "cut"))
            print(
                f"| {given.release} | {given.router} | {role} | {sum(failed)} of {sum(total.values())}"
                f" ({lost}) | {' '.join(map(str, failed))} | {longest} s |",
                flush=True,
            )
    finally:
        deployment.run("teardown")
        shutil.rmtree(state_dir, ignore_errors=True)


if __name__ == "__main__":
    main()
