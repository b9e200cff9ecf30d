"""podman, where Dynamo runs in containers: itself, its init, the GPUs that it can hand over, the image."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from wideep.preflight.model import Check, Host, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# CDI devices came with 4.1; options that are used here, with earlier ones.
OLDEST = (4, 1)


def podman(host: Host, _settings: Settings) -> Iterator[Check]:
    """Podman is there, new enough, and has what the containers ask of it."""
    needs, facts = host.needs.container, host.facts.container
    if not needs or not facts:
        return
    expected = f"podman {'.'.join(map(str, OLDEST))} or newer"
    version = tuple(map(int, re.findall(r"\d+", facts.version)[:2]))
    if version < OLDEST:
        remedy = "apt-get install podman, dnf install podman; or name its path in wideep_container.program"
        yield Check(host.name, "podman", "fail", facts.version or f"no {needs.program}", expected, remedy)
        return
    yield Check(host.name, "podman", "ok", facts.version, expected)
    if needs.init and not facts.init:
        remedy = "apt-get install catatonit, dnf install catatonit; or set wideep_container.init: false"
        yield Check(host.name, "catatonit", "fail", "not installed", "podman's init program", remedy)
    missing = [str(gpu) for gpu in needs.gpus if str(gpu) not in facts.cdi_gpus]
    expected = f"nvidia.com/gpu={','.join(map(str, needs.gpus))} in /etc/cdi or /var/run/cdi"
    if missing:
        remedy = (
            "install nvidia-container-toolkit, then nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml;"
            " nvidia-ctk cdi list shows them"
        )
        yield Check(host.name, "cdi", "fail", f"no GPU {', '.join(missing)}", expected, remedy)
    elif needs.gpus:
        yield Check(host.name, "cdi", "ok", f"{len(needs.gpus)} GPUs", expected)
    seen = "there" if facts.has_image else "not there yet, the role dynamo brings it"
    yield Check(host.name, "image", "ok", seen, needs.image)
