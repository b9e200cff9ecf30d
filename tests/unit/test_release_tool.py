"""What knows a release of Dynamo (configs/releases), and the tool that makes it (tools/release)."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest
from places import REPOSITORY as ROOT

sys.path.insert(0, str(ROOT / "tools"))

from release_tool import (
    add,
    behaviour,
    catalogues,
    compare,
    environment_names,
    metrics,
    parsers,
    renamed,
    sglang_sources,
)
from release_tool.folder import Release, versions
from wideep.engines.sglang.options import V2_ENV

RELEASES = [Release(version) for version in versions()]
each_release = pytest.mark.parametrize("one", RELEASES, ids=lambda one: one.version)


# ---- what is in the folders ----


@each_release
def test_what_replaces_a_flag_exists_in_that_release(one: Release) -> None:
    assert renamed.problems(one) == []


def test_a_replacement_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("release_tool.folder.RELEASES", tmp_path)
    folder = tmp_path / "9.9.9" / "catalogues"
    folder.mkdir(parents=True)
    flags = [{"flag": "--new", "choices": ["a", "b"]}, {"flag": "--older", "deprecated": True}]
    for program in ("dynamo.frontend", "dynamo.mocker"):
        (folder / f"{program}.json").write_text(json.dumps({"flags": flags}))
    pairs = (("--x", "--older"), ("--y", "--new c"), ("--z", "--new a"), ("--new b", "null"))
    rows = ", ".join(f"{{old: {old}, new: {new}}}" for old, new in pairs)
    (folder / "renamed.yml").write_text(f"dynamo.mocker: [{rows}]\n")
    assert renamed.problems(Release("9.9.9")) == [
        "dynamo.mocker: --x points to --older, which is gone or deprecated",
        "dynamo.mocker: --y points to --new c, which is not a choice",
        "dynamo.mocker: --new b is a choice",
    ]


@each_release
def test_each_flag_is_filed_under_the_parser_that_takes_it(one: Release) -> None:
    flags = json.loads((one.catalogues / "dynamo.sglang.json").read_text())["flags"]
    parser = {flag["flag"]: flag["parser"] for flag in flags}
    assert parser["--tp-size"] == "sglang"
    assert parser["--router-mode"] == "router"
    assert parser["--request-plane"] == "dynamo"
    assert not [flag for flag, name in parser.items() if flag.startswith("--router-") and name == "sglang"]


@each_release
def test_values_that_the_mocker_refuses_later_are_choices(one: Release) -> None:
    flags = json.loads((one.catalogues / "dynamo.mocker.json").read_text())["flags"]
    choices = {flag["flag"]: flag.get("choices") for flag in flags}
    assert choices["--engine-type"] == ["vllm", "sglang", "trtllm"]
    assert choices["--preemption-mode"] == ["lifo", "fifo"]


@each_release
def test_models_that_divide_attention_by_data_are_told_apart(one: Release) -> None:
    found = json.loads((one.path / "engines" / "sglang.json").read_text())
    assert {"DeepseekV3ForCausalLM", "Qwen3MoeForCausalLM", "Qwen3ForCausalLM"} <= set(
        found["attention_by_data"]
    )
    # Wrappers of such a class, and classes that inherit from one.
    assert {
        "KimiK25ForConditionalGeneration",
        "MistralLarge3ForCausalLM",
        "Glm4vMoeForConditionalGeneration",
    } <= set(found["attention_by_data"])
    assert {"LlamaForCausalLM", "Qwen2ForCausalLM", "MixtralForCausalLM"} <= set(found["attention_whole"])
    kinds = [set(found[f"attention_{kind}"]) for kind in ("by_data", "whole", "unclear")]
    assert sum(map(len, kinds)) == len(set().union(*kinds))


@each_release
def test_metrics_have_a_type_and_no_value(one: Release) -> None:
    found = json.loads((one.path / "metrics.json").read_text())
    assert found.keys() == {"frontend", "prefill", "decode", "sglang"}
    assert "dynamo_frontend_model_migration_total" in found["frontend"]
    assert "sglang:eplb_balancedness" in found["sglang"]
    kinds = {entry.get("type") for program in ("frontend", "decode") for entry in found[program].values()}
    assert kinds <= {"counter", "gauge", "histogram", "summary", "untyped", None}


@each_release
def test_the_list_of_changes_is_that_of_the_two_folders(one: Release) -> None:
    previous, path = one.read()["previous"], one.path / "CHANGES.md"
    assert path.exists() == bool(previous)
    if previous:
        assert path.read_text() == compare.report(Release(previous), one)


@each_release
def test_what_wideep_gives_its_processes_is_read_by_them(one: Release) -> None:
    """Names of variables in our code that begin as Dynamo's, NATS', etcd's or SGLang's do."""
    found = json.loads((one.path / "environment.json").read_text())
    known = {name for names in found.values() for name in names}
    files = (ROOT / "src" / "wideep").rglob("*.py")
    # What is imported has variables of engines older than any release of ours.
    sources = [path.read_text() for path in files if path.name != "importing.py"]
    ours = {name for text in sources for name in environment_names.QUOTED.findall(text)}
    assert {"DYN_SYSTEM_PORT", "ETCD_ENDPOINTS", "NATS_SERVER", "SGLANG_HOST_IP"} <= ours
    backends = next(
        flag["choices"]
        for flag in json.loads((one.catalogues / "dynamo.sglang.json").read_text())["flags"]
        if flag["flag"] == "--moe-a2a-backend"
    )
    elsewhere = {env for name, env in {"deepep_v2": V2_ENV}.items() if name not in backends}
    assert ours - known == elsewhere


@each_release
def test_what_was_tried_says_what_and_whether_it_holds(one: Release) -> None:
    rows = json.loads((one.path / "behaviour.json").read_text())
    assert list(rows) == [trial.__name__ for trial in behaviour.TRIALS]
    assert all(
        row["what"] == trial.__doc__ for row, trial in zip(rows.values(), behaviour.TRIALS, strict=True)
    )
    assert rows["model_readiness_is_told"]["holds"]


# ---- how they are made ----


def test_a_release_begins_as_the_nearest_one_and_names_the_older_minor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("release_tool.folder.RELEASES", tmp_path)
    for version, previous in (("1.5.1", "null"), ("1.6.1", "1.5.1")):
        (tmp_path / version / "catalogues").mkdir(parents=True)
        text = f"dynamo: {version}\nprevious: {previous}\nchart: x-{version}.tgz\nother: 3{version}\n"
        (tmp_path / version / "release.yml").write_text(text)
    for new, previous, model in (
        ("1.6.2", "1.5.1", "1.6.1"),
        ("1.7.0", "1.6.1", "1.6.1"),
        ("1.4.2", None, "1.5.1"),
    ):
        monkeypatch.setattr("release_tool.add.versions", lambda: ["1.6.1", "1.5.1"])
        assert add._begin(Release(new)).version == model
        data = Release(new).read()
        assert data == {"dynamo": new, "previous": previous, "chart": f"x-{new}.tgz", "other": f"3{model}"}


def test_engines_are_those_that_the_package_pins(tmp_path: Path) -> None:
    folder = tmp_path / "ai_dynamo-9.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        "Requires-Dist: sglang[diffusion]==0.9; extra == 'sglang'\nRequires-Dist: tensorrt-llm==1.3.0rc9; x\n"
    )
    found = add.pinned_engines(tmp_path, ["sglang", "tensorrt-llm"])
    assert found == {"sglang": "0.9", "tensorrt-llm": "1.3.0rc9"}
    text = "engines:\n  sglang: 0.8\n  tensorrt-llm: 1\nimages:\n  sglang: registry/sglang:1\n"
    assert add.with_engines(text, found) == (
        "engines:\n  sglang: 0.9\n  tensorrt-llm: 1.3.0rc9\nimages:\n  sglang: registry/sglang:1\n"
    )
    with pytest.raises(SystemExit, match="pins no vllm"):
        add.pinned_engines(tmp_path, ["vllm"])


def test_differences_of_flags_are_said_by_kind() -> None:
    old = [
        {"flag": "--gone", "default": None},
        {"flag": "--same", "aliases": ["--alias"], "default": 1, "choices": ["a", "b"]},
        {"flag": "--old", "default": None},
    ]
    new = [
        {"flag": "--new", "default": None},
        {"flag": "--same", "default": 2, "choices": ["b", "c"]},
        {"flag": "--old", "default": None, "deprecated": True, "replacement": "--new"},
    ]
    assert compare.flags(old, new) == [
        "- gone (2): `--alias`, `--gone`",
        "- new (1): `--new`",
        "- deprecated now (1): `--old` (use --new)",
        "- another default (1): `--same` 1 → 2",
        "- values gone (1): `--same` a",
        "- values new (1): `--same` c",
    ]
    assert compare.flags(old, old) == []


def test_expert_kernels_are_those_that_register(tmp_path: Path) -> None:
    folder = tmp_path / "sglang" / "srt" / "layers" / "moe"
    folder.mkdir(parents=True)
    (folder / "x.py").write_text('@register_pre_permute("a", "k")\n@register_fused_func(\n    "a", "b"\n)\n')
    assert sglang_sources.expert_runners(tmp_path) == {"a": ["b", "k"]}


def _parser(*flags: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(add_help=False)
    for flag in flags:
        made.add_argument(flag)
    return made


def test_parsers_are_told_by_a_flag_and_a_new_one_stops_the_tool() -> None:
    own, router, engine = _parser("--plane", "--x"), _parser("--mode"), _parser("--size", "--y")
    names = {"dynamo": "--plane", "engine": "--size"}
    assert parsers.named([own, engine], names, "p") == {"dynamo": own, "engine": engine}
    with pytest.raises(SystemExit, match=r"asks 3 parsers; number 2 is none of the known ones \(--mode"):
        parsers.named([own, router, engine], names, "p")
    with pytest.raises(SystemExit, match="asked no parser that tells itself as engine"):
        parsers.named([own], names, "p")
    with pytest.raises(SystemExit, match="number 2 has what tells dynamo"):
        parsers.named([own, _parser("--plane")], names, "p")


def test_metrics_are_read_without_series() -> None:
    page = """# HELP a_seconds Time.
