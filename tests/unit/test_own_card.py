"""The verb `wideep model add`: the file that it writes, and what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkpoints import EXAMPLES, MLA
from typer.testing import CliRunner

from wideep.cli import app
from wideep.own_card import add
from wideep.problems import RefusedError
from wideep.reference.models import find_model

DEEPSEEK = EXAMPLES["DeepSeek in FP8 blocks, a draft layer"].config
PLAIN = {k: v for k, v in DEEPSEEK.items() if k != "quantization_config"}
# 16 bits: all weights and the draft layer, whose projection takes the two halves of a token.
PLAIN_BYTES = 2 * (2 * 800 + 4 * 216 + 240 + 3 * (5 * 144 + 32) + 2 * 8 * 8)


def checkpoint(path: Path, config: dict[str, Any], **files: Any) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, content in {"config": config, **files}.items():
        (path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return path


def weights(path: Path, tensors: dict[str, tuple[str, int]]) -> None:
    """Write a file of weights: name -> type, bytes."""
    header, at = {}, 0
    for name, (dtype, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": [size], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_a_card_is_written_that_the_plan_finds(tmp_path: Path, example: Any) -> None:
    files = {"hf_quant_config": example.quantization} if example.quantization else {}
    made = add(checkpoint(tmp_path / "model", example.config, **files), "lab/Own-1.5", tmp_path)
    assert (made.complete, made.file) == (True, tmp_path / "models" / "own-1.5.yml")
    found, problems = find_model("", "lab/Own-1.5", [tmp_path])
    assert found
    assert (found.parameters, problems) == (example.parameters, [])
    assert f"{example.parameters / 1e9:.2f} billion" in made.text


def test_what_was_understood_is_told_with_the_difference_to_the_index(tmp_path: Path) -> None:
    names = {"model.layers.3.mlp.experts.0.gate_proj.weight": "a.safetensors"}
    index = {"metadata": {"total_size": PLAIN_BYTES}, "weight_map": names}
    path = checkpoint(tmp_path / "m", PLAIN, **{"model.safetensors.index": index})
    text = add(path, "lab/own", tmp_path).text
    for said in (
        "3 of 8, 2 with 4 experts (2 a token, 1 shared); 3 cache every token",
        "routed experts",
        "36 bytes a token in 16 bits, 18 in FP8",
        "experts bf16",
        "by the index (+0.00 %)",
        "1 layer(s)",
    ):
        assert said in text


def test_headers_of_weights_say_how_they_are_stored(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "m", PLAIN)
    tensors = {"model.layers.3.eh_proj.weight": ("BF16", PLAIN_BYTES - 8), "model.norm.weight": ("F32", 8)}
    weights(path / "model.safetensors", tensors)
    text = add(path, "lab/own", tmp_path).text
    assert "by the weight files (+0.00 %)" in text
    assert "stored as BF16 0.00, F32 0.00" in text


def test_draft_layers_are_those_that_the_checkpoint_has(tmp_path: Path) -> None:
    def drafts(config: dict[str, Any], *names: str) -> int:
        index = {"weight_map": dict.fromkeys(names, "a.safetensors")}
        path = checkpoint(tmp_path / "m", config, **{"model.safetensors.index": index})
        add(path, "lab/own", tmp_path, overwrite=True)
        found, _ = find_model("", "lab/own", [tmp_path])
        assert found
        return found.draft_layers

    main = "model.layers.0.mlp.up_proj.weight"
    assert drafts(PLAIN, main, "model.layers.3.eh_proj.weight") == 1
    assert drafts(PLAIN, main) == 0
    without = {k: v for k, v in PLAIN.items() if k != "num_nextn_predict_layers"}
    assert drafts(without, main) == 0
    assert drafts(without | {"num_mtp_modules": 2}, main, "model.mtp.layers.0.w", "model.mtp.layers.1.w") == 2


@pytest.mark.parametrize(
    ("tokenizer", "auto_map", "expected"),
    [({"auto_map": {}}, True, True), ({}, False, False), ({}, True, None), (None, False, None)],
)
def test_whether_code_is_needed_is_known_from_the_tokenizer(
    tmp_path: Path, tokenizer: dict[str, Any] | None, auto_map: bool, expected: bool | None
) -> None:
    files = {} if tokenizer is None else {"tokenizer_config": tokenizer}
    config = PLAIN | ({"auto_map": {"AutoConfig": "x.Y"}} if auto_map else {})
    add(checkpoint(tmp_path / "m", config, **files), "lab/own", tmp_path)
    found, _ = find_model("", "lab/own", [tmp_path])
    assert found
    assert found.needs_own_code is expected


def test_what_is_missing_is_a_comment_and_said(tmp_path: Path) -> None:
    config = {k: v for k, v in PLAIN.items() if k not in ("vocab_size", *MLA)}
    made = add(checkpoint(tmp_path / "m", config), "lab/own", tmp_path)
    assert not made.complete
    assert "not told: vocabulary" in made.text
    content = made.file.read_text(encoding="utf-8")
    assert "# vocabulary:" in content
    assert yaml.safe_load(content)["hidden_size"] == 8


def test_what_cannot_be_a_card_is_refused_and_another_card_is_kept(tmp_path: Path) -> None:
    for config in ({"model_type": "x"}, PLAIN | {"hybrid_override_pattern": "M-"}):
        with pytest.raises(RefusedError):
            add(checkpoint(tmp_path / "m", config), "lab/own", tmp_path)
    with pytest.raises(RefusedError, match="can be read"):
        add(tmp_path / "none", "", tmp_path)
    path = checkpoint(tmp_path / "m", PLAIN)
    first = add(path, "lab/own", tmp_path)
    assert add(path, "lab/own", tmp_path).file == first.file  # the same again
    with pytest.raises(RefusedError, match="another card is there"):
        add(checkpoint(path, PLAIN | {"vocab_size": 7}), "lab/own", tmp_path)


@pytest.mark.parametrize(
    ("folder", "config", "name"),
    [
        ("models--lab--Own/snapshots/abc", {}, "lab/Own"),
        ("Own", {"_name_or_path": "lab/Own-2"}, "lab/Own-2"),
        ("Own 3", {"_name_or_path": "/data/x"}, "Own-3"),
    ],
)
def test_the_name_is_that_of_the_checkpoint(
    tmp_path: Path, folder: str, config: dict[str, Any], name: str
) -> None:
    made = add(checkpoint(tmp_path / folder, PLAIN | config), "", tmp_path)
    assert yaml.safe_load(made.file.read_text(encoding="utf-8"))["names"] == [name]


def test_the_command_writes_beside_the_inventory(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "m", PLAIN)
    inventory = tmp_path / "inv"
    inventory.mkdir()
    (inventory / "hosts.yml").write_text("all: {}\n", encoding="utf-8")
    for given in (inventory, inventory / "hosts.yml"):
        done = CliRunner().invoke(app, ["model", "add", str(path), "--name", "lab/own", "-i", str(given)])
        assert done.exit_code == 0, done.output
        assert (inventory / "models" / "own.yml").is_file()
    done = CliRunner().invoke(app, ["model", "add", str(path / "config.json"), "-o", str(tmp_path / "cards")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "cards" / "models" / "m.yml").is_file()
