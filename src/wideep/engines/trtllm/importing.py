"""TensorRT-LLM's command lines and engine YAML, read back into options."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, get_args

import yaml

from wideep.deployment.launch import Launch
from wideep.engines.importing import (
    Gone,
    Reading,
    Setting,
    State,
    Worker,
    leaves,
    left_out_as_secret,
    plant,
    read_env,
    resolve,
    same,
    words_to_settings,
)
from wideep.engines.trtllm.release import facts
from wideep.engines.trtllm.rules.registry import ALSO_FIELDS, FIELDS, OPTION_OF, OWNED, OWNED_FIELDS
from wideep.inventory.settings import EplbSettings, Settings
from wideep.reference.catalogue import YamlCatalogue
from wideep.reference.models import ModelCard
from wideep.reference.release import Release

PROGRAM, FIELD_TREE = "dynamo.trtllm", "tensorrt-llm"
SERVE = "trtllm-serve"
KV_DTYPES = {"auto": "auto", "bfloat16": "bf16", "bf16": "bf16", "fp8": "fp8"}
# Flag of trtllm-serve -> field of the engine's YAML.
SERVE_FIELDS = {
    "tp-size": "tensor_parallel_size",
    "tensor-parallel-size": "tensor_parallel_size",
    "pp-size": "pipeline_parallel_size",
    "pipeline-parallel-size": "pipeline_parallel_size",
    "ep-size": "moe_expert_parallel_size",
    "moe-expert-parallel-size": "moe_expert_parallel_size",
    "max-batch-size": "max_batch_size",
    "max-num-tokens": "max_num_tokens",
    "max-seq-len": "max_seq_len",
    "max-beam-width": "max_beam_width",
    "kv-cache-free-gpu-memory-fraction": "kv_cache_config.free_gpu_memory_fraction",
    "free-gpu-memory-fraction": "kv_cache_config.free_gpu_memory_fraction",
    "kv-cache-dtype": "kv_cache_config.dtype",
    "trust-remote-code": "trust_remote_code",
    "num-postprocess-workers": "num_postprocess_workers",
    "reasoning-parser": "reasoning_parser",
    "enable-chunked-prefill": "enable_chunked_prefill",
    "backend": "backend",
}
# Its flags that have another place here.
SERVE_OWNED = {
    "host": "wideep_address",
    "port": "wideep_frontend_port",
    "config": "options of the pool",
    "extra-llm-api-options": "options of the pool",
    "gpus-per-node": "wideep_pools.<pool>.gpus_per_node",
    "server-role": "the inventory group that a host is in",
    "metadata-server-config-file": "wideep_discovery",
    "served-model-name": "wideep_model",
    "model": "wideep_model_path",
    "cluster-size": "the inventory",
    "log-level": "wideep_log_level",
}
VARIABLES = {
    "served-model-name": "wideep_model",
    "model": "wideep_model_path",
    "model-path": "wideep_model_path",
    "request-plane": "wideep_request_plane",
    "event-plane": "wideep_event_plane",
}
OWN_ENV = {"TRTLLM_EPLB_SHM_NAME": "one name for each replica"}
TRANSFER, EVENTS = "cache_transceiver_config.backend", "--publish-kv-events"
METRICS = "--publish-metrics"
OLD_TRANSFER = {"NIXL": "nixl", "UCX": "ucx", "MOONCAKE": "mooncake", "DEFAULT": "nixl"}
# Engine's default of a field, which wideep would not choose by itself -> its option.
PINNED = {
    "moe_expert_parallel_size": ("expert_parallel_size", 1),
    "enable_chunked_prefill": ("chunked_prefill", False),
    "max_batch_size": ("max_batch_size", 2048),
    "max_num_tokens": ("max_num_tokens", 8192),
    "kv_cache_config.free_gpu_memory_fraction": ("free_gpu_memory_fraction", 0.9),
    "moe_config.backend": ("moe_backend", "AUTO"),
}


def read(worker: Worker, release: Release, card: ModelCard | None) -> Reading:
    """Return one role's command and engine YAML in options."""
    reading = Reading(worker.role)
    fields = {setting.name: setting for setting in worker.fields}
    for setting in worker.flags:
        if left_out_as_secret(reading, setting):
            continue
        more = _serve(reading, setting) if worker.program == SERVE else _flag(reading, release, setting)
        # The YAML wins over flags, as it does in the engine.
        fields |= {one.name: one for one in more if one.name not in fields}
    given = _renamed_fields(reading, release, list(fields.values()))
    _read_fields(reading, release, given, card)
    for field, (option, value) in PINNED.items():
        if field not in given and option not in reading.options:
            reading.options[option] = value
            reading.notes[option] = "TensorRT-LLM's own default, where wideep has another"
    if not card or card.experts is None:
        reading.options.pop("moe_backend", None) if "moe_config.backend" not in given else None
    sizes = [reading.options.get(f"{kind}_parallel_size", 1) for kind in ("tensor", "pipeline")]
    tp, stages = (size if isinstance(size, int) else 1 for size in sizes)
    reading.gpus = tp * stages
    if reading.options.get("dp_attention"):
        reading.options["data_parallel_size"] = tp
        if tp == 1:  # one GPU divides nothing, and the launch says so
            reading.said.pop("enable_attention_dp", None)
    read_env(reading, worker, release, own=OWN_ENV, options={})
    return reading


