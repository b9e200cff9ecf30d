"""One way to say what is wrong: what, where, and how to fix it. All problems at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Literal


@dataclass(frozen=True)
class Problem:
    """One thing that an operator has to change.

    `where` names the variable, host, file or flag; `remedy` is an instruction.
    """

    message: str
    where: str
    remedy: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        return f"{self.where}: {self.message}\n    fix: {self.remedy}"


class RefusedError(Exception):
    """The input is refused before any host is touched; `problems` holds every reason."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(describe(self.problems))


def errors(problems: Iterable[Problem]) -> list[Problem]:
    """Return the errors, each once, without the warnings."""
    return list(dict.fromkeys(p for p in problems if p.severity == "error"))


def raise_errors(problems: Sequence[Problem]) -> None:
    """Raise RefusedError if there is an error."""
    if found := errors(problems):
        raise RefusedError(found)


def together(problems: Iterable[Problem]) -> list[Problem]:
    """Return problems, the same one of several pools once: of `wideep_pools.{prefill,decode}.…`."""
    alike: dict[Problem, dict[str, None]] = {}
    for problem in problems:
        pools = dict.fromkeys(_POOL.findall(problem.where))
        alike.setdefault(_of_pool(problem, "{}") if len(pools) == 1 else problem, {}).update(pools)
    found = []
    for problem, pools in alike.items():
        names = ",".join(pools)
        found.append(_of_pool(problem, f"{{{names}}}" if len(pools) > 1 else names) if pools else problem)
    return found


_POOL = re.compile(r"(?<=\bwideep_pools\.)(?:prefill|decode|aggregated|\{\})(?=\.)")


def _of_pool(problem: Problem, pool: str) -> Problem:
    """Return a problem of another pool: in its place, its message and its remedy."""

    def put(text: str) -> str:
        return _POOL.sub(lambda _: pool, text)

    return replace(
        problem, message=put(problem.message), where=put(problem.where), remedy=put(problem.remedy)
    )


def describe(problems: Sequence[Problem]) -> str:
    """Return one message for all problems, numbered when there are several."""
    problems = together(problems)
    if len(problems) == 1:
        return f"nothing was changed: 1 problem\n  {problems[0]}"
    lines = [f"nothing was changed: {len(problems)} problems"]
    lines += [f"  {n}. {problem}" for n, problem in enumerate(problems, 1)]
    return "\n".join(lines)


def suggest(word: str, known: Iterable[str]) -> str:
    """Return `did you mean X?` for the nearest known word, else the sorted list of what is known."""
    words = sorted(known)
    close = get_close_matches(word, words, n=1, cutoff=0.75)
    return f"did you mean {close[0]}?" if close else f"use one of: {', '.join(words)}"


def some_hosts(names: Sequence[str]) -> str:
    """Return how a message names hosts: one by its name, of several the number and the first."""
    return f"host {names[0]}" if len(names) == 1 else f"{len(names)} hosts ({names[0]}, …)"
