"""A change as steps: which services start in which order, what answers meanwhile, how long it may take.

Pure: a plan and what was seen of its hosts. The order: files that restart nothing; members of the control
plane one at a time; frontends and workers that do not serve now; workers that are not planned any more;
slices of workers; frontends one at a time; what else is not planned. Frontends go before the workers where
they would not find these otherwise.

A slice has at most `wideep_rollout.max_unavailable` replicas of each pool. Where workers become another
generation (`wideep.changes.generation`) it has prefill and decode replicas in proportion, so that the new
generation can answer after the first slice and the old one until the last.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import ceil
from typing import Any, Literal

from wideep.changes.generation import heads, serves_one, suffix_of
from wideep.changes.look import HostLook, ServiceLook
from wideep.inventory.secrets import ETCD
from wideep.problems import Problem, suggest
from wideep.published import Published
from wideep.reference.release import releases

COMPONENTS = ("nats", "etcd", "frontend", "load_balancer", "worker")
Kind = Literal["files", "control", "all", "start", "remove", "workers", "frontends", "balancers"]
Places = Mapping[str, tuple[str, ...]]
# What a canary and the start of an Ansible task add to each step, in seconds.
MARGIN_S = 10
# The generation of what was not looked at.
ANY = "*"
# Of an environment that wideep made; what is in an image or another interpreter is not known.
RELEASE = re.compile(r"/ai-dynamo-(\d+\.\d+\.\d+)/bin/python")
UNPLANNED = "not planned any more"


@dataclass(frozen=True)
class Canary:
    """A replica that has to answer after a step. address: where it takes requests, as discovery has it."""

    name: str
    component: str
    namespace: str
    address: str


@dataclass(frozen=True)
class Step:
    """What happens at the same time.

    services: host -> what is configured and started there; again: of them, what restarts although nothing of
    it differs; remove: host -> what is drained and removed. names: replicas and services, for people. why: in
    words. left: pool or `frontend` -> how many answer meanwhile, of how many that did before. seconds: upper
    bound. outage: nobody answers meanwhile. canaries: who has to answer afterwards; asked: host -> URL of the
    frontend there that is asked. message: what to say where it fails.
    """

    kind: Kind
    names: tuple[str, ...]
    services: Places = field(default_factory=dict)
    again: Places = field(default_factory=dict)
    remove: Places = field(default_factory=dict)
    why: tuple[str, ...] = ()
    left: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    seconds: int = 0
    outage: bool = False
    canaries: tuple[Canary, ...] = ()
    asked: Mapping[str, str] = field(default_factory=dict)
    message: str = ""

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return the hosts that have a part in it."""
        return tuple(dict.fromkeys((*self.services, *self.remove)))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self) | {"hosts": list(self.hosts), "title": self.title, "proves": self.proves}

    @property
    def proves(self) -> bool:
        """Whether a frontend that was started has workers to ask, since others served until then."""
        return self.kind == "frontends" and bool(self.left)

    @property
    def title(self) -> str:
        """Return its name for people."""
        words = {
            "files": "write files that restart nothing",
            "control": "control plane",
            "all": "all services",
            "start": "start what does not serve",
            "remove": "drain and remove",
            "workers": "restart workers",
            "frontends": "restart frontends",
            "balancers": "load balancers",
        }
        return f"{words[self.kind]}: {_few(self.names)}"