# ---- flags -------------------------------------------------------------------------------------------


def _serve(reading: Reading, setting: Setting) -> list[Setting]:
    """Read a flag of trtllm-serve; return the fields of the engine's YAML that it stands for."""
    name = setting.name.lstrip("-").replace("_", "-")
    if name in SERVE_FIELDS:
        value = _value(setting.value)
        return [Setting(SERVE_FIELDS[name], True if value is None else value, setting.where)]
    if name in SERVE_OWNED:
        if name in VARIABLES and isinstance(setting.value, str) and "$" not in setting.value:
            reading.variables[VARIABLES[name]] = setting.value
        reading.row(setting, "set by wideep", SERVE_OWNED[name])
    elif name in ("tool-parser", "tool-call-parser"):
        reading.extra_args["dyn-tool-call-parser"] = setting.value
        reading.row(setting, "renamed", "extra_args.dyn-tool-call-parser")
    else:
        reading.row(setting, "not understood", "dynamo.trtllm, which serves here, has no such flag")
    return []


def _value(value: Any) -> Any:
    """Return a word of a command as the YAML would have it."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str):
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value


def _flag(reading: Reading, release: Release, setting: Setting) -> list[Setting]:
    """Read a flag of dynamo.trtllm; return the fields of the engine's YAML that it stands for."""
    catalogue = release.catalogue(PROGRAM)
    prefix = catalogue.dotted.get("prefix", "--trtllm.")
    if setting.name.startswith(prefix):
        return [Setting(setting.name.removeprefix(prefix), _value(setting.value), setting.where)]
    if setting.name.replace("_", "-") == "--override-engine-args":
        try:
            tree = json.loads(setting.value)
        except (TypeError, ValueError):
            tree = None
        if not isinstance(tree, dict):
            reading.row(setting, "not understood", "it is not JSON of names and values")
            return []
        reading.row(setting, "renamed", "fields of the engine's YAML, below")
        return [Setting(path, value, setting.where) for path, value in leaves(tree)]
    found = resolve(catalogue, release, setting)
    if isinstance(found, Gone):
        reading.row(setting, found.state, found.why)
        return []
    more: list[Setting] = []
    for one in found:
        flag = one.flag.flag.removeprefix("--")
        if flag in OPTION_OF:
            field = next((f for f, option in FIELDS.items() if option == OPTION_OF[flag]), "")
            more.append(Setting(field, one.value, setting.where))
        elif flag in OWNED:
            _owned(reading, flag, one.value)
            reading.row(setting, "set by wideep", OWNED[flag])
        elif one.flag.flag == METRICS:
            reading.said[METRICS] = True
            reading.row(setting, "set by wideep", "the plan, always")
        elif one.value is False or same(one.value, one.flag.default):
            reading.row(setting, "default")
        else:
            reading.extra_args[flag] = one.value
            reading.said[f"--{flag}"] = one.value
            reading.row(setting, "renamed" if one.was else "kept", f"extra_args.{flag}")
    return more


def _owned(reading: Reading, flag: str, value: Any) -> None:
    """Read a flag that follows from the inventory."""
    if flag in VARIABLES and isinstance(value, str) and "$" not in value:
        reading.variables[VARIABLES[flag]] = value
    if f"--{flag}" == EVENTS and value is not False:
        reading.variables["wideep_router_mode"] = "kv"
        if reading.role != "decode":
            reading.said[EVENTS] = True


