"""What a checkpoint's own files say of a model: config.json and its quantization, read into a card's fields.

Families name one thing in several ways; each list below begins with the most usual. What cannot be read is
said, never guessed: a field that is missing here is missing in the card. Names are those of the classes in
SGLang's and transformers' packages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from wideep.reference.models import Format

# Where a wrapper (vision, audio) keeps the language model's figures.
INNER = ("text_config", "llm_config", "language_config", "thinker_config")
# Fields of the whole checkpoint, which an inner configuration may leave out.
OUTER = ("vocab_size", "tie_word_embeddings", "quantization_config", "max_position_embeddings", "dtype",
         "torch_dtype")  # fmt: skip
LAYERS = ("num_hidden_layers", "num_layers", "n_layers", "n_layer")
HIDDEN = ("hidden_size", "n_embd", "d_model")
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
KV_HEADS = (
    "num_key_value_heads",
    "num_attention_groups",
    "num_kv_heads",
    "multi_query_group_num",
    "n_head_kv",
)
INNER_SIZE = ("intermediate_size_mlp", "dense_intermediate_size", "ffn_hidden_size", "intermediate_size")
LENGTH = ("max_position_embeddings", "max_seq_len", "max_sequence_length", "seq_length", "n_positions")
ROUTED = ("n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts", "num_routed_experts")
PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_top_k", "moe_topk",
             "experts_per_token", "num_activated_experts", "top_k_experts")  # fmt: skip
EXPERT_SIZE = (
    "moe_intermediate_size",
    "expert_ffn_hidden_size",
    "expert_intermediate_size",
    "moe_ffn_hidden_size",
)
SHARED = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert")
SHARED_SIZE = ("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "share_expert_dim",
               "share_expert_dims", "shared_intermediate_size")  # fmt: skip
DRAFTS = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "mtp_num_layers")
FULL, WINDOW, STATE = "full", "window", "state"
KINDS = {
    "full_attention": FULL, "attention": FULL, "deepseek_sparse_attention": FULL, "minimax_m3_sparse": FULL,
    "sparse_attention": FULL, "sliding_attention": WINDOW, "chunked_attention": WINDOW,
    "sliding_window": WINDOW, "linear_attention": STATE, "mamba": STATE, "kda": STATE,
}  # fmt: skip
# Layers of other models have a plain block and experts together, or several attentions: no card can say that.
STRANGE = {
    "hybrid_override_pattern": "layers are attention, experts or Mamba, one at a time",
    "zero_expert_num": "each layer has two attentions and two plain blocks",
    "per_layer_config": "layers differ in size",
    "block_configs": "layers differ in size",
    "routed_expert_hidden_size": "experts work on tokens of another size",
}
# Models with one shared expert that their configuration does not name.
ALWAYS_SHARED = ("llama4", "llama4_text")
# Their output gate is a fact of the class.
ALWAYS_GATED = ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "qwen3_5_moe")
# One draft layer in the checkpoint, which no field names.
ALWAYS_DRAFTS = ("qwen3_next",)
# Draft layers with a plain block, under experts in the main layers.
DENSE_DRAFTS = ("mimo_v2_flash", "mimo_v2")

PREFIXES = ("model.layers", "language_model.model.layers", "model.language_model.layers", "layers",
            "backbone.layers", "language_model.layers")  # fmt: skip
MODULES = {
    "experts": ("mlp.experts.0.gate_proj", "mlp.experts.0.down_proj", "mlp.experts.gate_up_proj",
                "block_sparse_moe.experts.0.w1", "ffn.experts.0.w1", "ffn.experts", "mlp.experts",
                "feed_forward.experts.gate_up_proj", "block_sparse_moe.experts.0.gate_proj"),
    "shared": ("mlp.shared_experts.gate_proj", "mlp.shared_expert.gate_proj", "ffn.shared_experts.w1",
               "block_sparse_moe.shared_experts.gate_proj", "feed_forward.shared_expert.gate_proj"),
    "dense": ("mlp.gate_proj", "mlp.up_proj", "ffn.w1", "feed_forward.gate_proj"),
    "attention": ("self_attn.q_a_proj", "self_attn.q_b_proj", "self_attn.q_proj", "self_attn.kv_b_proj",
                  "self_attn.qkv_proj", "attn.wq_b"),
    "output": ("self_attn.o_proj", "attn.wo_b"),
    "linear": ("linear_attn.in_proj_qkv", "linear_attn.in_proj_qkvz", "linear_attn.out_proj"),
}  # fmt: skip
ALGORITHMS: dict[str, Format] = {
    "NVFP4": "nvfp4", "W4A16_NVFP4": "nvfp4", "FP8": "fp8-tensor", "FP8_PB_WO": "fp8-block",
    "FP8_PB_REAL": "fp8-block", "FP8_PER_CHANNEL_PER_TOKEN": "fp8-channel", "MXFP8": "mxfp8",
    "W4A8_AWQ": "int4", "W4A16_AWQ": "int4", "W4A8_MXFP4_FP8": "mxfp4", "MXFP4": "mxfp4", "INT4": "int4",
}  # fmt: skip

METHODS: dict[str, Format] = {
    "mxfp4": "mxfp4", "mxfp8": "mxfp8", "w4afp8": "w4afp8", "w8a8_int8": "int8", "w8a8_fp8": "fp8-channel",
    "modelopt_fp4": "nvfp4",
}  # fmt: skip
# Weights in a row that usually share a scale.
GROUPED = {"int4": 32, "w4afp8": 128}


class NoModelError(ValueError):
    """A configuration in which no language model is recognized."""


@dataclass(frozen=True)
class Reading:
    """What was read.

    card: fields of a card, by its names. unread: what a card has to say and the files do not. notes: what the
    reader should know of the rest. quantized_by: the method that the checkpoint names; empty for none.
    strange: why no card can describe the model. experts: routed ones; 0: it has none; None: nobody knows.
    """

    card: dict[str, Any]
    unread: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    quantized_by: str = ""
    strange: tuple[str, ...] = ()
    experts: int | None = None


def language_model(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the language model's own configuration: that of a wrapper has it one or two levels down."""
    for name in INNER:
        inner = config.get(name)
        if isinstance(inner, Mapping) and inner:
            found = language_model(inner)
            if _first(found, LAYERS):
                return {k: config[k] for k in OUTER if k in config} | {
                    k: v for k, v in found.items() if v is not None or k not in config
                }
    return config


