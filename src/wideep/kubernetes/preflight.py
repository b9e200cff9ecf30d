"""Whether a cluster can take a deployment: facts from its API and from Helm, judged. Changes nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wideep.kubernetes import objects, server
from wideep.kubernetes.access import (
    GRAPHS,
    GROUP,
    Cluster,
    ClusterError,
    RefusedByServerError,
    labels_of,
)
from wideep.kubernetes.check import quantity
from wideep.kubernetes.watch import GRAPH_LABEL, OPERATOR_LABEL
from wideep.preflight.model import Check, Report, Status
from wideep.problems import Problem
from wideep.secrets import Secrets

HOST = "cluster"
GPU = "nvidia.com/gpu"
# The chart's own prerequisite.
KUBERNETES = (1, 30)
HELM_S = 60
ORCHESTRATORS = {"grove": "podcliquesets.grove.io", "lws": "leaderworkersets.leaderworkerset.x-k8s.io"}
# Provisioners of block devices: their volumes are on one node at a time, whatever the claim says.
ONE_NODE = (
    "ebs.csi.aws.com",
    "kubernetes.io/aws-ebs",
    "pd.csi.storage.gke.io",
    "kubernetes.io/gce-pd",
    "disk.csi.azure.com",
    "kubernetes.io/azure-disk",
    "rancher.io/local-path",
    "kubernetes.io/no-provisioner",
    "cinder.csi.openstack.org",
    "openebs.io/local",
    "topolvm.io",
)
# What the roles do, by resource; in the deployment's namespace.
RIGHTS = {
    f"{GRAPHS}.{GROUP}": ("get", "list", "create", "patch", "delete"),
    "configmaps": ("get", "list", "create", "patch", "delete"),
    "secrets": ("get", "list", "create", "patch", "delete"),
    "persistentvolumeclaims": ("get", "list", "create", "patch", "delete"),
    "jobs.batch": ("get", "list", "create", "patch", "delete"),
    "pods": ("get", "list"),
    "pods/log": ("get",),
    "pods/portforward": ("create",),
    "services": ("get", "list"),
    "events": ("list",),
}
# What Helm does for the platform, in the whole cluster.
PLATFORM_RIGHTS = {
    "customresourcedefinitions.apiextensions.k8s.io": ("create", "patch"),
    "clusterroles.rbac.authorization.k8s.io": ("create", "patch"),
    "clusterrolebindings.rbac.authorization.k8s.io": ("create", "patch"),
}
# Pod Security: what a level allows none of.
HOST_FIELDS = ("host_network", "host_ipc", "privileged", "cache_host_path")


@dataclass(frozen=True)
class Platform:
    """The variables of role `platform`."""

    install: bool = True
    namespace: str = "dynamo-system"
    release: str = "dynamo-platform"
    chart_ref: str = ""
    chart_repo_url: str = ""
    chart_version: str = ""
    helm: str = ""
    install_orchestrator: bool = True


@dataclass
class _Checks:
    """Collects checks."""

    found: list[Check] = field(default_factory=list)

    def add(self, topic: str, status: Status, seen: str, expected: str = "", remedy: str = "") -> None:
        self.found.append(Check(HOST, topic, status, seen, expected, remedy))

    def ok(self, topic: str, seen: str) -> None:
        self.add(topic, "ok", seen)

    def fail(self, topic: str, seen: str, expected: str, remedy: str) -> None:
        self.add(topic, "fail", seen, expected, remedy)

    def warn(self, topic: str, seen: str, expected: str, remedy: str) -> None:
        self.add(topic, "warn", seen, expected, remedy)

    def problems(self, topic: str, problems: Sequence[Problem]) -> None:
        for problem in problems:
            self.fail(topic, f"{problem.where}: {problem.message}", "", problem.remedy)


def judge(plan: Mapping[str, Any], platform: Platform, secrets: Secrets) -> Report:
    """Judge a cluster. plan: `Plan.to_dict()`; secrets: those of role `secrets`."""
    checks = _Checks()
    if platform.install:
        _helm(plan, platform, checks)
    if shutil.which("kubectl") is None:
        remedy = "install kubectl on this machine"
        checks.fail("kubectl", "not in the PATH", "it forwards a port for the verification", remedy)
    try:
        cluster = Cluster()
        known = cluster.get("/version") or {}
    except ClusterError as error:
        remedy = "correct ~/.kube/config, K8S_AUTH_KUBECONFIG or K8S_AUTH_CONTEXT; try `kubectl version`"
        checks.fail("api", str(error), "an API server that answers", remedy)
        return Report((HOST,), tuple(checks.found))
    version = tuple(int(re.sub(r"\D.*", "", known[part]) or 0) for part in ("major", "minor"))
    if version < KUBERNETES:
        wanted = ".".join(map(str, KUBERNETES))
        checks.fail("api", f"Kubernetes {known['gitVersion']}", f"{wanted} or newer", "upgrade the cluster")
    else:
        checks.ok("api", f"Kubernetes {known['gitVersion']} at {cluster.address}")
    for topic in (_rights, _platform, _namespace, _nodes, _storage, _secrets, _priority, _dry_run):
        try:
            topic(_Case(cluster, plan, platform, secrets), checks)
        except RefusedByServerError as error:
            remedy = "let an administrator grant it, or look at what follows from it yourself"
            status: Status = "warn" if error.status == 403 else "fail"
            checks.add(topic.__name__.strip("_"), status, str(error), "a look at it", remedy)
    return Report((HOST,), tuple(checks.found))


@dataclass(frozen=True)
class _Case:
    cluster: Cluster
    plan: Mapping[str, Any]
    platform: Platform
    secrets: Secrets

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.plan["settings"]  # type: ignore[no-any-return]

    @property
    def own(self) -> Mapping[str, Any]:
        return self.settings["kubernetes"]  # type: ignore[no-any-return]

    @property
    def namespace(self) -> str:
        return str(self.own["namespace"])

    @property
    def multinode(self) -> bool:
        return any(pool["nodes_per_replica"] > 1 for pool in self.settings["pools"].values())

    def crd(self, name: str) -> dict[str, Any] | None:
        return self.cluster.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")


# ---- Helm ----------------------------------------------------------------------------------------


def _run(*words: str) -> tuple[bool, str]:
    """Run a program; return whether it went well and what it said."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=HELM_S, check=False)
    except OSError as error:
        return False, f"{words[0]} cannot be run: {error.strerror}"
    except subprocess.TimeoutExpired:
        return False, f"no answer after {HELM_S} s"
    return done.returncode == 0, (done.stdout if done.returncode == 0 else done.stderr or done.stdout).strip()


