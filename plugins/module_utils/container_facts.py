"""What podman of this host is, and which GPUs a container can be given."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

CDI = (Path("/etc/cdi"), Path("/var/run/cdi"))
# Where podman looks for its init program.
INIT = (
    "/usr/libexec/podman",
    "/usr/local/libexec/podman",
    "/usr/local/lib/podman",
    "/usr/lib/podman",
    "/usr/bin",
)
_TIMEOUT_S = 20


def gather(program: str, image: str) -> dict[str, Any]:
    """Return podman's version ('' where there is none), whether it has the image, and names of CDI GPUs."""
    version = _run(program, "--version")
    found = re.search(r"version (\S+)", version or "")
    return {
        "version": found.group(1) if found else "",
        "has_image": found is not None and _run(program, "image", "exists", image) is not None,
        "init": any(shutil.which("catatonit", path=path) for path in INIT),
        "cdi_gpus": gpus(CDI),
    }


def gpus(folders: tuple[Path, ...]) -> list[str]:
    """Return the names of kind nvidia.com/gpu in CDI specifications, YAML or JSON (0, 1, GPU-…, all)."""
    names = set()
    for path in [
        path for folder in folders for kind in ("yaml", "json") for path in folder.glob(f"*.{kind}")
    ]:
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        if re.search(r"""(?:^|[\s{,"'])kind["']?\s*:\s*["']?nvidia\.com/gpu\b""", text):
            names |= set(re.findall(r"""["']?\bname["']?\s*:\s*["']?([\w:.-]+)""", text))
    return sorted(names)


def _run(*command: str) -> str | None:
    """Return a command's output; None where it fails or is not there."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
