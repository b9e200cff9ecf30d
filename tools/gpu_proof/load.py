#!/usr/bin/env python3
"""Measure a chat endpoint: `load.py URL MODEL [--requests 64] [--concurrency 16]`; prints one JSON object.

Streams completions of a fixed length (`ignore_eos`) to prompts of random words that no prefix cache knows,
and counts tokens from the server's own `usage`: an answer of another length is an error, whatever its status.
Times in milliseconds; `output_tokens_per_s` is over the whole run. Told to stop (SIGTERM), it asks nothing
new and reports; a client that got an error waits 0.25 s before it asks again. Needs aiohttp.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import aiohttp

WORDS = ["able", "about", "above", "after", "again", "air", "all", "along", "also", "always", "animal", "any"]


@dataclass
class Result:
    """One request: its end (s after the first began), first and last token after its start (s), its tokens.

    error: what went wrong.
    """

    ended: float = 0.0
    first: float = 0.0
    last: float = 0.0
    tokens: int = 0
    gaps: list[float] = field(default_factory=list)
    error: str = ""


async def ask(session: aiohttp.ClientSession, given: argparse.Namespace, prompt: str) -> Result:
    """Ask once."""
    body = {
        "model": given.model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": given.tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    result, begin, before = Result(), time.perf_counter(), 0.0
    try:
        async with session.post(f"{given.url}/v1/chat/completions", json=body) as response:
            if response.status != 200:
                result.error = f"status {response.status}: {(await response.text())[:200]}"
                return result
            async for line in response.content:
                if not line.startswith(b"data: {"):
                    continue
                event, now = json.loads(line[6:]), time.perf_counter() - begin
                if event.get("usage"):
                    result.tokens = event["usage"]["completion_tokens"]
                if event.get("choices") and event["choices"][0].get("delta", {}).get("content"):
                    if result.first:
                        result.gaps.append(now - before)
                    else:
                        result.first = now
                    before = result.last = now
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        result.error = f"{type(error).__name__}: {error}"
    if not result.error and result.tokens != given.tokens:
        result.error = f"{result.tokens} tokens instead of {given.tokens}"
    return result


def spread(values: list[float]) -> dict[str, float]:
    """Return p50, p95 and mean in milliseconds."""
    ordered = sorted(values)
    return {
        "p50": round(1000 * statistics.median(ordered), 2),
        "p95": round(1000 * ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 2),
        "mean": round(1000 * statistics.fmean(ordered), 2),
    }


async def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Run all requests, `concurrency` at a time."""
    chance = random.Random(given.seed)
    prompts = [" ".join(chance.choices(WORDS, k=given.words)) for _ in range(given.requests)]
    limit = asyncio.Semaphore(given.concurrency)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    timeout = aiohttp.ClientTimeout(total=given.timeout)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:

        async def one(prompt: str) -> Result | None:
            async with limit:
                if stop.is_set():
                    return None
                result = await ask(session, given, prompt)
                result.ended = time.perf_counter() - begin
                if result.error:
                    await asyncio.sleep(0.25)
                return result

        begin = time.perf_counter()
        asked = await asyncio.gather(*(one(prompt) for prompt in prompts))
        wall = time.perf_counter() - begin
    results = [result for result in asked if result]
    good = [r for r in results if not r.error]
    report: dict[str, Any] = {
        "requests": len(results),
        "good": len(good),
        "concurrency": given.concurrency,
        "wall_s": round(wall, 3),
        "output_tokens_per_s": round(sum(r.tokens for r in good) / wall, 1),
        "errors": sorted({r.error for r in results if r.error})[:5],
    }
    if failed := [r.ended for r in results if r.error]:
        report |= {"first_error_s": round(min(failed), 1), "last_error_s": round(max(failed), 1)}
    if good:
        report["e2e_ms"] = spread([r.last for r in good])
        report["events"] = round(statistics.fmean(len(r.gaps) + 1 for r in good), 1)
        report["ttft_ms"] = spread([r.first for r in good])
        # Per request: streams may carry several tokens in one event.
        report["tpot_ms"] = spread([(r.last - r.first) / max(1, r.tokens - 1) for r in good])
        report["gap_ms"] = spread([gap for r in good for gap in r.gaps] or [0.0])
    return report


def main() -> int:
    """Return 1 when any answer was not what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--words", type=int, default=200, help="length of a prompt")
    parser.add_argument("--tokens", type=int, default=64, help="length of an answer")
    parser.add_argument("--timeout", type=float, default=120)
    parser.add_argument("--seed", type=int, default=1)
    report = asyncio.run(measure(parser.parse_args()))
    json.dump(report, sys.stdout)
    print()
    return 0 if report["good"] == report["requests"] else 1


if __name__ == "__main__":
    sys.exit(main())
