"""The module python_packages: real interpreters, an image by a podman of paper, and who does not answer."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils.python_packages import compare
from ansible_collections.wideep.dynamo.plugins.modules import python_packages
from modules import call_module

PYDANTIC = version("pydantic")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that runs the module as Ansible does and returns its result."""

    def call(check: bool = False, **options: Any) -> dict[str, Any]:
        result: dict[str, Any] = call_module(
            python_packages, {**options, "_ansible_check_mode": check}, capsys
        )
        return result

    return call


@pytest.fixture
def podman(tmp_path: Path) -> Path:
    """A podman that notes its words and runs the interpreter of --entrypoint here."""
    program = tmp_path / "podman"
    program.write_text(
        f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {tmp_path}/words\n"
        "for word; do shift; case $word in --entrypoint=*) python=${word#*=};; -I) break;; esac; done\n"
        'exec "$python" -I "$@"\n'
    )
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("check", [False, True])
def test_what_an_interpreter_has(run: Any, check: bool) -> None:
    result = run(python=sys.executable, wanted={"pydantic": PYDANTIC, "rich": ""}, check=check)
    assert result["found"] == {"pydantic": PYDANTIC, "rich": version("rich")}
    assert (result["missing"], result["other"], result["text"]) == ([], {}, "")
    assert result["changed"] is False


def test_a_package_may_be_asked_for_by_its_module(run: Any) -> None:
    """DeepEP's wheel is sgl-deep-ep, its module deep_ep."""
    result = run(python=sys.executable, wanted={"yaml": "", "pydantic_core": ""})
    assert result["found"] == {"yaml": version("PyYAML"), "pydantic_core": version("pydantic-core")}


def test_what_it_lacks(run: Any) -> None:
    result = run(python=sys.executable, wanted={"pydantic": "1.4.2", "no-such-b": "", "no-such-a": "1"})
    assert result["other"] == {"pydantic": PYDANTIC}
    assert result["missing"] == ["no-such-a", "no-such-b"]
    assert result["text"] == f"pydantic is {PYDANTIC}, no-such-a is missing, no-such-b is missing"


def test_an_interpreter_in_an_image(run: Any, podman: Path) -> None:
    result = run(python=sys.executable, image="i@sha256:0", podman=str(podman), wanted={"pydantic": "0"})
    assert result["other"] == {"pydantic": PYDANTIC}
    words = (podman.parent / "words").read_text().splitlines()
    assert words[0] == "run"
    image = words.index("i@sha256:0")
    assert {"--rm", "--pull=never", "--network=none"} <= set(words[:image])
    assert words[-1] == "pydantic"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"python": "/no/such/python"}, "/no/such/python: No such file or directory; set wideep_python"),
        (
            {"python": "/bin/false"},
            "/bin/false does not say which packages it has: no message; set wideep_python",
        ),
        ({"python": "/bin/true"}, "/bin/true does not say which packages it has"),
        ({"python": "/bin/echo"}, "/bin/echo does not say which packages it has"),
        ({"python": "/bin/false", "image": "i"}, "/bin/false in i does not say which packages it has"),
        ({"python": "/bin/false", "image": "i"}, "set wideep_container.python"),
        ({"python": "p", "image": "i", "podman": "/no/podman"}, "install podman 4.4 or newer"),
    ],
)
def test_who_does_not_answer(run: Any, podman: Path, options: dict[str, str], says: str) -> None:
    result = run(**{"wanted": {"pydantic": ""}, "podman": str(podman), **options})
    assert result["failed"] is True
    assert says in result["msg"]


@pytest.mark.parametrize(
    ("wanted", "there", "fits"),
    [
        ("1.4.2", "1.4.2", True),
        ("1.4.2", "1.4.2.post1", True),
        ("1.4.2", "1.4.2+cu128", True),
        ("1.4.2", "1.4.20", False),
        ("1.4.2", "1.3.4.2", False),
        ("1.3.0rc2", "1.3.0rc22", False),
        ("", "7", True),
    ],
)
def test_versions_that_begin_alike(wanted: str, there: str, fits: bool) -> None:
    missing, other = compare({"a": wanted}, {"a": there, "b": "1"})
    assert missing == []
    assert other == ({} if fits else {"a": there})
