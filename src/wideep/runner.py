"""Run a playbook of the collection from Python and get a typed result.

    from wideep import runner

    result = runner.run("site", "inventories/local", extra_vars={"wideep_frontend_port": 8100})
    result.raise_for_status()
    print(result.data["wideep_summary"])

Nothing of a run outlives it but its `Result`: variables and passwords travel in files that only the
caller may read, and the directory of the events goes away with `Result.events`.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wideep.changes.lock import now
from wideep.console.result import Event, Events, Failure, HostStats, Result, RunError, Status, Tally
from wideep.inventory.files import yaml_problems
from wideep.problems import Problem, RefusedError, suggest
from wideep.reference.paths import COLLECTION, collection_root, collections_paths

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["Event", "Events", "Failure", "HostStats", "RefusedError", "Result", "RunError", "run"]

ExtraVars = Mapping[str, Any] | Sequence[Mapping[str, Any] | Path]
Words = str | Sequence[str]
# Option of ansible-playbook -> the password, or the file that it is in.
Passwords = Mapping[str, tuple[str | None, str | Path | None]]

# How long ansible-playbook may take to end its workers before it is killed.
GRACE_S = 5.0
# Ansible would read an operator's cards, which are beside hosts.yml, as parts of the inventory.
IGNORED, CARDS = "ANSIBLE_INVENTORY_IGNORE_REGEX", "^(models|hardware)$"
POLL_S = 0.25
# How long a run that failed may take to give its lock back.
RELEASE_S = 60.0


def run(
    playbook: str | Path,
    inventory: str | Path | Sequence[str | Path],
    *,
    extra_vars: ExtraVars | None = None,
    limit: Words | None = None,
    tags: Words | None = None,
    skip_tags: Words | None = None,
    check: bool = False,
    diff: bool = False,
    verbosity: int = 0,
    forks: int | None = None,
    connection_password: str | None = None,
    connection_password_file: str | Path | None = None,
    become_password: str | None = None,
    become_password_file: str | Path | None = None,
    vault_password: str | None = None,
    vault_password_file: str | Path | None = None,
    timeout_s: float | None = None,
    on_event: Callable[[Event], None] | None = None,
    cancel: threading.Event | None = None,
    project_dir: Path | None = None,
    keep: bool = False,
    record: bool = True,
) -> Result:
    """Run one playbook and wait for its end. Runs in parallel threads do not disturb each other.

    playbook: a verb (`site`, `plan`, …: a file of `playbooks/`) or a path.
    inventory: path or paths, or a list of hosts with a comma in it.
    extra_vars: variables, or mappings and paths of YAML files in the order in which they override each other.
    limit, tags, skip_tags: one, several with commas, or a sequence of them.
    on_event: called with each event while the run goes on; what it raises ends the run and is raised here.
    cancel: set it to end the run. In the main thread SIGINT, SIGTERM and SIGHUP do the same.
    project_dir: directory with `playbooks/` and `ansible.cfg` (default: checkout or installed collection).
    keep: do not remove `Result.private_dir`.
    record: keep the events for `Result.events`; without, they go to `on_event` only.

    Raises:
        RefusedError: no such playbook, inventory or file, or no Ansible; nothing was started.
        TypeError: an argument is of another type; nothing was started.
    """
    _check_types(locals())
    variables = _variables(extra_vars)
    chosen = _chosen({"--limit": limit, "--tags": tags, "--skip-tags": skip_tags}, forks)
    passwords: Passwords = {
        "--connection-password-file": (connection_password, connection_password_file),
        "--become-password-file": (become_password, become_password_file),
        "--vault-password-file": (vault_password, vault_password_file),
    }
    inventories = [inventory] if isinstance(inventory, str | Path) else list(inventory)
    root = project_dir or project_root()
    files = [item for item in variables if isinstance(item, Path)]
    files += [Path(file) for password, file in passwords.values() if file is not None and password is None]
    command = _checked_command(playbook, root, inventories, files)

    private = Path(tempfile.mkdtemp(prefix="wideep-run-"))
    secrets = private / "secrets"
    secrets.mkdir(mode=0o700)
    options = _given_in_files(secrets, variables, passwords)
    for option, text in chosen.items():
        options += [option, text]
    options += ["--check"] * check + ["--diff"] * diff + ["-" + "v" * verbosity] * bool(verbosity)

    tally = Tally()
    stop = _Stop(cancel, timeout_s)

    def handle(event: Event) -> bool:
        stop.pid = event.get("pid", stop.pid)
        tally.add(event)
        if on_event and "stdout" in event and stop.error is None:
            try:
                on_event(event)
            except BaseException as error:  # noqa: BLE001  raised again below, when nothing runs any more
                stop.error = error
        return record

    # Imported late: `wideep --help` need not wait for it.
    from ansible_runner.interface import init_runner  # noqa: PLC0415

    started = time.monotonic()
    try:
        runner = init_runner(
            private_data_dir=str(private),
            ident="run",
            binary=command[0],
            cmdline=shlex.join([*options, *command[1:]]),
            project_dir=str(Path.cwd()),
            envvars={**_environment(root), "ANSIBLE_LOCAL_TEMP": str(private / "tmp")},
            fact_cache_type="",  # that of ansible.cfg
            suppress_env_files=True,
            quiet=True,
            event_handler=handle,
            cancel_callback=stop,
        )
        if "ANSIBLE_HOST_KEY_CHECKING" not in os.environ:
            del runner.config.env["ANSIBLE_HOST_KEY_CHECKING"]  # ansible-runner turns the check off
        runner.config.pexpect_timeout = POLL_S  # settings=… is ignored without a settings file
        with _signals(stop):
            runner.run()
    finally:
        shutil.rmtree(secrets)
        (private / "artifacts" / "run" / "command").unlink(missing_ok=True)  # it has our environment
        events = Events(private / "artifacts" / "run" / "job_events")
        if not keep:
            weakref.finalize(events, shutil.rmtree, private, ignore_errors=True)
    _give_back(tally.lock, stop.reason or "failed", (root, inventory, variables, passwords))
    if stop.error is not None:
        raise stop.error
    failures = tally.failures
    status: Status = stop.reason or ("successful" if runner.rc == 0 else "failed")
    if status == "failed" and not failures:
        failures = [tally.ansible_error()]
    return Result(
        rc={"timeout": 124, "canceled": 130}.get(status, runner.rc),
        status=status,
        stats=tally.stats(),
        failures=tuple(failures),
        data=tally.data,
        duration_s=time.monotonic() - started,
        events=events,
        private_dir=private,
    )


def _give_back(lock: str, outcome: str, of: tuple[Path, Any, Sequence[Any], Passwords]) -> None:
    """Give the lock of a run back that ended before it could: its process is gone, the next may begin.

    lock: the run that has it, empty for none. of: root, inventory, variables and passwords of the run.
    Where that fails too, the next run on this machine sees by itself that the process is gone.
    """
    if not lock:
        return
    root, inventory, variables, passwords = of
    told = {"_unlock_run": lock, "_unlock_told": {"outcome": outcome, "ended": now()}}
    given: dict[str, Any] = {}
    for option, (password, file) in passwords.items():
        name = option.removeprefix("--").removesuffix("-file").replace("-", "_")
        given |= {name: password, f"{name}_file": file}
    run(
        root / "playbooks" / "plays" / "release.yml",
        inventory,
        extra_vars=[*variables, told],
        timeout_s=RELEASE_S,
        project_dir=root,
        record=False,
        **given,
    )


class _Stop:
    """Tells ansible-runner, which asks every POLL_S, whether to kill ansible-playbook now.

    Before that it gets SIGTERM, which Ansible passes on to its workers and they to the sessions that they
    lead. SIGINT would miss what a shell runs in the background.
    """

    def __init__(self, cancel: threading.Event | None, timeout_s: float | None) -> None:
        self.reason: Literal["timeout", "canceled"] | None = None
        self.error: BaseException | None = None
        self.pid: int | None = None
        self.signals = 0
        self._cancel = cancel
        self._deadline = time.monotonic() + timeout_s if timeout_s is not None else float("inf")
        self._kill_at = float("inf")

    def __call__(self) -> bool:
        if self.reason is None:
            if self.signals or self.error or (self._cancel and self._cancel.is_set()):
                self.reason = "canceled"
            elif time.monotonic() >= self._deadline:
                self.reason = "timeout"
            else:
                return False
            if self.pid is None:  # no event yet, so no worker either
                return True
            self._kill_at = time.monotonic() + GRACE_S
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
        if self.signals < 2 and time.monotonic() < self._kill_at:
            return False
        self._kill_workers()
        return True

    def _kill_workers(self) -> None:
        """Kill the sessions of Ansible's workers, which the kill of ansible-playbook's own would miss."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        for worker in children.read_text().split() if children.exists() else ():
            with suppress(ProcessLookupError):
                os.killpg(int(worker), signal.SIGKILL)


