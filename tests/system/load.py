"""Concurrent streamed requests, judged by the tokens that came: a status of 200 is no proof of an answer.

.venv/bin/python -m tests.system.load http://127.77.0.1:8000 deepseek-ai/DeepSeek-R1 200 32
"""

from __future__ import annotations

import json
import socket
import statistics
import sys
import threading
import time
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass


def instances(url: str) -> set[int]:
    """Return the workers that take requests, as the frontend knows them."""
    with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
        found = json.load(answer).get("instances") or []
    return {entry["instance_id"] for entry in found if entry.get("endpoint") == "generate"}


@dataclass(frozen=True)
class Answer:
    """One request. Times are seconds, `start` by the monotonic clock. error: empty for a complete answer.

    status: of HTTP; 0 where there was none.
    """

    start: float
    first_s: float
    total_s: float
    tokens: int
    error: str
    status: int = 0

    @property
    def kind(self) -> str:
        """Return how it ended: complete, refused (503), failed (another status or none), empty, or cut."""
        if not self.error:
            return "complete"
        if self.status != 200:
            return "refused" if self.status == 503 else "failed"
        return "cut" if self.tokens or self.first_s else "empty"


def ask(url: str, model: str, number: int, tokens: int, timeout_s: float = 120) -> Answer:
    """Ask for a streamed completion of exactly `tokens` tokens.

    Read from the socket by itself: http.client takes a stream that is cut off in a chunk for a complete one.
    """
    start = time.monotonic()
    first, count, done, raw, status = 0.0, 0, False, b"", 0
    body = json.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": f"Request {number}: what does a router do? " * 8}],
            "max_tokens": tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    place = urllib.parse.urlsplit(url)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    try:
        with socket.create_connection((place.hostname, place.port), timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(head.encode() + body)
            with connection.makefile("rb") as lines:
                for line in lines:
                    if not status and line.startswith(b"HTTP/1.1 "):
                        status = int(line.split()[1])
                    raw = raw[-2000:] + line
                    if line.startswith(b"data: {"):
                        event = json.loads(line[6:])
                        first = first or time.monotonic() - start
                        count = (event.get("usage") or {}).get("completion_tokens", count)
                    done = done or line.startswith(b"data: [DONE]")
    except (OSError, ValueError) as problem:
        return Answer(
            start, first, time.monotonic() - start, count, f"{problem!r} after {count} tokens", status
        )
    error = ""
    if not done or count != tokens:
        end = "" if done else "not "
        error = f"{count} of {tokens} tokens, {end}done: {raw[-250:].decode(errors='replace')}"
    return Answer(start, first, time.monotonic() - start, count, error, status)


def burst(url: str, model: str, requests: int, tokens: int) -> list[Answer]:
    """Ask `requests` times, all at the same moment."""
    barrier = threading.Barrier(requests)

    def one(number: int) -> Answer:
        barrier.wait()
        return ask(url, model, number, tokens)

    with ThreadPoolExecutor(requests) as pool:
        return list(pool.map(one, range(requests)))


def describe(answers: list[Answer]) -> str:
    """Return the counts and times in one line."""
    failed = sum(bool(a.error) for a in answers)
    wall = max(a.start + a.total_s for a in answers) - min(a.start for a in answers)
    good = [a for a in answers if not a.error]
    times = ""
    if good:
        ttft = statistics.median(a.first_s for a in good)
        rate = sum(a.tokens for a in good) / wall
        times = f", first token after {ttft:.2f} s (median), {rate:.0f} tokens/s"
    return f"{len(answers)} requests, {failed} failed, {wall:.1f} s{times}"


if __name__ == "__main__":
    made = burst(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    print(describe(made))
    for problem in sorted({a.error for a in made if a.error}):
        print(f"  {problem}")
    sys.exit(any(a.error for a in made))
