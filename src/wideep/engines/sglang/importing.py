"""SGLang's command lines, read back into options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from wideep.deployment.launch import Launch
from wideep.engines.importing import (
    Found,
    Gone,
    Reading,
    Setting,
    State,
    Worker,
    left_out_as_secret,
    read_env,
    resolve,
    same,
    words_to_settings,
)
from wideep.engines.sglang.options import ALGORITHMS, DISPATCH_ENV, SPECULATIVE_FLAGS
from wideep.engines.sglang.rules.registry import FLAGS, OWNED
from wideep.inventory.settings import EplbSettings
from wideep.reference.catalogue import Catalogue
from wideep.reference.release import Release

PROGRAM = "dynamo.sglang"
ROUTERS = ("sglang_router.launch_router", "sglang-router launch", "smg launch")
OPTION_OF = {flag: option for option, flag in FLAGS.items()}
KV_DTYPES = {"auto": "auto", "bfloat16": "bf16", "bf16": "bf16", "fp8_e4m3": "fp8"}
# Flag -> field of the pool's eplb.
EPLB = {
    "enable-eplb": "enabled",
    "ep-num-redundant-experts": "redundant_experts",
    "eplb-algorithm": "algorithm",
    "eplb-rebalance-num-iterations": "rebalance_iterations",
    "eplb-min-rebalancing-utilization-threshold": "min_utilization",
    "eplb-rebalance-layers-per-chunk": "layers_per_chunk",
    "init-expert-location": "placement",
}
# Flag -> variable of the deployment that it becomes.
VARIABLES = {
    "served-model-name": "wideep_model",
    "model-path": "wideep_model_path",
    "disaggregation-transfer-backend": "wideep_kv_transfer",
    "request-plane": "wideep_request_plane",
    "event-plane": "wideep_event_plane",
}
TRANSFER, EVENTS = "disaggregation-transfer-backend", "kv-events-config"
# What the plan decides by a variable of the deployment, and is no address: it may be otherwise in the source.
POLICIES = (TRANSFER, EVENTS, "enable-metrics")
MEGA_MOE = "SGLANG_OPT_USE_DEEPGEMM_MEGA_MOE"
# What the launch sets itself.
OWN_ENV = {
    "SGLANG_HOST_IP": "wideep_address",
    "SGLANG_TCP_STORE_PORT": "wideep_worker_port_base",
    "SGLANG_DG_CACHE_DIR": "a cache below wideep_state_dir",
    "FLASHINFER_WORKSPACE_BASE": "a cache below wideep_state_dir",
    "TRITON_CACHE_DIR": "a cache below wideep_state_dir",
    "TORCHINDUCTOR_CACHE_DIR": "a cache below wideep_state_dir",
    "TVM_FFI_CACHE_DIR": "a cache below wideep_state_dir",
}


def read(worker: Worker, release: Release) -> Reading:
    """Return one role's command in options."""
    catalogue, reading = release.catalogue(PROGRAM), Reading(worker.role)
    for setting in worker.flags:
        if setting.value is False and not catalogue.find(setting.name):
            reading.row(setting, "default", "a switch that is off")
        elif setting.name == "--enable-ep-moe":
            reading.row(setting, "renamed", "expert_parallel_size: all GPUs of the replica")
            reading.options["expert_parallel_size"] = None
            reading.follows.add("ep-size")
        elif not left_out_as_secret(reading, setting):
            found = resolve(catalogue, release, setting)
            if isinstance(found, Gone):
                reading.row(setting, found.state, found.why)
            else:
                _place(reading, catalogue, setting, found)
    _mega_moe(reading, worker, release)
    _without_effect(reading)
    _pin(reading)
    if reading.role != "aggregated":
        usual = next(flag.default for flag in catalogue.flags if flag.flag == f"--{TRANSFER}")
        reading.usual[TRANSFER] = usual
        if VARIABLES[TRANSFER] not in reading.variables:
            reading.defaults[VARIABLES[TRANSFER]] = usual
    read_env(
        reading,
        worker,
        release,
        own=OWN_ENV,
        options=dict.fromkeys(DISPATCH_ENV.values(), "dispatch_tokens_per_rank"),
    )
    return reading


