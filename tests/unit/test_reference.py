"""The generated reference is current and complete, and that of launch.json names every field."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from places import REPOSITORY, program
from pydantic import BaseModel

from wideep.deployment.launch import NOT_DECISIVE, File, Gang, Health, Launch, Listener, ProgramFile
from wideep.engines import ENGINES
from wideep.inventory.settings import parse
from wideep.reference.models import ModelCard


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return program("tools/make_reference.py")


def test_page_and_argument_specs_are_current(tool: ModuleType) -> None:
    again = "run .venv/bin/python tools/make_reference.py"
    assert tool.PAGE.read_text(encoding="utf-8") == tool.render(), again
    specs = tool.SPECS.read_text(encoding="utf-8")
    assert specs == tool.render_specs(specs), again
    assert tool.CARDS.read_text(encoding="utf-8") == tool.render_cards(), again


def test_check_tells_a_file_that_is_not_current(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, specs = tmp_path / "variables.md", tmp_path / "argument_specs.yml"
    monkeypatch.setattr(tool, "CARDS", tmp_path / "model-cards.md")
    monkeypatch.setattr(tool, "render_cards", lambda: "cards\n")
    specs.write_text("before\n")
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "PAGE", page)
    monkeypatch.setattr(tool, "SPECS", specs)
    monkeypatch.setattr(tool, "render", lambda: "now\n")
    monkeypatch.setattr(tool, "render_specs", lambda _: "after\n")
    assert tool.main(["--check"]) == 1
    assert not page.exists()
    assert specs.read_text() == "before\n"
    assert tool.main([]) == 0
    assert tool.main(["--check"]) == 0
    capsys.readouterr()
    page.write_text("before\n")
    assert tool.main(["--check"]) == 1
    assert "variables.md is not current" in capsys.readouterr().err
    page.write_text("now\n")
    specs.write_text("before\n")
    assert tool.main(["--check"]) == 1
    assert "argument_specs.yml is not current" in capsys.readouterr().err


def models(kind: type[BaseModel], tool: ModuleType) -> Iterator[type[BaseModel]]:
    yield kind
    for field in kind.model_fields.values():
        if inner := tool.model_of(field):
            yield from models(inner, tool)


def test_every_field_says_what_it_means(tool: ModuleType) -> None:
    roots = [model for _, model in tool.nested().values()]
    roots.append(ModelCard)
    roots += [engine.options for engine in ENGINES.values() if isinstance(engine.options, type)]
    assert len(roots) >= 7
    for root in roots:
        for model in models(root, tool):
            for name, field in model.model_fields.items():
                assert field.description, f"{model.__name__}.{name}"
                assert field.description.endswith("."), f"{model.__name__}.{name}"


NESTED = (
    "wideep_eplb",
    "wideep_pools",
    "wideep_network",
    "wideep_container",
    "wideep_kubernetes",
    "wideep_tls",
    "wideep_rollout",
    "wideep_load_balancer",
    "wideep_monitoring",
)
WRONG = {
    "wideep_eplb": {"redundant_experts": "many"},
    "wideep_pools": {"prefill": {"replicas": "two"}},
    "wideep_network": {"link": "wifi"},
    "wideep_container": {"mount": []},
    "wideep_tls": {"http": {"cert": "/c"}},
    "wideep_rollout": {"outage": "maybe"},
    "wideep_load_balancer": {"port": "http"},
    "wideep_monitoring": {"interval": 5},
    "wideep_kubernetes": {"resources": {"worker": {"limits": {"disk": "1Gi"}}}},
}


def ansible_says(variables: Mapping[str, Any], tool: ModuleType) -> list[str]:
    """Return what Ansible's own check of argument_specs says of variables."""
    specs = yaml.safe_load(tool.SPECS.read_text(encoding="utf-8"))["argument_specs"]["main"]["options"]
    given = {name: value for name, value in variables.items() if name in specs}
    result = ArgumentSpecValidator(specs).validate(given, validate_role_argument_spec=True)
    return list(result.error_messages)