def _helm(plan: Mapping[str, Any], platform: Platform, checks: _Checks) -> None:
    helm = platform.helm or "helm"
    well, said = _run(helm, "version", "--template={{.Version}}")
    number = re.match(r"v?(\d+)\.(\d+)", said)
    if not well or not number:
        remedy = "install Helm 3 on this machine, or name it in platform_helm"
        checks.fail("helm", said or "no version", "Helm 3.8 or newer", remedy)
        return
    major, minor = int(number[1]), int(number[2])
    if major != 3 or minor < 8:
        why = "kubernetes.core.helm does not work with Helm 4" if major > 3 else "older ones know no OCI"
        remedy = "install Helm 3 beside it and name it in platform_helm"
        checks.fail("helm", f"Helm {said}", f"Helm 3.8 or newer, not 4: {why}", remedy)
        return
    checks.ok("helm", f"Helm {said}")
    well, plugins = _run(helm, "plugin", "list")
    if not re.search(r"^diff\s", plugins, re.MULTILINE):
        checks.warn(
            "helm",
            "the plugin helm-diff is not installed",
            "changed values are seen without it, changes within a chart of the same version are not",
            "helm plugin install https://github.com/databus23/helm-diff",
        )
    words = [helm, "show", "chart", platform.chart_ref]
    words += [f"--repo={platform.chart_repo_url}"] if platform.chart_repo_url else []
    words += [f"--version={platform.chart_version}"] if platform.chart_version else []
    well, chart = _run(*words)
    found = re.search(r"^version: *[\"']?([^\s\"']+)", chart, re.MULTILINE) if well else None
    wanted = plan["settings"]["dynamo_version"]
    if not found:
        remedy = "correct platform_chart_ref (without internet: the absolute path of the archive)"
        checks.fail("chart", f"{platform.chart_ref}: {chart}", f"the chart of {wanted}", remedy)
    elif found[1].removeprefix("v").partition("+")[0] != wanted:
        remedy = f"set platform_chart_ref or platform_chart_version to the chart of {wanted}"
        checks.fail(
            "chart", f"{platform.chart_ref} is version {found[1]}", f"dynamo_version {wanted}", remedy
        )
    else:
        checks.ok("chart", f"version {found[1]}")


