"""Releases: whole, of one piece, and the only place where versions stand."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
import yaml
from example_inventories import inventory
from places import REPOSITORY as ROOT

from wideep.plan import make_plan
from wideep.problems import RefusedError
from wideep.reference.release import Release, UnknownReleaseError, find_release, releases

PROGRAMS = ("dynamo.mocker", "dynamo.frontend", "dynamo.sglang", "dynamo.trtllm")


@pytest.fixture(params=releases())
def release(request: pytest.FixtureRequest) -> Release:
    return find_release(request.param)


def test_the_newest_is_the_default() -> None:
    assert find_release() is find_release(releases()[0])
    assert list(releases()) == sorted(releases(), key=lambda v: [int(n) for n in v.split(".")], reverse=True)


def test_a_release_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(UnknownReleaseError, match=f"no release 9.9.9; there are: {', '.join(releases())}"):
        find_release("9.9.9")


def test_everything_is_of_the_release(release: Release) -> None:
    assert release.directory.name == release.dynamo
    assert all(image.endswith(f":{release.dynamo}") for image in release.images.values())
    assert release.dynamo in release.chart
    assert release.previous in {None, *releases()} - {release.dynamo}
    locks = ("ai-dynamo", "ai-dynamo-sglang", *release.packages)
    locked = {name: release.lock(name).read_text() for name in locks}
    assert f"\nai-dynamo=={release.dynamo}" in f"\n{locked['ai-dynamo']}"
    assert f"\nsglang=={release.engines['sglang']}" in f"\n{locked['ai-dynamo-sglang']}"
    for package, version in release.packages.items():
        assert f"\n{package}=={version}" in f"\n{locked[package]}", package
    for program in PROGRAMS:
        catalogue = release.catalogue(program)
        assert catalogue.version == release.dynamo
        assert all(release.engines[name] == version for name, version in catalogue.engine.items())
    assert release.fields("tensorrt-llm").version == release.engines["tensorrt-llm"]


def test_lock_files_have_hashes_and_name_no_index(release: Release) -> None:
    for path in (release.directory / "locks").iterdir():
        text = path.read_text()
        pins = re.findall(r"^[A-Za-z0-9._-]+==.*$", text, re.MULTILINE)
        assert pins, path
        assert all(pin.endswith("\\") for pin in pins), path
        assert "index-url" not in text, path
        assert "://" not in text, path


def test_what_a_lock_leaves_out_is_said(release: Release) -> None:
    for override in release.lock_overrides:
        name = override.requirement.partition(" ;")[0]
        package, _, version = name.partition("==")
        for lock in ("ai-dynamo", "ai-dynamo-sglang"):
            found = re.findall(rf"^{package}==(\S+)", release.lock(lock).read_text(), re.MULTILINE)
            assert found in ([], [version]) if version else not found
        assert override.why


def test_the_test_chart_is_of_the_newest_release() -> None:
    chart = yaml.safe_load((ROOT / "tests" / "cluster" / "chart" / "Chart.yaml").read_text())
    assert {chart["version"], chart["appVersion"]} == {find_release().dynamo}


# ---- flags ----


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_catalogue_names_its_source_and_every_spelling_once(release: Release, program: str) -> None:
    found = release.catalogue(program)
    assert found.source == "parser"
    spellings = [name for flag in found.flags for name in flag.names]
    assert len(spellings) == len(set(spellings)) > 60
    assert all(flag.type for flag in found.flags)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_default_passes_its_own_check(release: Release, program: str) -> None:
    for flag in release.catalogue(program).flags:
        if flag.takes_value and flag.default not in (None, [], "") and flag.type != "json":
            values = flag.default if isinstance(flag.default, list) else [flag.default]
            assert [flag.refuses(str(value)) for value in values] == [None] * len(values), flag.flag


def test_no_catalogue_holds_anything_of_the_machine_that_made_it(release: Release) -> None:
    files = list((release.directory / "catalogues").glob("*.json"))
    text = "".join(path.read_text() for path in files)
    assert not re.search(r"/(root|home|usr|opt|work)/|site-packages|/tmp/(?!dynamo_media)", text)
    assert sum(path.stat().st_size for path in files) < 300_000


def test_catalogues_are_written_one_entry_a_line(release: Release) -> None:
    for path in (release.directory / "catalogues").glob("*.json"):
        data = json.loads(path.read_text())
        rows = data.get("flags") or data["fields"]
        assert sum(line.startswith("  {") for line in path.read_text().splitlines()) == len(rows), path.name


def test_flags_keep_the_parser_that_takes_them(release: Release) -> None:
    sglang = release.catalogue("dynamo.sglang")
    taken = {name: sglang.find(name).parser for name in ("tp-size", "request-plane")}  # type: ignore[union-attr]
    assert taken == {"tp-size": "sglang", "request-plane": "dynamo"}
    assert sglang.find("--request-plane").env == "DYN_REQUEST_PLANE"  # type: ignore[union-attr]


def test_renamed_flags_point_to_what_exists(release: Release) -> None:
    table = yaml.safe_load((release.directory / "catalogues" / "renamed.yml").read_text())
    frontend = release.catalogue("dynamo.frontend")
    for program in PROGRAMS:
        flags = release.catalogue(program).flags
        known = {name for flag in flags if not flag.deprecated for name in flag.names}
        for row in table.get(program, []):
            news = re.findall(r"--[\w-]+", row["new"] or "")
            other = frontend if "on the frontend" in (row["new"] or "") else None
            assert all(new in known or (other and other.find(new)) for new in news), row
    known_fields = set(release.fields("tensorrt-llm").fields)
    for row in table["tensorrt-llm"]:
        if row["new"] and " " not in row["new"]:
            assert row["new"] in known_fields, row
        assert row["old"] not in known_fields, row
    assert not any("(" in row["old"] for rows in table.values() for row in rows)


# ---- nowhere else ----


def test_no_version_stands_anywhere_else() -> None:
    """Code, roles, tools and playbooks ask the release; a literal would stay behind when it moves."""
    every = [find_release(version) for version in releases()]
    literals = {version for each in every for version in (each.dynamo, *each.engines.values())}
    literals |= {version for each in every for version in each.packages.values()}
    literals |= {version for each in every for version in each.archives.values()}
    pattern = re.compile("|".join(rf"(?<![\d.]){re.escape(v)}(?![\d.]*\d)" for v in sorted(literals)))
    places = ("src", "roles", "plugins", "playbooks", "tools", "molecule", "inventories", "Makefile")
    listed = subprocess.run(
        ["git", "ls-files", *places],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    found = []
    for name in listed:
        path = ROOT / name
        if not path.is_file() or path.suffix in {".lock", ".sum", ".mod"}:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if pattern.search(line):
                found.append(f"{name}:{number}: {line.strip()}")
    assert found == []


# ---- one inventory, either release ----


@pytest.mark.parametrize(
    "name",
    ["deepseek_r1_sglang", "deepseek_r1_trtllm", "deepseek_r1_trtllm_h100", "sglang_single_node", "local"],
)
def test_one_inventory_is_planned_for_either_release_and_mixes_nothing(name: str, release: Release) -> None:
    plan = make_plan(*inventory(name, wideep_release=release.dynamo)).publish().to_dict()
    text = json.dumps(plan)
    others = [find_release(version) for version in releases() if version != release.dynamo]
    assert plan["settings"]["release"] == release.dynamo
    assert f'"{release.dynamo}"' in text
    for other in others:
        for version in {other.dynamo, *other.engines.values()} - {release.dynamo, *release.engines.values()}:
            assert not re.search(rf"(?<![\d.]){re.escape(version)}(?!\d)", text), version


def test_flags_are_those_of_the_chosen_release() -> None:
    """One flag that only the newer one has, and one that only the older one has."""
    newest = find_release()
    assert newest.previous
    older = find_release(newest.previous)
    flags = {
        r.dynamo: {f.flag for f in r.catalogue("dynamo.sglang").flags if not f.deprecated}
        for r in (newest, older)
    }
    new, old = flags[newest.dynamo] - flags[older.dynamo], flags[older.dynamo] - flags[newest.dynamo]
    assert new
    assert old
    for version, missing in ((newest.dynamo, min(old)), (older.dynamo, min(new))):
        pools = {"decode": {"extra_args": {missing.removeprefix("--"): 1}}}
        with pytest.raises(RefusedError) as refused:
            make_plan(*inventory("deepseek_r1_sglang", wideep_release=version, wideep_pools=pools))
        assert any(missing in str(problem) for problem in refused.value.problems), (version, missing)