def _mega_moe(reading: Reading, worker: Worker, release: Release) -> None:
    switch = next(
        (s for s in worker.env if s.name == MEGA_MOE and str(s.value).lower() in ("1", "true")), None
    )
    known = release.catalogue(PROGRAM).find("--moe-a2a-backend")
    if not switch or not known or known.refuses("megamoe") or reading.options.get("a2a_backend") != "deepep":
        return
    reading.options["a2a_backend"] = "megamoe"
    reading.options.pop("deepep_mode", None)
    for flag in ("moe-a2a-backend", "deepep-mode"):
        reading.said.pop(flag, None)
        reading.follows.add(flag)
    reading.row(switch, "changed", "a2a_backend: megamoe, where the command says deepep")


def _place(reading: Reading, catalogue: Catalogue, setting: Setting, found: list[Found]) -> None:
    """Put flags where an inventory has them, and say so in one row."""
    places = [_one(reading, catalogue, one) for one in found]
    state, becomes = places[0]
    if found[0].was and state in ("kept", "renamed"):
        names = " and ".join(place.partition(":")[0] for _, place in places)
        state, becomes = "renamed", f"{names}: {found[0].why}"
    reading.row(setting, state, becomes)


def _one(reading: Reading, catalogue: Catalogue, one: Found) -> tuple[State, str]:
    """Return (state, what becomes of it)."""
    flag, value = one.flag.flag.removeprefix("--"), one.value
    if flag in EPLB and EPLB[flag] in EplbSettings.model_fields:
        reading.eplb[EPLB[flag]] = value
        reading.said[flag] = value
        return "renamed", f"eplb.{EPLB[flag]}"
    if flag in OWNED:
        return "set by wideep", _owned(reading, flag, value)
    if flag in SPECULATIVE_FLAGS.values():
        return _speculative(reading, flag, value)
    if flag in OPTION_OF:
        return _option(reading, OPTION_OF[flag], flag, one)
    if value is False or (same(value, one.flag.default) and not isinstance(one.flag.default, bool)):
        return "default", ""
    reading.extra_args[flag] = value
    reading.said[flag] = value
    if flag == "pp-size":
        reading.options["pp-size"] = value  # for the count of GPUs; taken away below
    return "kept", "extra_args"


def _owned(reading: Reading, flag: str, value: Any) -> str:
    if flag in VARIABLES and isinstance(value, str) and "$" not in value:
        reading.variables[VARIABLES[flag]] = value
    elif (
        flag == "disaggregation-ib-device"
        and isinstance(value, str)
        and value.replace(",", "").isidentifier()
    ):
        reading.variables.setdefault("wideep_network", {})["rdma_devices"] = value.split(",")
    elif flag == "nnodes" and isinstance(value, int):
        reading.nodes = value
    elif flag == "kv-events-config" and value:
        reading.variables["wideep_router_mode"] = "kv"
    if flag == TRANSFER and reading.role != "aggregated":
        reading.said[flag] = value
    elif flag in POLICIES and value and (flag, reading.role) != (EVENTS, "decode"):
        reading.said[flag] = True
    return OWNED[flag]


def _speculative(reading: Reading, flag: str, value: Any) -> tuple[State, str]:
    name = next(name for name, theirs in SPECULATIVE_FLAGS.items() if theirs == flag)
    if name == "algorithm":
        words = {theirs: ours for ours, theirs in ALGORITHMS.items()}
        reading.said[flag] = str(value).upper()
        value = words.get(str(value).upper(), value)
    else:
        reading.said[flag] = value
    reading.options.setdefault("speculative", {})[name] = value
    return "renamed", f"speculative.{name}"


