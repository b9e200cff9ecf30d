"""The container that a command starts a worker in: its image, and what of the host is mounted there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

RUNTIMES = frozenset({"docker", "podman", "nerdctl"})
# Options of `docker run` without a value.
SWITCHES = frozenset(
    {
        "--detach",
        "--init",
        "--interactive",
        "--no-healthcheck",
        "--oom-kill-disable",
        "--privileged",
        "--publish-all",
        "--quiet",
        "--read-only",
        "--replace",
        "--rm",
        "--sig-proxy",
        "--tty",
    }
)
_SHORT_SWITCHES = re.compile(r"-[ditPq]+")
# Option of any launcher -> what it says.
OPTIONS = {
    "-v": "volume",
    "--volume": "volume",
    "--mount": "mount",
    "--container-mounts": "volumes",
    "--container-image": "image",
}


@dataclass(frozen=True)
class Mount:
    """What is mounted. option, text: as written. host, inside: directories; empty where it is not said."""

    option: str
    text: str
    host: str
    inside: str


@dataclass(frozen=True)
class Container:
    """A container's image and mounts."""

    image: str
    mounts: tuple[Mount, ...]

    def on_host(self, path: str) -> tuple[str, Mount | None]:
        """Return where a directory of the container lies on the host, and the mount that says so."""
        found = [
            one
            for one in self.mounts
            if one.host.startswith(("/", "$")) and PurePosixPath(path).is_relative_to(one.inside or "\0")
        ]
        if not found:
            return path, None
        mount = max(found, key=lambda one: len(one.inside))
        return str(PurePosixPath(mount.host) / PurePosixPath(path).relative_to(mount.inside)), mount


def container_of(words: Sequence[str]) -> Container | None:
    """Return the container of a launcher's words; None where they start none."""
    image, mounts = "", list[Mount]()
    for option, value in _options(words):
        kind = OPTIONS.get(option, "")
        if kind == "image" or not option:
            image = image or value
        elif kind == "mount":
            parts = dict(part.partition("=")[::2] for part in value.split(","))
            host, inside = (
                next((parts[name] for name in names if name in parts), "")
                for names in (("source", "src"), ("target", "destination", "dst"))
            )
            mounts.append(Mount(option, value, host, inside))
        elif kind:
            for one in value.split(",") if kind == "volumes" else [value]:
                host, _, rest = one.partition(":")
                mounts.append(Mount(option, one, host, rest.partition(":")[0]))
    return Container(image, tuple(mounts)) if image or mounts else None


def _options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield options with their values, and the image of `docker run` without an option."""
    names = [PurePosixPath(word).name for word in words]
    runs = [
        at for at, name in enumerate(names) if name == "run" and RUNTIMES & set(names[max(0, at - 2) : at])
    ]
    if not runs:
        for at, word in enumerate(words):
            option, joined, value = word.partition("=")
            if option.startswith("--container-") and (joined or at + 1 < len(words)):
                yield option, value if joined else words[at + 1]
        return
    at = runs[0] + 1
    while at < len(words):
        word = words[at]
        option, joined, value = word.partition("=")
        if not word.startswith("-"):
            yield "", word
            return
        at += 1
        if option in SWITCHES or _SHORT_SWITCHES.fullmatch(word):
            continue
        if not word.startswith("--") and len(word) > len("-v"):
            yield word[:2], word[2:].removeprefix("=")
        elif joined:
            yield option, value
        elif at < len(words):
            yield option, words[at]
            at += 1
