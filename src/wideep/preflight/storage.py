"""The state directory: writable, with room."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wideep.preflight.model import Check, Host, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

GB = 10**9
MIN_INODES = 50_000  # an engine's environment has this order of files


def state_dir(host: Host, _settings: Settings) -> Iterator[Check]:
    """Whether our user can make files there."""
    disk = host.facts.disk
    if disk is None:
        return
    expected = f"{host.needs.state_dir} writable for {host.facts.user}"
    if disk.error:
        remedy = (
            f"make {host.needs.state_dir} and give it to {host.facts.user}, or set wideep_state_dir to a "
            "directory that this user can write"
        )
        yield Check(host.name, "state dir", "fail", disk.error, expected, remedy)
    else:
        yield Check(host.name, "state dir", "ok", f"{disk.path} is writable", expected)


def disk(host: Host, _settings: Settings) -> Iterator[Check]:
    """Free room and inodes under the state directory."""
    place = host.facts.disk
    if place is None:
        return
    need = host.needs.disk_gb
    seen = f"{place.free / GB:.1f} GB free of {place.total / GB:.1f} at {place.path}"
    expected = f"{need:g} GB free"
    remedy = "free space, or set wideep_state_dir to a directory on a larger disk"
    if place.free < need * GB:
        yield Check(host.name, "disk", "fail", seen, expected, remedy)
    elif 0 <= place.inodes < MIN_INODES:
        yield Check(
            host.name,
            "disk",
            "fail",
            f"{place.inodes} inodes free at {place.path}",
            f"{MIN_INODES} inodes",
            remedy,
        )
    else:
        yield Check(host.name, "disk", "ok", seen, expected)
