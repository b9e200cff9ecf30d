"""An image in podman's store of this host: there already, from an archive, or pulled."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class ImageError(Exception):
    """What is wrong with the image and what to do; the text is for the operator."""


@dataclass(frozen=True)
class Found:
    """An image of the store."""

    image_id: str
    digest: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Podman:
    """podman on this host, by name or path."""

    program: str

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, however long a pull takes. Raises ImageError where there is no podman."""
        try:
            return subprocess.run(
                [self.program, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "LC_ALL": "C"},
            )
        except OSError as problem:
            raise ImageError(
                f"{self.program}: {problem.strerror}; install podman 4.4 or newer on the host (apt-get"
                " install podman, dnf install podman), or name its path in wideep_container.program"
            ) from problem

    def find(self, image: str) -> Found | None:
        """Return the image, None where the store does not have it."""
        if self("image", "exists", image).returncode:
            return None
        seen = self("image", "inspect", "--format", "json", image)
        if seen.returncode:
            raise ImageError(f"podman image inspect {image}: {last_line(seen.stderr)}")
        data: dict[str, Any] = json.loads(seen.stdout)[0]
        names = (*(data.get("RepoTags") or ()), *(data.get("RepoDigests") or ()))
        return Found(data["Id"], data.get("Digest", ""), names)


def present(  # noqa: PLR0917
    podman: Podman, image: str, policy: str, archive: str, auth_file: str, check: bool
) -> tuple[bool, str, Found | None]:
    """Have the image in the store.

    Args:
        policy: `missing`: pull it if it is not there; `always`: ask the registry each time (for tags);
            `never`: it has to be there, or in the archive.
        archive: a file of `podman save` or skopeo on this host, loaded where the image is missing; or "".
        auth_file: credentials of registries, used where the file exists.

    Returns:
        (whether something changed, what was done, the image; None in check mode where it is missing)
    """
    before = podman.find(image)
    again = policy == "always" and not archive and not _pinned(image)
    if before and not again:
        return False, "there already", before
    if archive:
        if not Path(archive).is_file():
            raise ImageError(f"{archive} is not there; copy it to the host, or correct dynamo_image_archive")
        if check:
            return True, f"would be loaded from {archive}", None
        return True, f"loaded from {archive}", _load(podman, image, archive)
    if policy == "never":
        raise ImageError(
            f"{image} is not on this host and dynamo_image_pull is never; load it (podman load), name an"
            " archive in dynamo_image_archive, or set dynamo_image_pull to missing"
        )
    if image.startswith("sha256:"):
        raise ImageError(
            f"no registry knows an image by its ID {image}: name an archive in dynamo_image_archive, or set"
            " wideep_image to REGISTRY/NAME@sha256:DIGEST"
        )
    if check:
        return before is None, "would be pulled", before
    auth = [f"--authfile={auth_file}"] if auth_file and Path(auth_file).is_file() else []
    done = podman("pull", "--quiet", *auth, image)
    if done.returncode:
        raise ImageError(_why_not(image, done.stderr, bool(auth)))
    after = podman.find(image)
    if after is None:
        raise ImageError(f"podman pull {image} succeeded, and podman image exists does not find it")
    changed = before is None or before.image_id != after.image_id
    return changed, "pulled" if changed else "there already, asked the registry", after


def _pinned(image: str) -> bool:
    return "@" in image or image.startswith("sha256:")


def _load(podman: Podman, image: str, archive: str) -> Found:
    done = podman("load", "--quiet", f"--input={archive}")
    if done.returncode:
        raise ImageError(f"podman load --input={archive}: {last_line(done.stderr)}")
    found = podman.find(image)
    if found:
        return found
    # "Loaded image: NAME" a line each; "Loaded image: sha256:ID" for those without a name.
    loaded = [line.partition(": ")[2].strip() for line in done.stdout.splitlines() if ": " in line]
    held = []
    for name in loaded:
        other = podman.find(name)
        if other:
            held.append(f"{name} (ID sha256:{other.image_id}, digest {other.digest})")
    raise ImageError(
        f"{archive} holds {', '.join(held) or 'no image'}, not {image}. If it is the right one set"
        " wideep_image to its sha256:ID: the ID is the same everywhere, the digest is that of packed layers"
        " and changes when they are packed again"
    )


def _why_not(image: str, stderr: str, authenticated: bool) -> str:
    text = f"podman pull {image}: {last_line(stderr)}"
    low = stderr.lower()
    if any(word in low for word in ("unauthorized", "authentication required", "denied", "forbidden")):
        given = "those of secrets_registries were refused" if authenticated else "none were given"
        return f"{text}; the registry wants credentials, {given}: correct or set secrets_registries"
    if "manifest unknown" in low or "not found" in low:
        return f"{text}; the registry has no such image: correct wideep_image"
    return (
        f"{text}; the host needs a way to the registry: a mirror (registries.conf, or in wideep_image), or"
        " an archive in dynamo_image_archive"
    )


def last_line(text: str) -> str:
    """Return what a program said last."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no message"
