"""Lock files of a release, and the environments that are made from them.

What a package index has only as source is refused, when locking and when installing: NVIDIA puts packages
there whose build downloads the real one from elsewhere, so that a lock file with them looks right and cannot
be installed. release.yml (lock_overrides) says what is left out or replaced instead; because of that,
everything is installed without asking packages for their requirements.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from release_tool.folder import ROOT, Release

UV = ROOT / ".venv" / "bin" / "uv"
LOWEST_PYTHON = "3.11"
COMPILE = (
    *(
        "pip",
        "compile",
        "-",
        "--quiet",
        "--universal",
        "--python-version",
        LOWEST_PYTHON,
        "--generate-hashes",
    ),
    *(
        "--only-binary",
        ":all:",
        "--no-emit-index-url",
        "--no-emit-find-links",
        "--no-header",
        "--no-annotate",
    ),
)
INSTALL = (
    "pip",
    "install",
    "--quiet",
    "--require-hashes",
    "--no-deps",
    "--only-binary",
    ":all:",
    "--requirements",
)
# Lock file -> what it is resolved from. blake3: dynamo.sglang imports it; its extra names it since 1.6.
DYNAMO = {
    "ai-dynamo": ("ai-dynamo=={}",),
    "ai-dynamo-sglang": ("ai-dynamo[sglang]=={}", "blake3"),
}


def make_locks(release: Release, *, upgrade: bool = False, only: tuple[str, ...] = ()) -> list[Path]:
    """Resolve the lock files of a release; without `upgrade`, what they pin stays where it still fits."""
    data = release.read()
    wanted = {name: [line.format(data["dynamo"]) for line in lines] for name, lines in DYNAMO.items()}
    wanted |= {name: [f"{name}=={version}"] for name, version in data["packages"].items()}
    release.lock("x").parent.mkdir(parents=True, exist_ok=True)
    overrides = release.cache / "overrides.txt"
    overrides.parent.mkdir(parents=True, exist_ok=True)
    overrides.write_text(
        "".join(row["requirement"] + "\n" for row in data["lock_overrides"]), encoding="utf-8"
    )
    made = []
    for name in [name for name in wanted if not only or name in only]:
        extra = ["--upgrade"] if upgrade else []
        extra += ["--overrides", str(overrides)] if name in DYNAMO else []
        done = subprocess.run(
            [UV, *COMPILE, *extra, "--output-file", release.lock(name)],
            input="\n".join(wanted[name]),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(
                f"{release.lock(name).relative_to(ROOT)} cannot be resolved; a package without a usable"
                f" wheel can be left out or replaced with lock_overrides of release.yml\n{done.stderr}"
            )
        made.append(release.lock(name))
    return made


def environment(
    release: Release, name: str, python: str | Path | None = None, target: Path | None = None
) -> Path:
    """Return the interpreter of an environment made from a lock file; kept while that does not change."""
    path, lock = target or release.cache / name, release.lock(name)
    stamp = path / ".lock"
    if not stamp.exists() or stamp.read_bytes() != lock.read_bytes():
        shutil.rmtree(path, ignore_errors=True)
        _uv("venv", "--quiet", "--python", python or _suitable(release, name), path)
        _uv(*INSTALL, lock, env={"VIRTUAL_ENV": str(path)})
        shutil.copyfile(lock, stamp)
    return path / "bin" / "python"


def interpreter(version: str) -> str | None:
    """Return a Python of this machine of that minor version."""
    find = [ROOT / "tools" / "find-python", version]
    return subprocess.run(find, capture_output=True, text=True, check=True).stdout.strip() or None


def _suitable(release: Release, name: str) -> str:
    """Return a Python that the lock file has wheels for: ours, else the newest here."""
    pythons = release.read()["python"]
    wanted = pythons.get(name, pythons["default"])
    if f"{sys.version_info.major}.{sys.version_info.minor}" in wanted:
        return sys.executable
    for version in reversed(wanted):
        if found := interpreter(version):
            return found
    raise SystemExit(f"{name} of {release.version} needs Python {' or '.join(wanted)} on this machine")


def _uv(*words: str | Path, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        [UV, *words], env=os.environ | (env or {}), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"uv {words[0]} {words[1]} failed:\n{done.stderr}")


def site_packages(python: Path) -> Path:
    """Return where an environment's packages are."""
    (found,) = python.parents[1].glob("lib/python3.*/site-packages")
    return found
