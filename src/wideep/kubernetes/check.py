"""What a cluster, its API or the Dynamo operator would refuse, said before anything is sent.

The operator's behaviour was read in its sources around release 1.4; it has not been run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import PurePosixPath

from wideep.deployment.launch import Launch
from wideep.deployment.model import POD_ADDRESS, Deployment, Pool
from wideep.engines.base import Engine
from wideep.inventory.kubernetes import KubernetesSettings, PodAdditions
from wideep.inventory.model_source import weights_gb
from wideep.kubernetes import beside
from wideep.kubernetes.site import OPERATOR_ENV
from wideep.problems import Problem

WHERE = "wideep_kubernetes"
# Grove builds a pod's name from those of graph, component and role, and leaves so many characters for them.
# Of a longer one the operator keeps the beginning, and adds a digest (dynamo/graph.go, PCSNameForDGD).
GROVE_NAMES = 45
ROLE_SUFFIX = "-ldr"
GPU = "nvidia.com/gpu"
# Keys of labels and annotations that say whose pods they are.
RESERVED = ("wideep.dynamo/", "nvidia.com/dynamo-", "grove.io/", "leaderworkerset.sigs.k8s.io/")
# Volumes that the plan gives a worker's pod.
OWN_VOLUMES = ("model-cache", "config", "cache")
# In these the operator's quoting for `sh -c`, or for bash within it, changes a word.
SHELL_SPECIAL = frozenset("$`'\\!\n")
# It puts a word between quotes where one of these is in it. In any other word the shell takes a list, a pipe,
# a redirection, a pattern, and at the beginning a comment or a home directory for its own. Of a word that
# is empty it takes nothing (deploy/operator/internal/dynamo/utils.go, shellQuoteForBashC).
SHELL_QUOTED = frozenset(" \t\n'\"\\{}[]$`!")
SHELL_CUTS = re.compile(r"[;|&<>()*?]|^[#~]|^[A-Za-z_][A-Za-z0-9_]*=(.*:)?~")
SHELL_REMEDY = "use a value without $, `, ', \\, !, ;, |, &, <, >, (, ), *, ?, and # or ~ at its beginning"
UNITS: dict[str, Decimal | int] = {
    **{unit: Decimal(1000) ** (n - 3) for n, unit in enumerate("num")},
    "": 1,
    **{unit: 1000 ** (n + 1) for n, unit in enumerate("kMGTPE")},
    **{f"{unit}i": 1024 ** (n + 1) for n, unit in enumerate("KMGTPE")},
}
QUANTITIES = re.compile(r"([+-]?[0-9.]+)([eE][+-]?[0-9]+|[numkMGTPE]|[KMGTPE]i|)")
NUMBERS = re.compile(r"(\d+\.\d+\.\d+)(?:[-+][0-9A-Za-z.+-]+)?")


def images(deployment: Deployment, engine: Engine) -> dict[str, str]:
    """Return variable -> image."""
    own, pinned = deployment.settings.kubernetes, deployment.release.images
    return {
        "image": own.image or pinned.get(engine.image(deployment.settings), ""),
        "frontend_image": own.frontend_image or pinned["frontend"],
    }


def tag_version(image: str) -> str:
    """Return the version that an image's tag names; empty where it names none."""
    tag = image.split("@", maxsplit=1)[0].rsplit("/", maxsplit=1)[-1].partition(":")[2]
    found = NUMBERS.fullmatch(tag.removeprefix("v"))
    return found[1] if found else ""


def quantity(text: str) -> Decimal:
    """Return a Kubernetes quantity as a number: with a unit (80Gi, 500m), or with an exponent (129e6)."""
    found = QUANTITIES.fullmatch(text or "0")
    assert found, f"{text!r} is not a quantity, and the API server takes no other"
    number, unit = found[1], found[2]
    return Decimal(number) * UNITS[unit] if unit in UNITS else Decimal(number + unit)


def check(deployment: Deployment, engine: Engine) -> list[Problem]:
    """Return everything that is wrong with a deployment on Kubernetes."""
    return [
        *_settings(deployment, engine),
        *beside.check(deployment),
        *_images(deployment, engine),
        *_volumes(deployment),
        *(problem for pool in deployment.pools for problem in _pool(deployment, pool)),
    ]


