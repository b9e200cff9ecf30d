"""The flag and field checker, the catalogues that are shipped, and where they are found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from places import REPOSITORY as ROOT

from wideep.reference import catalogue, paths
from wideep.reference.catalogue import (
    Catalogue,
    Field,
    Flag,
    YamlCatalogue,
)
from wideep.reference.release import find_release

RELEASE = find_release()
ENGINES = RELEASE.engines


@pytest.fixture
def sglang() -> Catalogue:
    return RELEASE.catalogue("dynamo.sglang")


@pytest.fixture
def trtllm() -> Catalogue:
    return RELEASE.catalogue("dynamo.trtllm")


@pytest.fixture
def fields() -> YamlCatalogue:
    return RELEASE.fields("tensorrt-llm")


def words(text: str) -> list[str]:
    return text.split()


def said(problems: list[catalogue.Problem]) -> list[tuple[str, str]]:
    return [(p.message, p.remedy) for p in problems]


# ---- command lines ----

WIDE_EP = words(
    "--model-path m --tp-size 32 --dp-size 32 --enable-dp-attention --enable-dp-lm-head --nnodes 4 "
    "--node-rank=0 --dist-init-addr 10.0.0.1:29500 --moe-a2a-backend deepep --deepep-mode normal "
    "--moe-dense-tp-size 1 --enable-eplb --ep-num-redundant-experts 32 --disaggregation-mode prefill "
    "--enable-two-batch-overlap --disaggregation-transfer-backend nixl --gc-threshold 5"
    " --cuda-graph-bs-prefill 1 2 4"
)


def test_a_right_command_line_has_no_problem(sglang: Catalogue) -> None:
    assert sglang.check_argv(WIDE_EP, "decode") == []


@pytest.mark.parametrize(
    ("argv", "message", "remedy"),
    [
        (
            "--pagesize 64",
            f"--pagesize is not a flag of dynamo.sglang {RELEASE.dynamo}",
            "did you mean --page-size?",
        ),
        ("--tensor_parallel_size 4", "not a flag", "did you mean --tensor-parallel-size?"),
        ("--qqqqqqqq 4", "not a flag", "remove it"),
        ("--tp 4", "--tp is an abbreviation", "write --tp-size"),
        ("--tp-size x", "--tp-size: 'x' is not a whole number", "give a whole number"),
        ("--mem-fraction-static much", "'much' is not a number", "give a number"),
        ("--deepep-mode fast", "'fast' is not one of auto, normal, low_latency", "use one of: auto, normal"),
        ("--tp-size", "--tp-size needs a value", "give a whole number"),
        ("--model-path --tp-size 4", "--model-path needs a value", "give a value"),
        ("--tp-size 4 5", "'5' stands alone after --tp-size 4", "remove it, or quote the value"),
        ("--enable-eplb true", "--enable-eplb takes no value, got 'true'", "write --enable-eplb alone"),
        ("--enable-eplb=1", "--enable-eplb takes no value, got '1'", "write --enable-eplb alone"),
        ("--tp-size 4 --tensor-parallel-size=4", "given twice (as --tp-size before)", "keep one"),
        ("stray --tp-size 4", "'stray' stands alone, without a flag", "remove it"),
        ("--gc-threshold 1 x", "--gc-threshold: 'x' is not a whole number", "give a whole number"),
        ("--cuda-graph-max-bs 128", "--cuda-graph-max-bs is gone", "use --cuda-graph-max-bs-decode"),
        ("--enable-ep-moe", "--enable-ep-moe is gone", "use --ep-size and --moe-a2a-backend"),
        ("--prefill-round-robin-balance", "is gone: it has had no effect", "remove it"),
    ],
)
def test_each_mistake_in_a_command_line_is_one_error(
    sglang: Catalogue, argv: str, message: str, remedy: str
) -> None:
    (problem,) = sglang.check_argv(argv.split(), "decode")
    assert message in problem.message
    assert remedy in problem.remedy
    assert (problem.where, problem.severity) == ("decode", "error")


def test_all_mistakes_are_reported_at_once(sglang: Catalogue) -> None:
    assert (
        len(sglang.check_argv(["--tp-size", "x", "--deepep-mode", "y", "--zzzzzz", "1", "2"], "decode")) == 3
    )


def test_values_that_look_like_flags_or_are_optional_are_read_as_argparse_does() -> None:
    made = Catalogue(
        "p",
        "1",
        "parser",
        (
            Flag("--number", "int", True),
            Flag("--maybe", "str", True, nargs="?"),
            Flag("--any", "list[str]", True, nargs="*"),
            Flag("--again", "str", True, repeatable=True),
            Flag("--data", "json", True),
            Flag("--least", "float", True, minimum=0, nullable=True),
            Flag("--truth", "bool", True),
        ),
        RELEASE.directory / "catalogues",
    )
    fine = words("--number -4 --maybe --any --again a --again b --least None --truth Yes")
    assert made.check_argv([*fine, "--data", '{"a": 1}'], "x") == []
    wrong = made.check_argv(["--number", "-x", "--data", "{", "--least", "-0.5", "--truth", "perhaps"], "x")
    assert [p.message for p in wrong] == [
        "--number needs a value",
        "-x is not a flag of p 1",
        "--data: '{' is not JSON",
        "--least: -0.5 is less than 0",
        "--truth: 'perhaps' is not true or false",
    ]
    assert wrong[3].remedy == "give a number of at least 0"


def test_a_deprecated_flag_that_still_works_is_a_warning(sglang: Catalogue) -> None:
    for problems in (
        sglang.check_argv(["--grpc-mode"], "x"),
        sglang.check_options({"grpc-mode": True}, "x"),
    ):
        (said,) = problems
        assert said.severity == "warning"
        assert said.message == f"--grpc-mode is deprecated in dynamo.sglang {RELEASE.dynamo}"
        assert said.remedy == "use --smg-grpc-mode"


@pytest.mark.parametrize(
    ("replacement", "takes_value", "value", "wanted"),
    [
        ("--new", True, 4, {"new": 4}),
        ("--new", False, True, {"new": True}),
        ("--new=off", False, True, {"new": "off"}),
        ("--new=off", False, False, {}),
        ("--new-{a,b}=off", False, True, {"new-a": "off", "new-b": "off"}),
        ("--new=off", True, 4, None),
        ("policy_classes[] in --router-policy-config", True, 4, None),
        (None, True, 4, None),
    ],
)
def test_the_successors_of_a_deprecated_flag(
    replacement: str | None, takes_value: bool, value: Any, wanted: dict[str, Any] | None
) -> None:
    flag = Flag("--old", "str", takes_value, deprecated=True, replacement=replacement)
    assert flag.successors(value) == wanted


def test_the_labs_trtllm_command_is_refused_flag_by_flag(trtllm: Catalogue) -> None:
    lab = words(
        "--engine-dir e --config-path c.yaml --dist-init-addr h:1 --nnodes 2 --node-rank 0 --model-path m"
    )
    remedies = [
        p.remedy for p in trtllm.check_argv([*lab, "--disaggregation-strategy", "prefill_first"], "x")
    ]
    assert remedies == [
        "use --model (here: wideep_model_path)",
        "use --extra-engine-args FILE.yaml (here: options of the pool, from which that file is made)",
        "remove it (here: wideep_address, if the hosts are not reached by their names)",
        "remove it (here: nodes_per_replica of the pool)",
        "remove it (here: the order of the hosts in their inventory group)",
        "use --model (here: wideep_model_path)",
        "use --disaggregation-mode (here: the inventory group that a host is in)",
    ]


def test_dotted_flags_are_checked_against_the_engines_fields(trtllm: Catalogue) -> None:
    good = ["--model", "m", "--trtllm.kv_cache_config.free_gpu_memory_fraction", "0.3"]
    assert trtllm.check_argv(good, "x") == []
    wrong = trtllm.check_argv(
        ["--trtllm.kv_cache_config.dtype", "fp9", "--trtllm.max_batch_size=3", "--trtllm.print_iter_log"], "x"
    )
    assert [p.message.split(":")[0] for p in wrong] == [
        "--trtllm.max_batch_size needs exactly one value, as a word of its own",
        "--trtllm.print_iter_log needs exactly one value, as a word of its own",
        "'fp9' is not one of auto, float16, bfloat16, float32, fp8, fp8_ds_mla, nvfp4",
    ]
    both = trtllm.check_argv([*good, "--override-engine-args", "{}"], "x")
    assert said(both) == [
        (
            "--override-engine-args and --trtllm.* exclude each other",
            "put all of it into --override-engine-args",
        )
    ]


# ---- options as a mapping ----


def test_options_become_arguments_that_pass(sglang: Catalogue) -> None:
    options = {
        "page-size": 64,
        "enable_dp_attention": True,
        "skip-tokenizer-init": False,
        "enable-rl": False,
        "served-model-name": None,
        "cuda-graph-bs-decode": [1, 2],
        "kv-events-config": {"publisher": "zmq"},
        "chat-template": "-odd",
    }
    assert sglang.check_options(options, "wideep_pools.decode.extra_args") == []
    argv = sglang.to_argv(options)
    assert argv == [
        "--page-size",
        "64",
        "--enable-dp-attention",
        "--no-enable-rl",
        "--cuda-graph-bs-decode",
        "1",
        "2",
        "--kv-events-config",
        '{"publisher":"zmq"}',
        "--chat-template=-odd",
    ]
    assert sglang.check_argv(argv, "x") == []


def test_lists_and_booleans_as_values_are_written_the_way_the_flag_takes_them() -> None:
    made = Catalogue(
        "p",
        "1",
        "parser",
        (
            Flag("--again", "str", True, repeatable=True),
            Flag("--data", "json", True),
            Flag("--truth", "bool", True),
        ),
        RELEASE.directory / "catalogues",
    )
    options = {"again": ["a", "b"], "data": [1, 2], "truth": True}
    assert made.check_options(options, "x") == []
    assert made.to_argv(options) == ["--again", "a", "--again", "b", "--data", "[1,2]", "--truth", "true"]


@pytest.mark.parametrize(
    ("options", "message", "remedy"),
    [
        ({"page-sise": 64}, "--page-sise is not a flag", "did you mean --page-size?"),
        ({"cuda-graph-bs": [128]}, "--cuda-graph-bs is gone", "use --cuda-graph-max-bs-decode"),
        ({"enable-eplb": "yes"}, "--enable-eplb takes no value, got 'yes'", "write true or false"),
        ({"page-size": True}, "--page-size needs a value, got True", "give a whole number"),
        ({"page-size": 0.5}, "--page-size: '0.5' is not a whole number", "give a whole number"),
        ({"page-size": [1, 2]}, "--page-size takes one value, got 2", "give a whole number"),
        ({"deepep-mode": "fast"}, "--deepep-mode: 'fast' is not one of", "use one of: auto"),
        ({"gc-threshold": []}, "--gc-threshold: no value is given", "give a whole number"),
        ({"tp-size": 4, "tensor-parallel-size": 4}, "is the same flag as --tp-size", "keep one of them"),
    ],
)
def test_each_mistake_in_options_names_the_variable(
    sglang: Catalogue, options: dict[str, object], message: str, remedy: str
) -> None:
    (problem,) = sglang.check_options(options, "extra_args")
    assert message in problem.message
    assert remedy in problem.remedy
    assert problem.where == f"extra_args.{list(options)[-1]}"


def test_unknown_options_still_become_arguments_for_the_message_that_shows_them(sglang: Catalogue) -> None:
    assert sglang.to_argv({"new-thing": True, "other-thing": False, "third": 3}) == [
        "--new-thing",
        "--third",
        "3",
    ]


# ---- environment ----


def test_old_environment_variables_are_named_with_their_successor() -> None:
    (problem,) = RELEASE.check_environment(["DYN_LOG", "DYNAMO_LOG"], "wideep_pools.decode.env")
    assert problem.where == "wideep_pools.decode.env.DYNAMO_LOG"
    assert problem.remedy == "use DYN_LOG"


# ---- engine YAML ----

GOOD = """
tensor_parallel_size: 16
moe_expert_parallel_size: 16
enable_attention_dp: true
max_batch_size: 256
batch_wait_timeout_ms: 0
moe_config: {backend: CUTEDSL, load_balancer: {num_slots: 288, layer_updates_per_iter: 2}}
kv_cache_config: {free_gpu_memory_fraction: 0.3, dtype: fp8, enable_block_reuse: false}
cuda_graph_config: {enable_padding: true, batch_sizes: [1, 2, 256]}
cache_transceiver_config: {backend: NIXL, max_tokens_in_buffer: 8448}
speculative_config: {decoding_type: MTP, anything: [1]}
disable_overlap_scheduler: true
"""


def test_a_right_engine_file_has_no_problem(fields: YamlCatalogue) -> None:
    assert fields.check(yaml.safe_load(GOOD), "decode.yaml") == []
    assert fields.check({"cuda_graph_config": None, "moe_config": {"load_balancer": "eplb.yaml"}}, "x") == []


@pytest.mark.parametrize(
    ("text", "place", "message", "remedy"),
    [
        ("max_batchsize: 4", "max_batchsize", "not a field of tensorrt-llm", "did you mean max_batch_size?"),
        (
            "free_gpu_memory_fraction: 0.3",
            "",
            "not a field",
            "mean kv_cache_config.free_gpu_memory_fraction?",
        ),
        ("qqqqqqqqqq: 4", "", "not a field", "remove it"),
        (
            "moe_config: {moe_max_num_tokens: 4}",
            "moe_config.moe_max",
            "is gone",
            "use moe_config.max_num_tokens",
        ),
        ("build_config: {max_batch_size: 4}", "build_config", "is gone", "at the top level"),
        ("max_batch_size: many", "", "'many' is not of type int", "give a value of type int from 1"),
        ("max_batch_size: true", "", "True is not of type int", "give a value of type int"),
        ("max_batch_size: 0", "", "0 is less than 1", "from 1"),
        (
            "kv_cache_config: {free_gpu_memory_fraction: 30}",
            "kv_cache",
            "30 is more than 1",
            "from 0 up to 1",
        ),
        ("kv_cache_config: {dtype: fp9}", "kv_cache_config.dtype", "'fp9' is not one of", "use one of: auto"),
        ("kv_cache_config: null", "kv_cache_config", "it must not be null", "type object"),
        ("moe_config: DEEPGEMM", "moe_config", "'DEEPGEMM' is not of type object", "type object"),
        ("cuda_graph_config: {batch_sizes: 4}", "", "4 is not a list", "type list[int]"),
        ("cuda_graph_config: {batch_sizes: [1, x]}", "", "'x' is not of type int", "type list[int]"),
        ("enable_attention_dp: 1", "", "1 is not of type bool", "type bool"),
        ("moe_config: {load_balancer: 4}", "", "4 is not of type object or str", "type object or str"),
    ],
)
def test_each_mistake_in_an_engine_file_is_one_error(
    fields: YamlCatalogue, text: str, place: str, message: str, remedy: str
) -> None:
    (problem,) = fields.check(yaml.safe_load(text), "decode.yaml")
    assert problem.where.startswith(f"decode.yaml: {place}")
    assert message in problem.message
    assert remedy in problem.remedy
    assert problem.severity == "error"


def test_the_labs_eplb_file_is_refused_key_by_key(fields: YamlCatalogue) -> None:
    lab = {"algorithm": "a", "redundant_experts": 32, "rebalance_frequency": 1, "usage_recorder_mode": "s"}
    problems = fields.check({**lab, "buffer_size": 1}, "eplb.yaml", under="moe_config.load_balancer")
    assert [p.remedy for p in problems] == [
        "remove it",
        "use moe_config.load_balancer.num_slots (here: wideep_eplb.redundant_experts)",
        "use moe_config.load_balancer.layer_updates_per_iter (here: wideep_eplb.layers_per_chunk)",
        "remove it",
        "remove it",
    ]


def test_what_is_known_from_another_version_only_is_a_warning(fields: YamlCatalogue) -> None:
    tree = {
        "cache_transceiver_config": {"agent_bounce_buffer_enable": True},
        "attn_backend": "FLASHINFER_STAR_ATTENTION",
        "kv_cache_config": {"sink_token_length": 4},
        "max_seq_len": 4,
    }
    problems = fields.check(tree, "x")
    assert {p.severity for p in problems} == {"warning"}
    assert [p.message.split(" of")[0] for p in problems] == [
        f"known from 1.4.0rc1, not from {ENGINES['tensorrt-llm']}",
        f"'FLASHINFER_STAR_ATTENTION' is known from another version than {ENGINES['tensorrt-llm']} only",
        "deprecated",
    ]


def test_a_file_that_is_no_mapping_is_refused(fields: YamlCatalogue) -> None:
    assert said(fields.check(["a"], "x")) == [
        ("the file is not a mapping of fields", "write `field: value` lines")
    ]


def test_a_field_without_bounds_takes_any_number() -> None:
    assert Field("x", "float").refuses(-1) is None


# ---- where the files are ----


def test_a_missing_catalogue_names_those_that_there_are() -> None:
    with pytest.raises(FileNotFoundError, match=r"no catalogue of dynamo\.nothing .* dynamo\.mocker"):
        RELEASE.catalogue("dynamo.nothing")


def test_configs_are_those_of_the_checkout() -> None:
    assert paths.configs_dir() == ROOT / "configs"
    assert paths.roles_dir() == ROOT / "roles"


def test_configs_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WIDEEP_CONFIGS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="WIDEEP_CONFIGS names"):
        paths.configs_dir()
    (tmp_path / "releases").mkdir()
    assert paths.configs_dir() == tmp_path
