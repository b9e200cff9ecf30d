"""The loop of `wideep top`: look, wait, look again, show."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.live import Live

from wideep.problems import Problem, RefusedError
from wideep.published import read
from wideep.top.rows import data, plain, rows, table
from wideep.top.scrape import ask, processes


def show(plan: Mapping[str, Any], interval_s: float, *, once: bool, as_json: bool) -> None:
    """Show a plan's deployment until Ctrl-C on a terminal; elsewhere, and with `once` or JSON, one look.

    Raises RefusedError for a deployment on Kubernetes, whose pods this machine does not reach.
    """
    of = read(plan)
    if not of.hosts:
        remedy = "use the cluster's Prometheus (wideep_kubernetes.pod_monitors), or `wideep status`"
        raise RefusedError([Problem("processes in pods are not asked from here", "wideep_platform", remedy)])
    found, ca = processes(of), of.settings.tls.http.ca
    before = ask(found, time.monotonic(), ca)
    time.sleep(interval_s)
    now = ask(found, time.monotonic(), ca)
    console = Console(highlight=False)
    if as_json:
        print(json.dumps(data(rows(now, before)), indent=2))
        return
    if once or not console.is_terminal:
        print(plain(rows(now, before)))
        return
    title = f"{of.deployment} · every {interval_s:g} s · Ctrl-C ends"
    with Live(table(rows(now, before), title), console=console, screen=True) as live:
        while True:
            time.sleep(interval_s)
            before, now = now, ask(found, time.monotonic(), ca)
            live.update(table(rows(now, before), title))
