"""Which workers a Dynamo frontend knows, against the workers that a deployment should have.

Runs on hosts: standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.wideep.dynamo.plugins.module_utils.openai_client import Frontend, NoAnswerError

KEYS = frozenset({"component", "count", "namespace", "generations", "namespaces", "may_lack"})
ENDPOINT = "generate"  # the endpoint that takes requests; workers register others for events


@dataclass(frozen=True)
class Pool:
    """`count` workers that register as `namespace`/`component`.

    generations: a regular expression of what may follow the namespace, another after each change of workers.
    others: namespaces that are theirs as well. Workers are counted over all of these. may_lack: so many of
    them may be away, since their hosts are.
    """

    name: str
    component: str
    count: int
    namespace: str = "dynamo"
    generations: str = ""
    others: tuple[str, ...] = ()
    may_lack: int = 0

    @property
    def least(self) -> int:
        """Return how many have to be there."""
        return self.count - self.may_lack

    def has(self, namespace: str) -> bool:
        """Whether its workers register in a namespace."""
        named = re.escape(self.namespace) + (f"({self.generations})?" if self.generations else "")
        return namespace in self.others or re.fullmatch(named, namespace) is not None


@dataclass(frozen=True)
class Instance:
    """A registered worker. `address` is where it takes requests."""

    namespace: str
    component: str
    instance_id: int
    address: str


@dataclass(frozen=True)
class State:
    """One look at the frontend. `error` says why it could not be looked at; then the rest is empty.

    unready: what the frontend itself says is missing before it routes requests for the model; empty: nothing.
    elsewhere: by pool, namespaces that are not its own with instances of its component.
    """

    pools: tuple[Pool, ...]
    model: str
    instances: dict[str, tuple[Instance, ...]] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    error: str = ""
    unready: str = ""
    elsewhere: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def found(self, pool: Pool) -> tuple[Instance, ...]:
        """Return the registered workers of `pool`."""
        return self.instances.get(pool.name, ())

    @property
    def ready(self) -> bool:
        """Whether each pool has exactly its workers and the model is listed."""
        counts = all(pool.least <= len(self.found(pool)) <= pool.count for pool in self.pools)
        return not self.error and counts and self.model in self.models and not self.unready

    def progress(self) -> str:
        """Say in one line how far it is."""
        if self.error:
            return f"frontend does not answer yet ({self.error})"
        counts = ", ".join(self._count(pool) for pool in self.pools)
        listed = "model listed" if self.model in self.models else "model not listed yet"
        if self.model in self.models and self.unready:
            listed += f", not ready: {self.unready}"
        return f"registered {counts}; {listed}"

    def _count(self, pool: Pool) -> str:
        found = len(self.found(pool))
        more = f" ({found - pool.count} too many)" if found > pool.count else ""
        return f"{pool.name} {found}/{pool.count}{more}"

    @property
    def too_many(self) -> bool:
        """Whether all is there that should be, and more: the model is served, not only by ours."""
        enough = all(len(self.found(pool)) >= pool.least for pool in self.pools)
        return not self.error and enough and any(len(self.found(pool)) > pool.count for pool in self.pools)

    def expected(self) -> str:
        """Say who should be registered."""
        return ", ".join(
            f"{pool.name} {pool.count} ({pool.namespace}/{pool.component}/{ENDPOINT})" for pool in self.pools
        )

    def registered(self) -> str:
        """Say who is registered, with addresses and instance ids."""
        if self.error:
            return "unknown, the frontend does not answer"
        parts = []
        for pool in self.pools:
            found = self.found(pool)
            who = ", ".join(f"{one.address} (instance {one.instance_id})" for one in found)
            parts.append(f"{pool.name} {len(found)}" + (f": {who}" if who else ""))
        return "; ".join(parts)

    def causes(self) -> list[str]:
        """Return what is likely wrong, with the remedy, if this state lasts."""
        if "CERTIFICATE_VERIFY_FAILED" in self.error:
            return [
                "the frontend's certificate is of another CA or for another name: set wideep_tls.http.ca"
                " (or verify_ca_file) to its CA, verify_url to a name that is in it"
            ]
        if self.error:
            return ["the frontend is not running, still starting, or listens elsewhere"]
        causes = []
        missing = [pool.name for pool in self.pools if len(self.found(pool)) < pool.least]
        surplus = [pool.name for pool in self.pools if len(self.found(pool)) > pool.count]
        if missing:
            spaces = sorted({space for name in missing for space in self.elsewhere.get(name, ())})
            causes.append(
                f"{' and '.join(missing)}: workers did not start, or register in another etcd or namespace"
                + (f" (some of that component are in {', '.join(spaces)})" if spaces else "")
                + "; their logs have the reason"
            )
        if surplus:
            causes.append(
                f"{' and '.join(surplus)}: more workers than expected. Stale leases of killed workers end "
                "within seconds; those that stay are running: stop them, or give the deployment that they "
                "belong to its own etcd or namespace"
            )
        if self.model not in self.models and self.models:
            causes.append(f"the workers serve another name: {', '.join(self.models)}")
        if not self.models and not missing:
            causes.append(
                "the frontend cannot read the model card: workers need DYN_SYSTEM_PORT, reachable from the "
                "frontend, and the frontend must run without DYN_TCP_RPC_PORT"
            )
        if self.unready and not missing:
            causes.append(f"the frontend does not route requests for the model yet: {self.unready}")
        return causes

    def to_dict(self) -> dict[str, list[dict[str, Any]]]:
        """Return pool name -> its registered workers."""
        return {
            pool.name: [{"instance_id": one.instance_id, "address": one.address} for one in self.found(pool)]
            for pool in self.pools
        }


def parse_expected(raw: Mapping[str, Any]) -> tuple[Pool, ...]:
    """Read {pool: {component, count[, namespace]}}; raise ValueError with all that is wrong."""
    pools, problems = [], []
    for name, given in raw.items():
        value = given if isinstance(given, Mapping) else {}
        count = value.get("count")
        if isinstance(count, str) and count.isdigit():
            count = int(count)  # Jinja may have made it a string
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            problems.append(f"expected.{name}.count must be a number of workers, 0 or more")
            count = 0
        if not value.get("component"):
            problems.append(f"expected.{name}.component must name the component that the workers register")
        unknown = sorted(set(value) - KEYS)
        if unknown:
            problems.append(f"expected.{name} has unknown keys: {', '.join(unknown)}")
        named = str(value.get("component")), count, str(value.get("namespace") or "dynamo")
        others = tuple(map(str, value.get("namespaces") or ()))
        lacks = int(value.get("may_lack") or 0)
        pools.append(Pool(name, *named, str(value.get("generations") or ""), others, lacks))
    if not problems and not any(pool.count for pool in pools):
        problems.append("expected must name at least one pool with at least one worker")
    if problems:
        raise ValueError("; ".join(problems))
    return tuple(pools)


def parse_instances(health: Mapping[str, Any]) -> list[Instance]:
    """Return the workers in an answer of the frontend's /health, each once."""
    found = {}
    for entry in health.get("instances") or []:
        if entry.get("endpoint") == ENDPOINT:
            where = entry.get("transport")
            address = str(next(iter(where.values()), "") if isinstance(where, Mapping) else where)
            address = address.split("/", 1)[0]
            one = Instance(
                entry["namespace"], entry["component"], entry["instance_id"], address.split("/", 1)[0]
            )
            found[one.namespace, one.component, one.instance_id] = one
    return sorted(found.values(), key=lambda one: (one.address, one.instance_id))


