"""Streams at all times while something happens, and what became of each request.

.venv/bin/python -m tools.proof.load http://127.0.0.1:8000 deepseek-ai/DeepSeek-R1 --streams 32 --requests 500

From Python, around whatever is to be proved:

    with Load(Shape(url, model, streams=32)) as load:
        change()
        load.wait_for(requests=1000)
    assert load.result.kept, load.result.row("changed worker variable")
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
from tools.proof.answers import Answer, ask
from tools.proof.watch import Capacity, watch

HEAD = (
    "| change | sent | failed | cut | empty | longest stall | longest first token | fewest workers | time |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
)
# A client that was refused asks again soon, not at once: else refusals alone would fill the count.
AGAIN_S = 0.1
ERRORS_SHOWN = 12


@dataclass(frozen=True)
class Shape:
    """What is asked for.

    url: where clients ask. streams: requests at all times. tokens: of an answer, from and to; the engine's
    speed makes seconds of them. frontends: where workers are counted; `url` where there is none. keep_alive:
    connections are used again. silence_s: seconds without a byte after which an answer is given up.
    """

    url: str
    model: str
    streams: int = 32
    tokens: tuple[int, int] = (40, 400)
    frontends: tuple[str, ...] = ()
    keep_alive: bool = False
    silence_s: float = 60
    seed: int = 1


@dataclass(frozen=True)
class Result:
    """What became of the requests. Times in seconds; workers by component of Dynamo.

    failed_s: from the start of the first request that was lost to that of the last one.
    """

    sent: int
    complete: int
    failed: int
    cut: int
    empty: int
    statuses: dict[str, int]
    longest_stall_s: float
    longest_first_token_s: float
    answers_s: tuple[float, float, float]
    fewest_workers: dict[str, int]
    most_workers: dict[str, int]
    streams: int
    failed_s: float
    seconds: float
    errors: dict[str, int] = field(default_factory=dict)

    @property
    def kept(self) -> bool:
        """Whether no request was lost."""
        return self.sent > 0 and self.complete == self.sent

    def row(self, name: str) -> str:
        """Return the row below `HEAD`."""
        workers = ", ".join(
            f"{component} {count}" for component, count in sorted(self.fewest_workers.items())
        )
        return (
            f"| {name} | {self.sent} | {self.failed} | {self.cut} | {self.empty}"
            f" | {self.longest_stall_s:.1f} s | {self.longest_first_token_s:.1f} s"
            f" | {workers or '-'} | {self.seconds:.0f} s |"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self) | {"kept": self.kept}


def summarize(answers: Sequence[Answer], capacity: Capacity, streams: int, seconds: float) -> Result:
    """Count."""
    kinds = Counter(answer.kind for answer in answers)
    lost = sorted(answer.start_s for answer in answers if answer.kind != "complete")
    whole = [answer.total_s for answer in answers if answer.kind == "complete"] or [0.0]
    errors = Counter(f"{answer.kind} {answer.status}: {answer.error}" for answer in answers if answer.error)
    return Result(
        sent=len(answers),
        complete=kinds["complete"],
        failed=kinds["failed"],
        cut=kinds["cut"],
        empty=kinds["empty"],
        statuses={str(status): count for status, count in Counter(a.status for a in answers).items()},
        longest_stall_s=round(max((a.stall_s for a in answers), default=0.0), 2),
        longest_first_token_s=round(max((a.first_s for a in answers), default=0.0), 2),
        answers_s=(round(min(whole), 1), round(statistics.median(whole), 1), round(max(whole), 1)),
        fewest_workers=dict(capacity.lowest),
        most_workers=dict(capacity.highest),
        streams=streams,
        failed_s=round(lost[-1] - lost[0], 1) if lost else 0.0,
        seconds=round(seconds, 1),
        errors=dict(errors.most_common(ERRORS_SHOWN)),
    )


class Load:
    """Streams that run in a thread of their own while the block of `with` does; `result` is there after it.

    The block's end asks for nothing more and waits for the answers that run.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.capacity = Capacity()
        self._answers: list[Answer] = []
        self._random = random.Random(shape.seed)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._crash: BaseException | None = None
        self._begun = self._seconds = 0.0

    def __enter__(self) -> Load:
        """Begin."""
        self._begun = time.monotonic()
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send no more, and wait for what runs."""
        if not self._crash:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._seconds = time.monotonic() - self._begun
        if self._crash:
            raise RuntimeError("the load itself broke") from self._crash

    @property
    def ended(self) -> int:
        """Return how many requests have ended so far."""
        return len(self._answers)

    @property
    def lost(self) -> int:
        """Return how many of them were not complete."""
        return sum(answer.kind != "complete" for answer in list(self._answers))

    def wait_for(self, requests: int) -> None:
        """Return when so many requests have ended."""
        while self.ended < requests and self._thread.is_alive():
            time.sleep(0.1)

    @property
    def result(self) -> Result:
        """Return what became of all requests; so far, inside the block."""
        seconds = self._seconds or time.monotonic() - self._begun
        return summarize(list(self._answers), self.capacity, self.shape.streams, seconds)

    def _work(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as crash:  # noqa: BLE001 - raised where the block ends
            self._crash = crash
        finally:
            self._ready.set()

    async def _run(self) -> None:
        self._loop, self._stop, watched = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        shape = self.shape
        connector = aiohttp.TCPConnector(limit=0, force_close=not shape.keep_alive)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as watcher,
        ):
            looks = asyncio.create_task(
                watch(watcher, shape.frontends or (shape.url,), self.capacity, watched)
            )
            self._ready.set()
            await asyncio.gather(*(self._client(session, number) for number in range(shape.streams)))
            watched.set()
            await looks

    async def _client(self, session: aiohttp.ClientSession, number: int) -> None:
        count = 0
        while not self._stop.is_set():
            count += 1
            tokens = self._random.randint(*self.shape.tokens)
            if count == 1:  # else all begin, and end, together
                tokens = max(1, tokens * (number + 1) // self.shape.streams)
            prompt = f"Client {number}, request {count}: what does a router do? " * 8
            answer = await ask(
                session,
                self.shape.url,
                model=self.shape.model,
                prompt=prompt,
                tokens=tokens,
                silence_s=self.shape.silence_s,
            )
            self._answers.append(answer)
            if answer.kind != "complete":
                await asyncio.sleep(AGAIN_S)


def main(argv: Sequence[str] | None = None) -> int:
    """Ask until so many requests have ended; exit status 1 where one was lost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--tokens", default="40-400", help="of an answer: from-to")
    parser.add_argument("--frontend", action="append", default=[], help="where workers are counted")
    parser.add_argument("--keep-alive", action="store_true", help="use connections again")
    parser.add_argument("--name", default="load", help="of the row")
    parser.add_argument("--json", type=Path, help="write the counts there")
    given = parser.parse_args(argv)
    low, _, high = given.tokens.partition("-")
    shape = Shape(
        given.url.rstrip("/"),
        given.model,
        given.streams,
        (int(low), int(high or low)),
        tuple(given.frontend),
        given.keep_alive,
    )
    with Load(shape) as load:
        load.wait_for(given.requests)
    result = load.result
    print("\n".join((*HEAD, result.row(given.name))))
    for error, count in result.errors.items():
        print(f"{count} x {error}")
    if given.json:
        given.json.write_text(json.dumps(result.to_dict(), indent=2) + "\n", encoding="utf-8")
    return 0 if result.kept else 1


if __name__ == "__main__":
    sys.exit(main())
