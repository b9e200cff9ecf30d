"""Services under systemd: units, environment files, log rotation; one systemctl for many units.

A launch whose command is `podman run` becomes a Quadlet unit where podman has them (4.4 and newer): podman's
generator makes the service of the same name from it.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.wideep.dynamo.plugins.module_utils import process
from ansible_collections.wideep.dynamo.plugins.module_utils.launch import Launch, service_dir
from ansible_collections.wideep.dynamo.plugins.module_utils.status import ServiceError, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ansible_collections.wideep.dynamo.plugins.module_utils.files import Files

_STATES = {
    "active": "running",
    "activating": "starting",
    "reloading": "running",
    "deactivating": "stopping",
    "inactive": "stopped",
    "failed": "failed",
}
_PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,MainPID,NRestarts,Result,ExecMainStatus,NeedDaemonReload,UnitFileState"
)
_HOMES = ("/home/", "/root/", "/run/user/")

# Every service: nothing that an engine needs with GPUs, RDMA devices, pinned memory, /dev/shm and a JIT
# compiler is taken away. No ProtectClock: it closes /dev but for a list.
_HARDENING = """\
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths={writable}
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectHostname=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
"""
# nats, etcd, frontend, load balancer: plain network servers.
_HARDENING_CONTROL = """\
PrivateDevices=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
CapabilityBoundingSet={capabilities}
"""

# Options of `podman run` that are keys of Quadlet since its first release; all others go through PodmanArgs.
_QUADLET_KEYS = {
    "--name": "ContainerName",
    "--network": "Network",
    "--device": "AddDevice",
    "--cap-add": "AddCapability",
    "--volume": "Volume",
    "--env-file": "EnvironmentFile",
}
# Quadlet gives these itself.
_QUADLET_OWN = ("--rm", "--replace")
# Lines of a plain unit that Quadlet writes itself, or that are about podman's own files.
_QUADLET_SERVICE = re.compile(r"^(Type|ExecStart|KillMode|Delegate|UMask)=.*\n", re.MULTILINE)

_UNIT = """\
# Made by wideep: changes here are overwritten.
[Unit]
Description={description}
Wants=network-online.target{wants}
After=network-online.target{wants}
# Never give up.
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart={command}
{cleanup}WorkingDirectory={working_directory}
{environment_files}{user}Restart=always
{restart}TimeoutStopSec={stop_timeout_s}
{stop_signal}KillMode=mixed
UMask=0077
LimitNOFILE={open_files}
{memlock}StandardOutput=append:{log_file}
StandardError=append:{log_file}
{hardening}
[Install]
WantedBy=multi-user.target
"""

_LOGROTATE = """\
# Made by wideep: changes here are overwritten.
{log_file} {{
    size {log_max_mb}M
    rotate {log_backups}
    copytruncate
    missingok
    notifempty
}}
"""


class Systemd:
    """The units `<deployment>-<service>.service` of one deployment."""

    kind = "systemd"
    units = Path("/etc/systemd/system")
    containers = Path("/etc/containers/systemd")
    # It comes with podman and makes services of what lies in `containers`.
    generator = Path("/usr/lib/systemd/system-generators/podman-system-generator")
    logrotate = Path("/etc/logrotate.d")

    def __init__(
        self,
        state_dir: str,
        deployment: str,
        hardening: bool = True,
        log_max_mb: int = 50,
        log_backups: int = 5,
    ) -> None:
        self.state_dir = state_dir
        self.deployment = deployment
        self.hardening = hardening
        self.log_max_mb = log_max_mb
        self.log_backups = log_backups
        self._version: int | None = None

    def unit(self, name: str) -> str:
        return f"{self.deployment}-{name}.service"

    # What lies on disk

    def configure(self, files: Files, launches: Mapping[str, Launch]) -> None:
        """Write unit, environment file and log rotation of each launch."""
        version = self.version() if launches else 0
        for name, launch in launches.items():
            environment = service_dir(self.state_dir, name) / "environment"
            text = render_environment(launch, self.state_dir)
            before = environment.read_text() if environment.is_file() else ""
            files.file(environment, text, 0o600, shown=(before, text))
            files.file(self.logrotate / f"{self.deployment}-{name}", self.render_logrotate(launch))
        others = len(files.changes)
        for launch in launches.values():
            self._configure_unit(files, launch, version)
        # Also where nothing restarts: the command of ExecStopPost may be another one now.
        if len(files.changes) > others and not files.check:
            self._systemctl("daemon-reload")

    def _configure_unit(self, files: Files, launch: Launch, version: int) -> None:
        plain, container = self.units / self.unit(launch["name"]), self._container(launch["name"])
        # Quadlet takes an empty word for the end of the command.
        whole = _podman(launch) and launch["argv"][0] == "podman" and all(launch["argv"])
        if whole and self.generator.exists():
            files.directory(self.containers, 0o755, keep_mode=True)
            files.file(container, self.render_container(launch, version))
            # It would win over the generated one.
            files.remove(self.units / "multi-user.target.wants" / plain.name)
            files.remove(plain)
        else:
            files.file(plain, self.render_unit(launch, version))
            files.remove(container)

    def _container(self, name: str) -> Path:
        return (self.containers / self.unit(name)).with_suffix(".container")

    def render_container(self, launch: Launch, version: int) -> str:
        """Return the Quadlet unit: the plain unit, with podman's command in keys."""
        text = _QUADLET_SERVICE.sub("", self.render_unit(launch, version))
        return text.replace("[Service]\n", f"[Container]\n{quadlet(launch['argv'])}\n[Service]\n", 1)

    def render_unit(self, launch: Launch, version: int) -> str:
        """Return the unit for a systemd of that version (back-off between restarts came with 254)."""
        wants = "".join(f" {self.unit(other)}" for other in launch["depends_on"])
        cleanup = launch.get("cleanup") or []
        slower = "RestartSec=1\nRestartSteps=6\nRestartMaxDelaySec=60\n"
        return _UNIT.format(
            description=_line(launch["description"]).replace("%", "%%"),
            wants=wants,
            command=" ".join(_argument(word) for word in _command(launch)),
            # The minus: its failure does not matter.
            cleanup=f"ExecStopPost=-{' '.join(map(_argument, cleanup))}\n" if cleanup else "",
            working_directory=_path(launch["working_directory"]),
            environment_files="".join(
                f"EnvironmentFile={_path(str(path))}\n"
                for path in [
                    # What a later file says counts; the plan refuses a name that is in both.
                    service_dir(self.state_dir, launch["name"]) / "environment",
                    *(launch.get("env_files") or []),
                ]
            ),
            user=f"User={launch['user']}\n" if launch["user"] else "",
            # A load balancer loads nothing, and while it is away nobody is served.
            restart=slower
            if version >= 254
            else f"RestartSec={1 if launch['component'] == 'load_balancer' else 5}\n",
            stop_timeout_s=launch["stop_timeout_s"],
            stop_signal=_stop_signal(launch),
            open_files=launch["open_files"],
            memlock="LimitMEMLOCK=infinity\n" if launch["lock_memory"] else "",
            log_file=_path(launch["log_file"]),
            hardening=("Delegate=yes\n" if _podman(launch) else "")
            + (self._render_hardening(launch) if self.hardening else ""),
        )

    def _render_hardening(self, launch: Launch) -> str:
        if _podman(launch):  # the container itself is closed; podman needs the host
            return ""
        outside = {path for path in launch["directories"] if not path.startswith(f"{self.state_dir}/")}
        writable = [self.state_dir, *sorted(outside)]
        text = _HARDENING.format(writable=" ".join(_argument(path) for path in writable))
        if not _uses_home(launch, self.state_dir):
            text += "ProtectHome=yes\n"
        if launch["component"] != "worker":
            low = any(listener["port"] < 1024 for listener in launch["ports"])
            text += _HARDENING_CONTROL.format(capabilities="CAP_NET_BIND_SERVICE" if low else "")
            if low and launch["user"]:
                text += "AmbientCapabilities=CAP_NET_BIND_SERVICE\n"
        return text

    def render_logrotate(self, launch: Launch) -> str:
        # systemd keeps the file open for appending: it is copied and cut, not moved.
        return _LOGROTATE.format(
            log_file=launch["log_file"], log_max_mb=self.log_max_mb, log_backups=self.log_backups
        )

    def unconfigure(self, files: Files, names: Iterable[str]) -> None:
        """Remove units and rotation of services that are stopped."""
        names = sorted(names)
        plain = [self.unit(name) for name in names if (self.units / self.unit(name)).exists()]
        units = plain + [self.unit(name) for name in names if self._container(name).exists()]
        if plain and not files.check:
            self._systemctl("disable", "--quiet", *plain)
        for name in names:
            files.remove(self.units / self.unit(name))
            files.remove(self._container(name))
            files.remove(self.logrotate / f"{self.deployment}-{name}")
        if units and not files.check:
            self._systemctl("daemon-reload")
            self._systemctl("reset-failed", *units, check=False)

    # What runs

    def version(self) -> int:
        if self._version is None:
            found = re.match(r"systemd (\d+)", self._systemctl("--version", check=False))
            self._version = int(found.group(1)) if found else 0
        return self._version

    def _show(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        by_unit = {self.unit(name): name for name in names}
        if not by_unit:
            return {}
        text = self._systemctl("show", f"--property={_PROPERTIES}", *by_unit)
        blocks = [
            dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            for block in text.split("\n\n")
        ]
        return {by_unit[block["Id"]]: block for block in blocks if block.get("Id") in by_unit}

    def status(self, names: Iterable[str]) -> dict[str, Status]:
        return {name: self._status(block) for name, block in self._show(names).items()}

    def _status(self, block: dict[str, str]) -> Status:
        if block["LoadState"] == "not-found":
            return Status("absent", 0, None, "not configured")
        state = _STATES.get(block["ActiveState"], "failed")
        if block["SubState"].startswith("auto-restart"):
            state = "failed"
        detail = ""
        if state == "failed":
            detail = f"ended: {block['Result']}, status {block['ExecMainStatus']}"
        return Status(state, process.inside(int(block["MainPID"])), int(block["NRestarts"] or 0), detail)

    def owned(self, names: Iterable[str]) -> set[int]:
        """Return the processes in the units' control groups."""
        units = {self.unit(name) for name in names}
        found = set()
        for pid in process.pids():
            try:
                groups = Path(f"/proc/{pid}/cgroup").read_text()
            except OSError:
                continue
            if units & set(re.split(r"[/\n]", groups)):
                found.add(pid)
        return found

    def prepare(self) -> list[str]:
        return []

    def start(self, launches: Mapping[str, Launch]) -> None:
        """Start services that do not run, and at every boot; systemd orders them. Health comes later."""
        blocks = self._show(launches)
        if any(
            block["NeedDaemonReload"] == "yes" or block["LoadState"] == "not-found"
            for block in blocks.values()
        ):
            self._systemctl("daemon-reload")
        units = [self.unit(name) for name in launches]
        # A generated unit has its [Install] section obeyed by its generator.
        disabled = [
            self.unit(name)
            for name, block in blocks.items()
            if block["UnitFileState"] != "enabled" and not self._container(name).exists()
        ]
        if disabled:
            self._systemctl("enable", "--quiet", *disabled)
        self._systemctl("reset-failed", *units, check=False)
        self._systemctl("start", "--no-block", *units)

    def stop(self, launches: Mapping[str, Launch]) -> None:
        """Stop services, all at once, and wait until they are gone; systemd sends SIGKILL in time."""
        allowed = max((launch["stop_timeout_s"] for launch in launches.values()), default=0) + 15
        self._systemctl("stop", *(self.unit(name) for name in launches), timeout=allowed)

    def not_at_boot(self, launches: Mapping[str, Launch]) -> None:
        """Let services stay stopped at the next boot; `start` takes that back."""
        units = [self.unit(name) for name in launches if (self.units / self.unit(name)).exists()]
        if units:
            self._systemctl("disable", "--quiet", *units)

    def _systemctl(self, *arguments: str, check: bool = True, timeout: float = 60) -> str:
        command = ["systemctl", "--no-pager", *arguments]
        try:
            done = subprocess.run(
                command,
                env={**os.environ, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except FileNotFoundError as problem:
            raise ServiceError(
                "systemctl is missing on this host; set wideep_service_manager to supervisord"
            ) from problem
        except subprocess.TimeoutExpired as problem:
            raise ServiceError(f"{' '.join(command)}: no end after {timeout} s") from problem
        if check and done.returncode:
            raise ServiceError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
        return done.stdout


def quadlet(argv: Sequence[str]) -> str:
    """Return the keys of [Container] for `podman run --option=value… IMAGE COMMAND…`.

    Raises ValueError when there is no image behind the options, each of which is one word.
    """
    words = list(argv[2:])
    place = next((at for at, word in enumerate(words) if not word.startswith("--")), None)
    if place is None:
        raise ValueError(f"no image in {' '.join(argv)}")
    lines = [f"Image={_path(words[place])}"]
    for option in words[:place]:
        name, _, value = option.partition("=")
        if name in _QUADLET_OWN:
            continue
        if name in _QUADLET_KEYS:
            lines.append(f"{_QUADLET_KEYS[name]}={_path(value)}")
        else:
            lines.append(f"PodmanArgs={_argument(option)}")
    if words[place + 1 :]:
        lines.append(f"Exec={' '.join(map(_argument, words[place + 1 :]))}")
    return "\n".join(lines) + "\n"


def _stop_signal(launch: Launch) -> str:
    """Return the line for a service that does not finish on SIGTERM; older launches have no such field."""
    name = launch.get("stop_signal") or "SIGTERM"
    return "" if name == "SIGTERM" else f"KillSignal={name}\n"


def _podman(launch: Launch) -> bool:
    return Path(launch["argv"][0]).name == "podman" and list(launch["argv"][1:2]) == ["run"]


def _command(launch: Launch) -> list[str]:
    """Return the command; a container stays in the unit's control group and ends with it."""
    argv = list(launch["argv"])
    return [*argv[:2], "--cgroups=split", *argv[2:]] if _podman(launch) else argv


def render_environment(launch: Launch, state_dir: str) -> str:
    """Return the EnvironmentFile: values in double quotes, with \\ before \\, ", $ and `."""
    lines = []
    for key, value in sorted(process.service_environment(launch, state_dir).items()):
        quoted = re.sub(r'([\\"$`])', r"\\\1", value)
        lines.append(f'{key}="{quoted}"\n')
    return "".join(lines)


def _uses_home(launch: Launch, state_dir: str) -> bool:
    """Whether anything that the service names lies in a home (also where its program's links lead)."""
    texts = [state_dir, *launch["argv"], *launch["env"].values(), *launch["directories"]]
    texts += [launch["working_directory"], os.path.realpath(launch["argv"][0])]
    texts += [file["path"] for file in launch["files"]]
    return any(home in text for text in texts for home in _HOMES)


def _line(text: str) -> str:
    return " ".join(text.split())


def _argument(word: str) -> str:
    """Quote for ExecStart and lists of paths: no variable, no specifier, no C escape is taken for one."""
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    word = word.replace("%", "%%").replace("$", "$$")
    return f'"{word}"' if not word or re.search(r"[\s\\\"';]", word) else word


def _path(path: str) -> str:
    return path.replace("%", "%%")
