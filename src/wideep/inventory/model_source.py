"""Where a model comes from: judged before any host is contacted, its size, and a download's progress."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from wideep.problems import Problem
from wideep.reference.memory import WHOLE, weights
from wideep.reference.models import find_model

if TYPE_CHECKING:
    from wideep.inventory.settings import Settings

GB = 10**9
Source = Literal["packaged", "path", "hub", "http", "s3"]
SCHEMES = {"http": ("http", "https"), "s3": ("s3",)}
NOT_NEEDED = Problem(
    "the simulated engine needs no weights, and the whole model would be downloaded",
    "model_cache_source",
    "leave it away, or set wideep_model_path to '' for the project's small model",
    "warning",
)


def model_source(settings: Settings) -> Source:
    """Return where the model directory comes from; without wideep_model_path, that is the project."""
    return settings.model_cache_source if settings.model_path else "packaged"


def check(settings: Settings, *, simulated: bool = False) -> list[Problem]:
    """Return what is wrong with the variables of a download. simulated: the engine needs no weights."""
    source = model_source(settings)
    if source == "hub":
        problems = _check_hub(settings)
    elif source in SCHEMES:
        problems = _check_url(settings, source)
    else:
        return []
    return problems + ([NOT_NEEDED] if simulated else [])


def _check_hub(settings: Settings) -> list[Problem]:
    problems = []
    repo = settings.model_cache_repo or settings.model
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo, re.ASCII):
        where = "model_cache_repo" if settings.model_cache_repo else "wideep_model"
        problems.append(
            Problem(
                f"'{repo}' is not a hub's <owner>/<name>", where, "set model_cache_repo to the repository"
            )
        )
    if not re.fullmatch("[0-9a-f]{40}", settings.model_cache_revision):
        problems.append(
            Problem(
                f"'{settings.model_cache_revision}' is not a commit: every host, now and later, must get the"
                " same files",
                "model_cache_revision",
                f"set it to the 40 hex digits at the top of https://huggingface.co/{repo}/commits/main",
            )
        )
    return problems


def _check_url(settings: Settings, source: str) -> list[Problem]:
    # The URL itself only where it cannot hold a password.
    where, url = "model_cache_url", urlsplit(settings.model_cache_url)
    if "@" in url.netloc:
        remedy = "put them into a file on the hosts, and name it in model_cache_credentials_file"
        return [Problem("credentials in a URL are seen in logs and plans", where, remedy)]
    if url.scheme not in SCHEMES[source] or not url.netloc or url.query or url.fragment:
        form = {"http": "https://<server>/<directory>", "s3": "s3://<bucket>/<prefix>"}[source]
        message = f"'{settings.model_cache_url}' does not go with model_cache_source: {source}"
        return [Problem(message, where, f"set it to {form}")]
    return []


def download_gb(settings: Settings) -> float:
    """Return the size of the weights that a download brings, in GB (10^9 bytes); 0 if none, or unknown.

    The download itself looks at the exact sizes before it begins.
    """
    return 0.0 if model_source(settings) in ("packaged", "path") else weights_gb(settings)


def weights_gb(settings: Settings) -> float:
    """Return the size of the checkpoint in GB (10^9 bytes) by the model's card; 0 where there is none."""
    card, _ = find_model(settings.model_card, settings.model, settings.card_places)
    return round(sum(weights(card, WHOLE, drafts=True).values()) / GB, 1) if card else 0.0