def check_words(pool: Pool, launch: Launch) -> list[Problem]:
    """Return what the operator's shell would change in the command of a replica with several pods."""
    if pool.settings.nodes_per_replica == 1:
        return []
    where = f"wideep_pools.{pool.name}"
    found = []
    for before, word in pairwise(launch.argv):
        if not word:
            message = f"the empty value of {before} would be lost in the operator's shell"
            found.append(Problem(message, where, "leave the option out, or give it a value"))
        elif _shell_changes(word):
            message = f"{word!r} has characters that the operator's shell would change"
            found.append(Problem(message, where, SHELL_REMEDY))
    return found


def _shell_changes(word: str) -> bool:
    """Whether a word is another one, or several, after the operator's quoting and the shell."""
    if SHELL_SPECIAL & set(word):
        return word != POD_ADDRESS  # written as another word (wideep.kubernetes.manifests)
    return not SHELL_QUOTED & set(word) and SHELL_CUTS.search(word) is not None


def _settings(deployment: Deployment, engine: Engine) -> Iterator[Problem]:
    settings, own = deployment.settings, deployment.settings.kubernetes
    if engine.simulated:
        yield Problem(
            f"the {engine.name} is simulated: it needs no cluster",
            "wideep_engine",
            "name an engine that uses GPUs, or set wideep_platform: hosts",
        )
    if settings.discovery == "file":
        yield Problem(
            "pods share no directory for discovery",
            "wideep_discovery",
            "set wideep_discovery: kubernetes or etcd",
        )
    for kind in ("labels", "annotations"):
        for name in getattr(own, kind):
            if name.startswith(RESERVED):
                yield Problem(
                    "pods are found by it, or the operator writes it itself",
                    f"{WHERE}.{kind}.{name}",
                    "use a key of your own",
                )
    if own.queue and own.orchestrator != "grove":
        yield Problem(
            "the KAI scheduler's queue is read with Grove only",
            f"{WHERE}.queue",
            "remove it, or set orchestrator: grove",
        )
    spans = any(pool.settings.nodes_per_replica > 1 for pool in deployment.pools)
    network = deployment.frontends[0].network
    root = own.privileged or own.run_as_user == 0
    sees = (
        own.host_network or own.privileged or all(_devices(own.additions(p.name)) for p in deployment.pools)
    )
    if spans and network.rdma_devices and not sees:
        yield Problem(
            "RDMA devices are named, but pods would not see them",
            f"{WHERE}.rdma_resource",
            "set rdma_resource and rdma_count to what `kubectl describe node` lists, e.g. rdma/ib and 8"
            " (extra_resources for several names, resource_claims where a driver hands them out)",
        )
    if spans and "IPC_LOCK" not in own.capabilities and own.run_as_user == 0 and not own.privileged:
        yield Problem(
            "without it RDMA cannot lock memory in a pod",
            f"{WHERE}.capabilities",
            "add IPC_LOCK to capabilities",
            "warning",
        )
    # Kubernetes gives added capabilities to root alone (KEP 2763 would change that). That the images run as
    # user 1000 was read in ai-dynamo/dynamo, container/templates/*_runtime.Dockerfile, not in an image.
    if network.rdma_devices and not root:
        yield Problem(
            "RDMA locks memory, and IPC_LOCK has no effect for the images' user, who is not root",
            f"{WHERE}.run_as_user",
            "give containerd on the nodes LimitMEMLOCK=infinity, or set run_as_user: 0",
            "warning",
        )


def _devices(added: PodAdditions) -> bool:
    """Whether something may bring RDMA devices into a pod."""
    return bool(added.extra_resources or added.resource_claims)


def _images(deployment: Deployment, engine: Engine) -> Iterator[Problem]:
    for variable, image in images(deployment, engine).items():
        version = tag_version(image)
        if version and version != deployment.release.dynamo:
            yield Problem(
                f"{image} has Dynamo {version}, the plan is checked against {deployment.release.dynamo}",
                f"{WHERE}.{variable}",
                f"use an image of {deployment.release.dynamo}",
            )


