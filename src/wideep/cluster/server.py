"""The API server's own judgement of manifests: a server-side apply that changes nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from tempfile import TemporaryDirectory
from typing import Any

from wideep.cluster.graphs import TEARDOWN
from wideep.problems import Problem

FIELD_MANAGER = "wideep"
UNANSWERED = re.compile(r"failed calling webhook|conversion webhook for .* failed")
OPERATOR = (
    "the operator's webhook does not answer: look at its pods"
    " (kubectl get pods -A -l app.kubernetes.io/name=dynamo-operator)"
)


def dry_run(api: Any, objects: Iterable[Mapping[str, Any]]) -> list[Problem]:
    """Return what the API server says is wrong with objects; unknown fields are errors to it, too.

    Args:
        api: a `kubernetes.client.ApiClient`. The objects' namespace has to exist.
    """
    from kubernetes.dynamic import DynamicClient  # noqa: PLC0415 - slow, and hosts need it not

    # Without a file of its own the client shares one in /tmp, which outlives changes of the cluster.
    with TemporaryDirectory() as folder:
        server = DynamicClient(api, cache_file=f"{folder}/resources.json")
        return [problem for item in objects for problem in _judge(server, item)]


def _judge(server: Any, item: Mapping[str, Any]) -> Iterator[Problem]:
    from kubernetes.dynamic.exceptions import DynamicApiError, ResourceNotFoundError  # noqa: PLC0415

    name = f"{item['kind']} {item['metadata']['name']}"
    try:
        resource = server.resources.get(api_version=item["apiVersion"], kind=item["kind"])
        server.server_side_apply(
            resource,
            body=dict(item),
            dry_run="All",
            field_manager=FIELD_MANAGER,
            force_conflicts=True,
            query_params=[("fieldValidation", "Strict")],
        )
    except ResourceNotFoundError:
        yield Problem(
            f"the cluster does not know {item['apiVersion']} {item['kind']}",
            name,
            "install the Dynamo platform, whose operator brings its CRDs",
        )
    except DynamicApiError as error:
        for field, message in _causes(error):
            yield Problem(message, f"{name}: {field}".rstrip(": "), _remedy(item["kind"], message))


def unanswered(problem: Problem) -> bool:
    """Whether a problem is not the object's: a webhook that was to judge or convert it did not answer."""
    return UNANSWERED.search(problem.message) is not None


def _remedy(kind: str, message: str) -> str:
    """Return what to do about a refusal."""
    if UNANSWERED.search(message):
        return f"{OPERATOR}, and run it again"
    if "cannot" in message and "in API group" in message:
        return "let an administrator grant it"
    if "immutable" in message:
        return {
            "DynamoGraphDeployment": f"{TEARDOWN}, or give the new one another wideep_deployment",
            "PersistentVolumeClaim": "name another claim in wideep_kubernetes.model_cache.claim",
        }.get(kind, "delete it, or run teardown first")
    return "correct the variable that it comes from"


def _causes(error: Any) -> Iterator[tuple[str, str]]:
    """Yield (field, message) for each reason of a refusal."""
    try:
        answer = json.loads(error.body)
    except (TypeError, ValueError):
        yield "", f"{error.status} {error.reason}"
        return
    for cause in (answer.get("details") or {}).get("causes") or [{"message": answer.get("message", "")}]:
        yield cause.get("field", ""), cause["message"]
