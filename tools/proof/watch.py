"""How many workers the frontends know, looked at all the time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp

POLL_S = 0.5


@dataclass
class Capacity:
    """Component -> the fewest and the most workers of it that were known at once.

    looks: how many had an answer; unanswered: how many had none.
    """

    lowest: dict[str, int] = field(default_factory=dict)
    highest: dict[str, int] = field(default_factory=dict)
    looks: int = 0
    unanswered: int = 0

    def add(self, seen: Counter[str]) -> None:
        """Count one look."""
        self.looks += 1
        for component in {*seen, *self.lowest}:
            count = seen[component]
            self.lowest[component] = min(count, self.lowest.get(component, count))
            self.highest[component] = max(count, self.highest.get(component, count))


async def _known(session: aiohttp.ClientSession, frontend: str) -> Counter[str] | None:
    """Return component -> workers that one frontend knows; None where it does not answer."""
    try:
        async with session.get(f"{frontend}/health", timeout=aiohttp.ClientTimeout(total=5)) as reply:
            instances = (await reply.json(content_type=None)).get("instances") or []
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError, AttributeError):
        return None
    workers = {
        (entry["component"], entry["instance_id"])
        for entry in instances
        if entry.get("endpoint") == "generate"
    }
    return Counter(component for component, _ in workers)


async def watch(
    session: aiohttp.ClientSession, frontends: Sequence[str], capacity: Capacity, stop: asyncio.Event
) -> None:
    """Look until `stop`. Of several frontends the one that knows most counts: one has just started."""
    while not stop.is_set():
        answers = await asyncio.gather(*(_known(session, frontend) for frontend in frontends))
        known = [answer for answer in answers if answer is not None]
        if known:
            most: Counter[str] = Counter()
            for answer in known:
                most |= answer
            capacity.add(most)
        else:
            capacity.unanswered += 1
        try:
            await asyncio.wait_for(stop.wait(), POLL_S)
        except TimeoutError:
            continue
