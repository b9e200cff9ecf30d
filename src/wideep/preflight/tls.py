"""The files of `wideep_tls`: there, readable for the services, keys for them alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wideep.preflight.model import Check, Host, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

OTHERS = 0o007


def files(host: Host, _settings: Settings) -> Iterator[Check]:
    """Each file, one finding for those that are well."""
    there = {file.path: file for file in host.facts.files}
    reader = host.needs.user or host.facts.user
    bad = False
    for need in host.needs.files:
        file = there.get(need.path)
        if file is None:  # of a host_facts that knows nothing of files
            continue
        expected = f"{need.path} readable for {reader}" + (" and not for everybody" if need.private else "")
        if file.error:
            remedy = f"put it there, readable for {reader}, or correct wideep_tls"
            yield Check(host.name, "TLS file", "fail", f"{need.path}: {file.error}", expected, remedy)
            bad = True
        elif need.private and file.mode & OTHERS:
            remedy = f"chmod o= {need.path}; make a new key if others may have read it"
            seen = f"{need.path} has mode {file.mode:04o}"
            yield Check(host.name, "TLS file", "fail", seen, expected, remedy)
            bad = True
    if there and not bad:
        number = len(host.needs.files)
        yield Check(host.name, "TLS file", "ok", f"{number} files readable for {reader}", f"{number} files")
