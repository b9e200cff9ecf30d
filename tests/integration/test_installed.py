"""The collection from its tarball in a project of the user's own, beside ansible-core and nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()  # that of downloads
BIN = Path(sys.executable).parent
CONFIG = "[defaults]\ncollections_path = ./vendor\ninventory = hosts.yml\n"
OFFSET = 6600
ALONE = "- hosts: localhost\n  gather_facts: false\n  roles: {roles}\n"


@dataclass
class Project:
    """An empty directory with an ansible.cfg, and an environment of its own."""

    place: Path

    def run(self, program: str, *arguments: str | Path, expect: int = 0) -> str:
        """Run a program of the environment in the project; return what it printed."""
        programs = self.place / "venv" / "bin"
        env = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "PYTHON", "VIRTUAL_ENV"))}
        path = os.pathsep.join([str(programs), "/usr/bin", "/bin"])
        done = subprocess.run(
            [programs / program, *arguments],
            cwd=self.project,
            env=env
            | {
                "HOME": str(self.place / "home"),
                "PATH": path,
                "ANSIBLE_NOCOLOR": "1",
                "XDG_CACHE_HOME": str(CACHE),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        text = done.stdout + done.stderr
        assert done.returncode == expect, text
        return done.stdout if expect == 0 else text

    def playbook(self, text: str) -> Path:
        path = self.project / "mine.yml"
        path.write_text(text)
        return path

    @property
    def project(self) -> Path:
        return self.place / "project"


def build(dist: Path) -> None:
    """Do as `make collection` does, with the programs that run this test."""
    subprocess.run([BIN / "ansible-galaxy", "collection", "build", "--output-path", dist, ROOT], check=True)
    wheel = [BIN / "uv", "build", "--quiet", "--no-build-isolation", "--python", sys.executable]
    subprocess.run([*wheel, "--out-dir", dist, ROOT], check=True)


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with the collection, without the Python package."""
    user = Project(tmp_path_factory.mktemp("user"))
    for name in ("home", "project"):
        (user.place / name).mkdir()
    build(user.place / "dist")
    venv = user.place / "venv"
    uv = [BIN / "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--seed", "--python", sys.executable, venv], check=True)
    core = f"ansible-core=={version('ansible-core')}"
    subprocess.run([*uv, "pip", "install", "--quiet", "--python", venv / "bin" / "python", core], check=True)

    (user.project / "ansible.cfg").write_text(CONFIG)
    tarball = next((user.place / "dist").glob("wideep-dynamo-*.tar.gz"))
    # Without what it depends on, which a local deployment does not use and Galaxy would be asked for.
    user.run("ansible-galaxy", "collection", "install", tarball, "--no-deps", "-p", "vendor")
    installed = user.project / "vendor" / "ansible_collections" / "wideep" / "dynamo"
    inventory = yaml.safe_load((installed / "inventories" / "local" / "hosts.yml").read_text())
    inventory["all"]["vars"] = yaml.safe_load(
        (installed / "inventories" / "local" / "group_vars" / "all.yml").read_text()
    ) | {"wideep_state_dir": str(user.place / "state"), "wideep_port_offset": OFFSET}
    (user.project / "hosts.yml").write_text(yaml.safe_dump(inventory))
    return user


@pytest.fixture(scope="module")
def complete(user: Project) -> Project:
    """The same after the command that the message about the missing package names."""
    said = user.run("ansible-playbook", "wideep.dynamo.plan", expect=1)
    assert said.count("No module named 'wideep'") == 1
    (command,) = re.findall(r"install it: (\S+ -m pip install \S+)", " ".join(said.split()))
    program, *arguments = command.split()
    user.run(Path(program).name, *arguments, "--quiet")
    return user


def test_playbooks_and_the_command_work(complete: Project) -> None:
    assert "decode-1" in complete.run("ansible-playbook", "wideep.dynamo.plan")
    assert f":{8000 + OFFSET}" in complete.run("wideep", "plan")  # from the inventory of ansible.cfg
    complete.run("wideep", "render", "-o", "rendered")
    assert list((complete.project / "rendered").glob("localhost/*/launch.json"))


def test_the_wheel_beside_the_tarball_is_the_same_package(complete: Project) -> None:
    (wheel,) = (complete.place / "dist").glob("wideep-*.whl")
    complete.run("python", "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", wheel)
    assert "decode-1" in complete.run("wideep", "plan", "-i", "hosts.yml")


def test_a_role_of_its_own(complete: Project) -> None:
    for role in ("preflight", "nats"):
        alone = complete.playbook(ALONE.format(roles=[f"wideep.dynamo.{role}"]))
        said = " ".join(complete.run("ansible-playbook", alone, expect=2).split())
        assert "it needs the plan: put the role wideep.dynamo.wideep before it" in said
    after = complete.playbook(ALONE.format(roles=["wideep.dynamo.wideep", "wideep.dynamo.preflight"]))
    assert "failed=0" in complete.run("ansible-playbook", after)


def test_a_deployment(complete: Project) -> None:
    try:
        assert f"serves at http://127.0.0.1:{8000 + OFFSET}" in complete.run(
            "ansible-playbook", "wideep.dynamo.site"
        )
        services = json.loads(complete.run("wideep", "status", "--json"))["localhost"]
        assert {service["state"] for service in services} == {"running"}
    finally:
        complete.run("wideep", "down")
    assert not (complete.place / "state").exists()
    # Nothing is written beside what the user made.
    names = {path.name for path in complete.project.iterdir()}
    assert names == {"ansible.cfg", "hosts.yml", "vendor", "mine.yml", "rendered"}