@dataclass(frozen=True)
class Changes:
    """The steps, and why they may not be taken. hosts: those that a run has to do with."""

    steps: tuple[Step, ...]
    problems: tuple[Problem, ...] = ()

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return the hosts of all steps."""
        return tuple(dict.fromkeys(host for step in self.steps for host in step.hosts))

    @property
    def seconds(self) -> int:
        """Return how long all of them may take."""
        return sum(step.seconds for step in self.steps)


@dataclass(frozen=True)
class _Gang:
    """A replica that is planned or runs. members: (host, its service's look), the head's first.

    due: it has to start; serves: all of it works now. suffix: the generation in which it serves now.
    """

    name: str
    pool: str
    members: tuple[tuple[str, ServiceLook], ...]
    planned: bool
    due: bool
    serves: bool
    suffix: str

    @property
    def hosts(self) -> set[str]:
        return {host for host, _ in self.members}

    @property
    def places(self) -> dict[str, tuple[str, ...]]:
        return _places((host, service.name) for host, service in self.members)


def only(looks: Mapping[str, HostLook], components: Collection[str]) -> dict[str, HostLook]:
    """Return the looks in which services of other components differ in nothing."""
    return {
        name: replace(
            look,
            services=tuple(
                one if one.component in components else replace(one, starts="", differs=())
                for one in look.services
            ),
            unplanned=tuple(one for one in look.unplanned if one.component in components),
        )
        for name, look in looks.items()
    }


def order(plan: Published, looks: Mapping[str, HostLook], restart: Collection[str] = ()) -> Changes:
    """Return the steps from what was seen to what is planned.

    restart: replicas and services (decode-1, frontend@HOST) that start again although nothing differs.
    Hosts that were not reached have no step, and none of a replica that has a part on them. What is on hosts
    that were not looked at (with --limit) is taken to serve.
    """
    steps = _Order(plan, looks, restart).steps()
    count = len(steps)
    told = tuple(replace(step, message=_message(plan, steps, n)) for n, step in enumerate(steps))
    problems = [
        Problem(
            f"step {n + 1} of {count} ({step.title}) leaves nobody who answers:"
            f" {', '.join(pool for pool, (left, _) in step.left.items() if not left)}",
            "wideep_rollout.outage",
            "add a replica (a second frontend) first, or set wideep_rollout: {outage: allowed}",
        )
        for n, step in enumerate(steps)
        if step.outage and plan.settings.rollout.outage == "refused"
    ]
    problems += _jumps(plan, looks)
    known = {
        *heads(plan),
        *(f"{one.name}@{host}" for host, own in plan.hosts.items() for one in own.services),
    }
    problems += [
        Problem(f"there is no {name!r}", "wideep_restart", suggest(name, sorted(known)))
        for name in restart
        if name not in known
    ]
    return Changes(told, tuple(problems))


def _jumps(plan: Published, looks: Mapping[str, HostLook]) -> list[Problem]:
    """Return a problem where Dynamo would pass over a minor version: only neighbours talk to each other."""
    there = [one.launch for look in looks.values() for one in (*look.services, *look.unplanned) if one.launch]
    runs = {match[1] for launch in there for word in launch["argv"] if (match := RELEASE.search(word))}
    new = _minor(plan.release.dynamo)
    far = sorted(
        (old for old in runs if _minor(old)[0] != new[0] or abs(_minor(old)[1] - new[1]) > 1), key=_minor
    )
    if not far:
        return []
    low, high = sorted((_minor(far[0]), new))
    between = [name for name in releases() if low < _minor(name) < high]
    remedy = (
        f"take {', then '.join(between)} before it (-e wideep_release={between[0]})"
        if between
        else "no release that is known lies between: stop the deployment (wideep down), then deploy it anew"
    )
    message = f"Dynamo {far[0]} runs, and {plan.release.dynamo} is more than a minor version away"
    return [Problem(message, "wideep_release", remedy)]


def _minor(version: str) -> tuple[int, int]:
    major, minor, *_ = version.split(".")
    return int(major), int(minor)


class _Order:
    """What is known, in the forms that the steps are made of."""

    def __init__(self, plan: Published, looks: Mapping[str, HostLook], restart: Collection[str] = ()) -> None:
        self.plan, self.again = plan, frozenset(restart)
        # Monitoring is of no step: nobody is served by it.
        self.looks = {
            name: replace(look, services=tuple(s for s in look.services if s.component in COMPONENTS))
            for name, look in looks.items()
            if look.reachable
        }
        self.launches = {
            (host, launch.name): launch for host, own in plan.hosts.items() for launch in own.services
        }
        self.heads = heads(plan)
        self.unseen = frozenset(plan.hosts.keys() - looks.keys())
        self.gangs = self._gangs()
        self.most = plan.settings.rollout.max_unavailable

    def steps(self) -> list[Step]:
        """Return all of them, in their order."""
        everything = [one for look in self.looks.values() for one in (*look.services, *look.unplanned)]
        if not any(one.runs for one in everything):
            return self._first()
        if self._accounts_change():
            balancers = [step for part in self._each("load_balancer", "balancers") for step in part]
            return [*self._files(), *self._control(), self._together(), *balancers, *self._others()]
        idle, frontends = self._each("frontend", "frontends")
        steps = [*self._files(), *self._control(), *idle]
        if self._changes_frontends_first():
            steps, frontends = [*steps, *frontends], []
        # They know the new frontends when these serve, and forget others before these end.
        balancers = [step for part in self._each("load_balancer", "balancers") for step in part]
        return [*steps, *self._workers(), *frontends, *balancers, *self._others()]

    # What is there

    def _gangs(self) -> dict[str, _Gang]:
        found: dict[str, _Gang] = {}
        for pool in self.plan.pools:
            for replica in pool.replicas:
                names = [
                    (
                        node.host,
                        replica.name if len(replica.nodes) == 1 else f"{replica.name}-rank-{node.rank}",
                    )
                    for node in replica.nodes
                ]
                members = tuple(
                    (host, self.looks[host].by_name[name])
                    for host, name in names
                    if host in self.looks and name in self.looks[host].by_name
                )
                launched = sum(place in self.launches for place in names)
                if members and len(members) == launched:
                    found[replica.name] = self._gang(replica.name, pool.name, members, planned=True)
        left: dict[str, list[tuple[str, ServiceLook]]] = {}
        for host, look in self.looks.items():
            for service in look.unplanned:
                if service.component == "worker":
                    left.setdefault(service.gang or service.name, []).append((host, service))
        for name, members_ in left.items():
            pool_name = name.rpartition("-")[0]
            # A new replica may have its number.
            key = name if name not in found else f"{name} (before)"
            found[key] = self._gang(key, pool_name, tuple(members_), planned=False)
        return found

    def _gang(
        self, name: str, pool: str, members: tuple[tuple[str, ServiceLook], ...], *, planned: bool
    ) -> _Gang:
        host, head = members[0]
        before: Mapping[str, Any] | None = head.launch
        if before is None and (host, head.name) in self.launches:
            before = self.launches[host, head.name].to_dict()
        suffix = suffix_of(before, self.plan.settings.namespace) if before else ""
        serves = all(one.runs and one.healthy for _, one in members)
        due = planned and (name in self.again or any(one.starts for _, one in members))
        return _Gang(name, pool, members, planned, due, serves, suffix)

    @property
    def _suffix(self) -> str:
        """Return the generation that is planned."""
        for host, name in self.heads.values():
            if (host, name) in self.launches:
                return suffix_of(self.launches[host, name].to_dict(), self.plan.settings.namespace)
        return ""

    def _of(self, component: str) -> list[tuple[str, ServiceLook]]:
        return [
            (host, service)
            for host, look in self.looks.items()
            for service in look.services
            if service.component == component
        ]

    # Steps

    def _first(self) -> list[Step]:
        """Return what starts where nothing runs: the control plane, then all else at once."""
        due = [
            (host, one)
            for host, look in self.looks.items()
            for one in look.services
            if (one.starts or one.differs or not one.configured) and (not one.gang or one.gang in self.gangs)
        ]
        control = [(host, one) for host, one in due if one.component in ("nats", "etcd")]
        rest = [(host, one) for host, one in due if one.component not in ("nats", "etcd")]
        unplanned = [(host, one) for host, look in self.looks.items() for one in look.unplanned]
        steps = []
        if control:
            steps.append(self._step("control", control, why=["nothing runs"]))
        if rest or unplanned:
            gangs = tuple(gang for gang in self.gangs.values() if gang.due and gang.planned)
            step = self._step("all", rest, why=["nothing runs"], gangs=gangs)
            steps.append(replace(step, remove=_places((host, one.name) for host, one in unplanned)))
        return steps

    def _files(self) -> list[Step]:
        """Return the step that writes what restarts nothing."""
        due = [
            (host, one)
            for host, look in self.looks.items()
            for one in look.services
            if one.differs and not one.starts and one.name not in self.again and one.gang not in self.again
        ]
        # All files of a replica with it, not before; none where it has a rank on a host that is away.
        due = [
            (host, one)
            for host, one in due
            if not one.gang or (one.gang in self.gangs and not self.gangs[one.gang].due)
        ]
        return [self._step("files", due)] if due else []

    def _control(self) -> list[Step]:
        """Return the members of the control plane: those that are away at once, the others one at a time."""
        due: dict[str, list[tuple[str, ServiceLook]]] = {}
        for host, one in (*self._of("nats"), *self._of("etcd")):
            if one.starts or f"{one.name}@{host}" in self.again:
                due.setdefault(host, []).append((host, one))
        away = [member for members in due.values() for member in members if not member[1].runs]
        steps = [self._step("control", away)] if away else []
        left = [[member for member in members if member not in away] for members in due.values()]
        return steps + [self._step("control", members) for members in left if members]

    def _each(self, component: str, kind: Kind) -> tuple[list[Step], list[Step]]:
        """Return the services of a component that do not serve, all at once, and the others, each alone."""
        every = self._of(component)
        due = [(host, one) for host, one in every if one.starts or f"{one.name}@{host}" in self.again]
        idle = [(host, one) for host, one in due if not (one.runs and one.healthy)]
        serving = sum(bool(one.runs and one.healthy) for _, one in every) + len(idle)
        serving += sum(
            launch.component == component and host in self.unseen
            for (host, _), launch in self.launches.items()
        )
        left = {component: (serving - 1, serving)}
        return [self._step(kind, idle)] if idle else [], [
            # Whoever reads files again goes on meanwhile.
            self._step(kind, [(host, one)])
            if one.starts.startswith("reloaded")
            else replace(self._step(kind, [(host, one)]), left=left, outage=serving == 1)
            for host, one in due
            if (host, one) not in idle
        ]

    def _others(self) -> list[Step]:
        """Return the removal of frontends and of members of the control plane."""
        gone = [
            (host, one)
            for host, look in self.looks.items()
            for one in look.unplanned
            if one.component != "worker"
        ]
        if not gone:
            return []
        names = tuple(f"{one.name} on {host}" for host, one in gone)
        removed = _places((host, one.name) for host, one in gone)
        return [Step("remove", names, remove=removed, why=(UNPLANNED,), seconds=MARGIN_S + self._drain)]

    def _changes_frontends_first(self) -> bool:
        """Whether frontends serve one namespace only now, and workers go to another."""
        return any(one.runs and serves_one(one) for _, one in self._of("frontend")) and bool(self._suffix)

    def _accounts_change(self) -> bool:
        """Whether Dynamo's processes get another account of etcd: who has the old one sees nothing any more.

        A frontend that starts again as it was launched has other values in its files of environment.
        """
        for host, one in self._of("frontend"):
            if one.healthy and one.starts:
                planned = self.launches[host, one.name].env_files
                before = planned if one.before is None else one.before.get("env_files", ())
                has = [any(path.endswith(f"/{ETCD}") for path in paths) for paths in (before, planned)]
                if has[0] != has[1] or (one.before is None and has[1]):
                    return True
        return False

    def _together(self) -> Step:
        """Return the step in which all frontends and workers start again at once."""
        due = [(host, one) for host, one in self._of("frontend") if one.starts]
        frontends = len(self._of("frontend"))
        gangs = tuple(gang for gang in self.gangs.values() if gang.planned and gang.due)
        gone = [gang.places for gang in self.gangs.values() if not gang.planned]
        due += [member for gang in gangs for member in gang.members]
        serving = _serving(gang for gang in self.gangs.values() if gang.serves)
        left = {"frontend": (0, frontends)} | {pool: (0, count) for pool, count in serving.items()}
        step = self._step("all", due, why=["another account of etcd"], gangs=gangs)
        return replace(step, remove=_merged(gone), left=left, outage=True)

    def _workers(self) -> list[Step]:
        """Return what becomes of workers: starts, removals, slices."""
        planned = [gang for gang in self.gangs.values() if gang.planned]
        gone = [gang for gang in self.gangs.values() if not gang.planned]
        # A place that is taken is free only when who has it goes: that is a slice like a restart.
        taken = {host for gang in gone if gang.serves for host in gang.hosts}
        idle = [gang for gang in planned if gang.due and not gang.serves and not gang.hosts & taken]
        due = [gang for gang in planned if gang.due and gang not in idle]
        now = {gang.name: gang for gang in (*planned, *gone) if gang.serves} | {
            replica.name: _Gang(replica.name, pool.name, (), True, False, True, ANY)
            for pool in self.plan.pools
            for replica in pool.replicas
            if {part.host for part in replica.nodes} <= self.unseen
        }
        steps: list[Step] = []
        # What serves nothing and is not planned goes first: it may hold GPUs and ports.
        dead = [gang for gang in gone if not gang.serves]
        if idle or dead:
            step = self._step("start", [m for gang in idle for m in gang.members], gangs=tuple(idle))
            steps.append(replace(step, remove=_merged(gang.places for gang in dead)))
            now |= {gang.name: replace(gang, serves=True, suffix=self._suffix) for gang in idle}
        replaced = [gang for gang in gone if gang.serves and any(gang.hosts & one.hosts for one in due)]
        surplus = [gang for gang in gone if gang.serves and gang not in replaced]
        if surplus:
            left = {name: gang for name, gang in now.items() if gang not in surplus}
            names, removed = tuple(gang.name for gang in surplus), _merged(gang.places for gang in surplus)
            step = Step("remove", names, remove=removed, why=(UNPLANNED,))
            step = replace(step, seconds=MARGIN_S + self._drain, **self._capacity(now, left))
            steps.append(step)
            now = left
        for gangs in self._slices(planned, due):
            hosts = {host for gang in gangs for host in gang.hosts}
            away = [gang for gang in replaced if gang.hosts & hosts and gang.name in now]
            touched = {gang.name for gang in (*gangs, *away)}
            left = {name: gang for name, gang in now.items() if name not in touched}
            step = self._step("workers", [m for gang in gangs for m in gang.members], gangs=gangs)
            step = replace(step, remove=_merged(gang.places for gang in away), **self._capacity(now, left))
            if away:
                step = replace(step, seconds=step.seconds + self._drain)
            steps.append(step)
            now = left | {gang.name: replace(gang, serves=True, suffix=self._suffix) for gang in gangs}
        return steps

    def _slices(self, planned: Sequence[_Gang], due: Sequence[_Gang]) -> list[tuple[_Gang, ...]]:
        """Return which replicas restart together, in their order."""
        pools = {gang.pool for gang in due}
        if not pools:
            return []
        coherent = len({gang.pool for gang in planned}) > 1 and any(
            gang.serves and gang.suffix != self._suffix for gang in due
        )
        if not coherent:
            rows = {pool: [gang for gang in due if gang.pool == pool] for pool in sorted(pools)}
            count = max(ceil(len(row) / self.most) for row in rows.values())
            return [
                tuple(g for row in rows.values() for g in row[n * self.most : (n + 1) * self.most])
                for n in range(count)
            ]
        # Those that are done come first: so an interrupted change goes on where it was.
        every: dict[str, list[_Gang]] = {}
        for gang in planned:
            every.setdefault(gang.pool, []).append(gang)
        for pool, row in every.items():
            every[pool] = [g for g in row if g not in due] + [g for g in row if g in due]
        count = max(1, ceil(min(len(row) for row in every.values()) / self.most))
        cuts = [
            tuple(
                gang
                for row in every.values()
                for gang in row[ceil(n * len(row) / count) : ceil((n + 1) * len(row) / count)]
                if gang in due
            )
            for n in range(count)
        ]
        return [cut for cut in cuts if cut]

    def _capacity(self, now: Mapping[str, _Gang], left: Mapping[str, _Gang]) -> dict[str, Any]:
        """Return `left` and `outage` of a step, before and while it runs."""
        before, meanwhile = _serving(now.values()), _serving(left.values())
        shown = {pool: (meanwhile.get(pool, 0), count) for pool, count in sorted(before.items())}
        return {"left": shown, "outage": _answers(before) and not _answers(meanwhile)}

    @property
    def _drain(self) -> int:
        return max((launch.stop_timeout_s for launch in self.launches.values()), default=0)

    def _step(
        self,
        kind: Kind,
        members: Sequence[tuple[str, ServiceLook]],
        *,
        why: Iterable[str] = (),
        gangs: Sequence[_Gang] = (),
    ) -> Step:
        launches = [self.launches[host, one.name] for host, one in members]
        stop = max(
            (la.stop_timeout_s for la, (_, one) in zip(launches, members, strict=True) if one.runs), default=0
        )
        start = max((launch.health.deadline_s for launch in launches), default=0)
        names = [gang.name for gang in gangs] + [
            f"{one.name} on {host}" for host, one in members if one.component != "worker" or not gangs
        ]
        return Step(
            kind,
            tuple(dict.fromkeys(names)),
            services=_places((host, one.name) for host, one in members),
            again=_places(
                (host, one.name)
                for host, one in members
                if one.gang in self.again or f"{one.name}@{host}" in self.again
            ),
            why=tuple(dict.fromkeys([*why, *self._why(members)])),
            seconds=MARGIN_S if kind == "files" else MARGIN_S + stop + start,
            canaries=tuple(c for gang in gangs for c in self._canary(gang)),
            asked=self._asked({host for host, one in members if one.component == "frontend"}, gangs),
        )

    def _why(self, members: Sequence[tuple[str, ServiceLook]]) -> list[str]:
        found = []
        for host, one in members:
            asked = one.gang in self.again or f"{one.name}@{host}" in self.again
            found += list(one.differs) or [one.starts or ("asked for" if asked else "")]
        return [word for word in found if word]

    def _asked(self, started: Collection[str], gangs: Sequence[_Gang]) -> dict[str, str]:
        """Return the frontends that were started; else for workers the first one that is there."""
        urls = {
            host: launch.health.url.removesuffix("/live")
            for (host, _), launch in self.launches.items()
            if launch.component == "frontend" and host in self.looks
        }
        if started:
            return {host: url for host, url in urls.items() if host in started}
        return dict(list(urls.items())[:1]) if gangs else {}

    def _canary(self, gang: _Gang) -> list[Canary]:
        host, name = self.heads[gang.name]
        launch = self.launches[host, name]
        port = next((listener for listener in launch.ports if listener.purpose == "rpc"), None)
        if port is None:
            return []
        suffix, namespace = self._suffix, self.plan.settings.namespace
        return [
            Canary(
                gang.name,
                self.plan.expected[gang.pool].component,
                f"{namespace}-{suffix}" if suffix else namespace,
                f"{port.address}:{port.port}",
            )
        ]


def _serving(gangs: Iterable[_Gang]) -> dict[str, int]:
    """Return pool -> replicas that serve: prefill and decode only of generations that have both."""
    gangs = list(gangs)
    has: dict[str, set[str]] = {}
    for gang in gangs:
        has.setdefault(gang.suffix, set()).add(gang.pool)
    total: dict[str, int] = {}
    for gang in gangs:
        beside = has[gang.suffix] | has.get(ANY, set())
        if gang.suffix == ANY:
            beside = set().union(*has.values())
        if gang.pool == "aggregated" or beside >= {"prefill", "decode"}:
            total[gang.pool] = total.get(gang.pool, 0) + 1
    return total


def _answers(serving: Mapping[str, int]) -> bool:
    """Whether these replicas answer requests."""
    return bool(serving.get("aggregated") or (serving.get("prefill") and serving.get("decode")))


def _places(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for host, name in pairs:
        found[host] = (*found.get(host, ()), name)
    return found


def _merged(places: Iterable[Places]) -> dict[str, tuple[str, ...]]:
    return _places((host, name) for own in places for host, names in own.items() for name in names)


def _few(names: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def _message(plan: Published, steps: Sequence[Step], at: int) -> str:
    """Return what to say where a step fails: what was changed, what was not, how to go on and back."""

    def names(some: Sequence[Step]) -> str:
        return _few(tuple(dict.fromkeys(name for step in some for name in step.names)), 20) or "nothing"

    step, rest = steps[at], names(steps[at + 1 :])
    return (
        f"{plan.deployment} stopped at step {at + 1} of {len(steps)}, {step.title}.\n"
        f"  changed before it:  {names(steps[:at])}\n"
        f"  tried in this step: {names([step])}\n"
        f"  not touched:        {rest}\n"
        "  to go on: correct what is said above and run the same command again: it continues with this step\n"
        "  to go back: undo the change in the inventory (or its -e), and run it again: what was not touched"
        " stays as it is; or `wideep rollback` (rollback.yml), to the last deployment that was verified"
    )


def table(changes: Changes) -> str:
    """Return the steps for people."""
    if not changes.steps:
        return "nothing to do: what runs is as planned\n"
    lines = []
    for n, step in enumerate(changes.steps, 1):
        lines.append(f"{n:>3}. {step.title}")
        if step.remove and step.kind != "remove":
            gone = sorted(f"{name} on {host}" for host, names in step.remove.items() for name in names)
            lines.append(f"     removes {_few(gone)}")
        if step.why:
            lines.append(f"     why: {_few(step.why, 3)}")
        if step.left:
            left = ", ".join(f"{pool} {some} of {count}" for pool, (some, count) in step.left.items())
            lines.append(f"     meanwhile serve: {left}" + (" (an outage)" if step.outage else ""))
        proof = " and a token through each" if step.canaries and step.kind != "files" else ""
        verified = "" if step.kind in {"files", "remove"} else f"proved by its health{proof}; "
        lines.append(f"     {verified}at most {step.seconds} s")
    lines.append(f"at most {changes.seconds} s in all")
    return "\n".join(lines) + "\n"
