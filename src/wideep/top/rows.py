"""A row for the frontends and one for each replica: state, load, speed, use of the KV cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from wideep.top.scrape import Process, Sample

Asked = Mapping[Process, Sample | None]
# Name of a histogram for a gang -> in milliseconds: of frontends, of SGLang's workers.
FIRST_TOKEN = ("dynamo_frontend_time_to_first_token_seconds", "sglang:time_to_first_token_seconds")
BETWEEN = ("dynamo_frontend_inter_token_latency_seconds", "sglang:inter_token_latency_seconds")


@dataclass(frozen=True)
class Row:
    """A gang. None: not known, or nothing happened. Times in ms are means since the look before.

    state: `up`, `down`, or how many of its processes answer. open: requests. kv: share of the cache in use.
    """

    gang: str
    pool: str
    state: str
    open: int | None
    requests_s: float | None
    tokens_s: float | None
    ttft_ms: float | None
    itl_ms: float | None
    kv: float | None


def rows(now: Asked, before: Asked | None = None) -> list[Row]:
    """Return a row for each gang; rates need an earlier look, else means are of all that was counted."""
    gangs: dict[tuple[str, str], list[Process]] = {}
    for process in now:
        gangs.setdefault((process.gang, process.pool), []).append(process)
    return [_row(gang, pool, own, now, before or {}) for (gang, pool), own in gangs.items()]


def _row(gang: str, pool: str, own: Sequence[Process], now: Asked, before: Asked) -> Row:
    there = [(process, sample) for process in own if (sample := now[process]) is not None]
    pairs = [(sample, before.get(process)) for process, sample in there]
    state = "up" if len(there) == len(own) else f"{len(there)}/{len(own)}" if there else "down"
    opened = "dynamo_component_inflight_requests" if pool else "dynamo_frontend_inflight_requests"
    counted = "dynamo_component_requests_total" if pool else "dynamo_frontend_requests_total"
    kv = [used for _, sample in there if (used := sample.max("sglang:token_usage")) is not None]
    return Row(
        gang=gang,
        pool=pool,
        state=state,
        open=round(sum(sample.sum(opened) for sample, _ in pairs)) if there else None,
        requests_s=_rate(pairs, counted),
        tokens_s=None if pool else _rate(pairs, "dynamo_frontend_output_tokens_total"),
        ttft_ms=_mean_ms(pairs, FIRST_TOKEN[bool(pool)]),
        itl_ms=_mean_ms(pairs, BETWEEN[bool(pool)]),
        kv=max(kv) if kv else None,
    )


Pairs = Sequence[tuple[Sample, Sample | None]]


def _rate(pairs: Pairs, name: str) -> float | None:
    """Return how many were counted in a second; a process that began anew counts from nothing."""
    known = [(new, old) for new, old in pairs if old is not None and new.at > old.at]
    if not known:
        return None
    return sum(_grown(new, old, name) / (new.at - old.at) for new, old in known)


def _grown(new: Sample, old: Sample | None, name: str) -> float:
    was = old.sum(name) if old is not None else 0.0
    return new.sum(name) - was if new.sum(name) >= was else new.sum(name)


def _mean_ms(pairs: Pairs, histogram: str) -> float | None:
    count = sum(_grown(new, old, f"{histogram}_count") for new, old in pairs)
    total = sum(_grown(new, old, f"{histogram}_sum") for new, old in pairs)
    return 1000 * total / count if count > 0 else None


def data(found: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows for programs."""
    return [asdict(row) for row in found]


COLUMNS = ("GANG", "POOL", "STATE", "OPEN", "REQ/S", "TOK/S", "TTFT", "ITL", "KV")


def cells(row: Row) -> tuple[str, ...]:
    """Return a row as text."""
    return (
        row.gang,
        row.pool or "-",
        row.state,
        _text(row.open, "{:d}"),
        _text(row.requests_s, "{:.1f}"),
        _text(row.tokens_s, "{:.0f}"),
        _text(row.ttft_ms, "{:.0f} ms"),
        _text(row.itl_ms, "{:.1f} ms"),
        _text(row.kv, "{:.0%}"),
    )


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def plain(found: Sequence[Row]) -> str:
    """Return the rows as lines, for where there is no terminal."""
    lines = [COLUMNS, *map(cells, found)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def table(found: Sequence[Row], title: str) -> Table:
    """Return the rows for a terminal."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for place, column in enumerate(COLUMNS):
        made.add_column(column, justify="left" if place < 3 else "right", no_wrap=True)
    for row in found:
        style = {"up": "green", "down": "red"}.get(row.state, "yellow")
        gang, pool, state, *rest = cells(row)
        made.add_row(gang, pool, f"[{style}]{state}[/]", *rest)
    return made
