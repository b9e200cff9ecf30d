"""What Helm and the cluster say of the platform's release."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from typing import Any

from wideep.cluster.access import Cluster, RefusedByServerError, labels_of
from wideep.cluster.platform import Platform, Release
from wideep.kubernetes.check import NUMBERS
from wideep.kubernetes.names import GRAPHS, GROUP
from wideep.problems import Problem
from wideep.published import Published

HELM_S = 60
# Of a document's metadata, where nothing deeper has two spaces before it.
NAME = re.compile(r"^metadata:\n(?:[ #].*\n|\n)*?  name: *[\"']?([a-z0-9.-]+)", re.MULTILINE)


def run(*words: str, given: str = "") -> tuple[bool, str]:
    """Run a program; return whether it went well and what it said. given: what it reads."""
    try:
        done = subprocess.run(words, input=given, capture_output=True, text=True, timeout=HELM_S, check=False)
    except OSError as error:
        return False, f"{words[0]} cannot be run: {error.strerror}"
    except subprocess.TimeoutExpired:
        return False, f"no answer after {HELM_S} s"
    return done.returncode == 0, (done.stdout if done.returncode == 0 else done.stderr or done.stdout).strip()


def program(platform: Platform) -> tuple[str, Problem | None]:
    """Return Helm's version; a problem where it cannot be used."""
    well, said = run(platform.helm or "helm", "version", "--template={{.Version}}")
    number = re.match(r"v?(\d+)\.(\d+)", said)
    if not well or not number:
        remedy = "install Helm 3.8 or newer on this machine, or name it in platform_helm"
        return "", Problem(said or "it has no version", "helm", remedy)
    major, minor = int(number[1]), int(number[2])
    if major != 3 or minor < 8:
        why = "kubernetes.core.helm does not work with Helm 4" if major > 3 else "older ones know no OCI"
        remedy = "install Helm 3 beside it and name it in platform_helm"
        return said, Problem(f"Helm {said}, not 3.8 or newer of 3: {why}", "helm", remedy)
    return said, None


def chart(plan: Published, platform: Platform) -> tuple[str, Problem | None]:
    """Return the chart's version; a problem where it cannot be read or is of another release."""
    well, said = run(platform.helm or "helm", "show", "chart", *_source(platform))
    found = re.search(r"^version: *[\"']?([^\s\"']+)", said, re.MULTILINE) if well else None
    wanted, given = plan.release.dynamo, platform.chart_version.removeprefix("v")
    if not found:
        remedy = "correct platform_chart_ref (without internet: the absolute path of the archive)"
        return "", Problem(f"{platform.chart_ref}: {said}", "chart", remedy)
    if found[1].removeprefix("v").partition("+")[0] != wanted:
        message = f"{platform.chart_ref} is version {found[1]}, the release is Dynamo {wanted}"
        remedy = f"set platform_chart_ref or platform_chart_version to the chart of {wanted}"
        return found[1], Problem(message, "chart", remedy)
    # Of a path or URL Helm ignores the version that is asked for. Of a repository it may be a range.
    if NUMBERS.fullmatch(given) and found[1].removeprefix("v") != given:
        message = f"{platform.chart_ref} is version {found[1]}, platform_chart_version is {given}"
        remedy = "unset platform_chart_version, which a path or URL does not need, or name another chart"
        return found[1], Problem(message, "chart", remedy)
    return found[1], None


def _source(platform: Platform) -> list[str]:
    """Return the words that say where the chart is."""
    words = [platform.chart_ref]
    words += [f"--repo={platform.chart_repo_url}"] if platform.chart_repo_url else []
    return words + ([f"--version={platform.chart_version}"] if platform.chart_version else [])


