"""Which Python packages an interpreter has, of this host or in a container image, against those it needs."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import TYPE_CHECKING

from ansible_collections.wideep.dynamo.plugins.module_utils.container_image import Podman, last_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# The first of a name is the one that is imported. A name may be a module's: sgl-deep-ep brings deep_ep.
CODE = (
    "import importlib.metadata as m, json, sys; p = m.packages_distributions();"
    "print(json.dumps({n: [d.version for x in (n, *p.get(n, ())) for d in m.distributions(name=x)][:1]"
    " for n in sys.argv[1:]}))"
)


class AskError(Exception):
    """Why nobody answers and what to do; the text is for the operator."""


def ask(python: str, names: Iterable[str], timeout_s: float = 600) -> dict[str, str]:
    """Return package -> version, of those that an interpreter of this host finds. Raises AskError."""
    fix = "set wideep_python to a Python that runs on this host"
    try:
        done = subprocess.run(
            [python, "-I", "-c", CODE, *names],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as problem:
        raise AskError(f"{python}: {problem.strerror}; {fix}") from problem
    except subprocess.TimeoutExpired as problem:
        raise AskError(f"{python}: no answer within {timeout_s:g} s; {fix}") from problem
    return _answer(python, done, fix)


def ask_image(podman: Podman, image: str, python: str, names: Iterable[str]) -> dict[str, str]:
    """Return package -> version, of those that the interpreter of an image in podman's store finds.

    Raises AskError, and ImageError where there is no podman.
    """
    options = ["--rm", "--pull=never", "--network=none", "--ulimit=host", f"--entrypoint={python}"]
    done = podman("run", *options, image, "-I", "-c", CODE, *names)
    fix = (
        "set wideep_container.python to the interpreter in the image that has Dynamo, or wideep_image to an"
        " image that has one"
    )
    return _answer(f"{python} in {image}", done, fix)


def _answer(who: str, done: subprocess.CompletedProcess[str], fix: str) -> dict[str, str]:
    try:
        found = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None
        if isinstance(found, dict):
            return {name: versions[0] for name, versions in found.items() if versions}
    except (IndexError, ValueError):
        pass
    raise AskError(f"{who} does not say which packages it has: {last_line(done.stderr)}; {fix}")


def compare(wanted: Mapping[str, str], found: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return (packages that are missing, package -> version of those that are there in another one).

    Args:
        wanted: package -> beginning of its version ("" for any): 1.4.2 is 1.4.2.post1 too, and not 1.4.20.
    """
    missing = sorted(wanted.keys() - found.keys())
    begins = {name: re.escape(version) + r"(?!\d)" if version else "" for name, version in wanted.items()}
    other = {n: v for n, v in sorted(found.items()) if n in wanted and not re.match(begins[n], v)}
    return missing, other