def test_what_models_are_made_of_is_known(tool: ModuleType) -> None:
    assert set(tool.nested()) == set(NESTED) == set(WRONG)


@pytest.mark.parametrize(
    "inventory", sorted(REPOSITORY.glob("inventories/*/group_vars/all.yml")), ids=lambda path: path.parts[-3]
)
def test_ansible_accepts_the_inventories(tool: ModuleType, inventory: Path) -> None:
    assert ansible_says(yaml.safe_load(inventory.read_text(encoding="utf-8")), tool) == []


@pytest.mark.parametrize("variable", NESTED)
def test_ansible_refuses_what_no_model_has(tool: ModuleType, variable: str) -> None:
    assert len(ansible_says({variable: WRONG[variable]}, tool)) == 1
    assert parse({"host": {variable: WRONG[variable]}})[2]


def test_every_variable_has_one_row_of_four_cells(tool: ModuleType) -> None:
    rows = [line for line in tool.render().splitlines() if re.match(r"\| `[a-z_]+` \|", line)]
    names = [row.split("`")[1] for row in rows]
    for specs in REPOSITORY.glob("roles/*/meta/argument_specs.yml"):
        main = yaml.safe_load(specs.read_text(encoding="utf-8"))["argument_specs"]["main"]
        for name, option in main.get("options", {}).items():
            if option.get("required"):
                assert name not in names
                continue
            row = rows[names.index(name)]
            assert names.count(name) == 1
            assert len(re.findall(r"(?<!\\)\|", row)) == 5, row


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("V(venv) or C(a)", "`venv` or `a`"),
        (["<x> is C(<state_dir>/venv)", "two"], "&lt;x&gt; is `<state_dir>/venv`<br>two"),
        ("the role P(wideep.dynamo.nats#role), a|b", "the role `nats`, a\\|b"),
    ],
)
def test_markup(tool: ModuleType, text: str | list[str], shown: str) -> None:
    assert tool.prose(text) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("", "empty"),
        (8, "`8`"),
        (False, "`false`"),
        ([], "`[]`"),
        ("{{ wideep_plan.hosts[inventory_hostname].state_dir }}", "that of `wideep_state_dir`"),
        ("{{ wideep_plan.hosts[inventory_hostname].launches.nats }}", "of the plan"),
        ("a\n b", "`a b`"),
    ],
)
def test_defaults(tool: ModuleType, value: object, shown: str) -> None:
    assert tool.default(value) == shown


def test_launch_json_is_described_field_by_field() -> None:
    page = (REPOSITORY / "docs" / "reference" / "launch.md").read_text(encoding="utf-8")
    example = json.loads(page.split("```json\n")[1].split("```")[0])
    launch, sections = [f.name for f in fields(Launch)], re.split("\n`(?:health|gang)`[:,]", page)
    assert set(example) == {*launch, "schema_version", "digest"}
    for name in example:
        assert sections[0].count(f"| `{name}` |") == 1, name
    for field in fields(Health):
        assert f"`{field.name}`" in sections[1], field.name
    for field in fields(Gang):
        assert f"`{field.name}`" in sections[2], field.name
    for kind, name in ((File, "files"), (ProgramFile, "programs"), (Listener, "ports")):
        assert f"| `{name}` | list of `{{{', '.join(f.name for f in fields(kind))}}}` |" in page
        assert all(set(one) == {f.name for f in fields(kind)} for one in example[name])
    digest = next(line for line in page.splitlines() if line.startswith("| `digest` |"))
    assert set(re.findall(r"`(\w+)`", digest)) == {"digest", "schema_version", *NOT_DECISIVE}


DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)", document.read_text(encoding="utf-8")):
        target = document.parent / link[0] if link[0] else document
        assert target.exists(), link[0]
        if link[1]:
            heads = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {"#" + re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
            assert link[1] in anchors, link[1]