def read(config: Mapping[str, Any], quantization: Mapping[str, Any] | None = None) -> Reading:
    """Read config.json, and hf_quant_config.json where there is one.

    Raises:
        NoModelError: neither layers nor a size of tokens are in it.
    """
    return _Reader(config, quantization or {}).reading()


def _first(config: Mapping[str, Any], names: Iterable[str]) -> Any:
    """Return the first value that is there and says something."""
    for name in names:
        value = config.get(name)
        if isinstance(value, list | tuple) and value and name not in ("moe_layers_enum",):
            value = value[0]  # one for text and one for images, or one for each layer
        if value is not None and value != "":
            return value
    return None


def _count(config: Mapping[str, Any], names: Iterable[str]) -> int:
    value = _first(config, names)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0


class _Reader:
    def __init__(self, config: Mapping[str, Any], quantization: Mapping[str, Any]) -> None:
        self.outer, self.text = config, language_model(config)
        self.kind = str(self.text.get("model_type") or config.get("model_type") or "")
        self.layers, self.hidden = _count(self.text, LAYERS), _count(self.text, HIDDEN)
        if not self.layers and not self.hidden:
            raise NoModelError("neither the number of layers nor the size of a token is in it")
        self.quantization = self._quantization(quantization)
        self.notes: list[str] = []
        self.kinds = self._layer_kinds()

    def reading(self) -> Reading:
        text, architectures = self.text, list(self.outer.get("architectures") or ())
        inner = list(text.get("architectures") or ())
        card: dict[str, Any] = {
            "architecture": architectures[0] if architectures else (inner[0] if inner else ""),
            "layers": self.layers,
            "hidden_size": self.hidden,
            "vocabulary": _count(text, ("vocab_size", "padded_vocab_size")),
            "context_length": _count(text, LENGTH),
            "tied_embeddings": bool(text.get("tie_word_embeddings", False)),
        }
        if inner and inner[0] != card["architecture"]:
            card["decoder"] = inner[0]
        if experts := self._experts():
            card["experts"] = experts
        card["dense_layers"] = self._dense_layers() if experts else self.layers
        card["intermediate_size"] = self._inner_size(experts)
        card["attention"] = self._attention()
        if draft := self._draft():
            card["draft"] = draft
        method = self._formats(card)
        if "auto_map" in self.outer:
            self.notes.append("the repository has code of its own; whether engines need it is not told here")
        required = ("layers", "hidden_size", "vocabulary", "context_length", "intermediate_size")
        unread = [name for name in required if not card.get(name)]
        attention = card["attention"]
        unread += [f"attention.{name}" for name in ("heads", "head_dim") if not attention.get(name)]
        if experts:
            unread += [f"experts.{name}" for name in ("per_token", "intermediate_size") if not experts[name]]
        if vision := self._vision():
            card["other_parameters"] = vision
        card = {k: v for k, v in card.items() if v not in ("", False) or k == "dense_layers"}
        card = {k: v for k, v in card.items() if k not in unread}
        strange = tuple(why for name, why in STRANGE.items() if text.get(name))
        known = experts["routed"] if experts else None if self._hints_of_experts() else 0
        if known is None:
            self.notes.append(
                "it has names of experts, and how many there are is not told in a way that is known"
            )
            unread.append("experts")
        return Reading(card, tuple(unread), tuple(self.notes), method, strange, known)

    def _hints_of_experts(self) -> bool:
        """Whether fields speak of several experts without one that says how many there are."""
        return any(
            ("expert" in name or name.startswith("moe_"))
            and isinstance(value, int)
            and not isinstance(value, bool)
            and value > 1
            for name, value in self.text.items()
        ) and not _count(self.text, ROUTED)

    # ---- experts ----

    def _experts(self) -> dict[str, Any]:
        text = self.text
        routed = _count(text, ROUTED)
        if routed <= 1:
            return {}
        size = _count(text, EXPERT_SIZE) or _count(text, ("intermediate_size",))
        shared, shared_size = _count(text, SHARED), _count(text, SHARED_SIZE)
        if not shared and (shared_size or self.kind in ALWAYS_SHARED):
            shared = 1
        found = {
            "routed": routed,
            "shared": shared,
            "per_token": _count(text, PER_TOKEN),
            "intermediate_size": size,
        }
        if shared and shared_size and shared_size != size:
            found["shared_intermediate_size"] = shared_size
        if _count(text, ("n_group",)) > 1:
            found["groups"] = _count(text, ("n_group",))
        return found

    def _inner_size(self, experts: Mapping[str, Any]) -> int:
        size = _count(self.text, INNER_SIZE)
        # No plain block, no size of it: that of an expert stands in its place.
        return size or (int(experts["intermediate_size"]) if experts else 0)

    def _dense_layers(self) -> int:  # noqa: PLR0911  a return for each family
        """Return the number of layers without experts."""
        text, total = self.text, self.layers
        kinds = text.get("mlp_layer_types")
        if isinstance(kinds, list):
            return sum(kind == "dense" for kind in kinds[:total])
        frequency = text.get("moe_layer_freq")
        if isinstance(frequency, list):
            return sum(not used for used in frequency[:total])
        if isinstance(text.get("moe_layers"), list):  # Llama 4
            return total - len(text["moe_layers"])
        if enumerated := text.get("moe_layers_enum"):  # Step
            listed = enumerated.split(",") if isinstance(enumerated, str) else enumerated
            return total - len(listed)
        if step := _count(text, ("interleave_moe_layer_step",)):
            return total - total // step
        first = _count(
            text, ("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index", "first_k_dense")
        )
        if "moe_layer_start_index" in text:  # Ernie
            last = text.get("moe_layer_end_index", -1)
            last = min(last[0] if isinstance(last, list) else last, total - 1)
            last = total - 1 if last < 0 else last
            every = _count(text, ("moe_layer_interval",)) or 1
            return total - sum((n + 1) % every == 0 for n in range(first, last + 1))
        only = text.get("mlp_only_layers") or ()
        every = _count(text, ("decoder_sparse_step",)) or 1
        every = int(frequency) if isinstance(frequency, int) and frequency > 1 else every
        offset = 1 if "decoder_sparse_step" in text else 0
        return sum(n < first or n in only or (n + offset) % every != 0 for n in range(total))

    def _draft(self) -> dict[str, Any]:
        layers = _count(self.text, DRAFTS) or int(self.kind in ALWAYS_DRAFTS)
        if self.text.get("num_mtp_modules") and not layers:
            self.notes.append(
                f"num_mtp_modules {self.text['num_mtp_modules']}: whether the checkpoint has their weights"
                " is not told here; no draft layers are in the card"
            )
        if not layers:
            return {}
        return {"layers": layers} | ({"moe": False} if self.kind in DENSE_DRAFTS else {})

    def _vision(self) -> int:
        """Return the weights of a vision tower's blocks: four projections of attention, two of the rest."""
        vision = self.outer.get("vision_config") or (self.outer.get("thinker_config") or {}).get(
            "vision_config"
        )
        if not isinstance(vision, Mapping):
            return 0
        layers = _count(vision, ("depth", *LAYERS, "vt_num_hidden_layers"))
        size = _count(vision, ("hidden_size", "vt_hidden_size", "embed_dim"))
        inner = _count(vision, ("intermediate_size", "vt_intermediate_size"))
        if not (layers and size and inner):
            self.notes.append("the size of the vision part is not told: it is in no sum")
        return layers * (4 * size * size + 2 * size * inner) if inner else 0

    # ---- attention ----

    def _attention(self) -> dict[str, Any]:
        text = self.text
        heads, head = _count(text, HEADS), _count(text, ("head_dim", "attention_head_dim", "kv_channels"))
        if text.get("compress_ratios") and text.get("o_groups"):
            return self._compressed(heads, head)
        if _count(text, ("kv_lora_rank",)):
            found = {
                "kind": "mla",
                "heads": heads,
                "head_dim": _count(text, ("qk_nope_head_dim",)),
                "q_lora_rank": _count(text, ("q_lora_rank",)),
                "kv_lora_rank": _count(text, ("kv_lora_rank",)),
                "rope_head_dim": _count(text, ("qk_rope_head_dim",)),
                "v_head_dim": _count(text, ("v_head_dim",)),
            }
            if not found["q_lora_rank"]:
                del found["q_lora_rank"]
        else:
            head = head or (self.hidden // heads if heads else 0)
            found = {
                "kind": "gqa",
                "heads": heads,
                "head_dim": head,
                "kv_heads": _count(text, KV_HEADS) or heads,
            }
            value = _count(text, ("v_head_dim",))
            if value and value != head:
                found["v_head_dim"] = value
            if text.get("attn_output_gate") or self.kind in ALWAYS_GATED:
                found["gated"] = True
        kinds = self.kinds
        if windows := kinds.count(WINDOW):
            found["window"] = self._window(windows)
        if states := kinds.count(STATE):
            linear = self._linear(states)
            if linear:
                found["linear"] = linear
        if index := self._index():
            found["index"] = index
        return found

    def _layer_kinds(self) -> list[str]:  # noqa: PLR0911  a return for each family
        """Return what each layer caches."""
        text, total = self.text, self.layers
        if isinstance(kinds := text.get("layer_types"), list):
            strange = sorted({str(kind) for kind in kinds} - KINDS.keys())
            if strange:
                self.notes.append(f"layer_types {', '.join(strange)}: not known, taken for full attention")
            return [KINDS.get(str(kind), FULL) for kind in kinds[:total]]
        if isinstance(pattern := text.get("hybrid_layer_pattern"), list):
            return [WINDOW if kind == 1 else FULL for kind in pattern[:total]]
        if isinstance(kinds := text.get("attn_type_list"), list):  # MiniMax: 1 is softmax, 0 lightning
            return [FULL if kind == 1 else STATE for kind in kinds[:total]]
        linear = text.get("linear_attn_config")
        if isinstance(linear, Mapping) and linear.get("kda_layers"):
            return [STATE] * len(linear["kda_layers"]) + [FULL] * (total - len(linear["kda_layers"]))
        if interval := _count(text, ("full_attention_interval",)) or (4 if self.kind in ALWAYS_DRAFTS else 0):
            return [FULL if (n + 1) % interval == 0 else STATE for n in range(total)]
        if self.kind in ALWAYS_SHARED:  # Llama 4: every fourth layer looks at everything
            rope = text.get("no_rope_layers") or [(n + 1) % 4 != 0 for n in range(total)]
            return [WINDOW if near else FULL for near in rope[:total]]
        if not _count(text, ("sliding_window",)) or text.get("use_sliding_window") is False:
            return [FULL] * total
        if pattern := _count(text, ("sliding_window_pattern", "_sliding_window_pattern")):
            return [FULL if (n + 1) % pattern == 0 else WINDOW for n in range(total)]
        return [WINDOW] * total

    def _window(self, layers: int) -> dict[str, Any]:
        text = self.text
        tokens = _count(text, ("sliding_window", "sliding_window_size", "attention_chunk_size"))
        if self.kind in ALWAYS_SHARED:
            tokens = _count(text, ("attention_chunk_size",)) or 8192
        found = {"tokens": tokens or 1, "layers": layers}
        if not tokens:
            self.notes.append("the size of the sliding window is not told; it counts as one token")
        other = text.get("attention_other_setting")  # Step
        if isinstance(other, Mapping):
            found["heads"] = _count(other, HEADS)
            found["kv_heads"] = _count(other, KV_HEADS)
        for ours, theirs in (
            ("heads", "swa_num_attention_heads"),
            ("kv_heads", "swa_num_key_value_heads"),
            ("head_dim", "swa_head_dim"),
            ("v_head_dim", "swa_v_head_dim"),
        ):
            if _count(text, (theirs,)):
                found[ours] = _count(text, (theirs,))
        return {name: value for name, value in found.items() if value}

    def _linear(self, layers: int) -> dict[str, Any]:
        """Return the layers with a state, where their class is known: gated delta nets, Kimi's, lightning."""
        text, hidden = self.text, self.hidden
        keys, values = _count(text, ("linear_num_key_heads",)), _count(text, ("linear_num_value_heads",))
        kernel = _count(text, ("linear_conv_kernel_dim",)) or 4
        own = text.get("linear_attn_config")
        if keys and values:
            key, value = _count(text, ("linear_key_head_dim",)), _count(text, ("linear_value_head_dim",))
            wide = 2 * keys * key + values * value
            parameters = (
                hidden * (wide + values * value + 2 * values) + wide * kernel + values * value * hidden
            )
            return self._state(layers, parameters, values * key * value, wide * (kernel - 1))
        if isinstance(own, Mapping) and own.get("num_heads"):
            heads, size = int(own["num_heads"]), int(own["head_dim"])
            kernel, wide = int(own.get("short_conv_kernel_size") or 4), heads * size
            low = 2 * (hidden * size + size * wide)  # decay and gate go through a rank of one head
            parameters = 4 * hidden * wide + low + hidden * heads + 3 * wide * kernel
            return self._state(layers, parameters, heads * size * size, 3 * wide * (kernel - 1))
        if self.text.get("attn_type_list"):
            heads, size = _count(text, HEADS), _count(text, ("head_dim",))
            return self._state(layers, 5 * hidden * heads * size, heads * size * size, 0)
        self.notes.append("the state of its linear layers is not known: they count as full attention")
        return {}

    def _state(self, layers: int, parameters: int, state: int, latest: int) -> dict[str, Any]:
        """Numbers of a state are kept in 32 bits, those that a convolution looks back at in 16."""
        width = 2 if self.text.get("mamba_ssm_dtype") == "bfloat16" else 4
        return {"layers": layers, "parameters": parameters, "state_bytes": width * state + 2 * latest}

    def _index(self) -> dict[str, Any]:
        text = self.text
        sparse = text.get("sparse_attention_config")
        if isinstance(sparse, Mapping) and sparse.get("use_sparse_attention", True):  # MiniMax
            used = sparse.get("sparse_attention_freq")
            return {
                "layers": sum(map(bool, used)) if isinstance(used, list) else self.layers,
                "heads": _count(sparse, ("sparse_num_index_heads",)),
                "head_dim": _count(sparse, ("sparse_index_dim",)),
                "tokens": _count(sparse, ("sparse_topk_blocks",)) * _count(sparse, ("sparse_block_size",)),
            }
        if not _count(text, ("index_topk",)) or not _count(text, ("index_n_heads",)):
            return {}
        kinds = text.get("indexer_types")
        layers = sum(kind == "full" for kind in kinds) if isinstance(kinds, list) else self.layers
        return {
            "layers": layers,
            "heads": _count(text, ("index_n_heads",)),
            "head_dim": _count(text, ("index_head_dim",)),
            "tokens": _count(text, ("index_topk",)),
        }

    def _compressed(self, heads: int, head: int) -> dict[str, Any]:
        """DeepSeek-V4: one key and value for all heads, compressed by layers; a window beside."""
        text, hidden = self.text, self.hidden
        ratios = [int(ratio) for ratio in text["compress_ratios"]][: self.layers]
        rank, rope = _count(text, ("q_lora_rank",)), _count(text, ("qk_rope_head_dim",))
        low, groups = _count(text, ("o_lora_rank",)), _count(text, ("o_groups",))
        index, keys = _count(text, ("index_n_heads",)), _count(text, ("index_head_dim",))
        window, copies = _count(text, ("sliding_window", "window_size")), _count(text, ("hc_mult",))
        sparse = ratios.count(4)
        divided = self.layers * (rank * heads * head + heads * head * low + groups * low * hidden)
        whole = self.layers * (hidden * rank + hidden * head)
        # Residual streams are mixed before attention and before the experts.
        whole += self.layers * 2 * (2 + copies) * copies * copies * hidden
        whole += sum(2 * hidden * head for ratio in ratios if ratio > 4) + sparse * 4 * hidden * head
        whole += sparse * (4 * hidden * keys + rank * index * keys + hidden * index)
        found: dict[str, Any] = {
            "kind": "mla",
            "heads": heads,
            "head_dim": head - rope,
            "q_lora_rank": rank,
            "kv_lora_rank": head - rope,
            "rope_head_dim": rope,
            "v_head_dim": head,
            # Eight bits a number, sixteen for the rotary part, scales of eight bytes (SGLang's pool).
            "entry_bytes": head - rope + 2 * rope + 8,
            "compressed": [
                {"every": ratio, "layers": ratios.count(ratio), "window": window}
                for ratio in sorted(set(ratios) - {0})
            ],
            "parameters": {"divided": divided, "whole": whole},
        }
        if near := ratios.count(0):
            found["window"] = {"tokens": window, "layers": near}
        if sparse:
            topk = _count(text, ("index_topk",))
            found["index"] = {"layers": sparse, "heads": index, "head_dim": keys, "tokens": topk, "every": 4}
        return found

    # ---- formats ----

    def _quantization(self, beside: Mapping[str, Any]) -> dict[str, Any]:
        own = self.text.get("quantization_config") or self.outer.get("quantization_config")
        own = own or self.outer.get("compression_config")
        given = beside.get("quantization")
        return (dict(own) if isinstance(own, Mapping) else {}) | (
            dict(given) if isinstance(given, Mapping) else {}
        )

    def _formats(self, card: dict[str, Any]) -> str:
        """Fill in `weights`, `block`, `group` and `formats`; return the checkpoint's method."""
        q = self.quantization
        if not q:
            card["weights"] = "bf16"
            return ""
        method = str(q.get("quant_method") or q.get("quant_algo") or "").lower()
        usual = self._usual(q, method)
        if usual is None:
            self.notes.append(
                f"quantization {method}: its format is not known; set weights and formats by hand"
            )
            return method
        parts = self._parts(card, q, usual)
        main = parts.get("experts") or parts.get("dense") or usual
        card["weights"] = _width(main)
        if "fp8-block" in parts.values():
            card["block"] = int((q.get("weight_block_size") or [128])[0] or 128)
        group = _group(q)
        if group and main in GROUPED and group != GROUPED[main]:
            card["group"] = group
        if set(parts.values()) != {"fp8-block"}:  # else `block` says it
            card["formats"] = parts
        return method

    def _parts(self, card: Mapping[str, Any], q: Mapping[str, Any], usual: Format) -> dict[str, Format]:
        """Return the format of each part that the model has."""
        named: Mapping[str, Any] = q.get("quantized_layers") or {}
        # Beside layers that are named, exceptions are from these, not from what the rest has.
        ignored = [] if named and usual == "fp8-block" else [str(name) for name in _ignored(q)]
        full, state, last = self._a_layer(FULL), self._a_layer(STATE), self.layers - 1
        experts = card.get("experts") or {}
        where = {
            "experts": last if experts else None,
            "shared": last if experts.get("shared") else None,
            "dense": 0 if card["dense_layers"] else None,
            "attention": full,
            "output": full,
            "linear": state,
        }
        parts = {
            part: self._part(part, layer, usual, ignored, named)
            for part, layer in where.items()
            if layer is not None
        }
        for part in ("output", "linear"):
            if parts.get(part) == parts.get("attention"):
                parts.pop(part, None)
        for part, name in (("head", "lm_head"), ("embedding", "model.embed_tokens")):
            if named.get(name):
                parts[part] = _algorithm(named[name]) or "bf16"
        if self.text.get("expert_dtype") == "fp4" and parts.get("experts") == "fp8-block":
            parts["experts"] = "mxfp4"
        drafts = ("mtp.layers.0", "mtp.0", *(f"{prefix}.{self.layers}" for prefix in PREFIXES))
        if "draft" in card and any(_hit(p, f"{d}.mlp.experts.0.gate_proj") for p in ignored for d in drafts):
            parts["draft"] = "bf16"
        return parts

    def _a_layer(self, kind: str) -> int | None:
        """Return the last layer of a kind."""
        kinds = self.kinds if {FULL, STATE} & set(self.kinds) else [FULL] * self.layers
        return next((n for n in reversed(range(len(kinds))) if kinds[n] == kind), None)

    def _part(
        self, part: str, layer: int, usual: Format, ignored: Sequence[str], named: Mapping[str, Any]
    ) -> Format:
        names = [f"{prefix}.{layer}.{module}" for prefix in PREFIXES for module in MODULES[part]]
        for name in names:
            if name in named:
                return _algorithm(named[name]) or "bf16"
        if named and not self.quantization.get("quant_method"):
            return "fp8-block" if self.quantization.get("weight_block_size") else "bf16"
        if any(_hit(pattern, name) for pattern in ignored for name in names):
            return "bf16"
        return usual

    def _usual(self, q: Mapping[str, Any], method: str) -> Format | None:  # noqa: PLR0911  one a method
        """Return the format of layers that are not named."""
        algorithm = str(q.get("quant_algo") or "").upper()
        if algorithm in ALGORITHMS:
            return ALGORITHMS[algorithm]
        if algorithm == "MIXED_PRECISION":
            return "fp8-block" if q.get("weight_block_size") else "bf16"
        if method in ("fp8", "fbgemm_fp8"):
            if q.get("weight_block_size"):
                return "fp8-block"
            return "fp8-channel" if method == "fbgemm_fp8" else "fp8-tensor"
        if method == "compressed-tensors":
            return _compressed_tensors(q)
        if method == "quark":
            weight = (q.get("global_quant_config") or {}).get("weight") or {}
            kind = str((weight[0] if isinstance(weight, list) else weight).get("dtype"))
            return "mxfp4" if kind.startswith("fp4") else "fp8-tensor" if kind.startswith("fp8") else None
        if method in ("gptq", "awq", "auto-round", "moe_wna16"):
            return "int8" if _count(q, ("bits", "w_bit")) == 8 else "int4"
        return METHODS.get(method)


def _ignored(q: Mapping[str, Any]) -> list[Any]:
    found: list[Any] = []
    for name in ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules", "exclude"):
        found += list(q.get(name) or ())
    return found


def _hit(pattern: str, name: str) -> bool:
    """Whether a pattern of a quantization's exceptions is about a module."""
    if pattern.startswith("re:"):
        return re.match(pattern[3:], name) is not None
    if set("*?[") & set(pattern):
        return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")
    return (
        name == pattern
        or name.startswith(f"{pattern}.")
        or ("." not in pattern and pattern in name.split("."))
    )


def _algorithm(entry: Any) -> Format | None:
    named = entry.get("quant_algo") if isinstance(entry, Mapping) else entry
    return ALGORITHMS.get(str(named).upper())


def _weights_of_group(q: Mapping[str, Any]) -> Mapping[str, Any]:
    for group in (q.get("config_groups") or {}).values():
        if isinstance(group, Mapping) and isinstance(group.get("weights"), Mapping):
            return group["weights"]  # type: ignore[no-any-return]
    return {}


def _group(q: Mapping[str, Any]) -> int:
    size = q.get("group_size") or _weights_of_group(q).get("group_size") or 0
    return int(size) if isinstance(size, int) and size > 0 else 0


def _compressed_tensors(q: Mapping[str, Any]) -> Format | None:
    weights, packed = _weights_of_group(q), str(q.get("format") or "")
    bits, kind, strategy = weights.get("num_bits"), weights.get("type"), weights.get("strategy")
    if "nvfp4" in packed or (bits == 4 and kind == "float" and weights.get("group_size") == 16):
        return "nvfp4"
    if "mxfp4" in packed or (bits == 4 and kind == "float"):
        return "mxfp4"
    if packed in ("pack-quantized", "marlin-24") and not weights:
        return "int4"
    if bits == 4:
        return "int4"
    if kind == "float" or packed == "float-quantized":
        return "fp8-block" if strategy == "block" else "fp8-tensor" if strategy == "tensor" else "fp8-channel"
    return "int8" if bits == 8 or packed in ("int-quantized", "naive-quantized") else None


def _width(name: Format) -> str:
    if name.startswith(("fp8", "mxfp8")):
        return "fp8"
    if name in ("fp4", "nvfp4", "mxfp4"):
        return "fp4"
    return {"w4afp8": "int4"}.get(name, name)
