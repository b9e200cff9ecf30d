"""What plugins of the controller say where the Python package is missing."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from ansible_collections.wideep.dynamo.plugins.plugin_utils.package import COLLECTION, missing
from places import REPOSITORY

# What imports the guard before anything of the package.
GUARDED = re.compile(r"from ansible_collections\S+\.(plugin_utils\.(action|package|secrets)|action\.plan) ")
ERROR = ImportError("No module named 'wideep'")


def test_a_checkout_is_prepared_by_make() -> None:
    assert COLLECTION == REPOSITORY
    assert f"run `make setup` in {REPOSITORY}" in missing(ERROR)


def test_an_installed_collection_names_a_command_for_the_environment_that_lacks_it(tmp_path: Path) -> None:
    text = missing(ERROR, tmp_path)
    assert f"{sys.executable} -m pip install" in text
    assert sys.prefix in text
    assert "make" not in text


@pytest.mark.parametrize("path", sorted((REPOSITORY / "plugins").glob("[al]*/*.py")), ids=lambda p: p.stem)
def test_plugins_meet_the_guard_before_the_package(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    ours = [i for i, line in enumerate(lines) if line.startswith(("import wideep", "from wideep"))]
    guards = [i for i, line in enumerate(lines) if GUARDED.match(line)]
    assert not ours or (guards and guards[0] < ours[0])
