"""Virtual environments from lock files, by uv, on the host that runs them.

A finished environment carries a stamp; one that is being changed carries a marker. So an interrupted run is
seen by the next one, and an environment that this module did not make is never touched.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import NoReturn

MIN_PYTHON = (3, 11)
MAX_PYTHON = (3, 13)
STAMP = ".wideep-env.json"
MARKER = ".wideep-env.installing"
NAMES = ("python3", "python3.13", "python3.12", "python3.11")
CA_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
# Variables of another environment that would lead pip or uv astray.
FOREIGN_ENV = {
    *("VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_USER"),
    *("UV_PYTHON", "UV_PROJECT_ENVIRONMENT"),
}
PROBE = (
    "import json,os,sys,importlib.util as u;"
    "print(json.dumps([os.path.realpath(sys.executable),list(sys.version_info[:3]),"
    "bool(u.find_spec('venv') and u.find_spec('ensurepip'))]))"
)


class EnvError(Exception):
    """What is wrong with the environment and what to do; the text is for the operator."""


@dataclass(frozen=True)
class Python:
    """An interpreter of this host; `can_venv` is false where Debian's python3-venv is missing."""

    path: str
    version: tuple[int, int, int]
    can_venv: bool

    @property
    def text(self) -> str:
        """The version as people write it, 3.11.9."""
        return ".".join(map(str, self.version))


@dataclass(frozen=True)
class Request:
    """What the environment shall be.

    path: directory of the environment, absolute. requirements, uv_requirements: text of hashed lock files.
    python: an interpreter, or `auto`. find_links: wheel directories or pages. offline: no index is asked.
    imports: modules that must import before the environment counts as finished. compile: write bytecode now.
    """

    path: Path
    requirements: str
    uv_requirements: str = ""
    python: str = "auto"
    find_links: tuple[str, ...] = ()
    index_url: str = ""
    offline: bool = False
    imports: tuple[str, ...] = ()
    compile: bool = False


@dataclass(frozen=True)
class Outcome:
    """The environment after (or, in check mode, before) the run. before, after: `name==version` lines."""

    changed: bool
    msg: str
    bin_dir: str = ""
    python_version: str = ""
    packages: int = 0
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stamp:
    """What a finished environment was made from."""

    requirements: str
    imports: list[str]
    asked: str
    base: str
    python_version: str
    packages: int

    def fits(self, request: Request) -> bool:
        """True when the environment's interpreter is one that the request accepts."""
        return request.python in ("auto", self.asked, self.base) and os.access(
            request.path / "bin" / "python", os.X_OK
        )


def probe_python(path: str) -> Python | None:
    """Ask the interpreter at `path` what it is; None when it does not answer (a pyenv shim of nothing)."""
    try:
        done = subprocess.run(
            [path, "-I", "-S", "-c", PROBE], capture_output=True, text=True, timeout=20, check=False
        )
        real, version, can_venv = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return Python(real, (version[0], version[1], version[2]), can_venv)


def find_pythons(search: str | None = None) -> list[Python]:
    """Every Python 3 found on this host, newest first: on PATH, in the usual places, and our own."""
    folders = (search if search is not None else os.environ.get("PATH", "")).split(os.pathsep)
    folders += [] if search is not None else ["/usr/local/bin", "/usr/bin"]
    paths = [] if search is not None else [sys.executable]
    paths += [os.path.join(folder, name) for folder in folders if folder for name in NAMES]  # noqa: PTH118
    candidates: dict[str, str] = {}
    for path in paths:
        real = os.path.realpath(path)
        # The shims of some version managers are links to one program: only real names are equal by target.
        key = real if "python" in os.path.basename(real) else path  # noqa: PTH119
        if os.access(path, os.X_OK):
            candidates.setdefault(key, path)
    with ThreadPoolExecutor(8) as pool:  # shims take 0.1 s each
        found = {python.path: python for python in pool.map(probe_python, candidates.values()) if python}
    return sorted(found.values(), key=lambda p: p.version, reverse=True)


def choose_python(asked: str) -> Python:
    """Return the interpreter for new environments: the one asked for, or the newest supported one.

    Raises EnvError with what was found.
    """
    low, high = (".".join(map(str, v)) for v in (MIN_PYTHON, MAX_PYTHON))
    if asked != "auto":
        python = probe_python(asked)
        if python is None:
            raise EnvError(f"{asked} is not a Python interpreter of this host; name another path, or auto")
        if python.version[:2] < MIN_PYTHON:
            raise EnvError(f"{asked} is Python {python.text}; {low} or newer is needed")
        return python
    found = find_pythons()
    usable = [p for p in found if MIN_PYTHON <= p.version[:2] <= MAX_PYTHON]
    if not usable:
        have = ", ".join(f"{p.path} ({p.text})" for p in found) or "none"
        raise EnvError(
            f"no Python {low} to {high} on this host (found: {have}); install one "
            "(Debian 12, Ubuntu 24.04: apt-get install python3 python3-venv; RHEL 9: dnf install python3.12) "
            "or name its path"
        )
    return usable[0]


