"""One streamed chat completion, judged by the tokens that came: a status of 200 is no proof of an answer."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp

Kind = Literal["complete", "failed", "cut", "empty"]
# What a stream in which an error stands says of it.
SHOWN = 200


@dataclass(frozen=True)
class Answer:
    """One request.

    kind: `failed` has another status than 200 or none, `empty` is 200 without a token, `cut` ended before the
    tokens that were asked for, or without [DONE]. start_s: monotonic. first_s: until the first token, 0
    without one. stall_s: the longest time without a token after the first, until the end. tokens: as the
    answer itself counts them at its end; of one that was cut the chunks that came. All times in seconds.
    """

    kind: Kind
    start_s: float
    first_s: float
    total_s: float
    stall_s: float
    tokens: int
    status: int = 0
    error: str = ""


@dataclass
class _Stream:
    """What has come of an answer so far. Times are monotonic."""

    start: float
    first: float = 0.0
    last: float = 0.0
    stall: float = 0.0
    chunks: int = 0
    counted: int | None = None
    done: bool = False
    error: str = ""

    def take(self, line: bytes) -> None:
        """Read one line of the event stream."""
        if not line.startswith(b"data:"):
            # A comment tells why an event of an error came.
            if line.startswith(b":"):
                self.error = line.decode(errors="replace").strip()[:SHOWN]
            return
        data = line[5:].strip()
        if data == b"[DONE]":
            self.done = True
            return
        event = json.loads(data)
        if event.get("usage"):
            self.counted = event["usage"].get("completion_tokens", self.counted)
        if "error" in event:
            self.error = data.decode(errors="replace")[:SHOWN]
        if any(_says(choice) for choice in event.get("choices") or ()):
            now = time.monotonic()
            if self.first:
                self.stall = max(self.stall, now - self.last)
            self.first, self.last = self.first or now, now
            self.chunks += 1

    def answer(self, expected: int, status: int, problem: str) -> Answer:
        """Judge it."""
        end = time.monotonic()
        tokens = self.chunks if self.counted is None else self.counted
        if status != 200:
            kind: Kind = "failed"
        elif not self.chunks:
            kind = "empty"
        else:
            kind = "complete" if self.done and tokens == expected and not problem else "cut"
        error = ""
        if kind != "complete":
            said = problem or self.error
            error = (
                said if status != 200 else f"{tokens} of {expected} tokens, done: {self.done} {said}".strip()
            )
        return Answer(
            kind,
            self.start,
            self.first - self.start if self.first else 0.0,
            end - self.start,
            max(self.stall, end - self.last) if self.first else 0.0,
            tokens,
            status,
            error,
        )


def _says(choice: dict[str, Any]) -> bool:
    """Whether a chunk carries a token: the first one carries the role only, the last one a reason."""
    delta = choice.get("delta") or {}
    return bool(delta.get("content") or delta.get("reasoning_content"))


async def ask(
    session: aiohttp.ClientSession, url: str, *, model: str, prompt: str, tokens: int, silence_s: float
) -> Answer:
    """Ask for a streamed completion of exactly `tokens` tokens.

    silence_s: seconds without a byte after which the answer is given up.
    """
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    stream, status, problem = _Stream(time.monotonic()), 0, ""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=silence_s)
    try:
        async with session.post(f"{url}/v1/chat/completions", json=body, timeout=timeout) as reply:
            status = reply.status
            if status != 200:
                problem = (await reply.text(errors="replace"))[:SHOWN]
            else:
                # aiohttp raises where a chunked body ends without its last chunk.
                async for line in reply.content:
                    stream.take(line)
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as caught:
        problem = f"{type(caught).__name__}: {caught}"[:SHOWN]
    return stream.answer(tokens, status, problem)
