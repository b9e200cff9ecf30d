"""Where the data files are found: in a checkout, and where only the collection is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from places import REPOSITORY

from wideep.reference import paths


def test_a_checkout_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WIDEEP_CONFIGS", raising=False)
    assert paths.collection_root() == REPOSITORY
    assert paths.configs_dir() == REPOSITORY / "configs"
    assert paths.roles_dir() == REPOSITORY / "roles"


def test_another_configs_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WIDEEP_CONFIGS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"WIDEEP_CONFIGS names .* has no releases"):
        paths.configs_dir()
    (tmp_path / "releases").mkdir()
    assert paths.configs_dir() == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    monkeypatch.setenv("WIDEEP_CONFIGS", f"~/{tmp_path.name}")
    assert paths.configs_dir() == tmp_path


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Return a directory where the package lies alone, as pip would put it."""
    package = tmp_path / "site" / "lib" / "wideep"
    (package / "reference").mkdir(parents=True)
    for name in ("__init__.py", "reference/__init__.py", "reference/paths.py"):
        shutil.copy(REPOSITORY / "src" / "wideep" / name, package / name)
    return package.parent


def found(site: Path, home: Path, collections: str = "", cwd: Path | None = None) -> str:
    """Return what an installed package finds, in a process of its own."""
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r}); from wideep.reference import paths;"
        " print(paths.roles_dir())"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_")} | {"HOME": str(home)}
    if collections:
        env["ANSIBLE_COLLECTIONS_PATH"] = collections
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        env=env,
        cwd=cwd or site,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else done.stderr


def collection(parent: Path) -> Path:
    root = parent / "ansible_collections" / "wideep" / "dynamo"
    (root / "configs" / "releases").mkdir(parents=True)
    return root


def test_an_installed_package_finds_the_installed_collection(installed: Path, tmp_path: Path) -> None:
    home, named, beside = tmp_path / "home", tmp_path / "named", installed
    refused = found(installed, home).strip().splitlines()[-1]
    assert refused.startswith("FileNotFoundError: ")
    assert "'ansible-galaxy collection install wideep-dynamo-*.tar.gz'" in refused
    assert str(home / ".ansible" / "collections") in refused
    roots = [collection(beside), collection(home / ".ansible" / "collections"), collection(named)]
    assert found(installed, home, f"/nowhere{os.pathsep}{named}") == str(roots[2] / "roles")
    assert found(installed, home) == str(roots[1] / "roles")
    project = tmp_path / "project"
    project.mkdir()
    (project / "ansible.cfg").write_text("[defaults]\ncollections_path = ./vendor\n")
    vendored = collection(project / "vendor")
    assert found(installed, home, cwd=project) == str(vendored / "roles")
    shutil.rmtree(home)
    assert found(installed, home) == str(roots[0] / "roles")


def test_the_message_where_nothing_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(paths, "MARKER", Path("configs", "no-such-file"))
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="ANSIBLE_COLLECTIONS_PATH"):
        paths.collection_root()
