"""Runs one action plugin in this process: Ansible's real inventory, variables, templating, connection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play import Play
from ansible.playbook.play_context import PlayContext
from ansible.playbook.task import Task
from ansible.plugins import loader as plugins
from ansible.template import Templar
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager
from places import LOCAL, REPOSITORY


def run_action(
    name: str, arguments: dict[str, Any], *, inventory: Path = LOCAL, check: bool = False, **extra: Any
) -> dict[str, Any]:
    """Return the result of an action on the first host; `extra` are variables as by -e."""
    loader = DataLoader()
    # By directory and short name: Ansible's import of collections would change that of the other tests.
    plugins.action_loader.add_directory(str(REPOSITORY / "plugins" / "action"))
    plugins.module_loader.add_directory(str(REPOSITORY / "plugins" / "modules"))
    loader.set_basedir(str(inventory if inventory.is_dir() else inventory.parent))
    hosts = InventoryManager(loader=loader, sources=[str(inventory)])
    manager = VariableManager(loader=loader, inventory=hosts)
    manager._extra_vars = {**manager.extra_vars, **extra}  # Ansible caches its own dictionary
    HostVars(hosts, manager, loader)  # the manager keeps it
    play = Play().load(
        {"hosts": "all", "gather_facts": False, "tasks": []}, variable_manager=manager, loader=loader
    )
    task = Task.load({name: arguments, "check_mode": check}, variable_manager=manager, loader=loader)
    host = hosts.get_hosts("all")[0]
    task_vars = manager.get_vars(play=play, host=host, task=task)
    context = PlayContext(play=play)
    connection = plugins.connection_loader.get("local", context)
    action = plugins.action_loader.get(
        name,
        task=task,
        connection=connection,
        play_context=context,
        loader=loader,
        templar=Templar(loader=loader, variables=task_vars),
        shared_loader_obj=plugins,
    )
    result: dict[str, Any] = action.run(task_vars=task_vars)
    return result
