# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ansible.utils.display import Display
from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import Action
from ansible_collections.wideep.dynamo.plugins.plugin_utils.waiting import Clock, wait

from wideep.cluster.access import Cluster, ClusterError
from wideep.cluster.forward import Forward
from wideep.cluster.rollout import runtime_namespaces, scaled
from wideep.cluster.watch import Target

SLICE_S = 5.0
display = Display()


def _graph(cluster: Cluster, graph: Target) -> Mapping[str, Any]:
    """Return the graph as it is there; nothing where it cannot be asked for."""
    try:
        return graph.item(cluster)
    except ClusterError:
        return {}


def _expected(expected: Any, graph: Mapping[str, Any]) -> Any:
    """Return `expected` with namespaces and numbers as the graph has them now.

    What is no mapping the module refuses.
    """
    if not isinstance(expected, Mapping):
        return expected
    namespaces = {pool: {"namespaces": [name]} for pool, name in runtime_namespaces(graph).items()}
    counts = {pool: {"count": count} for pool, count in scaled(graph).items()}
    return {
        pool: {**value, **namespaces.get(pool, {}), **counts.get(pool, {})}
        if isinstance(value, Mapping)
        else value
        for pool, value in expected.items()
    }


class ActionModule(Action):
    """Runs the module slice by slice until it has a verdict, and shows how far it is."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        arguments = dict(self._task.args)
        way = arguments.pop("forward", None)
        if not way:
            return {**result, **self._serving(arguments, task_vars)}
        try:
            cluster = Cluster()
            graph = Target("graph", way["namespace"], way.get("graph", ""), way.get("version", ""))
            with Forward(cluster, way["namespace"], way["service"], int(way["port"])) as forward:
                ask = partial(_graph, cluster, graph) if graph.name else dict[str, Any]
                return {**result, **self._serving(arguments, task_vars, forward, ask)}
        except ClusterError as error:
            if self._task.check_mode:
                return {**result, "skipped": True, "msg": f"not verified, the deployment is not up: {error}"}
            return {**result, "failed": True, "msg": error.told}

    def _serving(
        self,
        arguments: dict[str, Any],
        task_vars: dict[str, Any],
        forward: Forward | None = None,
        graph: Callable[[], Mapping[str, Any]] = dict,
    ) -> dict[str, Any]:
        host, check = task_vars.get("inventory_hostname", ""), self._task.check_mode
        refused, deadline_s = 0, SLICE_S

        def look(clock: Clock) -> dict[str, Any] | str:
            nonlocal refused, deadline_s
            # In check mode one look is enough: nothing is on its way.
            own = {**arguments, "slice_s": 0.0 if check else clock.slice(SLICE_S, deadline_s)}
            if forward:
                own["base_url"] = forward.url()
                own["expected"] = _expected(own["expected"], graph())
            outcome = self._execute_module(
                "wideep.dynamo.verify_serving", module_args=own, task_vars=task_vars
            )
            refused += outcome.get("refused", 0)
            if outcome.get("failed") or outcome.pop("ready", False):
                if refused:
                    display.warning(f"{refused} completions were refused (404 or 503) by a ready frontend")
                return {**outcome, "refused": refused}
            if forward and (why := forward.said()):
                outcome["progress"] += f"; {why}"
                outcome["report"] += f"\n  way to it:    {why}"
            if check:
                reason = f"not verified, the deployment is not up: {outcome['progress']}"
                display.display(f"[{host}] {reason}")
                return {"changed": False, "skipped": True, "msg": reason}
            waited, deadline_s = clock.waited, outcome["deadline_s"]
            if waited >= deadline_s:
                message = f"Gave up after {waited:.0f} s. {outcome['report']}"
                return {"changed": False, "failed": True, "msg": message}
            return f"[{host}] {outcome['progress']}; {waited:.0f} s of {deadline_s} s"

        return wait(look)
