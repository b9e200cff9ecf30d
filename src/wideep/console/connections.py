"""What SSH, sudo and Python say when Ansible cannot work on a host, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from wideep.console.result import Failure

# Words of OpenSSH, sudo and shells, and of Ansible about them; the first that is found is told.
REMEDIES = tuple(
    (re.compile(says, re.IGNORECASE), remedy)
    for says, remedy in (
        (
            r"remote host identification has changed",
            "if the machine was made anew, forget its old key (ssh-keygen -R ADDRESS); else ask who answers",
        ),
        (
            r"host key verification failed",
            "compare the host's key and accept it: ssh ADDRESS once, or ssh-keyscan into ~/.ssh/known_hosts",
        ),
        (
            r"permission denied \(|too many authentication failures",
            "let your key in (ssh-copy-id), or set ansible_user and ansible_ssh_private_key_file; with a"
            " password: -k",
        ),
        (
            r"could not resolve hostname|name or service not known",
            "set ansible_host to an address that this machine reaches",
        ),
        (
            r"connection refused|no route to host|network is unreachable|timed out|connection (closed|reset)",
            "look whether the host is up and lets you in (ssh ADDRESS); correct ansible_host or ansible_port",
        ),
        (
            r"missing sudo password|a password is required|a terminal is required|incorrect sudo password",
            "give the password of sudo (-K), or let the user run it without one",
        ),
        (
            r"is not in the sudoers file|may not run sudo|is not allowed to execute",
            "let the user become root on this host, or connect as one who may (ansible_user)",
        ),
        (
            r"python[\d.]*: (not found|no such file)|python[\d.]*.*No such file or directory|"
            r"interpreter .*not found",
            "if its system was upgraded, forget what was kept of it: remove its file below .cache/facts;"
            " else set ansible_python_interpreter",
        ),
    )
)
# What differs from host to host in the same message.
OWN = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b|\bport \d+|Connection to \S+|hostname \S+|host \S+ port")


def remedy(failure: Failure) -> str:
    """Return what to do where a host was not reached or root not become; empty where it is something else."""
    if failure.refused or "fix:" in failure.message:
        return ""
    if not failure.unreachable and not re.search(r"sudo|interpreter|python", failure.message, re.IGNORECASE):
        return ""
    return next((help_ for says, help_ in REMEDIES if says.search(failure.message)), "")


def together(failures: Iterable[Failure]) -> list[tuple[Failure, Sequence[str]]]:
    """Return failures with the hosts of each: what many hosts say alike is told once, of the first."""
    found: dict[tuple[str, str, str], tuple[Failure, list[str]]] = {}
    for failure in failures:
        message = failure.message.replace(failure.host, "HOST") if failure.host else failure.message
        key = failure.role, failure.task, OWN.sub("…", message)
        found.setdefault(key, (failure, []))[1].append(failure.host)
    return list(found.values())