# TYPE a_seconds histogram
a_seconds_bucket{le="1",model="m"} 3
a_seconds_sum{model="m"} 3
b_total{x="1"} 2
"""
    assert metrics.parse(page) == {
        "a_seconds": {"help": "Time.", "type": "histogram", "labels": ["model"]},
        "b_total": {"labels": ["x"]},
    }


def test_attention_is_judged_by_the_class_that_makes_it(tmp_path: Path) -> None:
    models = tmp_path / "sglang" / "srt" / "models"
    models.mkdir(parents=True)
    (models / "plain.py").write_text("""
class PlainAttention:
    def __init__(self, tp_size):
        self.attn = RadixAttention(8 // tp_size)

class PlainModel:
    def __init__(self, layer=PlainAttention):
        self.layer = layer()

EntryClass = PlainModel
""")
    (models / "data.py").write_text("""
from sglang.srt.models.plain import PlainModel

class DataAttention:
    def __init__(self):
        self.attn = RadixAttention(8 // get_parallel().attn_tp_size)

LAYERS = {"attention": DataAttention}

class DataModel(PlainModel):
    layers = LAYERS

class Both:
    def __init__(self):
        self.parts = DataModel(), PlainModel()

class Inherits(DataModel):
    pass

class Nothing:
    pass

EntryClass = [DataModel, Both, Inherits, Nothing]
""")
    assert sglang_sources.attention_by_data(tmp_path) == {
        "by_data": ["DataModel", "Inherits"],
        "whole": ["PlainModel"],
        "unclear": ["Both", "Nothing"],
    }


def test_the_type_of_a_value_is_found_by_trying() -> None:
    def positive(text: str) -> int:
        if int(text) < 1:
            raise ValueError(text)
        return int(text)

    found = [
        parsers.value_type(t) for t in (None, int, float, positive, json.loads, Path, str.split, str.upper)
    ]
    assert [row["type"] for row in found] == ["str", "int", "float", "int", "json", "path", "list", "str"]
    assert found[3]["minimum"] == 1


def test_what_a_parser_accepts_is_described() -> None:
    parser = argparse.ArgumentParser()
    text = "Words.\nenv var: DYN_X | default: False\ndeprecating flag: --old"
    boolean = parser.add_argument(
        "--new", "--old", action=argparse.BooleanOptionalAction, default=False, help=text
    )
    many = parser.add_argument(
        "-s", "--sizes", type=int, nargs="+", choices=[1, 2], help="[Deprecated] Use --new."
    )
    assert parsers.describe(boolean, "p") == [
        {
            "flag": "--new",
            "parser": "p",
            "negative": "--no-new",
            "env": "DYN_X",
            "type": "bool",
            "takes_value": False,
            "default": False,
        },
        {
            "flag": "--old",
            "parser": "p",
            "type": "bool",
            "takes_value": False,
            "default": False,
            "deprecated": True,
            "replacement": "--new",
        },
    ]
    (entry,) = parsers.describe(many, "p")
    assert entry["type"] == "list[int]"
    assert (entry["aliases"], entry["choices"], entry["replacement"]) == (["-s"], [1, 2], "--new")


def test_what_differs_between_two_machines_is_left_out() -> None:
    first = {"flags": [{"default": "/home/a"}, {"default": 4, "choices": ["b", "a"]}]}
    second = {"flags": [{"default": "/home/b"}, {"default": 4, "choices": ["a", "b"]}]}
    assert catalogues.merge(first, second)["flags"] == [
        {"default": None, "dynamic": True},
        {"default": 4, "choices": ["a", "b"]},
    ]
