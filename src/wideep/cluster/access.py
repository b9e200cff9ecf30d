"""A cluster's API as plain data: paths in, dictionaries out."""

from __future__ import annotations

import json
import os
from collections.abc import Container, Iterator, Mapping
from typing import Any

from wideep.kubernetes.names import FIELD_MANAGER, MANAGED

TIMEOUT_S = 15
# Of metadata the server's own, different with every write.
OF_SERVER = ("resourceVersion", "managedFields", "uid", "creationTimestamp")


class ClusterError(Exception):
    """A request to the cluster got no usable answer."""

    remedy = ""

    @property
    def told(self) -> str:
        """Return what is wrong and what to do."""
        return f"{self}\n    fix: {self.remedy}" if self.remedy else str(self)


class UnreachableError(ClusterError):
    """There is no answer from the API server, or nothing says where it is."""

    remedy = "correct ~/.kube/config, K8S_AUTH_KUBECONFIG or K8S_AUTH_CONTEXT; try `kubectl version`"


class RefusedByServerError(ClusterError):
    """The API server refuses a request; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class Cluster:
    """The API server that kubectl talks to, unless K8S_AUTH_KUBECONFIG or K8S_AUTH_CONTEXT say otherwise.

    Raises:
        UnreachableError: the configuration cannot be read.
    """

    def __init__(self) -> None:
        from kubernetes import config  # noqa: PLC0415 - slow, and hosts need it not
        from kubernetes.dynamic import DynamicClient  # noqa: PLC0415

        self.kubeconfig = os.environ.get("K8S_AUTH_KUBECONFIG") or None
        self.context = os.environ.get("K8S_AUTH_CONTEXT") or None
        try:
            self.api = config.new_client_from_config(self.kubeconfig, self.context)
        except (config.ConfigException, OSError) as error:
            where = self.kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
            raise UnreachableError(f"no usable kubeconfig at {where}: {error}") from error
        # Its discovery of kinds is not for us: it asks for all of them.
        self._client = DynamicClient(self.api, discoverer=lambda *_: None)

    @property
    def address(self) -> str:
        """Return the server's URL."""
        return str(self.api.configuration.host)

    def kubectl(self, *words: str) -> list[str]:
        """Return the argv of a kubectl command for this cluster."""
        where = [f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else []
        which = [f"--context={self.context}"] if self.context else []
        return ["kubectl", *where, *which, *words]

    @property
    def helm_flags(self) -> list[str]:
        """Return the options that let helm speak to this cluster."""
        where = [f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else []
        return [*where, *([f"--kube-context={self.context}"] if self.context else [])]

    def _call(
        self, method: str, path: str, query: Mapping[str, Any], body: Any = None, content: str | None = None
    ) -> Any:
        from kubernetes.dynamic.exceptions import DynamicApiError  # noqa: PLC0415
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        query_params = [(name, str(value)) for name, value in query.items()]
        try:
            answer = self._client.request(
                method,
                path,
                body,
                query_params=query_params,
                serialize=False,
                _request_timeout=TIMEOUT_S,
                **({"content_type": content} if content else {}),
            )
        except DynamicApiError as error:
            raise RefusedByServerError(error.status or 0, _message(error)) from error
        except (HTTPError, OSError) as error:
            raise UnreachableError(f"no answer from {self.address}: {error}") from error
        return answer.data.decode(errors="replace")

    def get(self, path: str, **query: Any) -> dict[str, Any] | None:
        """Return what is at a path; None where nothing is."""
        try:
            return dict(json.loads(self._call("GET", path, query)))
        except RefusedByServerError as error:
            if error.status == 404:
                return None
            raise

    def items(self, path: str, labels: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """Return a list's items; none where the cluster does not know the kind."""
        selector = ",".join(f"{k}={v}" for k, v in (labels or {}).items())
        found = self.get(path, **({"labelSelector": selector} if selector else {}))
        return list(found["items"]) if found else []

    def serves(self, version: str, kind: str) -> bool:
        """Return whether the cluster knows a kind. version: `<group>/<version>`."""
        known = self.get(f"/apis/{version}") or {}
        return any(resource["kind"] == kind for resource in known.get("resources", ()))

    def everything(self, namespace: str, but: Container[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (kind, object) for all that a namespace holds. but: kinds that are not asked for.

        Raises:
            RefusedByServerError: we may not list a kind, or a server of an aggregated API does not answer.
        """
        groups = (self.get("/apis") or {}).get("groups", ())
        folders = ["/api/v1", *(f"/apis/{g['preferredVersion']['groupVersion']}" for g in groups)]
        for folder in folders:
            for resource in (self.get(folder) or {}).get("resources", ()):
                listed = resource["namespaced"] and "list" in resource["verbs"]
                if not listed or "/" in resource["name"] or resource["kind"] in but:
                    continue
                for item in self.items(f"{folder}/namespaces/{namespace}/{resource['name']}"):
                    yield resource["kind"], item

    def text(self, path: str, **query: Any) -> str:
        """Return what is at a path as text."""
        return str(self._call("GET", path, query))

    def apply(self, path: str, item: Mapping[str, Any], *, dry_run: bool = False) -> bool:
        """Apply an object on the server's side; return whether that changed it (or would)."""
        before = self.get(path) or {}
        after = self.applied(path, item, dry_run=dry_run)
        for state in (before, after):
            for name in OF_SERVER:
                state.get("metadata", {}).pop(name, None)
        return before != after

    def applied(self, path: str, item: Mapping[str, Any], *, dry_run: bool = True) -> dict[str, Any]:
        """Apply an object on the server's side; return what it is, or in a dry run what it would be."""
        query = {"fieldManager": FIELD_MANAGER, "force": "true"} | ({"dryRun": "All"} if dry_run else {})
        return dict(json.loads(self._call("PATCH", path, query, dict(item), "application/apply-patch+yaml")))

    def patch(self, path: str, change: Mapping[str, Any]) -> dict[str, Any]:
        """Merge a change into an object; return the object."""
        query = {"fieldManager": FIELD_MANAGER}
        return dict(
            json.loads(self._call("PATCH", path, query, dict(change), "application/merge-patch+json"))
        )

    def allowed(self, verb: str, resource: str, namespace: str = "") -> bool:
        """Return whether we may. resource: `<plural>[/<subresource>][.<group>]`."""
        names, _, group = resource.partition(".")
        plural, _, sub = names.partition("/")
        attributes = {"verb": verb, "resource": plural, "group": group, "namespace": namespace}
        if sub:
            attributes["subresource"] = sub
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return bool(json.loads(self._call("POST", path, {}, body))["status"]["allowed"])


def _message(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"


def labels_of(item: Mapping[str, Any]) -> Mapping[str, str]:
    """Return an object's labels."""
    return item["metadata"].get("labels") or {}


def is_ours(item: Mapping[str, Any]) -> bool:
    """Return whether wideep made an object."""
    return labels_of(item).get(MANAGED[0]) == MANAGED[1]
