"""Dynamo's processes in containers: a Launch becomes one whose command is podman's, with the same places.

The state directory has the same path inside, the network and the processes' identity are the host's. So
addresses, files, health and logs of a launch stay as they are, and nothing else knows about containers. On
systemd hosts a Quadlet unit is made of the same command (module_utils/systemd.py).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath

from wideep.deployment import tls
from wideep.deployment.launch import Launch
from wideep.deployment.model import Deployment
from wideep.deployment.site import Site
from wideep.engines.base import Engine
from wideep.inventory.settings import Settings
from wideep.problems import Problem

# What a service manager adds to every service (module_utils/process.py), by which it is found again.
MARKS = ("WIDEEP_DIGEST", "WIDEEP_SERVICE", "WIDEEP_STATE_DIR")
# podman reads its own environment: what would lead it astray is given by value, to the container alone.
OF_PODMAN = ("HOME", "PATH", "LD_", "XDG_", "CONTAINER", "STORAGE_", "REGISTRY_", "TMPDIR", "DOCKER_")
# podman needs a little longer than what it stops.
STOP_MARGIN_S = 10
# Options that the plan sets, or that would take a container out of its service manager's hands.
OWN_OPTIONS = (
    *("name", "replace", "rm", "detach", "network", "ipc", "shm-size", "ulimit", "log-driver", "entrypoint"),
    *(
        "env",
        "user",
        "pull",
        "workdir",
        "stop-timeout",
        "stop-signal",
        "sig-proxy",
        "cgroups",
        "init",
        "volume",
    ),
)
# What lets a process import memory of another host's GPU over NVLink.
IMEX_CHANNELS = "/dev/nvidia-caps-imex-channels"
# Shared memory of one worker's processes, as the official images are run with: bytes.
ENGINE_SHM = 10 * 10**9
SIZE = re.compile(r"(\d+)([bkmg]?)", re.IGNORECASE)
UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30}
PIN = "podman pull {0} && podman image inspect --format '{{{{.Digest}}}}' {0}"


def container_name(deployment: str, state_dir: str, service: str) -> str:
    """Return a name that no other deployment of the host has, not even one of the same name."""
    return f"{deployment}-{service}-{hashlib.sha256(state_dir.encode()).hexdigest()[:8]}"


def image_of(deployment: Deployment, engine: Engine) -> str:
    """Return the image that containers run: the one that is named, else the release's official one."""
    settings = deployment.settings
    return settings.image or deployment.release.images.get(engine.image(settings), "")


