"""The state directory: writable, with room. The model directory: complete."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from wideep.preflight.model import Check, Host, ModelDirectory, Settings
from wideep.reference import checkpoint
from wideep.reference.models import WIDTH

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

GB = 10**9
TOKENIZERS = {"tokenizer.json", "tokenizer.model", "tiktoken.model"}
MIN_INODES = 50_000  # an engine's environment has this order of files


def state_dir(host: Host, _settings: Settings) -> Iterator[Check]:
    """Whether our user can make files there."""
    disk = host.facts.disk
    if disk is None:
        return
    expected = f"{host.needs.state_dir} writable for {host.facts.user}"
    if disk.error:
        remedy = (
            f"make {host.needs.state_dir} and give it to {host.facts.user}, or set wideep_state_dir to a "
            "directory that this user can write"
        )
        yield Check(host.name, "state dir", "fail", disk.error, expected, remedy)
    else:
        yield Check(host.name, "state dir", "ok", f"{disk.path} is writable", expected)


def disk(host: Host, _settings: Settings) -> Iterator[Check]:
    """Free room and inodes under the state directory."""
    place = host.facts.disk
    if place is None:
        return
    need = host.needs.disk_gb
    seen = f"{place.free / GB:.1f} GB free of {place.total / GB:.1f} at {place.path}"
    expected = f"{need:g} GB free"
    remedy = "free space, or set wideep_state_dir to a directory on a larger disk"
    if place.free < need * GB:
        # What is installed already takes no more room.
        yield Check(host.name, "disk", "warn" if place.ours else "fail", seen, expected, remedy)
    elif 0 <= place.inodes < MIN_INODES:
        yield Check(
            host.name,
            "disk",
            "fail",
            f"{place.inodes} inodes free at {place.path}",
            f"{MIN_INODES} inodes",
            remedy,
        )
    else:
        yield Check(host.name, "disk", "ok", seen, expected)


def lacks(found: ModelDirectory) -> str:
    """Return what is wrong with a model directory, empty when it is complete."""
    if found.error:
        return f"{found.path}: {found.error}"
    problems = [] if "config.json" in found.files else ["config.json"]
    if not TOKENIZERS & set(found.files):
        problems.append(f"a tokenizer ({' or '.join(sorted(TOKENIZERS))})")
    if found.missing:
        problems.append(f"{len(found.missing)} of its weight files ({_some(found.missing)})")
    if found.truncated:
        problems.append(f"the end of {len(found.truncated)} weight files ({_some(found.truncated)})")
    return f"{found.path} lacks {' and '.join(problems)}" if problems else ""


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", …" if names[3:] else "")


def model(host: Host, _settings: Settings) -> Iterator[Check]:
    """The model directory of wideep_model_path: config, tokenizer, and every file that its index names.

    Where it is downloaded, room for what is not there yet.
    """
    found = host.facts.model
    if found is None:
        return
    problem = lacks(found)
    if problem and host.needs.model_gb:
        yield _room(host, found)
        return
    expected = f"config.json, a tokenizer and all weights of the index in {found.path}"
    remedy = (
        "set wideep_model_path to a complete model directory on the host, complete this one, or let it be"
        " downloaded (model_cache_source)"
    )
    if problem:
        yield Check(host.name, "model", "fail", problem, expected, remedy)
    else:
        yield Check(host.name, "model", "ok", f"{found.path} is complete", expected)


def shape(host: Host, _settings: Settings) -> Iterator[Check]:
    """The model there is the one that the plan was made for: its experts and its memory were calculated.

    What its config.json does not say in a way that we can read is not compared.
    """
    wanted, found = host.needs.model, host.facts.model
    if wanted is None or found is None or found.config is None:
        return
    try:
        there = checkpoint.read(found.config, found.quantization)
    except (checkpoint.NoModelError, ValueError, TypeError, AttributeError):
        return
    layers, hidden = there.card.get("layers", 0), there.card.get("hidden_size", 0)
    experts = there.experts if there.experts is not None else wanted.experts
    needed = _shape(wanted.layers, wanted.hidden_size, wanted.experts)
    seen = _shape(layers or wanted.layers, hidden or wanted.hidden_size, experts)
    expected = f"{wanted.model}: {needed}, {wanted.weights}"
    weights = there.card.get("weights", wanted.weights)
    if seen != needed:
        remedy = "set wideep_model to the model that is there, or wideep_model_path to the one that is served"
        yield Check(host.name, "model shape", "fail", f"{found.path}: {seen}", expected, remedy)
    elif WIDTH[weights] != WIDTH.get(wanted.weights, WIDTH[weights]):
        remedy = "set wideep_model_card to a card of these weights: memory was calculated for others"
        bits = f"weights of {int(8 * WIDTH[weights])} bits"
        what = f"{bits} ({there.quantized_by})" if there.quantized_by else bits
        yield Check(host.name, "model shape", "warn", f"{found.path}: {what}", expected, remedy)
    else:
        yield Check(host.name, "model shape", "ok", seen, expected)


def _shape(layers: int, hidden: int, experts: int) -> str:
    return f"{layers} layers of {hidden}, {f'{experts} experts' if experts else 'dense'}"


def same_model(hosts: Sequence[Host], _settings: Settings) -> Iterator[Check]:
    """Hosts have the same configuration, tokenizer and index: prefill and decode speak of the same model."""
    digests = {h.name: h.facts.model.digest for h in hosts if h.facts.model and h.facts.model.digest}
    if len(set(digests.values())) < 2:
        return
    common, count = Counter(digests.values()).most_common(1)[0]
    for name, digest in digests.items():
        if digest != common:
            seen = f"config.json, tokenizer.json or index differ ({digest})"
            remedy = "bring the same revision of the model to all hosts (model_cache_revision, or copy it)"
            yield Check(name, "same model", "fail", seen, f"{common}, as on {count} hosts", remedy)


def _room(host: Host, found: ModelDirectory) -> Check:
    """Judge the room for a download. It looks at exact sizes itself before it begins."""
    lacking = max(host.needs.model_gb * GB - found.bytes, 0)
    expected = f"{host.needs.model_gb:.0f} GB of weights in {found.path}"
    seen = f"{found.bytes / GB:.1f} GB there, {found.free / GB:.1f} GB free"
    if lacking <= found.free:
        return Check(host.name, "model", "ok", f"{seen}; the rest is downloaded", expected)
    remedy = f"free {(lacking - found.free) / GB:.0f} GB there, or set wideep_model_path to a larger disk"
    return Check(host.name, "model", "fail", seen, expected, remedy)