def _platform(case: _Case, checks: _Checks) -> None:
    own = case.platform
    api = case.settings["graph_api"]
    crd = case.crd(f"{GRAPHS}.{GROUP}")
    if crd:
        served = [v["name"] for v in crd["spec"]["versions"] if v["served"]]
        if api not in served:
            remedy = f"set wideep_graph_api: {served[0]}, or let an administrator upgrade the CRD"
            checks.fail("crd", f"{GRAPHS}.{GROUP} serves {', '.join(served)}", api, remedy)
        else:
            checks.ok("crd", f"{GRAPHS}.{GROUP} serves {api}")
    elif not own.install:
        remedy = "set platform_install: true, or let an administrator install the Dynamo platform"
        checks.fail("crd", f"there is no {GRAPHS}.{GROUP}", "the platform is there", remedy)
    for item in case.cluster.items("/apis/apps/v1/deployments", OPERATOR_LABEL):
        if own.install and item["metadata"]["namespace"] != own.namespace:
            where = item["metadata"]["namespace"]
            remedy = f"set platform_install: false to use it, or platform_namespace: {where} to manage it"
            checks.fail("operator", f"there is one in {where}", "one operator in a cluster", remedy)
    if own.install:
        _release(case, checks)
    if case.multinode:
        name = case.own["orchestrator"]
        if case.crd(ORCHESTRATORS[name]) or (own.install and own.install_orchestrator):
            checks.ok("orchestrator", name)
        else:
            remedy = (
                "set platform_install_orchestrator: true, install it, or set wideep_kubernetes.orchestrator"
            )
            seen = f"there is no {ORCHESTRATORS[name]}"
            checks.fail("orchestrator", seen, f"{name} places the pods of a replica", remedy)


def _release(case: _Case, checks: _Checks) -> None:
    """Judge the state of the Helm release, from the Secret in which Helm 3 keeps it."""
    own = case.platform
    path = f"/api/v1/namespaces/{own.namespace}/secrets"
    found = case.cluster.items(path, {"owner": "helm", "name": own.release})
    if not found:
        return
    last = max(found, key=lambda item: int(labels_of(item).get("version", 0)))
    status, number = labels_of(last).get("status", ""), int(labels_of(last).get("version", 0))
    if status.startswith("pending"):
        back = (
            f"helm -n {own.namespace} rollback {own.release} {number - 1}"
            if number > 1
            else f"helm -n {own.namespace} uninstall {own.release}"
        )
        seen = f"revision {number} of {own.release} is {status}: another helm runs, or was ended"
        checks.fail("release", seen, "deployed", f"wait for it; if nobody runs it: {back}")
    elif status == "failed":
        remedy = f"it is upgraded now; if that fails, too: helm -n {own.namespace} history {own.release}"
        checks.warn("release", f"revision {number} of {own.release} failed", "deployed", remedy)


# ---- rights and namespace ------------------------------------------------------------------------


def _rights(case: _Case, checks: _Checks) -> None:
    missing = [
        f"{verb} {resource} in {case.namespace}"
        for resource, verbs in RIGHTS.items()
        for verb in verbs
        if not case.cluster.allowed(verb, resource, case.namespace)
    ]
    if case.platform.install:
        missing += [
            f"{verb} {resource}"
            for resource, verbs in PLATFORM_RIGHTS.items()
            for verb in verbs
            if not case.cluster.allowed(verb, resource)
        ]
        if not case.cluster.allowed("create", "deployments.apps", case.platform.namespace):
            missing.append(f"create deployments.apps in {case.platform.namespace}")
    if missing:
        remedy = "let an administrator grant them, or install the platform (platform_install: false)"
        shown = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        checks.fail("rights", f"you may not {shown}", "what the roles do", remedy)
    else:
        checks.ok("rights", "all that the roles do")


def _namespace(case: _Case, checks: _Checks) -> None:
    found = case.cluster.get(f"/api/v1/namespaces/{case.namespace}")
    if found is None:
        if not case.cluster.allowed("create", "namespaces"):
            remedy = f"let an administrator create {case.namespace}"
            checks.fail("namespace", "it is missing and you may not create it", case.namespace, remedy)
        return
    if found.get("status", {}).get("phase") == "Terminating":
        remedy = f"wait until it is gone: kubectl get namespace {case.namespace}"
        checks.fail("namespace", f"{case.namespace} is being deleted", "Active", remedy)
    level = labels_of(found).get("pod-security.kubernetes.io/enforce", "")
    own = case.own
    wanted = [name for name in HOST_FIELDS if own[name]] + (["capabilities"] if own["capabilities"] else [])
    if level in {"baseline", "restricted"} and wanted:
        remedy = f"label {case.namespace} pod-security.kubernetes.io/enforce=privileged, or unset them"
        names = ", ".join(f"wideep_kubernetes.{name}" for name in wanted)
        checks.fail("namespace", f"Pod Security is {level}", f"it allows {names}", remedy)


