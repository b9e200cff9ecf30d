"""Whether a cluster can take a deployment: facts from its API and from Helm, judged. Changes nothing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wideep.cluster import crds, downloads, graphs, helm, nodes, objects, server
from wideep.cluster import platform as values
from wideep.cluster.access import Cluster, ClusterError, RefusedByServerError, is_ours, labels_of
from wideep.cluster.platform import Platform
from wideep.cluster.watch import OPERATOR_LABEL
from wideep.inventory.kubernetes import KubernetesSettings
from wideep.inventory.secrets import Secrets
from wideep.kubernetes.check import GPU
from wideep.kubernetes.manifests import KIND as GRAPH
from wideep.kubernetes.names import GRAPH_LABEL, GRAPHS, GROUP
from wideep.preflight.model import Check, Report, Status
from wideep.problems import Problem
from wideep.published import Published
from wideep.reference.release import find_release

HOST = "cluster"
# The chart's own prerequisite.
KUBERNETES = (1, 30)
# What has to be there for each orchestrator: CRD -> whose it is.
GROVE = {"podcliquesets.grove.io": "Grove"}
LWS = {
    "leaderworkersets.leaderworkerset.x-k8s.io": "LeaderWorkerSet",
    # The operator (deploy/operator/cmd/main.go) uses LeaderWorkerSets only where Volcano's API is there, too.
    "podgroups.scheduling.volcano.sh": "Volcano",
}
QUEUES = "queues.scheduling.run.ai"
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
APPLY = ("get", "list", "create", "patch", "delete")
# What the roles do, by resource; in the deployment's namespace.
RIGHTS = {
    "namespaces": ("get",),
    f"{GRAPHS}.{GROUP}": APPLY,
    "configmaps": APPLY,
    "secrets": APPLY,
    "persistentvolumeclaims": APPLY,
    "jobs.batch": APPLY,
    "pods": ("get", "list"),
    "pods/log": ("get",),
    "pods/portforward": ("create",),
    "services": ("get",),
    "events": ("list",),
}
# What Helm does for the platform, in the whole cluster. To grant rights one has to have them: in practice
# that takes cluster-admin, which cannot be asked for.
INSTALL = ("get", "create", "patch", "delete")
PLATFORM_RIGHTS = {
    f"{GRAPHS}.{GROUP}": ("list",),
    "customresourcedefinitions.apiextensions.k8s.io": ("get", "create", "patch"),
    "clusterroles.rbac.authorization.k8s.io": INSTALL,
    "clusterrolebindings.rbac.authorization.k8s.io": INSTALL,
    "validatingwebhookconfigurations.admissionregistration.k8s.io": INSTALL,
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": INSTALL,
}
# The same in the platform's namespace; of its Secrets Helm keeps its own record.
PLATFORM_OWN_RIGHTS = {
    "namespaces": ("get",),
    "secrets": ("get", "list", "create", "update", "patch", "delete"),
    "configmaps": INSTALL,
    "services": INSTALL,
    "serviceaccounts": INSTALL,
    "deployments.apps": ("list", *INSTALL),
    "jobs.batch": INSTALL,
    "roles.rbac.authorization.k8s.io": INSTALL,
    "rolebindings.rbac.authorization.k8s.io": INSTALL,
    "pods": ("get", "list"),
    "events": ("list",),
}


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

    def problem(self, problem: Problem | None, well: str = "") -> None:
        """Add a problem under its own topic; without one, what is well."""
        if problem:
            self.fail(problem.where, problem.message, "", problem.remedy)
        elif well:
            topic, _, seen = well.partition(": ")
            self.ok(topic, seen)


def judge(plan: Published, platform: Platform, secrets: Secrets) -> Report:
    """Judge a cluster. secrets: those of role `secrets`."""
    checks = _Checks()
    usable = platform.install and _helm(plan, platform, checks)
    if shutil.which("kubectl") is None:
        remedy = "install kubectl on this machine"
        checks.fail("kubectl", "not in the PATH", "it forwards a port for the verification", remedy)
    try:
        cluster = Cluster()
        known = cluster.get("/version") or {}
    except ClusterError as error:
        checks.fail("api", str(error), "an API server that answers", error.remedy or "try `kubectl version`")
        return Report((HOST,), tuple(checks.found))
    version = tuple(int(re.sub(r"\D.*", "", known[part]) or 0) for part in ("major", "minor"))
    if version < KUBERNETES:
        wanted = ".".join(map(str, KUBERNETES))
        checks.fail("api", f"Kubernetes {known['gitVersion']}", f"{wanted} or newer", "upgrade the cluster")
    else:
        checks.ok("api", f"Kubernetes {known['gitVersion']} at {cluster.address}")
    for topic in (
        _rights,
        _platform,
        _kinds,
        _namespace,
        _nodes,
        _storage,
        _secrets,
        _names,
        _dry_run,
    ):
        try:
            topic(_Case(cluster, plan, platform, secrets, usable), checks)
        except RefusedByServerError as error:
            remedy = "let an administrator grant it, or look at what follows from it yourself"
            status: Status = "warn" if error.status == 403 else "fail"
            checks.add(topic.__name__.strip("_"), status, str(error), "a look at it", remedy)
    return Report((HOST,), tuple(checks.found))


@dataclass(frozen=True)
class _Case:
    cluster: Cluster
    plan: Published
    platform: Platform
    secrets: Secrets
    # Whether Helm can be asked.
    helm: bool

    @property
    def own(self) -> KubernetesSettings:
        return self.plan.settings.kubernetes

    @property
    def namespace(self) -> str:
        return self.plan.namespace

    def crd(self, name: str) -> dict[str, Any] | None:
        return self.cluster.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")


# ---- Helm ----------------------------------------------------------------------------------------


def _helm(plan: Published, platform: Platform, checks: _Checks) -> bool:
    """Judge Helm and the chart; return whether Helm can be asked."""
    version, problem = helm.program(platform)
    checks.problem(problem, f"helm: Helm {version}")
    if problem:
        return False
    well, plugins = helm.run(platform.helm or "helm", "plugin", "list")
    if not well or not re.search(r"^diff\s", plugins, re.MULTILINE):
        checks.warn(
            "helm",
            "the plugin helm-diff is not installed",
            "changed values are seen without it, changes within a chart of the same version are not",
            "helm plugin install https://github.com/databus23/helm-diff",
        )
    version, problem = helm.chart(plan, platform)
    checks.problem(problem, f"chart: version {version}")
    return True


def _platform(case: _Case, checks: _Checks) -> None:
    own = case.platform
    api = case.plan.settings.graph_api
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
    operators = _operators(case)
    for where in operators:
        if own.install and where != own.namespace:
            remedy = f"set platform_install: false to use it, or platform_namespace: {where} to manage it"
            checks.fail("operator", f"there is one in {where}", "one operator in a cluster", remedy)
    release, chart = values.Release(), None
    if own.install and case.helm:
        release, chart = _release(case, checks)
    checks.problems("planes", values.check(case.plan, own, release))
    if not own.install:
        _planes_of_others(case, operators, checks)
    wanted = values.values(case.plan, own, release.values) if own.install else {}
    _orchestrator(case, wanted, chart, checks)
    _queues(case, wanted, chart, release, checks)


def _operators(case: _Case) -> list[str]:
    """Return the namespaces that have an operator."""
    found = case.cluster.items("/apis/apps/v1/deployments", OPERATOR_LABEL)
    return [item["metadata"]["namespace"] for item in found]


def _release(case: _Case, checks: _Checks) -> tuple[values.Release, str | None]:
    """Judge the release that is there, and say what would become of it.

    Returns what Helm makes of the chart as well; None where it makes nothing.
    """
    own = case.platform
    if problem := helm.pending(case.cluster, own):
        checks.problem(problem)
        return values.Release(), None
    if helm.state(case.cluster, own)[0] == "failed":
        remedy = f"it is upgraded now; if that fails, too: helm -n {own.namespace} history {own.release}"
        checks.warn("release", f"the last revision of {own.release} failed", "deployed", remedy)
    release = helm.read(case.cluster, case.plan, own)
    for note in values.unknown(own.values, find_release(case.plan.release.dynamo).chart_values()):
        checks.warn("release", f"{note.where}: {note.message}", "names of the chart", note.remedy)
    wanted, chart = values.values(case.plan, own, release.values), None
    if not any(check.topic == "chart" and check.status == "fail" for check in checks.found):
        text, problem = helm.rendered(case.cluster, own, wanted)
        checks.problem(problem)
        chart = None if problem else text
    if changed := values.changes(release, wanted):
        whose = f", and so do {', '.join(release.others)}" if release.others else ""
        remedy = f"nothing, if that is what you want: the operator starts again with it{whose}"
        checks.warn("release", f"{own.release} gets {'; '.join(changed)}", "as it is", remedy)
    return release, chart


def _planes_of_others(case: _Case, operators: Sequence[str], checks: _Checks) -> None:
    """Judge whether an operator that others installed knows NATS and etcd."""
    for plane in filter(lambda name: values.uses(case.plan, name), values.PLANES):
        remedy = f"let its administrator set dynamo-operator.{values.PLANES[plane]}, or change"
        remedy += f" {values.VARIABLES[plane]}"
        lacks = [helm.operator_lacks(case.cluster, where, plane) for where in operators]
        if any(lacks):
            checks.fail("planes", f"the operator has no address of {plane}", "it gives it to pods", remedy)
        elif None in lacks or not lacks:
            checks.warn("planes", f"nothing tells whether the operator knows {plane}", "it does", remedy)


def _orchestrator(case: _Case, wanted: Mapping[str, Any], chart: str | None, checks: _Checks) -> None:
    """Judge what places the pods of a replica. chart: what Helm makes of it; None where that is unknown."""
    grove = case.own.uses_grove(several_nodes=case.plan.several_nodes)
    if not (case.plan.several_nodes or grove):
        return
    name = case.own.orchestrator
    missing = {crd: whose for crd, whose in (GROVE if name == "grove" else LWS).items() if not case.crd(crd)}
    coming = bool(values.at(wanted, "global", name, "install"))
    if not missing or (coming and chart is None):
        checks.ok("orchestrator", name)
        return
    if coming and chart is not None:
        if lacks := missing.keys() - crds.of_chart(chart, once=False).keys():
            seen = f"neither the cluster nor the chart has {', '.join(sorted(lacks))}"
            remedy = "name the release's whole chart in platform_chart_ref, or install Grove yourself"
            checks.fail("orchestrator", seen, "the operator ends where Grove's API is not there", remedy)
        else:
            checks.ok("orchestrator", f"{name}, which comes with the chart")
        return
    seen = f"there is no {' and no '.join(missing.values())}"
    remedy = (
        "set platform_install_orchestrator: true, install it, or set wideep_kubernetes.orchestrator"
        if name == "grove"
        else "install what is missing, then restart the operator, which looks for it when it starts; or set"
        " wideep_kubernetes.orchestrator: grove"
    )
    checks.fail("orchestrator", seen, f"{name} places the pods of a replica", remedy)


def _queues(
    case: _Case, wanted: Mapping[str, Any], chart: str | None, release: values.Release, checks: _Checks
) -> None:
    """Judge the KAI scheduler: told of it, an operator does not start without, nor a graph without queue."""
    own = values.queue(case.plan)
    if not own:
        return
    coming = bool(values.at(wanted, "global", values.KAI, "install"))
    there = case.crd(QUEUES) is not None
    if not there and coming and (chart is None or QUEUES in crds.of_chart(chart, once=False)):
        if own not in helm.named(chart or "", "Queue"):
            seen = f"KAI comes with this run, so there is no queue {own} yet"
            remedy = "run site with --tags platform, create the queue, then run it all"
            checks.warn("queue", seen, "graphs are placed by it", remedy)
        return
    if not there and coming:
        remedy = "name the release's whole chart in platform_chart_ref, or install the KAI scheduler yourself"
        checks.fail("queue", f"neither the cluster nor the chart has {QUEUES}", "KAI's API is there", remedy)
        return
    if not there:
        remedy = "install the KAI scheduler, or unset wideep_kubernetes.queue and scheduler"
        checks.fail("queue", f"there is no {QUEUES}", "the KAI scheduler is there", remedy)
        return
    # Graphs that name no queue are placed by KAI as well, from then on.
    names = dict.fromkeys([own, *([values.KAI_QUEUE] if release.others else [])])
    # The chart makes one of its own.
    for name in sorted(names.keys() - helm.named(chart or "", "Queue")):
        if case.cluster.get(f"/apis/scheduling.run.ai/v2/queues/{name}") is None:
            whose = "" if name == own else f" (for {', '.join(release.others)})"
            remedy = "create it, or name another in wideep_kubernetes.queue"
            checks.fail("queue", f"there is no queue {name}{whose}", "graphs are placed by it", remedy)


# ---- rights and namespace ------------------------------------------------------------------------


def _rights(case: _Case, checks: _Checks) -> None:
    """Ask for every right that the roles use, so that nothing ends half way."""
    own = case.platform
    needed = RIGHTS | {objects.resource(item["kind"]): APPLY for item in _beside(case)}
    asked = [(needed, case.namespace)]
    if own.install:
        asked += [(PLATFORM_RIGHTS, ""), (PLATFORM_OWN_RIGHTS, own.namespace)]
        if any(values.uses(case.plan, plane) and not own.address(plane) for plane in values.PLANES):
            asked.append(({"statefulsets.apps": INSTALL, "persistentvolumeclaims": ("get",)}, own.namespace))
    well = True
    for rights, place in asked:
        missing = {
            resource: [verb for verb in verbs if not case.cluster.allowed(verb, resource, place)]
            for resource, verbs in rights.items()
        }
        # All of them: it is what an administrator is asked for.
        shown = "; ".join(f"{resource}: {', '.join(verbs)}" for resource, verbs in missing.items() if verbs)
        if shown:
            well = False
            remedy = "let an administrator grant it"
            remedy += "" if rights is needed else ", or install the platform (platform_install: false)"
            where = f"namespace {place}" if place else "the whole cluster"
            checks.fail("rights", f"you may not in {where}: {shown}", "what the roles do", remedy)
    if well:
        checks.ok("rights", "all that the roles do")


def _beside(case: _Case) -> list[dict[str, Any]]:
    """Return the objects beside the graph that are no part of every deployment."""
    return [item for item in case.plan.objects.graph if item["kind"] in objects.BESIDE]


def _kinds(case: _Case, checks: _Checks) -> None:
    """Ask for the kinds of other projects that the plan uses."""
    for kind, version in _missing(case):
        checks.fail("kinds", f"the cluster has no {version} {kind}", kind, objects.BESIDE[kind])


def _missing(case: _Case) -> list[tuple[str, str]]:
    """Return the kinds and versions beside the graph that the cluster does not serve."""
    used = sorted({(item["kind"], item["apiVersion"]) for item in _beside(case)})
    return [(kind, version) for kind, version in used if not case.cluster.serves(version, kind)]


def _namespace(case: _Case, checks: _Checks) -> None:
    places = [case.namespace, *([case.platform.namespace] if case.platform.install else [])]
    for name in dict.fromkeys(places):
        found = case.cluster.get(f"/api/v1/namespaces/{name}")
        if found is None and not case.cluster.allowed("create", "namespaces"):
            remedy = f"let an administrator create {name}"
            checks.fail("namespace", f"{name} is missing and you may not create it", name, remedy)
        if (found is None or is_ours(found)) and not case.cluster.allowed("delete", "namespaces", name):
            remedy = "let an administrator remove it afterwards"
            checks.warn("namespace", f"you may not delete {name}", "teardown removes it", remedy)
        if found and found.get("status", {}).get("phase") == "Terminating":
            remedy = f"wait until it is gone: kubectl get namespace {name}"
            checks.fail("namespace", f"{name} is being deleted", "Active", remedy)
    there = case.cluster.get(f"/api/v1/namespaces/{case.namespace}") or {"metadata": {}}
    level = labels_of(there).get(objects.POD_SECURITY, "")
    wanted = objects.privileges(case.own)
    label = f"label {case.namespace} {objects.POD_SECURITY}="
    if level == "restricted":
        # runAsNonRoot and seccompProfile of every container, also of those that operators add.
        remedy = f"{label}{'privileged' if wanted else 'baseline'}"
        checks.fail(
            "namespace", "Pod Security is restricted", "it allows pods of the Dynamo operator", remedy
        )
    elif level == "baseline" and wanted:
        names = ", ".join(f"wideep_kubernetes.{name}" for name in wanted)
        checks.fail(
            "namespace", f"Pod Security is {level}", f"it allows {names}", f"{label}privileged, or unset them"
        )


# ---- nodes ---------------------------------------------------------------------------------------


def _nodes(case: _Case, checks: _Checks) -> None:
    """Judge whether all pods find a node."""
    pods, deployment = case.cluster.items("/api/v1/pods"), case.plan.deployment

    def ours(pod: Mapping[str, Any]) -> bool:
        there = pod["metadata"]["namespace"], labels_of(pod).get(GRAPH_LABEL)
        return there == (case.namespace, deployment)

    found = nodes.rooms(case.cluster.items("/api/v1/nodes"), [pod for pod in pods if not ours(pod)])
    workers, others = nodes.pods_of(case.plan)
    gpus = max(int(pod.needs[GPU]) for pod in workers)
    with_gpus = [room for room in found if room.has(GPU) > 0]
    if not with_gpus:
        remedy = "install the NVIDIA GPU operator or its device plugin, and look at `kubectl describe node`"
        checks.fail("nodes", f"no node has {GPU}", f"{len(workers)} nodes with {gpus} GPUs", remedy)
        return
    free, against = nodes.place_workers(with_gpus, workers)
    seen = f"{free} of {len(with_gpus)} GPU nodes take a worker"
    if against:
        remedy = (
            "add or free nodes, have fewer replicas, or correct wideep_gpu, wideep_gpus_per_node and"
            " wideep_kubernetes (tolerations, node_selector, rdma_resource, resources, shared_memory)"
        )
        expected = f"{len(workers)} for {len(workers)} worker pods with {gpus} GPUs"
        checks.fail("nodes", f"{seen}; {against}", expected, remedy)
    else:
        checks.ok("nodes", f"{seen}, {len(workers)} are needed")
    if pod := nodes.place_others(found, others):
        remedy = (
            "correct wideep_kubernetes.cpu_pods (tolerations, node_selector) and resources, or add a node"
        )
        checks.fail("nodes", f"no node takes {pod.what}: {nodes.why(found, pod)}", "one does", remedy)


# ---- storage, secrets, the rest ------------------------------------------------------------------


def _storage(case: _Case, checks: _Checks) -> None:
    checks.problems("model", downloads.other_models(case.cluster, case.plan.objects.model))
    cache = case.own.model_cache
    claim, mode = cache.claim, cache.access_mode
    there = case.cluster.get(f"/api/v1/namespaces/{case.namespace}/persistentvolumeclaims/{claim}")
    if there:
        modes = there["spec"].get("accessModes", [])
        if mode not in modes:
            remedy = "make another claim and name it in wideep_kubernetes.model_cache.claim"
            checks.fail("storage", f"claim {claim} is {', '.join(modes)}", mode, remedy)
        if there.get("status", {}).get("phase") == "Lost":
            remedy = "its volume is gone: delete the claim"
            checks.fail("storage", f"claim {claim} is Lost", "Bound", remedy)
        has, wanted = there["spec"].get("storageClassName", ""), cache.storage_class
        if cache.create and wanted not in ("", has):
            remedy = "nothing, if that is what you want; else name another claim in"
            remedy += " wideep_kubernetes.model_cache.claim"
            checks.warn("storage", f"claim {claim} keeps its class {has}", f"it has {wanted}", remedy)
        return
    if not cache.create:
        remedy = "create it, or set wideep_kubernetes.model_cache.create: true"
        checks.fail("storage", f"there is no claim {claim} in {case.namespace}", "it is there", remedy)
        return
    wanted, where = cache.storage_class, "wideep_kubernetes.model_cache.storage_class"
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
    ours = objects.secrets(own, case.secrets, case.plan.deployment)
    made = {item["metadata"]["name"] for item in ours}
    wanted = dict.fromkeys(own.image_pull_secrets, "add the registry to secrets_registries")
    if own.model_cache.download:
        wanted[own.hf_token_secret] = "set secrets_hub_token, e.g. {env: HF_TOKEN}"
    for name, remedy in wanted.items():
        there = case.cluster.get(f"/api/v1/namespaces/{case.namespace}/secrets/{name}")
        if there is None and name not in made:
            seen = f"there is no Secret {name} in {case.namespace}"
            checks.fail("secrets", seen, "pods need it", f"{remedy}, or create it")
        elif there and name == own.hf_token_secret and objects.HUB_KEY not in (there.get("data") or {}):
            seen = f"Secret {name} has no key {objects.HUB_KEY}"
            checks.fail("secrets", seen, "the download reads it", f"add {objects.HUB_KEY} to it")
    if case.secrets.registries and not own.image_pull_secrets:
        remedy = "name a Secret in wideep_kubernetes.image_pull_secrets"
        checks.fail("secrets", "no Secret is named for secrets_registries", "a name", remedy)
    checks.problems("secrets", objects.foreign(case.cluster, ours))


def _names(case: _Case, checks: _Checks) -> None:
    name = case.own.priority_class
    if name and case.cluster.get(f"/apis/scheduling.k8s.io/v1/priorityclasses/{name}") is None:
        remedy = "create it, or unset wideep_kubernetes.priority_class"
        checks.fail("priority", f"there is no priority class {name}", "it is there", remedy)


def _dry_run(case: _Case, checks: _Checks) -> None:
    """Let the API server judge the manifests, where their namespace and kind are known to it.

    Of a graph that takes an operator: without one, its webhooks may still be there from before, and nothing
    that has to do with graphs is answered.
    """
    lacking = {kind for kind, _ in _missing(case)} | (set() if _judges_graphs(case) else {GRAPH})
    judged = [o for o in case.plan.objects.all if o["kind"] not in lacking]
    problems = objects.foreign(case.cluster, judged) or graphs.unchangeable(case.cluster, judged)
    checks.problems("manifests", problems)
    if problems or case.cluster.get(f"/api/v1/namespaces/{case.namespace}") is None:
        return
    # What is deleted first cannot be judged beside what is there.
    gone = {item["metadata"]["name"] for item in downloads.obsolete(case.cluster, case.plan.objects.model)}
    made = downloads.needed(case.cluster, case.plan.objects.model)
    made = [item for item in made if item["metadata"]["name"] not in gone]
    made += [o for o in case.plan.objects.graph if o in judged]
    found = server.dry_run(case.cluster.api, made)
    for problem in found:
        if server.unanswered(problem) and case.platform.install:
            # The run looks after the operator before it applies the graph.
            checks.warn("manifests", f"{problem.where}: {problem.message}", "its judgement", problem.remedy)
        else:
            checks.problems("manifests", [problem])


def _judges_graphs(case: _Case) -> bool:
    """Whether the server can judge a graph: it knows the kind, and there is an operator for its webhooks."""
    if not case.cluster.serves(f"{GROUP}/{case.plan.settings.graph_api}", GRAPH):
        return False
    try:
        return bool(_operators(case))
    except RefusedByServerError:
        return True
