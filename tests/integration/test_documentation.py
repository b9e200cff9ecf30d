"""`ansible-doc` knows every role and plugin of the collection."""

from __future__ import annotations

import json

import pytest
from ansible_runs import ansible
from places import REPOSITORY as ROOT

NAMES = {
    "role": [p.parents[1].name for p in ROOT.glob("roles/*/meta/argument_specs.yml")],
    "module": [p.stem for p in ROOT.glob("plugins/modules/*.py")],
    "lookup": [p.stem for p in ROOT.glob("plugins/lookup/*.py")],
}


def ansible_doc(*arguments: str) -> str:
    done = ansible("ansible-doc", *arguments)
    assert done.returncode == 0, done.stderr
    assert "ERROR" not in done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", NAMES)
def test_all_are_documented(kind: str) -> None:
    names = {f"wideep.dynamo.{name}" for name in NAMES[kind]}
    assert names
    found = json.loads(ansible_doc("--json", "-t", kind, *sorted(names)))
    assert set(found) == names
    for name, content in found.items():
        documented = content["entry_points"] if kind == "role" else [content["doc"]["short_description"]]
        assert documented, name


@pytest.mark.parametrize("kind", NAMES)
def test_all_are_listed_and_can_be_read(kind: str) -> None:
    listed = ansible_doc("-l", "-t", kind, "wideep.dynamo")
    for name in NAMES[kind]:
        assert f"wideep.dynamo.{name}" in listed
    text = ansible_doc("-t", kind, *(f"wideep.dynamo.{name}" for name in NAMES[kind]))
    assert all(f"wideep.dynamo.{name}".lower() in text.lower() for name in NAMES[kind])


def test_every_role_is_documented() -> None:
    assert {p.name for p in ROOT.glob("roles/*") if p.is_dir()} == set(NAMES["role"])
