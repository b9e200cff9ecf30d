"""Which of MPI's programs a service of this host would find, and of which version they are."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_MPI = ("mpirun", "orted", "prted")
_TIMEOUT_S = 20


def gather(path: str, programs: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Return where each program is ('' where it is not), and what `mpirun --version` says in its first line.

    path: the search path of the service. programs: for each that is needed the names that it may have.
    """
    found = {name: shutil.which(name, path=path) or "" for names in programs for name in names}
    # The launcher of TensorRT-LLM may be elsewhere, where there is an mpirun too.
    places = [str(Path(place).parent) for name, place in found.items() if place and Path(name).name in _MPI]
    mpirun = shutil.which("mpirun", path=":".join(places)) if places else None
    return {"found": found, "version": _version(mpirun) if mpirun else ""}


def _version(mpirun: str) -> str:
    try:
        done = subprocess.run(
            [mpirun, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout.strip().splitlines() or [""])[0]
