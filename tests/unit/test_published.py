"""What the plan publishes: read back as it was written, and everything that roles read of it is there."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from example_inventories import REPOSITORY, inventory, local
from example_playbook import run_action

from wideep.plan import make_plan
from wideep.published import Published, read

INVENTORIES = sorted(path.parent.name for path in (REPOSITORY / "inventories").glob("*/hosts.yml"))
# In YAML: wideep_plan.hosts[inventory_hostname].needs.ports. Of other outputs than `data`: not the plan.
READ = re.compile(r"wideep_plan((?:\.\w+|\[\w+\])+)")
OTHER_OUTPUTS = {"data", "text", "files", "path"}


def published(name: str) -> Published:
    own = {"wideep_state_dir": "/srv/wideep"} if name == "local" else {}
    if name.startswith("kubernetes"):
        own |= {"ansible_connection": "local"}
    return make_plan(*inventory(name, **own)).publish()


@pytest.mark.parametrize("name", INVENTORIES)
def test_it_is_read_as_it_was_written(name: str) -> None:
    made = published(name)
    text = json.dumps(made.to_dict())
    assert read(json.loads(text)) == made
    assert json.dumps(read(json.loads(text)).to_dict()) == text


def test_a_launch_is_published_with_its_digest() -> None:
    made = published("local")
    launches = made.to_dict()["hosts"]["localhost"]["launches"]
    assert {launch["name"]: launch["digest"] for own in launches.values() for launch in own} == {
        launch.name: launch.digest for launch in made.hosts["localhost"].services
    }


def reads() -> set[str]:
    files = [path for folder in ("roles", "playbooks") for path in (REPOSITORY / folder).rglob("*.yml")]
    found = {match for path in files for match in READ.findall(path.read_text(encoding="utf-8"))}
    return {name for name in found if name.split(".")[1].partition("[")[0] not in OTHER_OUTPUTS}


def value(data: Any, path: str) -> Any:
    """Return what stands at a path; a method or a variable key of a mapping ends it. Raises KeyError."""
    for name in re.findall(r"\[?\w+", path):
        if name == "[inventory_hostname":
            data = next(iter(data.values()))
        elif name.startswith("[") or (isinstance(data, dict) and name not in data and hasattr(data, name)):
            return data
        elif data is None:
            return None
        else:
            data = data[name]
    return data


def test_roles_and_playbooks_read_what_is_there() -> None:
    known = [published(name).to_dict() for name in INVENTORIES]
    asked = reads()
    assert ".hosts[inventory_hostname].state_dir" in asked
    for path in asked:
        on_hosts = "inventory_hostname" in path
        for data in known:
            if data["hosts"] or not on_hosts:
                value(data, path)


def test_an_action_without_a_plan_says_where_it_comes_from() -> None:
    from ansible.errors import AnsibleError

    arguments = {"register": "x"}
    with pytest.raises(AnsibleError, match="tasks_from: validate"):
        run_action("summary", arguments)
    with pytest.raises(AnsibleError, match="not a plan of this version"):
        run_action("summary", arguments, wideep_plan={"deployment": "x"})
    done = run_action("summary", arguments, wideep_plan=make_plan(*local()).publish().to_dict())
    assert done["services"] == {}
    assert "no answer in this run" in done["text"]