# ---- fields ------------------------------------------------------------------------------------------


def _renamed_fields(reading: Reading, release: Release, settings: list[Setting]) -> dict[str, Setting]:
    """Return path -> setting, by the names of the release."""
    found: dict[str, Setting] = {}
    for setting in settings:
        gone = release.renamed(FIELD_TREE, setting.name)
        if gone is None:
            found[setting.name] = setting
        elif gone.new and gone.new in release.fields(FIELD_TREE).fields:
            found[gone.new] = Setting(gone.new, setting.value, setting.where)
            reading.row(setting, "renamed", f"{gone.new}: {gone.why}")
        else:
            reading.row(setting, "left out", f"{gone.why}; {gone.remedy}")
    return found


def _read_fields(
    reading: Reading, release: Release, given: Mapping[str, Setting], card: ModelCard | None
) -> None:
    gone_backends = facts(release).gone_backends
    own: dict[str, Any] = {}
    for path, setting in given.items():
        if path.startswith("moe_config.load_balancer"):
            continue
        state, becomes = _field(reading, release.fields(FIELD_TREE), path, setting, gone_backends)
        if state == "kept":
            plant(own, path, setting.value)
            reading.said[path] = setting.value
        reading.row(setting, state, becomes)
    balancer = {p: s for p, s in given.items() if p.startswith("moe_config.load_balancer")}
    if balancer:
        _load_balancer(reading, balancer, card)
    if own:
        reading.options["engine_args"] = own


def _field(
    reading: Reading, known: YamlCatalogue, path: str, setting: Setting, gone_backends: Collection[str]
) -> tuple[State, str]:
    """Return what becomes of a field, and which words say so."""
    value = setting.value
    if special := _special(reading, path, value):
        return special
    if path in OWNED_FIELDS:
        return "set by wideep", OWNED_FIELDS[path]
    option = FIELDS.get(path) or ALSO_FIELDS.get(path)
    if option:
        return _option(reading, option, path, value, gone_backends)
    field, above = known.fields.get(path), path.rpartition(".")[0]
    if field is None and not _free(known, above):
        return "not understood", f"{FIELD_TREE} {known.version} has no such field"
    if field and (value is None or same(value, field.default)) and not isinstance(value, Mapping):
        return "default", ""
    return "kept", f"engine_args.{path}"


def _special(reading: Reading, path: str, value: Any) -> tuple[State, str] | None:
    """Return what becomes of a field that is neither an option nor a field as it stands; None of others."""
    options = reading.options
    if path == "cuda_graph_config" and value is None:
        reading.said[path] = None
    if path.partition(".")[0] == "cuda_graph_config" and reading.role == "prefill":
        return ("default", "") if value is None else ("left out", "a prefill worker runs no CUDA graphs")
    if path == "cuda_graph_config":
        options["cuda_graphs"] = value is not None
        return "renamed", "cuda_graphs"
    if path == TRANSFER:
        return _transfer(reading, value)
    if path == "moe_tensor_parallel_size":
        return _expert_tensors(reading, value)
    if path == "backend" and value == "pytorch":
        return "default", "PyTorch is the only backend"
    return None


