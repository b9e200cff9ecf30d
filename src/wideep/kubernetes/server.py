"""The API server's own judgement of manifests: a server-side apply that changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from wideep.problems import Problem

FIELD_MANAGER = "wideep"


def dry_run(api: Any, objects: Iterable[Mapping[str, Any]]) -> list[Problem]:
    """Return what the API server says is wrong with objects; unknown fields are errors to it, too.

    Args:
        api: a `kubernetes.client.ApiClient`. The objects' namespace has to exist.
    """
    from kubernetes.dynamic import DynamicClient  # noqa: PLC0415 - slow, and hosts need it not
    from kubernetes.dynamic.exceptions import DynamicApiError, ResourceNotFoundError  # noqa: PLC0415

    server = DynamicClient(api)
    problems = []
    for item in objects:
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
            problems.append(
                Problem(
                    f"the cluster does not know {item['apiVersion']} {item['kind']}",
                    _name(item),
                    "install the Dynamo platform, whose operator brings its CRDs",
                )
            )
        except DynamicApiError as error:
            problems += _problems(item, error)
    return problems


def _name(item: Mapping[str, Any]) -> str:
    return f"{item['kind']} {item['metadata']['name']}"


def _problems(item: Mapping[str, Any], error: Any) -> Iterator[Problem]:
    """Yield each cause of a refusal with its field."""
    try:
        answer = json.loads(error.body)
    except (TypeError, ValueError):
        answer = {"message": str(error)}
    remedy = "correct the variable that it comes from, or ask for the right"
    causes = (answer.get("details") or {}).get("causes") or [{"message": answer.get("message", "")}]
    for cause in causes:
        yield Problem(cause["message"], f"{_name(item)}: {cause.get('field', '')}".rstrip(": "), remedy)
