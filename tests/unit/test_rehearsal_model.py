"""The model directory of the rehearsal: the committed one is what the script makes, and it does its job."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import REPOSITORY
from tokenizers import Tokenizer

MODEL = REPOSITORY / "configs" / "models" / "rehearsal"
FILES = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
MOCKER_IDS = range(1000, 2000)

tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
config = json.loads((MODEL / "config.json").read_text(encoding="utf-8"))


def test_the_committed_directory_is_what_the_script_makes(tmp_path: Path) -> None:
    script = REPOSITORY / "tools" / "make_rehearsal_model.py"
    subprocess.run([sys.executable, "-I", script, tmp_path / "a"], check=True)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == FILES
    assert sorted(path.name for path in MODEL.iterdir()) == FILES
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (MODEL / name).read_bytes(), (
            f"{name} differs: run tools/make_rehearsal_model.py and commit the result"
        )
    assert sum(path.stat().st_size for path in MODEL.iterdir()) < 300_000


def test_config_and_tokenizer_have_the_same_vocabulary() -> None:
    assert config["vocab_size"] == tokenizer.get_vocab_size(with_added_tokens=True)
    assert sorted(tokenizer.get_vocab().values()) == list(range(config["vocab_size"]))


def test_special_tokens_are_where_the_config_says_and_never_drawn_by_the_mocker() -> None:
    names = json.loads((MODEL / "tokenizer_config.json").read_text(encoding="utf-8"))
    generation = json.loads((MODEL / "generation_config.json").read_text(encoding="utf-8"))
    for kind in ("bos", "eos", "pad"):
        number = tokenizer.token_to_id(names[f"{kind}_token"])
        assert number == config[f"{kind}_token_id"] == generation[f"{kind}_token_id"]
        assert number not in MOCKER_IDS


def test_what_the_mocker_draws_reads_as_words() -> None:
    words = tokenizer.decode(list(MOCKER_IDS)).split(" ")
    assert words[0] == ""
    assert len(words) == 1001
    assert all(word.isascii() and word.isalpha() and word.islower() for word in words[1:])


def test_the_encoder_uses_the_words() -> None:
    for number in MOCKER_IDS:
        assert tokenizer.encode(tokenizer.decode([number])).ids == [number]
    tokens = tokenizer.encode("Say hello to the prefill worker.").tokens
    assert tokens[-5:] == ["Ġto", "Ġthe", "Ġprefill", "Ġworker", "."]


@given(st.text())
def test_every_text_survives(text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("text", ["naïve 北京 🎉 \x00\r\n\t", "  two  spaces  ", "<|user|>", "'ll 're 12345"])
def test_awkward_text_survives(text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_the_config_has_the_shape_of_deepseek_v3() -> None:
    assert config["architectures"] == ["DeepseekV3ForCausalLM"]
    assert config["model_type"] == "deepseek_v3"
    # A parallel size that does not fit the real model must not fit the rehearsal either.
    real = {
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "n_group": 8,
        "topk_group": 4,
        "num_attention_heads": 128,
    }
    assert {key: config[key] for key in real} == real
    assert {"kv_lora_rank", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"} <= set(
        config
    )


def test_the_chat_template_marks_turns_and_asks_for_the_next_one() -> None:
    jinja2 = pytest.importorskip("jinja2")
    names = json.loads((MODEL / "tokenizer_config.json").read_text(encoding="utf-8"))
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": None},
    ]
    text = (
        jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
        .from_string(names["chat_template"])
        .render(messages=messages, add_generation_prompt=True, bos_token="<|bos|>", eos_token="<|eos|>")
    )
    assert text == ("<|bos|><|system|>Be short.<|eos|><|user|>Hello<|eos|><|assistant|><|eos|><|assistant|>")
    roles = ("<|system|>", "<|user|>", "<|assistant|>")
    assert all(tokenizer.encode(role).tokens == [role] for role in roles)