def _expert_tensors(reading: Reading, value: Any) -> tuple[State, str]:
    """Read over how many GPUs each expert is divided."""
    tp = reading.options.get("tensor_parallel_size") or 1
    if not (isinstance(tp, int) and isinstance(value, int)):
        return "not understood", "it divides tensor_parallel_size, and one of them is no whole number"
    reading.options.setdefault("expert_parallel_size", max(1, tp // max(1, value)))
    reading.follows.add("moe_expert_parallel_size")
    return "renamed", "expert_parallel_size: GPUs of a replica by it"


def _free(known: YamlCatalogue, above: str) -> bool:
    """Whether a section takes fields that the catalogue does not list."""
    while above:
        field = known.fields.get(above)
        if field is not None:
            return field.type == "map" or (field.type == "object" and not _has_fields(known, above))
        above = above.rpartition(".")[0]
    return False


def _has_fields(known: YamlCatalogue, path: str) -> bool:
    return any(other.startswith(f"{path}.") for other in known.fields)


def _transfer(reading: Reading, value: Any) -> tuple[State, str]:
    wanted = OLD_TRANSFER.get(str(value).upper())
    if wanted is None:
        reading.follows.add(TRANSFER)
        return "changed", "wideep_kv_transfer: nixl"
    possible = get_args(Settings.model_fields["kv_transfer"].annotation)
    chosen = wanted if wanted in possible else "nixl"
    reading.variables["wideep_kv_transfer"] = chosen
    if reading.role != "aggregated":
        reading.said[TRANSFER] = chosen.upper()
    same_word = chosen == str(value).lower()
    return ("set by wideep" if same_word else "changed"), f"wideep_kv_transfer: {chosen}"


def _option(
    reading: Reading, option: str, path: str, value: Any, gone_backends: Collection[str]
) -> tuple[State, str]:
    """Set a typed option."""
    if value is None or (option in ("cuda_graph_max_bs", "cuda_graph_batch_sizes") and not value):
        return "default", ""
    if option == "kv_cache_dtype" and str(value) not in KV_DTYPES:
        return "not understood", f"kv_cache_dtype takes {', '.join(sorted(set(KV_DTYPES.values())))}"
    if option == "load_format" and str(value).lower() not in ("auto", "dummy"):
        return "changed", "load_format takes auto and dummy: the model is loaded with auto"
    if option == "moe_backend" and value in gone_backends:
        return "changed", f"{value} is gone from the engine: one that fits is chosen"
    if option == "cuda_graph_max_bs":
        reading.options[option] = value
        reading.follows.add("cuda_graph_config.batch_sizes")
        return "changed", "cuda_graph_max_bs: the powers of two up to it, and it"
    reading.said[path] = value
    if option == "kv_cache_dtype":
        value = KV_DTYPES[str(value)]
    elif option == "overlap_scheduler":
        value = not value
    if option != "dp_attention" or value:
        reading.options[option] = value
    return "renamed", option if option != "dp_attention" else "dp_attention, and data_parallel_size: all GPUs"


def _load_balancer(reading: Reading, given: Mapping[str, Setting], card: ModelCard | None) -> None:
    """Read slots as experts and copies of them."""
    eplb = reading.eplb
    placement: dict[Any, Any] = {}
    for path, setting in given.items():
        name = path.removeprefix("moe_config.load_balancer").lstrip(".")
        value = setting.value
        if name == "num_slots" and isinstance(value, int):
            if card and card.experts:
                eplb["redundant_experts"] = value - card.experts.routed
                reading.row(
                    setting, "renamed", f"eplb.redundant_experts: beside {card.experts.routed} experts"
                )
            else:
                reading.row(setting, "not understood", "slots are experts and copies: it needs a model card")
        elif name == "layer_updates_per_iter" and isinstance(value, int):
            if value:
                eplb |= {"enabled": True, "layers_per_chunk": value}
            reading.row(setting, "renamed", "eplb.enabled and eplb.layers_per_chunk")
        elif name.startswith("initial_global_assignments.") and "placement" in EplbSettings.model_fields:
            layer = name.partition(".")[2]
            if layer.isdecimal():
                placement[int(layer)] = value
                reading.row(setting, "renamed", "eplb.placement")
            else:
                reading.row(setting, "not understood", "it is not `layer: [experts]`")
        elif not name and isinstance(value, str):
            reading.row(
                setting, "not understood", "the file that it names is not here: give it beside the source"
            )
        else:
            reading.row(setting, "not understood", "the load balancer has no such field here")
    if placement:
        eplb["placement"] = placement


def told(launch: Launch) -> dict[str, Any]:
    """Return the fields of a launch's engine YAML and its flags, without what follows from the plan."""
    words = launch.argv[launch.argv.index(PROGRAM) + 1 :]
    owned = (OWNED.keys() | OPTION_OF.keys()) - {EVENTS.removeprefix("--")}
    found: dict[str, Any] = {
        setting.name: True if setting.value is None else setting.value
        for setting in words_to_settings(words)
        if setting.name.removeprefix("--") not in owned
    }
    for file in launch.files:
        if file.path.endswith("engine.yaml"):
            tree = yaml.safe_load(file.content)
            own = OWNED_FIELDS.keys() - {TRANSFER}
            found |= {path: value for path, value in leaves(tree) if path not in own}
    return found
