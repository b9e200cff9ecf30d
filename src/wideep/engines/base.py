"""What every engine gives: its rules, and a Launch for each node of a replica that has a service."""

from __future__ import annotations

from typing import Protocol

from wideep.deployment.launch import Launch
from wideep.deployment.model import Deployment, Node, Pool, Replica
from wideep.deployment.site import Site
from wideep.problems import Problem
from wideep.reference.memory import Budget


class Engine(Protocol):
    """An inference engine behind Dynamo. To add one: a file here, a catalogue, a line in `ENGINES`.

    name: value of `wideep_engine`.
    program: the module that a worker runs, which names its catalogue.
    components: pool -> Dynamo component under which its workers register.
    """

    name: str
    program: str
    components: dict[str, str]

    def version(self, deployment: Deployment) -> str:
        """Return the version whose catalogue applies."""
        ...

    def check(self, deployment: Deployment) -> list[Problem]:
        """Return what is wrong with the deployment for this engine, catalogue checks included."""
        ...

    def memory(self, deployment: Deployment) -> dict[str, Budget]:
        """Return pool -> the memory of one GPU, where model and GPU are known."""
        ...

    def launch(self, site: Site, pool: Pool, replica: Replica, node: Node) -> Launch | None:
        """Return what one node of a replica runs.

        Without a command (`argv`): a rank that waits for what the head's command starts there. None: nothing,
        where the platform starts all of it (never the head).
        """
        ...
