"""Failures of connections: what to do is told, and hosts that say the same are told together."""

from __future__ import annotations

import pytest

from wideep.console.connections import remedy, together
from wideep.console.result import Failure


def failure(message: str, host: str = "a", *, unreachable: bool = True) -> Failure:
    return Failure(host, "Gather facts", "", message, unreachable=unreachable)


# As OpenSSH 9, sudo 1.9 and ansible-core 2.19 to 2.21 say it.
@pytest.mark.parametrize(
    ("message", "unreachable", "said"),
    [
        ("ssh: connect to host 10.0.0.7 port 22: Connection refused", True, "ansible_port"),
        ("ssh: connect to host 10.0.0.7 port 22: Connection timed out", True, "ssh ADDRESS"),
        ("ssh: Could not resolve hostname p1: Name or service not known", True, "ansible_host"),
        ("root@10.0.0.7: Permission denied (publickey,password).", True, "ssh-copy-id"),
        (
            "REMOTE HOST IDENTIFICATION HAS CHANGED!\nHost key verification failed.",
            True,
            "-R ADDRESS",
        ),
        ("Host key verification failed.", True, "ssh-keyscan"),
        ("Task failed: Missing sudo password", False, "-K"),
        ("sudo: a password is required", False, "-K"),
        ("mona is not in the sudoers file.", False, "ansible_user"),
        ("/bin/sh: 1: /usr/bin/python3.9: not found", False, ".cache/facts"),
        ("the disk is full", False, ""),
        ("a service timed out", False, ""),
    ],
)
def test_what_to_do(message: str, unreachable: bool, said: str) -> None:
    found = remedy(failure(message, unreachable=unreachable))
    assert said in found
    assert bool(found) == bool(said)


def test_a_refusal_has_its_own_remedy() -> None:
    assert remedy(failure("sudo: a password is required\n  fix: do this", unreachable=False)) == ""


def test_what_hosts_say_alike_is_told_once() -> None:
    down = [
        failure(f"ssh: connect to host 10.0.0.{n} port 22: Connection refused", f"gpu-{n}") for n in (1, 2, 3)
    ]
    other = failure("Permission denied (publickey).", "gpu-9")
    assert [(first.host, hosts) for first, hosts in together([*down, other])] == [
        ("gpu-1", ["gpu-1", "gpu-2", "gpu-3"]),
        ("gpu-9", ["gpu-9"]),
    ]


def test_different_failures_stay_apart() -> None:
    found = together([failure("port 8000 is in use"), failure("port 9000 is free", "b")])
    assert len(found) == 2
