#!/usr/bin/env python3
"""Put command lines before SGLang itself: its parsers and semantic checks, without a GPU.

    VENV/bin/python tools/check_sglang_commands.py [--model DIRECTORY] < commands.json > verdicts.json

`VENV` holds the packages of a release (tools/sglang_env). Standard input is a JSON list of
argument lists, as they follow `python -m dynamo.sglang`. Standard output is a JSON list of verdicts:

    {"accepted": true, "resolved": {"ep_size": 32, ...}, "placed": null}
    {"accepted": false, "by": "parser" | "rules" | "start", "reason": "..."}

`parser`: the word is refused. `rules`: the combination is refused while the arguments are resolved. `start`:
refused by what the engine checks at its start before it needs a GPU (its launch checks, the placement of the
experts, EPLB's manager). `placed`: the expert of each slot by layer as SGLang read it, where the command
names a file of it that is here. Not seen here: anything that depends on the GPU, its memory or the network.

What SGLang's functions are called with differs between its versions: each is asked, none is known by number.

--model replaces each command's --model-path: a directory with config.json (no weights needed). The import
takes about 20 s; then each command runs in a fork of its own, because the checks write to the environment.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import inspect
import io
import json
import multiprocessing
import os
import sys
import tempfile
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESOLVED = (
    "tp_size",
    "dp_size",
    "ep_size",
    "pp_size",
    "nnodes",
    "enable_dp_attention",
    "enable_dp_lm_head",
    "moe_a2a_backend",
    "moe_dense_tp_size",
    "deepep_mode",
    "enable_eplb",
    "eplb_algorithm",
    "ep_num_redundant_experts",
    "expert_distribution_recorder_mode",
    "disaggregation_mode",
    "disaggregation_transfer_backend",
    "attention_backend",
    "page_size",
    "kv_cache_dtype",
    "chunked_prefill_size",
    "mem_fraction_static",
    "disable_radix_cache",
    "cuda_graph_config",
)
TIME_LIMIT_S = 60


def _prepared(argv: list[str], model: str | None) -> list[str]:
    """Name the device, which cannot be found out here, and the model directory that there is."""
    words = list(argv)
    if model:
        for name in ("--model-path", "--model"):
            if name in words:
                words[words.index(name) + 1] = model
    return words if "--device" in words else [*words, "--device", "cuda"]


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def _resolved(args: Any) -> dict[str, Any]:
    """Return the arguments in force. Newer versions fill in what was left out at their start only."""
    if not hasattr(args, "resolve_once"):
        return vars(args)
    args.resolve_once()
    found: dict[str, Any] = args.resolved_dict()
    return found


def _call(function: Callable[..., Any], **offered: Any) -> Any:
    """Call a function with those of the arguments that it has; what else it asks for is None."""
    signature = inspect.signature(function)
    needed = {
        name: None
        for name, parameter in signature.parameters.items()
        if parameter.default is parameter.empty and name != "self"
    }
    return function(
        **{name: offered.get(name) for name in {**needed, **offered} if name in signature.parameters}
    )


def _start_checks(args: Any) -> list[list[int]] | None:
    """Run the checks of SGLang's own start that need no GPU, in the order of its launch.

    Returns where experts begin by a file that the command names.
    """
    from sglang.srt import runtime_context  # noqa: PLC0415
    from sglang.srt.configs.model_config import ModelConfig  # noqa: PLC0415
    from sglang.srt.eplb import eplb_algorithms, eplb_manager, expert_location  # noqa: PLC0415

    args.check_server_args()
    runtime_context.publish(args, role="tokenizer")
    model = ModelConfig.from_server_args(args)
    layout = _call(expert_location.ExpertLocationMetadata._init_common, server_args=args, model_config=model)
    resolved = _resolved(args)
    if resolved["enable_eplb"] and layout:
        groups = layout["model_config_for_expert_location"].num_groups
        eplb_algorithms.compute_algorithm(resolved["eplb_algorithm"], groups, resolved["nnodes"])
        # The recorder itself lives on the GPU; the manager's own rules come before it is used.
        eplb_manager.get_global_expert_distribution_recorder = lambda: types.SimpleNamespace(recording=True)
        _call(eplb_manager.EPLBManager, server_args=args, model_config=model)
    if not Path(resolved["init_expert_location"] or "").is_file():
        return None
    import torch  # noqa: PLC0415

    torch.Tensor.to = lambda self, *_, **__: self  # there is no GPU to take it to
    torch.distributed.get_rank = lambda *_: 0
    read = expert_location.compute_initial_expert_location_metadata
    placed: list[list[int]] = _call(
        read, server_args=args, model_config=model, moe_ep_rank=0
    ).physical_to_logical_map.tolist()
    return placed


def judge(argv: list[str], model: str | None) -> dict[str, Any]:
    """Run Dynamo's own argument handling, which ends in SGLang's checks."""
    from dynamo.sglang import args as dynamo  # noqa: PLC0415 - only this environment has it

    if hasattr(dynamo, "check_elastic_ep_backend"):  # asks for a package that images bring and this lacks
        dynamo.check_elastic_ep_backend = lambda *_: None
    errors = io.StringIO()
    by = "rules"
    try:
        with contextlib.redirect_stderr(errors):
            args = asyncio.run(dynamo.parse_args(_prepared(argv, model))).server_args
            resolved = _resolved(args)
        by = "start"
        placed = _start_checks(args)
    except SystemExit:
        lines = [line for line in errors.getvalue().splitlines() if line.strip()]
        reason = lines[-1].partition("error: ")[2] or lines[-1] if lines else "exit without a reason"
        return {"accepted": False, "by": "parser", "reason": reason}
    except Exception as error:  # noqa: BLE001 - assertions, value errors and whatever else the checks raise
        place = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(str(error).split()) or f"{place.name}: {place.line}"
        return {"accepted": False, "by": by, "reason": f"{type(error).__name__}: {reason}"}
    return {
        "accepted": True,
        "resolved": {name: _plain(resolved.get(name)) for name in RESOLVED},
        "placed": placed,
    }


def _forked(argv: list[str], model: str | None) -> dict[str, Any]:
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=lambda: theirs.send(judge(argv, model)))
    process.start()
    verdict = {
        "accepted": False,
        "by": "rules",
        "reason": f"no verdict in {TIME_LIMIT_S} s, or the process died",
    }
    theirs.close()
    with contextlib.suppress(EOFError):
        if mine.poll(TIME_LIMIT_S):
            verdict = mine.recv()
    process.kill()
    process.join()
    return verdict


def _warm_up(commands: list[list[str]], model: str | None) -> None:
    """Import here what the checks import late, so that the forks share it."""
    before = dict(os.environ)
    found = (words[words.index("--model-path") + 1] for words in commands if "--model-path" in words[:-1])
    judge(["--model-path", model or next(found, "none")], None)
    os.environ.clear()
    os.environ.update(before)


def main() -> None:
    """Read the commands, write the verdicts; exit status 0 whatever they are."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", help="a directory with config.json, for all commands")
    model = parser.parse_args().model
    commands = json.load(sys.stdin)
    verdicts_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the packages print does not mix with the verdicts
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory(prefix="check-sglang-") as scratch:
        os.environ["TMPDIR"] = scratch
        _warm_up(commands, model)
        json.dump([_forked(command, model) for command in commands], verdicts_to, indent=1)
    verdicts_to.write("\n")
    verdicts_to.close()


if __name__ == "__main__":
    main()