def uv_version(uv_requirements: str) -> str:
    """Return the version that the lock file pins. Raises EnvError when it pins none."""
    match = re.search(r"^uv==([^\s;\\]+)", uv_requirements, re.MULTILINE)
    if not match:
        raise EnvError("uv_requirements must be a lock file with a line `uv==<version>` and its hashes")
    return match.group(1)


def _is_uv(path: Path, version: str) -> bool:
    if not os.access(path, os.X_OK):
        return False
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.split()[:2] == ["uv", version]


def find_uv(parent: Path, version: str) -> Path | None:
    """Return uv of exactly this version: ours, next to our interpreter, or on PATH."""
    places = [parent / f"uv-{version}" / "bin" / "uv", Path(sys.executable).parent / "uv"]
    on_path = shutil.which("uv")
    places += [Path(on_path)] if on_path else []
    return next((p for p in places if _is_uv(p, version)), None)


def _environ(request: Request) -> dict[str, str]:
    """The environment for pip and uv: proxies, certificates and indexes pass through."""
    env = {k: v for k, v in os.environ.items() if k not in FOREIGN_ENV}
    env.update(UV_PYTHON_DOWNLOADS="never", UV_NO_PROGRESS="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
    # uv brings its own certificate list and reads neither pip's variables nor the host's trusted ones.
    bundle = next((b for b in CA_BUNDLES if os.path.exists(b)), "")  # noqa: PTH110
    if bundle and "UV_SYSTEM_CERTS" not in env:
        env.setdefault("SSL_CERT_FILE", bundle)
    index = request.index_url or env.get("PIP_INDEX_URL", "")
    if request.index_url:
        env.pop("UV_INDEX_URL", None)
        env.update(UV_DEFAULT_INDEX=index, PIP_INDEX_URL=index)
    elif index and "UV_INDEX_URL" not in env:
        env.setdefault("UV_DEFAULT_INDEX", index)
    return env


def _sources(request: Request) -> list[str]:
    """The options, equal for pip and uv, that say where packages come from."""
    options = [f"--find-links={place}" for place in request.find_links]
    return [*options, "--no-index"] if request.offline else options


CAUSES: tuple[tuple[str, str], ...] = (
    (
        r"Hash mismatch|DO NOT MATCH THE HASHES",
        "the file that the index gave is not the one that the lock file names (it was tampered with or "
        "rebuilt, or the lock file was edited); nothing was installed. Use an index with the original file, "
        "or make the lock file again",
    ),
    (r"No space left on device", "the disk is full: free space, or put the state directory on another disk"),
    (r"Disk quota exceeded", "the user's disk quota is used up"),
    (
        r"ensurepip is not available|No module named '?(venv|ensurepip)",
        "this Python cannot make virtual environments: apt-get install python3-venv (or python3.X-venv)",
    ),
    (
        r"[Cc]ertificate|CERTIFICATE_VERIFY_FAILED|UnknownIssuer",
        "the index's certificate is not trusted here: set SSL_CERT_FILE and PIP_CERT to your authority",
    ),
    (r"Failed to read `--find-links`", "find_links must name a directory that exists on this host"),
    (
        r"\b40[137]\b|Unauthorized|Forbidden",
        "the index refused us: give credentials in index_url or ~/.netrc",
    ),
    (
        r"error sending request|Failed to fetch|NewConnectionError|ConnectionError|Max retries|timed out"
        r"|tcp connect|dns error",
        "the package index cannot be reached from this host: set HTTPS_PROXY, or PIP_INDEX_URL (index_url) "
        "to a mirror, or find_links (with offline) to a directory of wheels",
    ),
    (
        r"No solution found|No matching distribution|no wheels with a matching",
        "the index or wheel directory has no file that fits the lock file and this Python and machine",
    ),
)


def explain(output: str) -> str:
    """Return the last lines that pip or uv wrote, after the cause and remedy where we know them."""
    tail = "\n".join([line for line in output.strip().splitlines() if line.strip()][-12:])
    cause = next((text for pattern, text in CAUSES if re.search(pattern, output)), "")
    package = re.search(r"Hash mismatch for `([^`]+)`", output) or re.search(
        r"Failed to (?:download|fetch|build)(?: and build)? `([^`]+)`", output
    )
    head = f"{package.group(1)}: {cause}" if package and cause else cause
    return f"{head}\n{tail}" if head else tail


def _run(argv: Sequence[str | Path], env: Mapping[str, str], what: str, stdin: str | None = None) -> None:
    try:
        done = subprocess.run(argv, env=env, input=stdin, capture_output=True, text=True, check=False)
    except OSError as error:
        raise EnvError(f"{what}: {argv[0]}: {error.strerror}") from error
    if done.returncode:
        raise EnvError(f"{what}: {explain(done.stdout + done.stderr)}")


def bootstrap_uv(request: Request, python: Python) -> Path:
    """Return uv of the pinned version, installed beside the environment by pip when the host has none."""
    version = uv_version(request.uv_requirements) if request.uv_requirements else ""
    parent = request.path.parent
    if not version:
        on_path = shutil.which("uv")
        if not on_path:
            raise EnvError("this host has no uv: give uv_requirements (a lock file that pins it)")
        return Path(on_path)
    uv = find_uv(parent, version)
    if uv:
        return uv
    if not python.can_venv:
        raise EnvError(
            f"{python.path} cannot make virtual environments (venv or ensurepip is missing): on Debian and "
            f"Ubuntu apt-get install python3-venv, or put uv {version} on PATH"
        )
    home = parent / f"uv-{version}"
    shutil.rmtree(home, ignore_errors=True)
    env = _environ(request)
    try:
        _run([python.path, "-m", "venv", home], env, f"uv {version} in {home}")
        _run(
            [
                *(home / "bin" / "python", "-I", "-m", "pip", "install", "--quiet", "--require-hashes"),
                *(*_sources(request), "-r", "/dev/stdin"),
            ],
            env,
            f"uv {version} in {home}",
            request.uv_requirements,
        )
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise
    return home / "bin" / "uv"


def installed(path: Path) -> tuple[str, ...]:
    """Return `name==version` of every package in the environment, by the names of its dist-info folders."""
    folders = path.glob("lib/python3*/site-packages/*.dist-info")
    pairs = (folder.name[: -len(".dist-info")].split("-", 1) for folder in folders)
    return tuple(sorted(f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}" for name, version in pairs))


def locked(requirements: str) -> tuple[set[str], set[str]]:
    """Return the `name==version` that every host gets, and the names that depend on platform or Python."""
    always: set[str] = set()
    conditional: set[str] = set()
    pattern = r"^([A-Za-z0-9._-]+)(?:\[[^]]*])?==([^\s;\\]+)\s*(;?)"
    for raw, version, marker in re.findall(pattern, requirements, re.MULTILINE):
        name = re.sub(r"[-_.]+", "-", raw).lower()
        if marker:
            conditional.add(name)
        else:
            always.add(f"{name}=={version}")
    return always, conditional


def read_stamp(path: Path) -> Stamp | None:
    """Return the stamp of a finished environment; None for an absent, foreign or interrupted one."""
    if (path / MARKER).exists():
        return None
    try:
        return Stamp(**json.loads((path / STAMP).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _is_ours(path: Path) -> bool:
    """True for what we may delete: made by us, or empty, or absent."""
    return (path / STAMP).exists() or (path / MARKER).exists() or not path.exists() or not any(path.iterdir())


def _refuse_foreign(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise EnvError(f"{path} is a file; the environment needs a directory of its own")
    if not _is_ours(path):
        raise EnvError(f"{path} has content that python_env did not make; remove it, or name another path")


@contextmanager
def _alone(parent: Path) -> Iterator[None]:
    """Keep other runs on this host (several inventory names may be one machine) out of this directory."""
    descriptor = os.open(parent, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:  # some network file systems lock no directories
            if error.errno not in (errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):
                raise
        yield
    finally:
        os.close(descriptor)


def _fail_on(error: OSError, path: Path) -> NoReturn:
    hint = (
        "free space or choose another disk"
        if error.errno == errno.ENOSPC
        else "is it writable for this user?"
    )
    raise EnvError(f"{error.filename or path}: {error.strerror} ({hint})") from error


def present(request: Request, *, check: bool = False) -> Outcome:
    """Make the environment equal to the lock file. With `check`, say what would change. Raises EnvError."""
    if not request.path.is_absolute():
        raise EnvError(f"path must be absolute, not {request.path}")
    if "--hash=" not in request.requirements:
        raise EnvError("requirements must be a lock file with hashes (uv pip compile --generate-hashes)")
    sha = digest(request.requirements)
    unchanged = _current(request, sha)
    if unchanged:
        return unchanged
    try:
        if check:
            _refuse_foreign(request.path)
            return _preview(request)
        request.path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(request.path.parent):
            return _current(request, sha) or _build(request, sha)
    except OSError as error:
        _fail_on(error, request.path)


def digest(requirements: str) -> str:
    """Return what a stamp says of a lock file."""
    return hashlib.sha256(requirements.strip().encode()).hexdigest()


def is_current(request: Request, sha: str) -> bool:
    """Whether the environment is what a lock file with that digest makes; the request need not have it."""
    return _current(request, sha) is not None


def _current(request: Request, sha: str) -> Outcome | None:
    stamp = read_stamp(request.path)
    if not stamp or stamp.requirements != sha or not stamp.fits(request):
        return None
    if not set(request.imports) <= set(stamp.imports):
        return None
    return _outcome(request.path, stamp, changed=False)


def _outcome(
    path: Path, stamp: Stamp, *, changed: bool, before: tuple[str, ...] = (), after: tuple[str, ...] = ()
) -> Outcome:
    new = len(set(after) - set(before))
    msg = f"installed {new} packages" if changed else "up to date"
    return Outcome(changed, msg, str(path / "bin"), stamp.python_version, stamp.packages, before, after)


def _preview(request: Request) -> Outcome:
    stamp = read_stamp(request.path)
    update = stamp is not None and stamp.fits(request)
    before = installed(request.path) if update else ()
    version = stamp.python_version if stamp and update else choose_python(request.python).text
    always, conditional = locked(request.requirements)
    # Environment markers are uv's to judge: what depends on them is shown as it is.
    after = tuple(sorted(always | {line for line in before if line.split("==")[0] in conditional}))
    new = len(set(after) - set(before))
    msg = f"would install {new} packages"
    return Outcome(True, msg, str(request.path / "bin"), version, len(after), before, after)


def _build(request: Request, sha: str) -> Outcome:
    path = request.path
    _refuse_foreign(path)
    stamp = read_stamp(path)
    update = stamp is not None and stamp.fits(request)
    python = Python(stamp.base, (0, 0, 0), True) if stamp and update else choose_python(request.python)
    uv = bootstrap_uv(request, python)
    env = _environ(request)
    before = installed(path) if update else ()
    marker = path / MARKER
    if not update:
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    marker.touch()
    try:
        if not update:
            _run([uv, "venv", "--quiet", "--allow-existing", "--python", python.path, path], env, str(path))
        # --exact: what the lock file no longer names goes away.
        install: list[str | Path] = [
            uv,
            "pip",
            "install",
            "--quiet",
            "--exact",
            "--require-hashes",
            # The lock file names every package, and leaves some out on purpose.
            "--no-deps",
            "--python",
            path / "bin" / "python",
        ]
        if request.compile:
            install.append("--compile-bytecode")
        _run([*install, *_sources(request), "-r", "-"], env, str(path), request.requirements)
        if request.imports:
            code = "import " + ", ".join(request.imports)
            _run([path / "bin" / "python", "-I", "-c", code], env, f"{path}: {code}")
        after = installed(path)
        version = stamp.python_version if stamp and update else python.text
        done = Stamp(sha, list(request.imports), request.python, python.path, version, len(after))
        fresh = path / f"{STAMP}.new"
        fresh.write_text(json.dumps(asdict(done)))
        fresh.replace(path / STAMP)
        marker.unlink()
    except (EnvError, OSError):
        if not update:
            shutil.rmtree(path, ignore_errors=True)  # frees a full disk, too
        elif installed(path) == before:
            marker.unlink()  # uv fetches and checks everything first: the old environment is whole
        raise
    return _outcome(path, done, changed=True, before=before, after=after)


def absent(path: Path, *, check: bool = False) -> Outcome:
    """Remove the environment, and with the last one its parent's uv. Raises EnvError."""
    if not path.is_absolute():
        raise EnvError(f"path must be absolute, not {path}")
    try:
        _refuse_foreign(path)
        before = installed(path)
        tools = list(path.parent.glob("uv-*")) if path.parent.is_dir() else []
        others = path.parent.is_dir() and set(path.parent.iterdir()) - {path, *tools}
        gone = [p for p in ([path] if others else [path, *tools]) if p.exists()]
        if gone and not check:
            with _alone(path.parent):
                for folder in gone:
                    shutil.rmtree(folder)
    except OSError as error:
        _fail_on(error, path)
    return Outcome(bool(gone), "removed" if gone else "absent already", before=before)
