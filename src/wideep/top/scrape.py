"""Asks processes for their metrics, and reads the text that they answer."""

from __future__ import annotations

import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from wideep.published import Published

_LINE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?\s+(\S+)")
TIMEOUT_S = 2.0
THREADS = 32


@dataclass(frozen=True)
class Process:
    """One that has metrics. gang: its replica, or `frontend`; pool: empty for a frontend."""

    gang: str
    pool: str
    host: str
    url: str


@dataclass(frozen=True)
class Sample:
    """What a process said at a time (seconds): name -> (labels as they stand there, value)."""

    at: float
    series: Mapping[str, Sequence[tuple[str, float]]]

    def has(self, name: str) -> bool:
        """Whether it has such a series."""
        return name in self.series

    def sum(self, name: str, *labels: str) -> float:
        """Return the sum over all series of a name that have some labels (`le="0"`)."""
        return sum(value for own, value in self.series.get(name, ()) if all(each in own for each in labels))

    def max(self, name: str) -> float | None:
        """Return the highest value of a name; None where it has none."""
        values = [value for _, value in self.series.get(name, ())]
        return max(values) if values else None


def processes(plan: Published) -> list[Process]:
    """Return the frontends and every rank that has a system port, in the order of the plan."""
    secured = "https" if plan.settings.tls.http.certificate else "http"
    found = []
    for name, host in plan.hosts.items():
        for launch in host.services:
            if launch.component == "frontend":
                found += [
                    Process("frontend", "", name, f"{secured}://{port.address}:{port.port}/metrics")
                    for port in launch.ports
                    if port.purpose == "http"
                ]
    for pool in plan.pools:
        for replica in pool.replicas:
            for part in replica.nodes:
                several = len(replica.nodes) > 1
                service = f"{replica.name}-rank-{part.rank}" if several else replica.name
                found += [
                    Process(replica.name, pool.name, part.host, f"http://{port.address}:{port.port}/metrics")
                    for launch in plan.hosts[part.host].services
                    if launch.name == service
                    for port in launch.ports
                    if port.purpose == "system"
                ]
    return found


def parse(text: str) -> dict[str, list[tuple[str, float]]]:
    """Return the series of Prometheus' text format, but for values that are no numbers."""
    found: dict[str, list[tuple[str, float]]] = {}
    for name, labels, value in _lines(text):
        found.setdefault(name, []).append((labels, value))
    return found


def _lines(text: str) -> Iterator[tuple[str, str, float]]:
    for line in text.splitlines():
        match = None if line.startswith("#") else _LINE.match(line)
        if match:
            try:
                yield match[1], match[2] or "", float(match[3])
            except ValueError:
                continue


def ask(found: Sequence[Process], at: float, ca: str = "") -> dict[Process, Sample | None]:
    """Return what each said; None of one that does not answer. ca: file of a frontend's CA."""
    context = ssl.create_default_context(cafile=ca or None) if ca else None

    def one(process: Process) -> Sample | None:
        try:
            with urllib.request.urlopen(process.url, timeout=TIMEOUT_S, context=context) as answer:  # noqa: S310
                return Sample(at, parse(answer.read().decode(errors="replace")))
        except (OSError, urllib.error.URLError, ValueError):
            return None

    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(found, pool.map(one, found), strict=True))
