"""Metric names of a release, from a live scrape of all its programs that run without a GPU."""

from __future__ import annotations

import ast
import json
import re
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from release_tool.folder import Release
from release_tool.live import Processes, complete, get, listed, processes
from release_tool.locks import environment, site_packages

SUFFIXES = re.compile(r"_(bucket|sum|count)$")
SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ")
LABEL = re.compile(r'(\w+)="')
REQUESTS = 12
LONG = 2000
CONSTRUCTORS = ("Counter", "Gauge", "Histogram", "Summary")


def parse(text: str) -> dict[str, dict[str, Any]]:
    """Return name -> type, help and labels of a page of metrics, without series and values."""
    found: dict[str, dict[str, Any]] = {}
    for line in text.splitlines():
        if line.startswith(("# HELP ", "# TYPE ")):
            kind, name, said = [*line[2:].split(" ", 2), ""][:3]
            found.setdefault(name, {})[kind.lower()] = said
        elif sample := SAMPLE.match(line):
            name = sample[1] if sample[1] in found else SUFFIXES.sub("", sample[1])
            entry = found.setdefault(name, {})
            labels = set(LABEL.findall(sample[2] or "")) - {"le", "quantile"}
            entry["labels"] = sorted(labels | set(entry.get("labels", ())))
    return found


def scrape(release: Release) -> dict[str, dict[str, dict[str, Any]]]:
    """Return what a frontend and workers of both roles show after some requests, under each router mode."""
    python = environment(release, "ai-dynamo-sglang")
    found: dict[str, dict[str, dict[str, Any]]] = {"frontend": {}, "prefill": {}, "decode": {}}
    with tempfile.TemporaryDirectory(prefix="wideep-metrics-") as folder:
        for router in ("kv", "round-robin"):
            with processes(python, Path(folder) / router) as run:
                ports = {"frontend": run.frontend(router)}
                ports |= {mode: run.worker(mode) for mode in ("prefill", "decode")}
                run.worker("decode", name="other")
                if not listed(ports["frontend"]):
                    raise SystemExit(f"the model is not listed:\n{run.log('frontend')}\n{run.log('decode')}")
                time.sleep(2)  # for prefill to be found, too
                answers = [complete(ports["frontend"])[0] for _ in range(REQUESTS)]
                if 200 not in answers:
                    raise SystemExit(f"no completion under {router}: {answers}\n{run.log('frontend')}")
                if router == "kv":
                    _lose_a_worker(run, ports["frontend"])
                for program, port in ports.items():
                    for name, entry in parse(get(port, "/metrics")[1]).items():
                        known = found[program].setdefault(name, entry)
                        known["labels"] = sorted({*known.get("labels", ()), *entry.get("labels", ())})
    return found


def _lose_a_worker(run: Processes, port: int) -> None:
    """Some metrics begin with the first failure, or with the first request that another worker continues."""
    asking = [threading.Thread(target=complete, args=(port, LONG)) for _ in range(4)]
    for thread in asking:
        thread.start()
    time.sleep(1)
    run.kill("other")
    for thread in asking:
        thread.join()
    get(port, "/v1/no-such-path")
    complete(port, model="no/such-model")


def of_sglang(packages: Path) -> dict[str, dict[str, Any]]:
    """Return SGLang's own metrics, from the calls in its sources that make them."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((packages / "sglang" / "srt").rglob("*.py")):
        source = path.read_bytes()
        if b"sglang:" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call):
                found |= _made_by(node)
    return found


def _made_by(call: ast.Call) -> dict[str, dict[str, Any]]:
    given = dict(zip(("name", "documentation", "labelnames"), call.args, strict=False))
    given |= {word.arg: word.value for word in call.keywords if word.arg}
    name = given.get("name")
    if not (isinstance(name, ast.Constant) and str(name.value).startswith("sglang:")):
        return {}
    kind = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    entry = {"type": kind.lower()} if kind in CONSTRUCTORS else {}
    said = given.get("documentation")
    if isinstance(said, ast.Constant):
        entry["help"] = str(said.value)
    return {str(name.value): entry}


def text(metrics: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Return one metric a line."""
    programs = []
    for program, names in metrics.items():
        rows = [f"  {json.dumps(name)}: {json.dumps(names[name], sort_keys=True)}" for name in sorted(names)]
        programs.append(f" {json.dumps(program)}: {{\n" + ",\n".join(rows) + "\n }")
    return "{\n" + ",\n".join(programs) + "\n}\n"


def make_metrics(release: Release) -> Path:
    """Write metrics.json of a release."""
    found = scrape(release)
    found["sglang"] = of_sglang(site_packages(environment(release, "ai-dynamo-sglang")))
    path = release.path / "metrics.json"
    path.write_text(text(found), encoding="utf-8")
    return path
