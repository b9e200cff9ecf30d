#!/usr/bin/env python3
"""Make the test chart's CRDs from the newest release's operator/ folder.

usage: make_crd.py [--check]      --check writes nothing; exit status 1 if a file is not current.

Where Kubernetes' own types stand (`x-model`) the CRD takes whatever comes; our own check does not.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from wideep.reference.release import find_release

FILES = Path(__file__).resolve().parent / "chart" / "files"


def structural(schema: Any) -> Any:
    """Return a schema as a CRD may hold it."""
    if isinstance(schema, list):
        return [structural(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    own = ("x-model", "x-without")
    made = {key: structural(value) for key, value in schema.items() if key not in own}
    if "x-model" in schema:
        made |= {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return made


def crd(stored: str, *others: str) -> dict[str, Any]:
    """Return the CRD that stores one version and serves others: nothing converts between them here."""
    schema = find_release().graph_schema()
    names, group = schema["names"], schema["group"]
    columns = [
        {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
        {"name": "Backend", "type": "string", "jsonPath": ".spec.backendFramework"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{names['plural']}.{group}",
            # The operator applies it, so it is not part of the release and stays when that goes.
            "annotations": {"helm.sh/resource-policy": "keep"},
        },
        "spec": {
            "group": group,
            "scope": schema["scope"],
            "names": names,
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": version == stored,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": columns,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": structural(schema["versions"][version]),
                        }
                    },
                }
                for version in (stored, *others)
            ],
        },
    }


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def text(version: str) -> str:
    """Return the file of one version."""
    head = "---\n# Made by tests/cluster/make_crd.py from the newest release's operator/ folder.\n"
    return head + yaml.dump(crd(version), Dumper=_Dumper, sort_keys=False, width=100)


def main() -> int:
    """Write the files, or compare them."""
    stale = [v for v in find_release().graph_schema()["versions"] if not _current(v)]
    if "--check" in sys.argv:
        return int(bool(stale))
    for version in stale:
        (FILES / f"crd-{version}.yaml").write_text(text(version), encoding="utf-8")
    return 0


def _current(version: str) -> bool:
    path = FILES / f"crd-{version}.yaml"
    return path.exists() and path.read_text(encoding="utf-8") == text(version)


if __name__ == "__main__":
    sys.exit(main())
