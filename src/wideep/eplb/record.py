"""Records the experts of a running worker of SGLang through the routes of its system port."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence

from wideep.problems import Problem, RefusedError

STEPS = ("start", "dump", "stop")
ROUTES = tuple(f"{step}_expert_distribution_record" for step in STEPS)
# Methods of SGLang's tokenizer manager; dynamo.sglang offers below /engine those that its command names.
REMEDY = (
    "let the pool's workers offer them and start them again: wideep_pools.<pool>.extra_args:"
    f" {{engine-route: [{', '.join(f'{route}:tm' for route in ROUTES)}]}}"
)


def record(
    workers: Sequence[str],
    seconds: float,
    *,
    stop: bool,
    sleep: Callable[[float], None] = time.sleep,
    timeout_s: float = 120,
) -> None:
    """Have workers count for some seconds and write what they counted, each on its own host.

    `workers` are URLs of the first ranks' system ports. `stop` ends counting, which a worker whose EPLB is on
    needs to go on: it balances by the same counts. Raises RefusedError where a worker does not answer so.
    """
    for url in workers:
        _post(url, ROUTES[0], timeout_s)
    sleep(seconds)
    for url in workers:
        for route in ROUTES[1 : 3 if stop else 2]:
            _post(url, route, timeout_s)


def _post(url: str, route: str, timeout_s: float) -> None:
    where = f"{url.rstrip('/')}/engine/{route}"
    if not where.startswith(("http://", "https://")):
        raise RefusedError([Problem("not a URL", url, "write http://HOST:SYSTEM_PORT")])
    request = urllib.request.Request(  # noqa: S310 - the scheme is checked
        where, data=b"{}", headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310
            said = answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        said = error.read().decode(errors="replace")[:300]
        remedy = REMEDY if error.code == 404 else "look into the worker's log"
        raise RefusedError([Problem(f"the worker answered {error.code}: {said}", where, remedy)]) from error
    except OSError as error:
        remedy = "name the system port of a running worker's first rank (`wideep plan` shows it)"
        raise RefusedError([Problem(f"no answer: {error}", where, remedy)]) from error
    if _failed(said):
        raise RefusedError([Problem(f"the worker failed: {said[:300]}", where, "look into the worker's log")])


def _failed(text: str) -> bool:
    try:
        data = json.loads(text)
    except ValueError:
        return False
    return isinstance(data, dict) and (data.get("status") == "error" or data.get("success") is False)