def rendered(cluster: Cluster, platform: Platform, values: Mapping[str, Any]) -> tuple[str, Problem | None]:
    """Return what Helm makes of the chart with these values; a problem where its templates refuse them."""
    version = (cluster.get("/version") or {})["gitVersion"]
    groups = (cluster.get("/apis") or {}).get("groups", ())
    served = [f"--api-versions={v['groupVersion']}" for group in groups for v in group["versions"]]
    words = ["template", platform.release, *_source(platform), f"--namespace={platform.namespace}"]
    words += ["--values=-", "--include-crds", f"--kube-version={version}", *served]
    well, said = run(platform.helm or "helm", *words, given=json.dumps(values))
    if well:
        return said, None
    return "", Problem(said, "release", "correct platform_values, or name another chart")


def documents(rendered: str) -> list[str]:
    """Return the texts of the documents in what Helm renders."""
    return re.split(r"^---[ \t]*$", rendered, flags=re.MULTILINE)


def named(rendered: str, kind: str) -> set[str]:
    """Return the names of a kind's objects in what Helm renders, its hooks among them."""
    found = set()
    for text in documents(rendered):
        name = NAME.search(text)
        if name and re.search(rf"^kind: *[\"']?{kind}\b", text, re.MULTILINE):
            found.add(name[1])
    return found


def state(cluster: Cluster, platform: Platform) -> tuple[str, int]:
    """Return status and number of the last revision, from Helm's own Secret; "" and 0 where there is none."""
    path = f"/api/v1/namespaces/{platform.namespace}/secrets"
    found = cluster.items(path, {"owner": "helm", "name": platform.release})
    labels = [labels_of(item) for item in found]
    last = max(labels, key=lambda own: int(own.get("version", 0)), default={})
    return last.get("status", ""), int(last.get("version", 0))


def pending(cluster: Cluster, platform: Platform) -> Problem | None:
    """Return what is in the way of an upgrade."""
    status, number = state(cluster, platform)
    if not status.startswith("pending"):
        return None
    place, release = platform.namespace, platform.release
    back = f"rollback {release} {number - 1}" if number > 1 else f"uninstall {release}"
    message = f"revision {number} of {release} is {status}: another helm runs, or was ended"
    return Problem(message, "release", f"wait for it; if nobody runs it: helm -n {place} {back}")


def read(cluster: Cluster, plan: Published, platform: Platform) -> Release:
    """Return what the cluster has of the release, and who else uses it.

    Raises:
        RefusedByServerError: we may not read the release's values.
    """
    status, _ = state(cluster, platform)
    there: Mapping[str, Any] | None = None
    if status:
        where = [f"--namespace={platform.namespace}", "--output=json", *cluster.helm_flags]
        well, said = run(platform.helm or "helm", "get", "values", platform.release, *where)
        if not well:
            raise RefusedByServerError(0, f"helm get values {platform.release}: {said}")
        # Helm says `null` of a release without values.
        there = json.loads(said) or {}
    own = plan.namespace, plan.deployment
    graphs = cluster.items(f"/apis/{GROUP}/{_stored(cluster, plan.settings.graph_api)}/{GRAPHS}")
    names = [(item["metadata"]["namespace"], item["metadata"]["name"]) for item in graphs]
    return Release(there, tuple(f"{name} in {place}" for place, name in names if (place, name) != own))


def _stored(cluster: Cluster, otherwise: str) -> str:
    """Return the version in which the server stores graphs: for others it needs an operator that converts."""
    crd = cluster.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{GRAPHS}.{GROUP}")
    stored = [v["name"] for v in crd["spec"]["versions"] if v["storage"]] if crd else []
    return str(stored[0]) if stored else otherwise


def operator_lacks(cluster: Cluster, namespace: str, plane: str) -> bool | None:
    """Return whether an operator that others installed has no address of NATS or etcd; None: nothing tells.

    Its configuration is a ConfigMap of the chart (components/operator/templates/operator-config.yaml).
    """
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for item in cluster.items(path, {"app.kubernetes.io/name": "dynamo-operator"}):
        text = (item.get("data") or {}).get("config.yaml", "")
        if text:
            return re.search(rf"^ *{plane}Address: *\S", text, re.MULTILINE) is None
    return None