def _without_effect(reading: Reading) -> None:
    """Leave out what nothing reads: numbers of drafts that nothing makes, of balancing that is off."""
    drafts, eplb = reading.options.get("speculative", {}), reading.eplb
    if drafts and "algorithm" not in drafts:
        del reading.options["speculative"]
        flags = {f"speculative.{name}": SPECULATIVE_FLAGS[name] for name in drafts}
        _leave_out(reading, flags, "nothing drafts without --speculative-algorithm")
    if not eplb.get("enabled"):
        used = {"enabled", "redundant_experts", "placement", *(["algorithm"] if "placement" in eplb else [])}
        flags = {f"eplb.{name}": flag for flag, name in EPLB.items() if name in eplb.keys() - used}
        reading.eplb = {name: value for name, value in eplb.items() if name in used}
        _leave_out(reading, flags, "nothing is rebalanced without --enable-eplb")


def _leave_out(reading: Reading, flags: Mapping[str, str], why: str) -> None:
    """Take flags back that have become something. flags: what they became -> flag."""
    for flag in flags.values():
        reading.said.pop(flag, None)
    reading.rows = [
        replace(row, state="left out", becomes=why) if row.becomes.partition(":")[0] in flags else row
        for row in reading.rows
    ]


def _option(reading: Reading, option: str, flag: str, one: Found) -> tuple[State, str]:
    value = one.value
    if value is False and not one.flag.takes_value:
        return "default", "a switch that is off"
    if option == "radix_cache":
        value = not value
    elif option == "kv_cache_dtype":
        if str(value) not in KV_DTYPES:
            return "not understood", f"kv_cache_dtype takes {', '.join(sorted(set(KV_DTYPES.values())))}"
        value = KV_DTYPES[str(value)]
    elif option == "load_format" and value not in ("auto", "dummy"):
        return "changed", "load_format takes auto and dummy: the model is loaded with auto"
    elif option == "cuda_graph_max_bs" and reading.role == "prefill":
        return "left out", "of decode's CUDA graphs: a prefill worker runs none"
    elif option.endswith("_s") and isinstance(value, float):
        reading.options[option] = seconds = max(1, round(value))
        reading.said[flag] = seconds
        return ("renamed" if seconds == value else "changed"), f"{option}: whole seconds"
    reading.options[option] = value
    if not same(one.value, one.flag.default):  # no command says what is the engine's own
        reading.said[flag] = one.value
    return "renamed", option


def _pin(reading: Reading) -> None:
    """Write out SGLang's own defaults where wideep has others, and count GPUs."""
    options = reading.options
    stages = options.pop("pp-size", 1)
    tp, dp = options.get("tensor_parallel_size", 1), options.get("data_parallel_size", 1)
    sizes = [size if isinstance(size, int) else 1 for size in (tp, stages, dp)]
    reading.gpus = sizes[0] * sizes[1] * (1 if options.get("dp_attention") else sizes[2])
    pinned: dict[str, Any] = {"a2a_backend": "none"}
    if dp != 1:
        pinned["dp_attention"] = False
    if options.get("dp_attention"):
        pinned["dp_lm_head"] = False
    if options.get("a2a_backend", "none") == "none":
        pinned["expert_parallel_size"] = 1
    elif options["a2a_backend"] == "deepep":
        pinned["deepep_mode"] = "auto"
    for name, value in pinned.items():
        if name not in options:
            options[name] = value
            reading.notes[name] = "SGLang's own default, where wideep has another"
    if options.get("expert_parallel_size") is None:
        options.pop("expert_parallel_size", None)
    if options.get("data_parallel_size") == 1 and "dp_attention" in options and not options["dp_attention"]:
        del options["dp_attention"]


def told(launch: Launch) -> dict[str, Any]:
    """Return the flags of a launch that are no address, rank or role of the plan."""
    words = launch.argv[launch.argv.index("-m") + 2 :]
    found = {setting.name.removeprefix("--"): setting.value for setting in words_to_settings(words)}
    owned = OWNED.keys() - EPLB.keys() - set(POLICIES)
    plain = {name: True if value is None else value for name, value in found.items() if name not in owned}
    return plain | ({EVENTS: True} if EVENTS in plain else {})  # its port is the plan's
