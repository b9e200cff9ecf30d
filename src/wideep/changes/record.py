"""The inputs of deployments that were verified: what is recorded, which one a rollback takes, what differs.

An input is what the plan reads: the groups with their hosts, and each host's variables of our roles, by
value. Secrets are not in it, nor how hosts are reached, nor what a variable says about one run only.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wideep.deployment.build import GROUPS
from wideep.inventory.secrets import looks_secret
from wideep.problems import Problem, RefusedError

Record = Mapping[str, Any]
# About a run, not about what is deployed.
OF_A_RUN = frozenset(
    f"wideep_{name}"
    for name in (
        "confirm",
        "lock",
        "lock_wait_s",
        "keep_deployments",
        "keep_state",
        "output",
        "output_dir",
        "plan",
        "rehearsal_address",
        "rehearsal_dir",
        "rehearsal_on",
        "restart",
        "rollback_to",
        "rollout",
        "unreachable",
    )
)
# How a host is reached; taken from the inventory as it is now.
CONNECTION = re.compile(
    r"ansible_(host|port|user|password|connection|timeout|pipelining|private_key_file|python_interpreter|remote_tmp"
    r"|(ssh|become|sftp|scp|paramiko|shell)_\w+|become|ssh_pass)"
)
SHOWN = 60
# Playbooks that end in a record where all is well.
DEPLOYS = ("site", "restart")


def recorded(variable: str) -> bool:
    """Whether a variable of our roles belongs to what is deployed."""
    return variable not in OF_A_RUN and not variable.startswith("secrets_") and not looks_secret(variable)


def input_of(groups: Mapping[str, Sequence[str]], hosts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the input in one form. hosts: by host, its variables by value, and `inventory_dir`."""
    own = {
        host: {
            name: _absolute(value, variables) if name == "wideep_cards_dir" else value
            for name, value in sorted(variables.items())
            if name != "inventory_dir" and recorded(name)
        }
        for host, variables in hosts.items()
    }
    for host, variables in hosts.items():
        # A recorded input has no directory of its own; the operator's cards lie where they lay.
        if variables.get("inventory_dir"):
            own[host].setdefault("wideep_cards_dir", str(variables["inventory_dir"]))
    return {
        "groups": {name: list(groups.get(name) or ()) for name in GROUPS if groups.get(name)},
        "hosts": own,
    }


def digest(given: Mapping[str, Any]) -> str:
    """Return a short name of an input."""
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:12]


def choose(records: Sequence[Record], notes: Sequence[Mapping[str, Any]], wanted: str = "") -> Record:
    """Return what was good before the last change: the last record, or the one before where that is deployed.

    notes: what control hosts noted of runs (`wideep.changes.lock.history`), the oldest first. wanted: the
    beginning of a record's digest.

    Raises:
        RefusedError: there is none.
    """
    newest = sorted(records, key=lambda one: str(one["when"]), reverse=True)
    if not newest:
        message = "no deployment was recorded yet"
        remedy = (
            "site records one when it has changed something and was verified (wideep_keep_deployments); take"
            " the inventory back by its own history and run site"
        )
        raise RefusedError([Problem(message, "rollback", remedy)])
    if wanted:
        found = [one for one in newest if str(one["digest"]).startswith(wanted)]
    else:
        last = [note["run"] for note in notes if note.get("verb") in DEPLOYS][-1:]
        deployed = newest[0]["digest"] if last == [newest[0]["run"]] else ""
        found = [one for one in newest if one["digest"] != deployed]
    if not found:
        known = ", ".join(f"{one['digest']} ({one['when']})" for one in newest)
        what = f"no record begins with {wanted!r}" if wanted else "what is deployed is all that was recorded"
        raise RefusedError(
            [Problem(f"{what}: {known}", "wideep_rollback_to", "take the inventory back and run site")]
        )
    return found[0]


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return what another input changes, a line each: groups, then variables, told once where hosts agree."""
    lines = []
    for name in dict.fromkeys((*before["groups"], *after["groups"])):
        old, new = before["groups"].get(name, []), after["groups"].get(name, [])
        gone, come = [h for h in old if h not in new], [h for h in new if h not in old]
        if gone or come:
            words = [f"without {', '.join(gone)}"] * bool(gone) + [f"with {', '.join(come)}"] * bool(come)
            lines.append(f"group {name}: {', '.join(words)}")
    found: dict[str, list[str]] = {}
    both = [host for host in after["hosts"] if host in before["hosts"]]
    for host in both:
        old, new = before["hosts"][host], after["hosts"][host]
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                found.setdefault(f"{name}: {_shown(old, name)} → {_shown(new, name)}", []).append(host)
    for text, hosts in found.items():
        where = "" if len(hosts) == len(both) else f" on {', '.join(hosts[:3])}{' …' * (len(hosts) > 3)}"
        lines.append(text + where)
    return lines


def inventory_of(given: Mapping[str, Any], connections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a recorded input as an inventory. connections: by host, how it is reached now.

    Raises:
        RefusedError: a host of it is in the inventory no more.
    """
    lost = [host for host in given["hosts"] if host not in connections]
    if lost:
        raise RefusedError(
            [
                Problem(
                    "it is of the recorded deployment and not in the inventory: nobody knows how to reach it",
                    f"host {host}",
                    "put it back into the inventory, or roll back to another record",
                )
                for host in lost
            ]
        )
    hosts = {host: {**connections[host], **own} for host, own in given["hosts"].items()}
    children = {name: {"hosts": dict.fromkeys(members)} for name, members in given["groups"].items()}
    return {"all": {"hosts": hosts, "children": children}}


def _shown(variables: Mapping[str, Any], name: str) -> str:
    if name not in variables:
        return "(default)"
    text = json.dumps(variables[name], sort_keys=True)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _absolute(value: Any, variables: Mapping[str, Any]) -> Any:
    """Return the directory of cards; a relative one begins at the inventory's."""
    own = Path(str(value)).expanduser()
    beside = variables.get("inventory_dir")
    return str(Path(str(beside)) / own) if value and beside else value
