# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""The input of a deployment as the inventory has it now, for records and rollbacks."""

from __future__ import annotations

from typing import Any

from ansible_collections.wideep.dynamo.plugins.plugin_utils.package import plain

from wideep.changes.record import CONNECTION, input_of, recorded
from wideep.deployment.build import GROUPS
from wideep.inventory.settings import is_of_a_role
from wideep.published import Published


def current(plan: Published, task_vars: Any) -> dict[str, Any]:
    """Return the input in the form of `wideep.changes.record`.

    plan: of it; its release stands for the newest, which will be another one.
    """
    groups = {name: plain(hosts) for name, hosts in task_vars["groups"].items()}
    hosts = dict.fromkeys(host for name in GROUPS for host in groups.get(name, ()))
    own = {host: _own(task_vars["hostvars"], host) for host in hosts}
    return input_of(groups, {host: {**own[host], "wideep_release": plan.release.dynamo} for host in own})


def connections(task_vars: Any) -> dict[str, dict[str, Any]]:
    """Return host -> how it is reached."""
    hostvars = task_vars["hostvars"]
    return {
        host: {name: plain(hostvars[host][name]) for name in hostvars[host] if CONNECTION.fullmatch(name)}
        for host in task_vars["groups"]["all"]
    }


def secrets(variables: Any) -> dict[str, Any]:
    """Return what a record leaves out of a host's variables of our roles, because it is secret."""
    own = (name for name in variables if is_of_a_role(name) and not name.startswith("wideep_"))
    return {name: plain(variables[name]) for name in own if not recorded(name)}


def _own(hostvars: Any, host: str) -> dict[str, Any]:
    variables = hostvars[host]
    names = [name for name in variables if name == "inventory_dir" or (is_of_a_role(name) and recorded(name))]
    return {str(name): plain(variables[name]) for name in names}