# ---- nodes ---------------------------------------------------------------------------------------


def _nodes(case: _Case, checks: _Checks) -> None:
    cluster, own = case.cluster, case.own
    pods = sum(len(replica["nodes"]) for pool in case.plan["pools"] for replica in pool["replicas"])
    gpus = max(len(node["gpus"]) for p in case.plan["pools"] for r in p["replicas"] for node in r["nodes"])
    needs = {GPU: str(gpus)}
    if own["rdma_resource"]:
        needs[own["rdma_resource"]] = str(own["rdma_count"])
    needs |= {name: own[name] for name in ("cpu", "memory") if own[name]}
    nodes = [n for n in cluster.items("/api/v1/nodes") if quantity(_allocatable(n, GPU)) > 0]
    if not nodes:
        remedy = "install the NVIDIA GPU operator or its device plugin, and look at `kubectl describe node`"
        checks.fail("nodes", f"no node has {GPU}", f"{pods} nodes with {gpus} GPUs", remedy)
        return
    used = _used(case)
    why: dict[str, list[str]] = {}
    free = []
    for node in nodes:
        if reason := _unfit(node, own, needs, used.get(node["metadata"]["name"], {})):
            why.setdefault(reason, []).append(node["metadata"]["name"])
        else:
            free.append(node["metadata"]["name"])
    seen = f"{len(free)} of {len(nodes)} GPU nodes are free"
    if len(free) < pods:
        details = "; ".join(
            f"{len(names)} ({names[0]}{', …' if names[1:] else ''}): {r}" for r, names in why.items()
        )
        remedy = (
            "add or free nodes, have fewer replicas, or correct wideep_gpus_per_node and wideep_kubernetes"
            " (tolerations, node_selector, rdma_resource, cpu, memory)"
        )
        checks.fail("nodes", f"{seen}; {details}", f"{pods} for {pods} worker pods with {gpus} GPUs", remedy)
    else:
        checks.ok("nodes", f"{seen}, {pods} are needed")


def _allocatable(node: Mapping[str, Any], resource: str) -> str:
    return str(node.get("status", {}).get("allocatable", {}).get(resource, "0"))


def _used(case: _Case) -> dict[str, dict[str, Any]]:
    """Return node -> resource -> what the pods of others ask for there."""
    used: dict[str, dict[str, Any]] = {}
    for pod in case.cluster.items("/api/v1/pods"):
        ours = (
            pod["metadata"]["namespace"] == case.namespace
            and labels_of(pod).get(GRAPH_LABEL) == case.plan["deployment"]
        )
        if ours or pod["status"].get("phase") in {"Succeeded", "Failed"}:
            continue
        taken = used.setdefault(pod["spec"].get("nodeName", ""), {})
        for container in pod["spec"]["containers"]:
            resources = container.get("resources") or {}
            for name, amount in ((resources.get("limits") or {}) | (resources.get("requests") or {})).items():
                taken[name] = taken.get(name, 0) + quantity(str(amount))
    return used


def _unfit(
    node: Mapping[str, Any], own: Mapping[str, Any], needs: Mapping[str, str], used: Mapping[str, Any]
) -> str:
    """Return why a worker pod cannot be on a node; empty if it can."""
    conditions = {c["type"]: c["status"] for c in node["status"].get("conditions", ())}
    if conditions.get("Ready") != "True" or node["spec"].get("unschedulable"):
        return "not ready, or cordoned"
    labels = labels_of(node)
    if wrong := [k for k, v in own["node_selector"].items() if labels.get(k) != v]:
        return f"node_selector {wrong[0]} is not its label"
    for taint in node["spec"].get("taints", ()):
        if taint["effect"] != "PreferNoSchedule" and not any(
            _tolerates(t, taint) for t in own["tolerations"]
        ):
            return f"taint {taint['key']} is not tolerated"
    for name, amount in needs.items():
        has, taken = quantity(_allocatable(node, name)), used.get(name, 0)
        if has < quantity(amount):
            return f"has {_allocatable(node, name)} of {name}, {amount} are needed"
        if has - taken < quantity(amount):
            return f"{name} is taken by other pods"
    return ""


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if not toleration.get("key"):
        return toleration.get("operator") == "Exists"
    if toleration["key"] != taint["key"]:
        return False
    return toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", "")


# ---- storage, secrets, the rest ------------------------------------------------------------------


