"""One host by itself: Python, memory, limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wideep.preflight.model import Check, Host, Python, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

MIN_PYTHON = (3, 11)
MAX_PYTHON = (3, 13)
GB = 10**9


def _text(python: Python) -> str:
    return ".".join(map(str, python.version))


def python(host: Host, settings: Settings) -> Iterator[Check]:
    """An interpreter for virtual environments: 3.11 to 3.13, able to make them."""
    installed = host.facts.disk is not None and host.facts.disk.ours
    if not settings.venv or installed:
        return
    expected = "Python 3.11 to 3.13 with venv"
    pythons = host.facts.pythons
    if settings.python != "auto":
        # python_env judges a named interpreter itself.
        yield Check(host.name, "python", "ok", f"{settings.python} (named by preflight_python)", expected)
        return
    usable = [p for p in pythons if MIN_PYTHON <= p.version[:2] <= MAX_PYTHON]
    if not usable:
        seen = ", ".join(f"{p.path} is {_text(p)}" for p in pythons) or "no Python"
        remedy = (
            "install Python 3.11 or newer (Debian 12, Ubuntu 24.04: apt-get install python3 python3-venv; "
            "RHEL 9: dnf install python3.12), or name its path in wideep_python"
        )
        yield Check(host.name, "python", "fail", seen, expected, remedy)
        return
    best = usable[0]
    if not best.can_venv:
        remedy = f"apt-get install python{best.version[0]}.{best.version[1]}-venv"
        seen = f"{best.path} ({_text(best)}) has no venv or ensurepip"
        yield Check(host.name, "python", "fail", seen, expected, remedy)
        return
    yield Check(host.name, "python", "ok", f"{best.path} ({_text(best)})", expected)


def memory(host: Host, _settings: Settings) -> Iterator[Check]:
    """Memory that is available now, unless the deployment already runs here and holds its part."""
    need = host.needs.memory_gb
    available, total = host.facts.memory.available / GB, host.facts.memory.total / GB
    seen = f"{available:.1f} GB available of {total:.1f}"
    expected = f"{need:g} GB"
    if total < need:
        remedy = "use a larger host, or put fewer services on it"
        yield Check(host.name, "memory", "fail", f"{total:.1f} GB in all", expected, remedy)
    elif available < need and not host.serves:
        remedy = "stop what else uses memory on this host, or put fewer services on it"
        yield Check(host.name, "memory", "warn", seen, expected, remedy)
    else:
        yield Check(host.name, "memory", "ok", seen, expected)


def limits(host: Host, settings: Settings) -> Iterator[Check]:
    """Open files: a service may raise its own limit up to the hard one, root beyond it."""
    hard = host.facts.limits["nofile"].hard
    seen = "unlimited" if hard < 0 else f"{hard} open files"
    if 0 <= hard < settings.open_files and not host.facts.root:
        remedy = (
            f"raise `nofile` for {host.facts.user} in /etc/security/limits.d (hard {settings.open_files}), "
            "then log in again"
        )
        yield Check(host.name, "limits", "warn", seen, f"{settings.open_files}", remedy)
    else:
        yield Check(host.name, "limits", "ok", seen, f"{settings.open_files}")