def wrap(site: Site, launch: Launch, image: str) -> Launch:
    """Return the launch with `podman run` around its command. No value of a secret is in it.

    Every option is one word, `--name=value`: the first word without dashes after `run` is the image. GPUs are
    those that the launch names in CUDA_VISIBLE_DEVICES; inside they count from 0.
    """
    settings = site.deployment.settings
    container = settings.container
    env = dict(launch.env)
    gpus = [gpu for gpu in env.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    if gpus:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(str(number) for number in range(len(gpus)))
    private = {k: v for k, v in env.items() if k.startswith(OF_PODMAN)}
    names = sorted({*env, *MARKS} - set(private))

    options = [
        f"--name={container_name(settings.deployment, site.state_dir, launch.name)}",
        "--replace",  # one that outlived its podman
        "--rm",
        "--pull=never",  # the role dynamo pulls: no start of a service waits for a registry
        "--network=host",
        "--log-driver=passthrough",
        # The limits that the service manager sets.
        "--ulimit=host",
        # Root inside is who runs podman, and who owns the state directory.
        "--user=0:0",
        # Files and devices are shared with the host's own services: relabelling them would break these.
        "--security-opt=label=disable",
        "--security-opt=no-new-privileges",
        "--stop-signal=SIGTERM",
        f"--stop-timeout={launch.stop_timeout_s}",
        f"--workdir={launch.working_directory}",
        f"--entrypoint={launch.argv[0]}",
    ]
    if container.init:
        options.append("--init")
    if launch.component == "worker":
        options.append("--ipc=host" if container.shm == "host" else f"--shm-size={container.shm}")
    options += [f"--device=nvidia.com/gpu={gpu}" for gpu in gpus]
    if gpus and site.host.network.link != "none":
        options.append("--device=/dev/infiniband")
    card = site.host.card
    if gpus and card and card.multi_node_nvlink:
        options.append(f"--device={IMEX_CHANNELS}")
    if launch.lock_memory:
        options.append("--cap-add=IPC_LOCK")
    if launch.shares_descriptors:
        options.append("--cap-add=SYS_PTRACE")
    options += [f"--volume={mount}" for mount in _mounts(site, launch)]
    options += [f"--env={name}={value}" for name, value in sorted(private.items())]
    options += [f"--env-file={path}" for path in launch.env_files]
    options += [f"--env={name}" for name in names]
    options += container.options
    return replace(
        launch,
        argv=(container.program, "run", *options, image, *launch.argv[1:]),
        env={name: value for name, value in env.items() if name not in private},
        stop_timeout_s=launch.stop_timeout_s + STOP_MARGIN_S,
    )


def _mounts(site: Site, launch: Launch) -> Iterator[str]:
    yield f"{site.state_dir}:{site.state_dir}"
    inside = [PurePosixPath(site.state_dir)]
    outside = sorted({*launch.directories, *(str(PurePosixPath(file.path).parent) for file in launch.files)})
    for path in map(PurePosixPath, outside):
        if not any(path.is_relative_to(known) for known in inside):
            inside.append(path)
            yield f"{path}:{path}"
    model = PurePosixPath(site.model_path)
    if launch.component == "worker" and not any(model.is_relative_to(known) for known in inside):
        inside.append(model)
        yield f"{model}:{model}:ro"
    for path in map(PurePosixPath, launch.reads):
        if not any(path.is_relative_to(known) for known in inside):
            inside.append(path)
            yield f"{path}:{path}:ro"
    for file in map(PurePosixPath, tls.files(site.deployment.settings, launch.component)):
        if not any(file.is_relative_to(known) for known in inside):
            yield f"{file}:{file}:ro"
    yield from site.deployment.settings.container.mounts


def check(deployment: Deployment, engine: Engine) -> list[Problem]:
    """Return what is wrong with the image, and with variables that do not go together with containers."""
    settings = deployment.settings
    if not settings.in_container:
        unused = settings.image and not settings.on_kubernetes
        remedy = "set wideep_runtime: container, or remove wideep_image"
        return [Problem("nothing runs this image", "wideep_image", remedy, "warning")] if unused else []
    problems = list(_image(image_of(deployment, engine)))
    if settings.service_user:
        problems.append(
            Problem(
                "containers run for the account that Ansible acts as, whatever user is named",
                "wideep_service_user",
                "remove it, with wideep_runtime: container",
            )
        )
    if not engine.simulated:
        problems += _shared_memory(settings)
    problems += [
        Problem(
            "no interpreter of the host runs Dynamo in containers",
            f"wideep_python on host {host.name}",
            "remove it; the image's is wideep_container.python",
            "warning",
        )
        for host in deployment.hosts
        if host.python
    ]
    problems += [
        Problem("the plan sets it", "wideep_container.options", f"remove {option}")
        for option in settings.container.options
        if option.removeprefix("--").partition("=")[0] in OWN_OPTIONS
    ]
    return problems


def _shared_memory(settings: Settings) -> Iterator[Problem]:
    """Judge a container's own shared memory; `host` is judged on the hosts, by preflight."""
    size = SIZE.fullmatch(settings.container.shm)
    if size is None:
        return
    if int(size[1]) * UNITS[size[2].lower()] < ENGINE_SHM:
        yield Problem(
            f"an engine's processes share more than {settings.container.shm}; a full one is a bus error",
            "wideep_container.shm",
            f"set it to {ENGINE_SHM // 10**9}g or more, or to host",
        )


def _image(image: str) -> Iterator[Problem]:
    name, _, digest = image.partition("@")
    if digest and ":" in name.rpartition("/")[2]:
        yield Problem(
            "podman takes a tag or a digest, not both",
            "wideep_image",
            f"write {name.rpartition(':')[0]}@{digest}",
        )
    elif not digest and not image.startswith("sha256:"):
        yield Problem(
            f"the tag of {image} may name another image tomorrow, and another one on each host",
            "wideep_image",
            f"name it by its digest: {PIN.format(image)}, then {image.rpartition(':')[0] or image}@sha256:…",
            "warning",
        )
