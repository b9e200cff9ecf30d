"""What was seen of a host, typed: module host_look makes it there, in one call, `read` reads it here."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from pydantic import TypeAdapter

from wideep.deployment.launch import Launch
from wideep.deployment.model import Kept
from wideep.published import Published

# States of a service whose processes are there, healthy or not.
RUNS = frozenset({"running", "starting", "stopping", "orphaned"})


@dataclass(frozen=True)
class ServiceLook:
    """One service of a host, planned or configured.

    gang: of a worker, its replica, such as decode-1; rank, ranks: its own, and the hosts of all, in order.
    port: its lowest. state: as of module service_info. healthy: None where it does not run.
    planned, configured, running: digests of the plan's launch, of the launch.json, and of what the process
    was started with (secrets included: it equals no other), '' for none. starts: what service_state would
    do, '' for nothing. differs: all that would change, in words. before: the launch.json, where another one
    is planned.

    Whatever is planned: launch is what the launch.json says, content its digest, drift what of its files was
    changed since, as_is what service_state would do for it. judged: digest of the launch.json to be, against
    which the others were said.
    """

    name: str
    component: str
    state: str
    gang: str = ""
    rank: int = 0
    ranks: tuple[str, ...] = ()
    port: int = 0
    pid: int = 0
    healthy: bool | None = None
    health_detail: str = ""
    planned: str = ""
    configured: str = ""
    running: str = ""
    starts: str = ""
    differs: tuple[str, ...] = ()
    before: dict[str, Any] | None = None
    judged: str = ""
    content: str = ""
    drift: tuple[str, ...] = ()
    as_is: str = ""
    launch: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def runs(self) -> bool:
        """Whether a process of it is there."""
        return self.state in RUNS

    @property
    def restarts(self) -> bool:
        """Whether what runs would be interrupted."""
        return self.runs and self.starts.startswith("restarted")


@dataclass(frozen=True)
class HostLook:
    """One host. services: those of the plan. unplanned: what is there beside them, of this deployment.

    other: what else would change, in words: the runtime, secrets, the model. strays: processes of the
    deployment that nothing supervises. reachable: else error says why, and nothing else is known. rows: what
    module service_info says of all of its services.
    """

    name: str
    reachable: bool = True
    services: tuple[ServiceLook, ...] = ()
    unplanned: tuple[ServiceLook, ...] = ()
    other: tuple[str, ...] = ()
    strays: tuple[str, ...] = ()
    error: str = ""
    manager: str = ""
    rows: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    @cached_property
    def by_name(self) -> Mapping[str, ServiceLook]:
        """Return the services of the plan by their names."""
        return {service.name: service for service in self.services}

    @property
    def new(self) -> bool:
        """Whether nothing of the deployment is there yet."""
        return self.reachable and not any(one.configured for one in (*self.services, *self.unplanned))

    @property
    def differs(self) -> bool:
        """Whether a run would change something there."""
        changed = any(one.differs or one.starts for one in self.services)
        return self.reachable and bool(changed or self.unplanned or self.other or self.strays)

    @property
    def settled(self) -> bool:
        """Whether a run has nothing to do there: all is as planned, and works."""
        return self.reachable and not touched(self, ())


_FORM = TypeAdapter(HostLook)


def read(results: Mapping[str, Mapping[str, Any]], plan: Published | None = None) -> dict[str, HostLook]:
    """Return the looks at hosts, by what module host_look said of each; a host it could not ask is away.

    plan: what counts, where it is another one than hosts were looked at with.

    Raises:
        pydantic.ValidationError: the words of a host are not of this version.
    """
    looks = {name: _read(name, result) for name, result in results.items()}
    return judged(looks, plan) if plan else looks


def judged(looks: Mapping[str, HostLook], plan: Published) -> dict[str, HostLook]:
    """Return the looks as if hosts had been looked at with this plan.

    What its services have does not depend on a plan: a host need not be asked again.
    """
    return {
        name: _against(look, plan.hosts[name].services) if name in plan.hosts else look
        for name, look in looks.items()
    }


def _against(look: HostLook, launches: Sequence[Launch]) -> HostLook:
    known = {one.name: one for one in (*look.services, *look.unplanned)}
    if not known:
        return look
    names = {launch.name for launch in launches}
    gone = tuple(
        replace(one, planned="", judged="", starts="", differs=(), before=one.launch)
        for name, one in known.items()
        if name not in names and one.configured
    )
    services = tuple(_judge(look.name, known.get(launch.name), launch) for launch in launches)
    return replace(look, services=services, unplanned=gone)


def _judge(host: str, one: ServiceLook | None, launch: Launch) -> ServiceLook:
    text = hashlib.sha256(launch.text.encode()).hexdigest()
    if one and one.judged == text:
        return one
    if one and one.configured and one.content == text:
        differs, starts, before = one.drift, one.as_is, None
    elif one and one.configured:
        changed = one.configured != launch.digest and not one.as_is
        differs, before = ("launch.json: changed", *one.drift), one.launch
        starts = "restarted: its configuration changed" if changed else one.as_is
    else:
        gang = launch.gang
        worker = launch.component == "worker"
        own = gang.name.rpartition("/")[2] if gang else launch.name
        one = ServiceLook(
            launch.name,
            launch.component,
            one.state if one else "absent",
            gang=own if worker else "",
            rank=gang.rank if gang else 0,
            ranks=(gang.ranks if gang else (host,)) if worker else (),
            port=min((listener.port for listener in launch.ports), default=0),
        )
        differs, starts, before = ("launch.json: new",), "started", None
    return replace(one, planned=launch.digest, judged=text, differs=differs, starts=starts, before=before)


def kept(looks: Mapping[str, HostLook]) -> tuple[Kept, ...]:
    """Return the replicas that hosts say they have; what most of its hosts say comes first.

    A rank names the hosts of all: a replica with a host that is away is known from the others.
    """
    said: dict[tuple[str, tuple[str, ...]], dict[int, ServiceLook]] = {}
    for name, look in looks.items():
        for one in (*look.services, *look.unplanned):
            if one.configured and one.gang and name in one.ranks:
                said.setdefault((one.gang, one.ranks), {})[one.rank] = one
    most_first = sorted(said.items(), key=lambda item: -len(item[1]))
    return tuple(Kept(gang, ranks, ranked[min(ranked)].port) for (gang, ranks), ranked in most_first)


def held(looks: Mapping[str, HostLook], known: Iterable[Kept]) -> frozenset[str]:
    """Return the replicas that have a rank on a host that cannot be reached: nothing of them is changed."""
    away = {name for name, look in looks.items() if not look.reachable}
    return frozenset(one.name for one in known if away & {*one.hosts})


def touched(look: HostLook, left_alone: Container[str]) -> bool:
    """Whether a run has something to do on a host, beside the replicas that are left alone."""
    own = (one for one in look.services if one.gang not in left_alone)
    return look.reachable and bool(
        look.unplanned
        or look.other
        or look.strays
        or any(one.differs or one.starts or not one.healthy for one in own)
    )


def _read(name: str, result: Mapping[str, Any]) -> HostLook:
    if "look" not in result:
        return HostLook(name, reachable=False, error=str(result.get("msg", "it was not asked")))
    return _FORM.validate_python({**result["look"], "name": name})
