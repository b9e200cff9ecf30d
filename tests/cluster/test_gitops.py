"""What `wideep render` writes, as Argo CD, Flux and Kustomize take it; and as the API server does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY, make_manifests

from wideep.render import render

GITOPS = REPOSITORY / "k8s" / "gitops"
OURS = "dynamo/deepseek-r1-wideep"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository with the rendered base and the example's overlay."""
    shutil.copytree(GITOPS / "overlay", tmp_path / "overlay")
    render(make_manifests.plan("kubernetes_sglang"), tmp_path / "base")
    return tmp_path


def built(folder: Path, programs: Path) -> dict[str, Any]:
    """Return what Kustomize makes of a folder, by kind."""
    done = subprocess.run(
        [programs / "kubectl", "kustomize", folder], capture_output=True, text=True, check=True
    )
    return {item["kind"]: item for item in yaml.safe_load_all(done.stdout)}


def test_the_overlay_changes_what_it_says_and_nothing_else(repository: Path, programs: Path) -> None:
    model = built(repository / "overlay" / "model", programs)
    assert model["PersistentVolumeClaim"]["spec"]["storageClassName"] == "lustre"
    assert model["Job"]["metadata"]["labels"]["team"] == "inference"
    graph = built(repository / "overlay" / "graph", programs)["DynamoGraphDeployment"]
    assert (
        graph["spec"].pop("labels") == {"team": "inference"} == {"team": graph["metadata"]["labels"]["team"]}
    )
    plain = built(repository / "base" / OURS / "graph", programs)["DynamoGraphDeployment"]
    assert graph["spec"] == plain["spec"]


def test_the_examples_lead_to_what_is_rendered(repository: Path) -> None:
    texts = [(GITOPS / f"{name}.yaml").read_text(encoding="utf-8") for name in ("argocd", "flux")]
    documents = [item for text in texts for item in yaml.safe_load_all(text)]
    assert len(documents) == 4
    for item in documents:
        path = item["spec"].get("path") or item["spec"]["source"]["path"]
        where = repository / "base" / Path(path).relative_to("deploy")
        assert (where / "kustomization.yaml").is_file()
