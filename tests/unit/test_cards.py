"""An operator's own cards: where they are looked for, which goes first, and what is said of broken ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from example_playbook import run_action

from wideep.inventory.settings import parse
from wideep.reference.models import MODELS, find_model
from wideep.reference.paths import configs_dir

R1 = (configs_dir() / "models" / "deepseek-r1.yml").read_text(encoding="utf-8")
SGLANG = {
    "wideep_engine": "sglang",
    "wideep_gpu": "h200-141gb",
    "wideep_runtime": "container",
    "wideep_model": "lab/own",
    "wideep_model_path": "/data/own",
}


R1_VARIABLES = {"wideep_model": "deepseek-ai/DeepSeek-R1", "wideep_model_path": "/data/DeepSeek-R1"}


def write(place: Path, name: str = "own", text: str = R1, **changes: Any) -> Path:
    """Write a card below a directory, and return that directory."""
    content = yaml.safe_load(text) | {"names": ["lab/own"]} | changes
    (place / "models").mkdir(parents=True, exist_ok=True)
    (place / "models" / f"{name}.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return place


def inventory(place: Path, **variables: Any) -> Path:
    """Write an inventory of one host beside cards, and return its directory."""
    groups = {name: {"hosts": {"a": None}} for name in ("control", "frontend", "aggregated")}
    tree = {
        "all": {
            "hosts": {"a": {"ansible_host": "10.0.0.1"}},
            "vars": {"wideep_state_dir": "/srv/wideep", **SGLANG, **variables},
            "children": groups,
        }
    }
    place.mkdir(exist_ok=True)
    (place / "hosts.yml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return place


def test_a_card_is_found_by_its_file_or_by_the_models_name(tmp_path: Path) -> None:
    write(tmp_path, layers=62)
    for card, model in (("own", "any/model"), ("", "lab/own")):
        found, problems = find_model(card, model, [tmp_path])
        assert found
        assert (found.layers, problems) == (62, [])
    assert find_model("", "lab/own")[0] is None


def test_an_operators_card_goes_before_the_projects_and_the_first_place_before_the_second(
    tmp_path: Path,
) -> None:
    write(tmp_path / "a", "deepseek-r1", layers=62)
    write(tmp_path / "b", "deepseek-r1", layers=63)
    for places, layers in ((("a", "b"), 62), (("b", "a"), 63), ((), 61)):
        found, _ = find_model("deepseek-r1", "", [tmp_path / place for place in places])
        assert found
        assert found.layers == layers


def test_a_broken_card_is_one_problem_with_file_field_and_what_to_write(tmp_path: Path) -> None:
    write(tmp_path, "broken", "{}", layers=3, atention=1, attention={"kind": "swa", "heads": 8})
    found, [problem] = find_model("", "lab/own", [tmp_path])
    assert found is None
    assert problem.where == str(tmp_path / "models" / "broken.yml")
    assert problem.severity == "error"
    assert "`source`, `weights`" in problem.message
    assert "`attention.kind`: 'swa' is not one of its values" in problem.message
    assert "for `atention`: did you mean attention?" in problem.remedy
    assert "use one of: gqa, mla" in problem.remedy
    assert "docs/reference/model-cards.md" in problem.remedy


@pytest.mark.parametrize("content", ["names: [\n", "- a list", "\x00"])
def test_what_is_no_card_disturbs_no_other_model_and_is_named_where_none_is_found(
    tmp_path: Path, content: str
) -> None:
    write(tmp_path, "fine")
    (tmp_path / "models" / "broken.yml").write_text(content, encoding="utf-8")
    assert find_model("", "lab/own", [tmp_path])[1] == []
    [warning] = find_model("", "lab/other", [tmp_path])[1]
    assert str(tmp_path / "models" / "broken.yml") in warning.message
    [error] = find_model("broken", "lab/other", [tmp_path])[1]
    assert error.severity == "error"
    assert str(tmp_path / "models" / "broken.yml") in error.where


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("names: [{}]\nlayers: [61\nheads: 3\n", ":3"),
        ("names:\n  - {}\n weights: fp8\n", ":3"),
        ("names: [{}\n", ":2"),
        ("- {}\n", ""),
        ("{}: \x00\n", ""),
    ],
)
@pytest.mark.parametrize("model", ["lab/own", "deepseek-ai/DeepSeek-R1"])
def test_what_is_no_card_and_names_the_model_is_refused_with_its_line(
    tmp_path: Path, content: str, line: str, model: str
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "broken.yml").write_text(content.format(model), encoding="utf-8")
    card, [problem] = find_model("", model, [tmp_path])
    assert card is None
    assert problem.severity == "error"
    assert problem.where == f"{tmp_path / 'models' / 'broken.yml'}{line}"
    assert find_model("", f"{model}-0528", [tmp_path])[1] != [problem]


@pytest.mark.parametrize("names", [5, None, "lab/other", {"lab/own": 1}])
def test_names_that_are_no_list_disturb_no_other_model(tmp_path: Path, names: Any) -> None:
    write(tmp_path, "odd", names=names)
    assert find_model("", "deepseek-ai/DeepSeek-R1", [tmp_path])[1] == []


def test_every_card_of_the_project_is_one() -> None:
    assert MODELS.all()


def test_a_directory_of_cards_begins_at_the_inventory_unless_it_is_absolute() -> None:
    for given, places in (
        ("", ("/inv/x",)),
        ("../cards", ("/inv/x/../cards", "/inv/x")),
        ("/srv/cards", ("/srv/cards", "/inv/x")),
    ):
        settings, _, _ = parse({"a": {"inventory_dir": "/inv/x", "wideep_cards_dir": given}})
        assert settings
        assert settings.card_places == places


def warnings(result: dict[str, Any]) -> str:
    return " ".join(note["message"] for note in result["notes"])


@pytest.mark.parametrize("named", ["directory", "file"])
def test_the_plan_finds_the_cards_beside_its_inventory(tmp_path: Path, named: str) -> None:
    folder = inventory(tmp_path / "inv")
    source = folder if named == "directory" else folder / "hosts.yml"
    assert "no model card lists 'lab/own'" in warnings(run_action("plan", {}, inventory=source))
    write(folder)
    assert "no model card" not in warnings(run_action("plan", {}, inventory=source))


def test_the_plan_finds_the_cards_of_the_directory_that_a_variable_names(tmp_path: Path) -> None:
    write(tmp_path / "cards")
    folder = inventory(tmp_path / "inv", wideep_cards_dir="../cards")
    assert "no model card" not in warnings(run_action("plan", {}, inventory=folder / "hosts.yml"))


def test_a_broken_card_refuses_the_plan_that_uses_it_and_no_other(tmp_path: Path) -> None:
    folder = inventory(tmp_path / "inv")
    write(folder, "broken", heads=3)
    result = run_action("plan", {}, inventory=folder / "hosts.yml")
    assert result["failed"]
    [problem] = result["problems"]
    assert problem["where"].endswith("inv/models/broken.yml")
    assert "problems" not in run_action("plan", {}, inventory=folder / "hosts.yml", **R1_VARIABLES)


@pytest.mark.parametrize(
    ("own_code", "trusted", "said"),
    [
        (None, True, ""),
        (None, False, ""),
        (True, True, ""),
        (False, False, ""),
        (False, True, "needs no code of its own"),
        (True, False, "are code in its directory"),
    ],
)
def test_code_of_the_repository_is_judged_where_the_card_knows(
    tmp_path: Path, own_code: bool | None, trusted: bool, said: str
) -> None:
    pools = {"aggregated": {"options": {"trust_remote_code": trusted}}}
    folder = write(inventory(tmp_path / "inv", wideep_pools=pools), own_code=own_code)
    told = [
        note["message"]
        for note in run_action("plan", {}, inventory=folder / "hosts.yml")["notes"]
        if note["where"].endswith("trust_remote_code")
    ]
    assert [said in message for message in told] == ([True] if said else [])


def test_other_weights_by_flag_are_counted_as_such_or_not_at_all(tmp_path: Path) -> None:
    # R1 in FP8 does not fit eight GPUs of 80 GB, with experts of 4 bits it does.
    def planned(**flags: str) -> dict[str, Any]:
        pools = {"aggregated": {"options": {"data_parallel_size": 8}, "extra_args": flags}}
        own = {"wideep_pools": pools, "wideep_gpu": "h100-80gb"}
        folder = inventory(tmp_path / "inv", **own)
        return run_action("plan", {}, inventory=folder / "hosts.yml", **R1_VARIABLES)

    assert "do not fit" in planned()["msg"]
    for flag, said in (("w4afp8", "computed for experts in w4afp8"), ("awq", "memory is not checked")):
        told = [n["message"] for n in planned(quantization=flag)["notes"] if "quantization" in n["where"]]
        assert len(told) == 1
        assert said in told[0]
