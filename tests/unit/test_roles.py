"""Roles and playbooks keep their promises: one order of tasks, documented variables equal to the defaults."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from places import REPOSITORY

from wideep.inventory.settings import (
    HOST_VARIABLES,
    PLANNED_ROLES,
    Settings,
    planned_variables,
    role_defaults,
)

ROLES = sorted(path.parent.parent for path in REPOSITORY.glob("roles/*/tasks/main.yml"))
VERBS = sorted(REPOSITORY.glob("playbooks/*.yml"))
TASK_FILES = ("validate", "install", "configure", "run", "verify")


def given_by_an_operator() -> set[str]:
    return Settings.model_fields.keys() - {"inventory_dirs"}  # Ansible says that


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def options(role: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = load(role / "meta" / "argument_specs.yml")["argument_specs"]["main"]
    return found.get("options", {})


def tasks(items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield every task of a task list or of plays, those in blocks included."""
    for item in items or []:
        yield item
        for key in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers"):
            yield from tasks(item.get(key, []))


every_role = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def test_there_are_roles_and_verbs() -> None:
    assert {"nats", "etcd", "dynamo", "frontend", "worker", "service", "wideep"} <= {r.name for r in ROLES}
    assert {"site", "plan", "render", "preflight", "verify", "status", "teardown"} <= {v.stem for v in VERBS}


@every_role
def test_a_role_imports_its_task_files_in_the_common_order(role: Path) -> None:
    there = [name for name in TASK_FILES if (role / "tasks" / f"{name}.yml").is_file()]
    assert there
    imported = [task["ansible.builtin.import_tasks"] for task in load(role / "tasks" / "main.yml")]
    assert imported == [f"{name}.yml" for name in there]


@every_role
def test_documented_variables_are_the_defaults(role: Path) -> None:
    file = role / "defaults" / "main.yml"
    defaults = load(file) if file.exists() else {}
    defaults.pop("wideep_plan", None)  # not an option: what the role says without it
    documented = {name: option for name, option in options(role).items() if not option.get("required")}
    assert set(documented) == set(defaults)
    for name, option in documented.items():
        assert option["default"] == defaults[name], name
        assert type(option["default"]) is type(defaults[name]), name


@every_role
def test_every_variable_is_described_and_typed(role: Path) -> None:
    for name, option in options(role).items():
        assert name.startswith(f"{role.name}_"), name
        text = option.get("description")
        assert text, name
        # A colon followed by a space makes a mapping of a line.
        assert all(isinstance(line, str) for line in (text if isinstance(text, list) else [text])), name
        assert option.get("type") in {"str", "int", "float", "bool", "list", "dict", "path", "raw"}, name
        assert option["type"] != "list" or option.get("elements"), name
        if "choices" in option and "default" in option and "{{" not in str(option["default"]):
            assert option["default"] in option["choices"], name


@every_role
def test_roles_say_what_they_are(role: Path) -> None:
    main = load(role / "meta" / "argument_specs.yml")["argument_specs"]["main"]
    assert main["short_description"]


def test_choices_are_those_of_the_settings() -> None:
    documented = {k: v for role in ROLES if role.name in PLANNED_ROLES for k, v in options(role).items()}
    checked = 0
    for name, field in Settings.model_fields.items():
        if name not in given_by_an_operator():
            continue
        variable = name if name in documented else f"wideep_{name}"
        if get_origin(field.annotation) is Literal:
            assert set(documented[variable]["choices"]) == set(get_args(field.annotation)), variable
            checked += 1
        else:
            assert "choices" not in documented[variable], variable
    assert checked >= 8


def test_types_are_those_of_the_settings() -> None:
    documented = {k: v for role in ROLES if role.name in PLANNED_ROLES for k, v in options(role).items()}
    names = {str: "str", int: "int", bool: "bool"}
    for name, field in Settings.model_fields.items():
        if name not in given_by_an_operator():
            continue
        variable = name if name in documented else f"wideep_{name}"
        if field.annotation in names:
            assert documented[variable]["type"] == names[field.annotation], variable


