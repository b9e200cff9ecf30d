"""What Ansible gets of a plan, as `wideep_plan`: a form that the plan is written in and read back from.

Roles read the JSON form by name; whatever Python does with a plan after that works on this type.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import PlainSerializer, TypeAdapter

from wideep.deployment.launch import Launch
from wideep.inventory.settings import Settings
from wideep.preflight.model import Needs
from wideep.problems import Problem
from wideep.reference.hardware import GpuCard

# With its digest and the version of its form, which reading it leaves out.
Launched = Annotated[Launch, PlainSerializer(Launch.to_dict)]


@dataclass(frozen=True)
class Release:
    """What roles need of a release (`wideep.reference.release`). locks: folder of the lock files."""

    dynamo: str
    engines: dict[str, str]
    packages: dict[str, str]
    archives: dict[str, str]
    chart: str
    locks: str


@dataclass(frozen=True)
class Expected:
    """What registers of a pool: instances of a component in a namespace of Dynamo.

    generations: a regular expression of what may follow the namespace, another after each change. may_lack:
    so many have a part on hosts that do not answer.
    """

    component: str
    namespace: str
    count: int
    generations: str = ""
    may_lack: int = 0

    def has(self, namespace: str) -> bool:
        """Whether the pool's workers register in a namespace."""
        named = re.escape(self.namespace) + (f"({self.generations})?" if self.generations else "")
        return re.fullmatch(named, namespace) is not None


@dataclass(frozen=True)
class Part:
    """One rank of a replica. gpus: by index."""

    host: str
    rank: int
    gpus: tuple[int, ...]


@dataclass(frozen=True)
class Replica:
    """One engine. world_size: its GPUs."""

    name: str
    world_size: int
    nodes: tuple[Part, ...]


@dataclass(frozen=True)
class Pool:
    """All replicas of one role."""

    name: str
    replicas: tuple[Replica, ...]


@dataclass(frozen=True)
class Service:
    """A Service of Kubernetes. graph, version: the DynamoGraphDeployment that it leads to, and its API's."""

    namespace: str
    service: str
    port: int
    graph: str = ""
    version: str = ""


@dataclass(frozen=True)
class Objects:
    """What a cluster gets.

    model: the volume and its download; graph: the rest; gpu: the nodes' card, own_card: itself where it is
    the operator's. frontend: what answers, None where there is no graph.
    """

    model: tuple[dict[str, Any], ...]
    graph: tuple[dict[str, Any], ...]
    gpu: str = ""
    own_card: GpuCard | None = None
    frontend: Service | None = None

    @property
    def all(self) -> tuple[dict[str, Any], ...]:
        """Return them in the order in which they are applied."""
        return (*self.model, *self.graph)


@dataclass(frozen=True)
class Owner:
    """Whose services those of a host are: the defaults of the modules in the action group `services`."""

    state_dir: str
    deployment: str
    manager: str


@dataclass(frozen=True)
class OnHost:
    """One host's share. software: what its environment has beside Dynamo, '' for nothing.

    packages: name -> version, empty for any. together: the hosts whose ranks restart with those of this one.
    secret_files: names of files of role `secrets`. launches: by component, all components.
    """

    address: str
    state_dir: str
    owner: Owner
    model_path: str
    python: str
    secret_files: tuple[str, ...]
    software: str
    packages: dict[str, str]
    together: tuple[str, ...]
    nats_routes: tuple[str, ...]
    launches: dict[str, tuple[Launched, ...]]
    needs: Needs

    @property
    def services(self) -> tuple[Launch, ...]:
        """Return what runs there."""
        return tuple(launch for own in self.launches.values() for launch in own)


@dataclass(frozen=True)
class Member:
    """A host that is in a group of this run: see `wideep.changes.away`."""

    host: str
    group: str


@dataclass(frozen=True)
class Published:
    """A plan. hosts: empty on Kubernetes; kubernetes: None elsewhere. members: known after a look at hosts.

    keep_state: whether a removal leaves data there. keepers: hosts that keep the deployment's lock and the
    list of its changes. model_source: where the model comes from. image: of
    containers, '' without. notes: warnings.
    """

    deployment: str
    engine: str
    simulated: bool
    one_machine: bool
    keep_state: bool
    keepers: tuple[str, ...]
    model_source: str
    image: str
    settings: Settings
    release: Release
    frontend_url: str
    expected: dict[str, Expected]
    notes: tuple[Problem, ...]
    pools: tuple[Pool, ...]
    kubernetes: Objects | None
    hosts: dict[str, OnHost]
    members: tuple[Member, ...] = ()

    @property
    def namespace(self) -> str:
        """Return the namespace of Kubernetes."""
        return self.settings.kubernetes.namespace

    @property
    def objects(self) -> Objects:
        """Return what a cluster gets; nothing on hosts."""
        return self.kubernetes or Objects((), ())

    @property
    def several_nodes(self) -> bool:
        """Whether a replica has more than one rank."""
        return any(len(replica.nodes) > 1 for pool in self.pools for replica in pool.replicas)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return dict(_FORM.dump_python(self, mode="json"))


_FORM = TypeAdapter(Published)


def read(data: Mapping[str, Any]) -> Published:
    """Return the typed form of `wideep_plan`.

    Raises:
        pydantic.ValidationError: it is not of this version.
    """
    return _FORM.validate_python(data)