def _storage(case: _Case, checks: _Checks) -> None:
    cache = case.own["model_cache"]
    claim, mode = cache["claim"], cache["access_mode"]
    there = case.cluster.get(f"/api/v1/namespaces/{case.namespace}/persistentvolumeclaims/{claim}")
    if there:
        modes = there["spec"].get("accessModes", [])
        if mode not in modes:
            remedy = "make another claim and name it in wideep_kubernetes.model_cache.claim"
            checks.fail("storage", f"claim {claim} is {', '.join(modes)}", mode, remedy)
        if there.get("status", {}).get("phase") == "Lost":
            remedy = "its volume is gone: delete the claim"
            checks.fail("storage", f"claim {claim} is Lost", "Bound", remedy)
        return
    if not cache["create"]:
        remedy = "create it, or set wideep_kubernetes.model_cache.create: true"
        checks.fail("storage", f"there is no claim {claim} in {case.namespace}", "it is there", remedy)
        return
    wanted, where = cache["storage_class"], "wideep_kubernetes.model_cache.storage_class"
    classes = {c["metadata"]["name"]: c for c in case.cluster.items("/apis/storage.k8s.io/v1/storageclasses")}
    default = "storageclass.kubernetes.io/is-default-class"
    if not wanted:
        names = [
            n for n, c in classes.items() if (c["metadata"].get("annotations") or {}).get(default) == "true"
        ]
        wanted = names[0] if names else ""
    known = ", ".join(classes) or "none"
    if wanted not in classes:
        seen = f"there is no storage class {wanted}" if wanted else "there is no default storage class"
        checks.fail("storage", f"{seen} (there is: {known})", f"one with {mode}", f"set {where}")
    elif classes[wanted]["provisioner"] in ONE_NODE:
        seen = f"{wanted} is {classes[wanted]['provisioner']}: volumes of one node"
        checks.fail("storage", seen, mode, f"set {where} to one of a shared file system (there is: {known})")
    else:
        checks.ok("storage", f"storage class {wanted} ({classes[wanted]['provisioner']})")


def _secrets(case: _Case, checks: _Checks) -> None:
    own = case.own
    checks.problems("secrets", case.secrets.problems)
    ours = objects.secrets(own, case.secrets, case.plan["deployment"])
    made = {item["metadata"]["name"] for item in ours}
    wanted = dict.fromkeys(own["image_pull_secrets"], "add the registry to secrets_registries")
    if own["model_cache"]["download"]:
        wanted[own["hf_token_secret"]] = "set secrets_hub_token, e.g. {env: HF_TOKEN}"
    for name, remedy in wanted.items():
        there = case.cluster.get(f"/api/v1/namespaces/{case.namespace}/secrets/{name}")
        if there is None and name not in made:
            seen = f"there is no Secret {name} in {case.namespace}"
            checks.fail("secrets", seen, "pods need it", f"{remedy}, or create it")
        elif there and name == own["hf_token_secret"] and objects.HUB_KEY not in (there.get("data") or {}):
            seen = f"Secret {name} has no key {objects.HUB_KEY}"
            checks.fail("secrets", seen, "the download reads it", f"add {objects.HUB_KEY} to it")
    if case.secrets.registries and not own["image_pull_secrets"]:
        remedy = "name a Secret in wideep_kubernetes.image_pull_secrets"
        checks.fail("secrets", "no Secret is named for secrets_registries", "a name", remedy)
    checks.problems("secrets", objects.foreign(case.cluster, ours))


def _priority(case: _Case, checks: _Checks) -> None:
    name = case.own["priority_class"]
    if name and case.cluster.get(f"/apis/scheduling.k8s.io/v1/priorityclasses/{name}") is None:
        remedy = "create it, or unset wideep_kubernetes.priority_class"
        checks.fail("priority", f"there is no priority class {name}", "it is there", remedy)


def _dry_run(case: _Case, checks: _Checks) -> None:
    """Let the API server judge the manifests, where their namespace and kind are known to it."""
    made = [*case.plan["kubernetes"]["model"], *case.plan["kubernetes"]["graph"]]
    problems = objects.foreign(case.cluster, made)
    checks.problems("manifests", problems)
    if problems or case.cluster.get(f"/api/v1/namespaces/{case.namespace}") is None:
        return
    known = case.cluster.get(f"/apis/{GROUP}/{case.settings['graph_api']}") or {}
    if not any(r["name"] == GRAPHS for r in known.get("resources", ())):
        made = [item for item in made if item["kind"] != "DynamoGraphDeployment"]
    checks.problems("manifests", server.dry_run(case.cluster.api, made))