def _volumes(deployment: Deployment) -> Iterator[Problem]:
    settings, own = deployment.settings, deployment.settings.kubernetes
    cache = own.model_cache
    if settings.model_path and not PurePosixPath(settings.model_path).is_relative_to(cache.mount_path):
        yield Problem(
            f"{settings.model_path} is not on the model cache, which is mounted at {cache.mount_path}",
            "wideep_model_path",
            f"set it to a directory below {cache.mount_path}, or change {WHERE}.model_cache.mount_path",
        )
    needed = weights_gb(settings)
    if cache.create and quantity(cache.size) < Decimal(str(needed)) * 1000**3:
        yield Problem(
            f"the claim asks for {cache.size or 'nothing'},"
            f" the weights of {settings.model} alone are {needed:.0f} GB",
            f"{WHERE}.model_cache.size",
            "raise it above that; a second revision beside it needs as much again",
        )
    if cache.access_mode == "ReadOnlyMany" and (cache.create or cache.download):
        yield Problem(
            "nothing could be written to the claim",
            f"{WHERE}.model_cache.access_mode",
            "set ReadWriteMany, or create: false and download: false",
        )
    if cache.download and settings.model_cache_source in {"http", "s3"}:
        yield Problem(
            "the download Job takes the model from a hub only",
            "model_cache_source",
            f"set it to hub, or fill the volume yourself and set {WHERE}.model_cache.download: false",
        )
    if cache.download and "@" in settings.model_cache_endpoint:
        yield Problem(
            "credentials in a URL are seen in the manifests",
            "model_cache_endpoint",
            "remove them; a token goes into secrets_hub_token",
        )
    if cache.download and not settings.model_cache_revision:
        yield Problem(
            "the newest revision of the model is downloaded, which may be another one the next time",
            "model_cache_revision",
            "set it to a commit of the repository",
            "warning",
        )
    most = own.limits("worker").get("memory", "")
    if most and quantity(own.shared_memory) >= quantity(most):
        yield Problem(
            f"shared memory ({own.shared_memory}) counts as memory of the pod, which has {most}",
            f"{WHERE}.resources.worker.limits.memory",
            "raise it above shared_memory by what the processes need",
        )
    for component in type(own.resources).model_fields:
        least = own.requests(component)
        for name, limit in own.limits(component).items():
            if quantity(least[name]) > quantity(limit):
                yield Problem(
                    f"the request ({least[name]}) is more than the limit ({limit})",
                    f"{WHERE}.resources.{component}.requests.{name}",
                    "lower it, or raise the limit",
                )
    if quantity(own.shared_memory) == 0:
        yield Problem(
            "NCCL and the engines need shared memory",
            f"{WHERE}.shared_memory",
            "set shared_memory, e.g. 80Gi",
        )


def _pool(deployment: Deployment, pool: Pool) -> Iterator[Problem]:
    settings = deployment.settings
    name = settings.deployment
    several = pool.settings.nodes_per_replica > 1
    length = len(name) + len(pool.name) + (len(pool.name + ROLE_SUFFIX) if several else 0)
    if settings.kubernetes.orchestrator == "grove" and length > GROVE_NAMES:
        yield Problem(
            f"Grove has room for {GROVE_NAMES} characters in the names of {pool.name}'s pods,"
            f" these are {length}: the operator cuts the deployment's name in them short",
            "wideep_deployment",
            f"nothing, or shorten {name!r} by {length - GROVE_NAMES}",
            "warning",
        )
    yield from _additions(settings.kubernetes, pool)
    for variable in pool.settings.env:
        if variable in OPERATOR_ENV:
            yield Problem(
                "the Dynamo operator sets it", f"wideep_pools.{pool.name}.env.{variable}", "remove it"
            )


def _additions(own: KubernetesSettings, pool: Pool) -> Iterator[Problem]:
    """Judge what a pool's pods get beside what the plan gives them."""
    added = own.additions(pool.name)
    for field, named in (("volumes", added.volumes), ("resource_claims", added.resource_claims)):
        names = [item.get("name", "") if isinstance(item, dict) else item.name for item in named]
        taken = OWN_VOLUMES if field == "volumes" else ()
        for name in dict.fromkeys(name for name in names if names.count(name) > 1 or name in taken):
            yield Problem(
                f"'{name}' is the name of another one in the pods of {pool.name}",
                f"{WHERE}.{field}",
                "give each a name of its own",
            )
    known = {*OWN_VOLUMES, *(volume.get("name", "") for volume in added.volumes)}
    for mount in added.volume_mounts:
        if mount.get("name") not in known:
            yield Problem(
                f"there is no volume '{mount.get('name', '')}' in the pods of {pool.name}",
                f"{WHERE}.volume_mounts",
                f"add it to {WHERE}.volumes, or correct the name",
            )
    if GPU in added.extra_resources:
        yield Problem(
            "a pod's GPUs follow from the plan",
            f"{WHERE}.extra_resources.{GPU}",
            "remove it, and set gpus_per_node in wideep_pools",
        )
