"""The platform's release on a real API server: what is turned on after it was installed comes whole."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import HERE, REPOSITORY
from kubernetes import client
from test_preflight import CHART, TOKEN, failures, only, plan
from waiting import until

from wideep import runner
from wideep.cluster.platform import Platform
from wideep.cluster.preflight import judge
from wideep.inventory.secrets import Secrets

INVENTORY = REPOSITORY / "inventories" / "kubernetes_sglang"
PODCLIQUESETS, QUEUES = "podcliquesets.grove.io", "queues.scheduling.run.ai"
VARIABLES = {"platform_chart_ref": CHART, "platform_deadline_s": 60, **TOKEN}


def helm(kubeconfig: str, *words: str) -> None:
    where = [f"--kubeconfig={kubeconfig}", "--namespace=dynamo-system"]
    subprocess.run(["helm", *words, *where], check=True, capture_output=True)


def crds(api: client.ApiClient) -> dict[str, Any]:
    """Return the CRDs of the platform by name."""
    items = client.ApiextensionsV1Api(api).list_custom_resource_definition().items
    return {i.metadata.name: i for i in items if not i.metadata.name.endswith("kwok.x-k8s.io")}


@pytest.fixture
def release(
    kubeconfig: str, programs: Path, api: client.ApiClient, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Have a release without Grove and KAI, as a deployment with single nodes wants it."""
    monkeypatch.setenv("K8S_AUTH_KUBECONFIG", kubeconfig)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    helm(kubeconfig, "install", "dynamo-platform", CHART, "--create-namespace")
    try:
        assert PODCLIQUESETS not in crds(api)
        yield
    finally:
        helm(kubeconfig, "uninstall", "dynamo-platform")
        for name in crds(api):
            client.ApiextensionsV1Api(api).delete_custom_resource_definition(name)
        core = client.CoreV1Api(api)
        core.delete_namespace("dynamo-system")

        def gone() -> bool:
            return "dynamo-system" not in {n.metadata.name for n in core.list_namespace().items}

        until("the platform is gone", lambda: gone() and not crds(api))


def site(**own: Any) -> runner.Result:
    result = runner.run("site", INVENTORY, extra_vars=[VARIABLES, own], tags="platform")
    result.raise_for_status()
    return result


def seen(topic: str, platform: Platform, **own: Any) -> list[str]:
    """Return what preflight says of a topic."""
    report = judge(plan(**own), platform, Secrets(TOKEN))
    return [f"{check.status}: {check.seen}" for check in report.checks if check.topic == topic]


@pytest.mark.usefixtures("release")
def test_grove_that_is_added_comes_with_its_crds(api: client.ApiClient, tmp_path: Path) -> None:
    """Helm leaves them out, and the operator would end."""
    assert failures() == []
    assert seen("orchestrator", Platform(chart_ref=CHART)) == ["ok: grove, which comes with the chart"]
    half = tmp_path / "chart"
    shutil.copytree(CHART, half)
    shutil.rmtree(half / "charts" / "grove-charts" / "crds")
    found = failures(Platform(chart_ref=str(half)))
    only(
        found, "orchestrator", f"neither the cluster nor the chart has {PODCLIQUESETS}", "platform_chart_ref"
    )

    assert site().stats["localhost"].changed > 0
    (version,) = crds(api)[PODCLIQUESETS].spec.versions
    assert (version.name, version.served) == ("v1alpha1", True)
    assert QUEUES not in crds(api), "nobody asked for KAI"
    assert seen("orchestrator", Platform(chart_ref=CHART)) == ["ok: grove"]
    assert site().stats["localhost"].changed == 0


@pytest.mark.usefixtures("release")
def test_kai_likewise(api: client.ApiClient) -> None:
    values = {"global": {"kai-scheduler": {"install": True}}}
    own = Platform(chart_ref=CHART, values=values)
    (said,) = seen("queue", own, queue="team")
    assert said == "warn: KAI comes with this run, so there is no queue team yet"
    assert seen("queue", own, scheduler="kai-scheduler") == [], "the chart makes its own queue"
    site(platform_values=values)
    assert {PODCLIQUESETS, QUEUES} <= crds(api).keys()
    queues = client.CustomObjectsApi(api).list_cluster_custom_object("scheduling.run.ai", "v2", "queues")
    assert [item["metadata"]["name"] for item in queues["items"]] == ["dynamo"]


@pytest.mark.usefixtures("release")
def test_crds_that_are_ours_keep_step_with_the_chart(api: client.ApiClient, tmp_path: Path) -> None:
    """Those of others stay as they are."""
    site()
    newer = tmp_path / "chart"
    shutil.copytree(HERE / "chart", newer)
    for file in (newer / "charts" / "grove-charts" / "crds").iterdir():
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace("singular: podcliqueset", "singular: podcliqueset, shortNames: [pcs]"))
    site(platform_chart_ref=str(newer))
    assert crds(api)[PODCLIQUESETS].spec.names.short_names == ["pcs"]
    extensions = client.ApiextensionsV1Api(api)
    extensions.delete_custom_resource_definition(PODCLIQUESETS)
    until("it is gone", lambda: PODCLIQUESETS not in crds(api))
    (file,) = (HERE / "chart" / "charts" / "grove-charts" / "crds").iterdir()
    extensions.create_custom_resource_definition(yaml.safe_load(file.read_text(encoding="utf-8")))
    site(platform_chart_ref=str(newer))
    assert crds(api)[PODCLIQUESETS].spec.names.short_names is None