def look(frontend: Frontend, pools: tuple[Pool, ...], model: str) -> State:
    """Ask the frontend once for its workers and models."""
    try:
        instances = parse_instances(frontend.get("/health").json())
        listed = frontend.get("/v1/models").json().get("data") or []
        models = tuple(sorted(entry["id"] for entry in listed))
        unready = _unready(frontend, model) if model in models else ""
    except NoAnswerError as error:
        return State(pools, model, error=str(error))
    except (KeyError, TypeError, AttributeError) as error:
        return State(pools, model, error=f"not a Dynamo frontend: unexpected answer ({error!r})")
    members = {pool.name: _members(pool, instances) for pool in pools}
    elsewhere = {
        pool.name: tuple(
            sorted(
                {
                    one.namespace
                    for one in instances
                    if one.component == pool.component and not pool.has(one.namespace)
                }
            )
        )
        for pool in pools
    }
    return State(pools, model, members, models, unready=unready, elsewhere=elsewhere)


def _unready(frontend: Frontend, model: str) -> str:
    """Return what the frontend misses before it serves the model; empty where nothing, or it cannot say."""
    reply = frontend.get(f"/v1/models/{model}/ready")
    if reply.status == 404:
        return ""
    said = reply.json()
    if said.get("ready", True):
        return ""
    spaces = said.get("namespaces") or {}
    lacking = [
        f"{name} lacks {', '.join(space['missing_worker_types'])}"
        for name, space in spaces.items()
        if space.get("missing_worker_types")
    ]
    return "; ".join(lacking) or "it says so without a reason"


def _members(pool: Pool, instances: Iterable[Instance]) -> tuple[Instance, ...]:
    return tuple(one for one in instances if one.component == pool.component and pool.has(one.namespace))


def report(url: str, problem: str, state: State, *, answer: str, causes: list[str], look_at: str) -> str:
    """Put together the one message of a failed verification."""
    head = f"The model {state.model!r} is not served at {url}: {problem}"
    if state.too_many:
        head = f"More workers serve {state.model!r} at {url} than the inventory has: {problem}"
    lines = [
        head,
        f"  expected:     {state.expected()}",
        f"  registered:   {state.registered()}",
        f"  models:       {', '.join(state.models) or 'none'}",
        f"  answer:       {answer}" if answer else "",
        *(f"  likely cause: {cause}" for cause in causes),
        f"  look at:      {look_at}" if look_at else "",
    ]
    return "\n".join(line for line in lines if line)
