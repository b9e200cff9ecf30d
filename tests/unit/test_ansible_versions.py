"""The versions of ansible-core that are accepted, wherever they stand."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from places import REPOSITORY as ROOT


@pytest.fixture(scope="module")
def accepted() -> SpecifierSet:
    """What the Python package requires."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (wanted,) = (d for d in project["dependencies"] if re.match(r"ansible-core\W", d))
    return SpecifierSet(wanted.removeprefix("ansible-core"))


def edges(accepted: SpecifierSet) -> dict[str, bool]:
    """Return versions just inside and just outside of what is accepted."""
    lowest, highest = (Version(next(s.version for s in accepted if s.operator == o)) for o in (">=", "<"))
    before = f"{highest.major}.{highest.minor - 1}.99"
    return {f"{lowest}.0": True, "2.18.99": False, before: True, f"{highest}.0": False}


def test_the_collection_accepts_the_same(accepted: SpecifierSet) -> None:
    runtime = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())
    collection = SpecifierSet(runtime["requires_ansible"])
    for version, inside in edges(accepted).items():
        assert (version in accepted, version in collection) == (inside, inside), version


def test_the_first_task_of_each_playbook_accepts_the_same(accepted: SpecifierSet) -> None:
    text = (ROOT / "playbooks" / "plays" / "begin.yml").read_text()
    bounds = re.findall(r"ansible_version\.full is version\('([\d.]+)', '([<>=]+)'\)", text)
    gate = SpecifierSet(",".join(f"{operator}{version}" for version, operator in bounds))
    for version, inside in edges(accepted).items():
        assert (version in gate) == inside, version
    assert f"ansible-core{','.join(str(s) for s in sorted(accepted, key=str, reverse=True))}" in text


def test_the_locks_have_the_oldest_and_the_newest(accepted: SpecifierSet) -> None:
    def versions(name: str) -> list[Version]:
        text = (ROOT / "requirements" / name).read_text()
        return [Version(v) for v in re.findall(r"^ansible-core==(\S+)", text, re.MULTILINE)]

    (oldest,) = versions("ansible-core-oldest.lock")
    lowest = Version(next(s.version for s in accepted if s.operator == ">="))
    assert oldest.release[:2] == lowest.release[:2]
    assert all(version in accepted for version in versions("controller.lock"))
    assert max(versions("controller.lock")) not in SpecifierSet("<2.21")


def test_both_lists_of_collections_are_equal() -> None:
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text())
    wanted = yaml.safe_load((ROOT / "requirements.yml").read_text())["collections"]
    assert galaxy["dependencies"] == {entry["name"]: entry["version"] for entry in wanted}


def test_the_collections_of_the_lock_are_of_a_package_for_every_python() -> None:
    """Later versions of the package `ansible` refuse Python 3.11; its kubernetes.core serves all of ours."""
    text = (ROOT / "requirements" / "collections.lock").read_text()
    (version,) = re.findall(r"^ansible==(\S+)", text, re.MULTILINE)
    assert Version(version) < Version("13")