def test_every_setting_has_a_default_that_needs_no_host() -> None:
    defaults = role_defaults()
    fields = {name if name in defaults else f"wideep_{name}" for name in given_by_an_operator()}
    assert fields | HOST_VARIABLES == set(planned_variables())
    for name in planned_variables():
        assert "{{" not in str(defaults[name]), name


def test_the_group_of_defaults_has_every_module_of_services() -> None:
    group = load(REPOSITORY / "meta" / "runtime.yml")["action_groups"]["services"]
    fragment = "extends_documentation_fragment: wideep.dynamo.service\n"
    modules = REPOSITORY.glob("plugins/modules/*.py")
    assert group == sorted(file.stem for file in modules if fragment in file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.stem)
def test_a_verb_begins_with_the_common_start(verb: Path) -> None:
    first = load(verb)[0]
    assert first["ansible.builtin.import_playbook"] == "plays/begin.yml"
    # A person who opens the file reads first what it is for.
    assert re.match(r"---\n# \S.*\.", verb.read_text(encoding="utf-8"))


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.stem)
def test_imported_playbooks_exist(verb: Path) -> None:
    for play in load(verb):
        imported = play.get("ansible.builtin.import_playbook")
        assert imported is None or (verb.parent / imported).is_file(), imported


FILES = sorted([*REPOSITORY.glob("roles/*/tasks/*.yml"), *REPOSITORY.glob("playbooks/**/*.yml")])


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_registered_variables_are_private(file: Path) -> None:
    first, role, *_ = file.relative_to(REPOSITORY).parts
    role = role if first == "roles" else ""
    for task in tasks(load(file)):
        assert task.get("name"), task
        registered = task.get("register")
        if registered is None or registered == "wideep_plan":
            continue
        assert registered.startswith(f"__{role}_" if role else "__"), registered


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_a_task_file_does_something(file: Path) -> None:
    # These are imported for the variables of their role.
    assert load(file) or file.name == "look.yml"
    for task in tasks(load(file)):
        assert "ansible.builtin.meta" not in task, task["name"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_what_is_included_exists(file: Path) -> None:
    for task in tasks(load(file)):
        for keyword in ("import_tasks", "include_tasks"):
            other = task.get(f"ansible.builtin.{keyword}")
            assert other is None or "{{" in other or (file.parent / other).is_file(), task["name"]
        if role := task.get("ansible.builtin.include_role", task.get("ansible.builtin.import_role")):
            name = role["name"].removeprefix("wideep.dynamo.")
            part = role.get("tasks_from", "main")
            assert (REPOSITORY / "roles" / name / "tasks" / f"{part}.yml").is_file(), task["name"]


# Keywords of tasks that hold a mapping; every other mapping in a task is a module's arguments.
MAPPINGS = {"vars", "environment", "args", "module_defaults", "loop_control"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_yaml_orchestrates_only(file: Path) -> None:
    for task in tasks(load(file)):
        names = {key.rpartition(".")[2]: value for key, value in task.items()}
        assert not {"shell", "raw", "script"} & set(names), task["name"]
        # A command is a plain list of words, never a line for a shell.
        assert "command" not in names or "argv" in names["command"], task["name"]
        for key, value in task.items():
            if isinstance(value, dict) and key not in MAPPINGS:
                assert key.count(".") >= 2, f"{key} is not a full name"


def test_a_role_without_the_plan_says_what_it_needs() -> None:
    hint = "{{ undef(hint='it needs the plan: put the role wideep.dynamo.wideep before it') }}"
    for role in ROLES:
        if role.name == "wideep" or not any("wideep_plan" in p.read_text() for p in role.rglob("*.yml")):
            continue
        # A default, so that a plan from anywhere has precedence.
        variables = load(role / "defaults" / "main.yml")
        assert variables["wideep_plan"] == hint, role.name