@contextmanager
def _signals(stop: _Stop) -> Iterator[None]:
    """Let the first signal end the run, the second kill it; only the main thread may set handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def count(_number: int, _frame: FrameType | None) -> None:
        stop.signals += 1

    before = {s: signal.signal(s, count) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _given_in_files(
    secrets: Path,
    variables: Sequence[Mapping[str, Any] | Path],
    passwords: Passwords,
) -> list[str]:
    """Return the options for variables and passwords, none of which is on a command line."""
    options: list[str] = []
    for item in variables:
        path = _secret(secrets, json.dumps(dict(item), default=str)) if isinstance(item, Mapping) else item
        options += ["-e", f"@{path.absolute()}"]
    for option, (password, given) in passwords.items():
        file = _secret(secrets, password + "\n") if password is not None else given
        if file is not None:
            options += [option, str(Path(file).absolute())]
    return options


def _variables(given: ExtraVars | None) -> list[Mapping[str, Any] | Path]:
    """Return mappings and paths in their order. Raises TypeError for anything else."""
    items: list[Any] = [given] if isinstance(given, Mapping | str | bytes | Path) else list(given or ())
    for item in items:
        if not isinstance(item, Mapping | Path):
            raise TypeError(
                f"extra_vars has {item!r}, a {type(item).__name__}: give a mapping of variables, the"
                " pathlib.Path of a YAML file, or a sequence of these"
            )
    return items


# Argument of `run` -> the types that it may have, and what to give.
_PATH = str | Path
_TYPES: dict[str, tuple[Any, str]] = {
    "playbook": (_PATH, "a verb, or a path"),
    "check": (bool, "True or False"),
    "diff": (bool, "True or False"),
    "verbosity": (int, "a number of -v"),
    "forks": (int | None, "a number of hosts"),
    "timeout_s": (int | float | None, "a number of seconds"),
    "project_dir": (Path | None, "a pathlib.Path"),
    "connection_password": (str | None, "a text"),
    "become_password": (str | None, "a text"),
    "vault_password": (str | None, "a text"),
    "connection_password_file": (_PATH | None, "a path"),
    "become_password_file": (_PATH | None, "a path"),
    "vault_password_file": (_PATH | None, "a path"),
}


def _check_types(given: Mapping[str, Any]) -> None:
    """Raise TypeError where an argument of `run` is of another type; never with the value of a password."""
    for name, (kind, wanted) in _TYPES.items():
        value = given[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            shown = "of another type" if name.endswith("_password") else f"{value!r}"
            raise TypeError(f"{name} is {shown}, a {type(value).__name__}: give {wanted}")
    inventory = given["inventory"]
    items = [inventory] if isinstance(inventory, str | Path) else inventory
    if not isinstance(items, Sequence) or not all(isinstance(item, str | Path) for item in items):
        raise TypeError(f"inventory is {inventory!r}: give a path, hosts as 'a,b,', or a sequence of paths")


def _chosen(words: Mapping[str, Words | None], forks: int | None) -> dict[str, str]:
    """Return the options of ansible-playbook that are given, with their texts. Raises TypeError."""
    chosen = {option: _joined(option, given) for option, given in words.items() if given is not None}
    return chosen if forks is None else {**chosen, "--forks": str(forks)}


def _joined(option: str, given: Words) -> str:
    """Return one text with commas. Raises TypeError for anything but text or a sequence of texts."""
    words = [given] if isinstance(given, str) else given
    if not isinstance(words, Sequence) or not all(isinstance(word, str) for word in words):
        name = option.removeprefix("--").replace("-", "_")
        raise TypeError(f"{name} is {given!r}: give a text, or a sequence of texts")
    return ",".join(words)


def project_root() -> Path:
    try:
        return collection_root()
    except FileNotFoundError as error:
        raise RefusedError([Problem("no playbooks", "collection wideep.dynamo", str(error))]) from error


def _checked_command(
    playbook: str | Path, root: Path, inventories: Sequence[str | Path], files: Sequence[Path]
) -> list[str]:
    """Return argv without options: ansible-playbook, inventories, playbook. Raises RefusedError."""
    problems: list[Problem] = []
    program = Path(sys.executable).with_name("ansible-playbook")
    found = str(program) if program.is_file() else shutil.which("ansible-playbook")
    if found is None:
        problems.append(
            Problem("not found", "ansible-playbook", f"install ansible-core beside {sys.executable}")
        )

    path = Path(playbook)
    if isinstance(playbook, str) and path.name == playbook and not path.suffix:
        path = root / "playbooks" / f"{playbook}.yml"
        known = [file.stem for file in path.parent.glob("*.yml")]
        if not known:
            remedy = "name a checkout of the project or its installed collection"
            problems.append(Problem("no playbooks there", str(path.parent), remedy))
        elif playbook not in known:
            problems.append(Problem(f"unknown verb {playbook!r}", str(path.parent), suggest(playbook, known)))
    elif not path.is_file():
        problems.append(Problem("no such playbook", str(path), "name a playbook file or a verb"))

    problems += yaml_problems(path for path in inventories if Path(path).exists())
    arguments: list[str] = []
    for inventory in inventories:
        if isinstance(inventory, str) and "," in inventory:
            arguments += ["-i", inventory]
            continue
        if not Path(inventory).exists():
            remedy = "name an inventory directory or file, or hosts as 'a,b,'"
            problems.append(Problem("no such inventory", str(inventory), remedy))
        arguments += ["-i", str(Path(inventory).absolute())]
    if not inventories:
        problems.append(Problem("none given", "inventory", "name an inventory directory or file"))
    missing = [file for file in files if not file.is_file()]
    problems += [Problem("no such file", str(file), "correct the path") for file in missing]
    if problems or found is None:
        raise RefusedError(problems)
    return [found, *arguments, str(path.absolute())]


def _secret(directory: Path, content: str) -> Path:
    descriptor, name = tempfile.mkstemp(dir=directory)  # mode 0600
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(content)
    return Path(name)


def _environment(root: Path) -> dict[str, str]:
    """Return what ansible-playbook gets beside our own environment, which stays as it is."""
    programs = str(Path(sys.executable).parent)
    environment = {
        "PATH": os.pathsep.join([programs, os.environ.get("PATH", os.defpath)]),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_FORCE_COLOR": "0",
    }
    config = root / "ansible.cfg"
    if config.is_file() and not (_own_config() if _installed(root) else os.environ.get("ANSIBLE_CONFIG")):
        environment["ANSIBLE_CONFIG"] = str(config.absolute())
    if _installed(root):
        directories = (root.parents[2], *collections_paths())
        environment["ANSIBLE_COLLECTIONS_PATH"] = os.pathsep.join(map(str, dict.fromkeys(directories)))
    if "ANSIBLE_CONFIG" not in environment or IGNORED in os.environ:  # our own ansible.cfg has it
        environment[IGNORED] = ",".join([*_ignored_in_inventories(), CARDS])
    return environment


def _ignored_in_inventories() -> list[str]:
    """Return what the operator has Ansible pass over in an inventory's directory."""
    from ansible.constants import config  # noqa: PLC0415

    configured = config.get_config_value("INVENTORY_IGNORE_PATTERNS")
    return [str(pattern) for pattern in configured or () if pattern != CARDS]


def default_inventory() -> list[str]:
    """Return what `ansible-playbook` would take for an installed collection, else the local deployment's."""
    root = project_root()
    if _installed(root):
        from ansible.constants import config  # noqa: PLC0415

        configured, origin = config.get_config_value_and_origin("DEFAULT_HOST_LIST")
        if origin != "default":
            return [str(path) for path in configured]
    return [str(root / "inventories" / "local")]


def _installed(root: Path) -> bool:
    return root.parts[-3:] == COLLECTION.parts


def _own_config() -> bool:
    """Whether Ansible finds an ansible.cfg by itself, here or of the user or the machine."""
    from ansible.config.manager import find_ini_config_file  # noqa: PLC0415  as late as ansible-runner

    return find_ini_config_file() is not None
