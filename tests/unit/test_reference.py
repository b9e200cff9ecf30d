"""The generated reference is current and complete, and that of launch.json names every field."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from places import REPOSITORY

from wideep.deployment.launch import NOT_DECISIVE, File, Gang, Health, Launch, Listener, ProgramFile

PAGE = REPOSITORY / "docs" / "reference" / "variables.md"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "make_reference", REPOSITORY / "tools" / "make_reference.py"
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current(tool: ModuleType) -> None:
    assert PAGE.read_text(encoding="utf-8") == tool.render(), "run .venv/bin/python tools/make_reference.py"


def test_check_tells_a_page_that_is_not_current(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "variables.md"
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "TARGET", page)
    monkeypatch.setattr(tool, "render", lambda: "now\n")
    assert tool.main(["--check"]) == 1
    assert not page.exists()
    assert tool.main([]) == 0
    assert tool.main(["--check"]) == 0
    page.write_text("before\n")
    assert tool.main(["--check"]) == 1
    assert "variables.md is not current" in capsys.readouterr().err


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
