"""Small configurations as families of models write them, made by hand: figures that are easy to add up.

For each: config.json, hf_quant_config.json or None, fields that the card has to have, and the sum of the
weights, counted by hand from the shapes of the tensors of a class.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Example(NamedTuple):
    """One configuration and what has to come of it. parameters: without draft layers."""

    config: dict[str, Any]
    quantization: dict[str, Any] | None
    card: dict[str, Any]
    parameters: int


BASE = {"vocab_size": 100, "hidden_size": 8, "max_position_embeddings": 64, "tie_word_embeddings": False}
# Embedding and head.
ENDS = 2 * 100 * 8
MLA = {
    "num_attention_heads": 2,
    "q_lora_rank": 4,
    "kv_lora_rank": 4,
    "qk_nope_head_dim": 3,
    "qk_rope_head_dim": 2,
    "v_head_dim": 3,
}
# Queries down and up, latent down, keys and values up, output.
OF_MLA = 8 * 4 + 4 * 2 * 5 + 8 * 6 + 4 * 2 * 6 + 2 * 3 * 8
GQA = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4}
OF_GQA = 8 * 4 * (4 + 2 + 2 + 4)
# Gate, up and down of 6, and of 10.
EXPERT, PLAIN = 3 * 8 * 6, 3 * 8 * 10
ROUTER = 8 * 4

EXAMPLES = {
    "DeepSeek in FP8 blocks, a draft layer": Example(
        {
            **BASE,
            **MLA,
            "architectures": ["DeepseekV3ForCausalLM"],
            "model_type": "deepseek_v3",
            "num_hidden_layers": 3,
            "first_k_dense_replace": 1,
            "moe_layer_freq": 1,
            "intermediate_size": 10,
            "moe_intermediate_size": 6,
            "n_routed_experts": 4,
            "n_shared_experts": 1,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "num_nextn_predict_layers": 1,
            "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
        },
        None,
        {"dense_layers": 1, "weights": "fp8", "block": 128, "draft": {"layers": 1}},
        ENDS + 3 * OF_MLA + PLAIN + 2 * (5 * EXPERT + ROUTER),
    ),
    "Kimi: text_config, INT4 experts alone": Example(
        {
            "architectures": ["KimiK25ForConditionalGeneration"],
            "model_type": "kimi_k25",
            "auto_map": {"AutoConfig": "configuration_x.Config"},
            "vision_config": {"vt_num_hidden_layers": 1, "vt_hidden_size": 4, "vt_intermediate_size": 5},
            "text_config": {
                **BASE,
                **MLA,
                "architectures": ["DeepseekV3ForCausalLM"],
                "num_hidden_layers": 2,
                "first_k_dense_replace": 1,
                "intermediate_size": 10,
                "moe_intermediate_size": 6,
                "n_routed_experts": 4,
                "n_shared_experts": 1,
                "num_experts_per_tok": 2,
                "quantization_config": {
                    "quant_method": "compressed-tensors",
                    "format": "pack-quantized",
                    "config_groups": {
                        "group_0": {"weights": {"num_bits": 4, "type": "int", "group_size": 32}}
                    },
                    "ignore": [
                        "lm_head",
                        "re:.*self_attn.*",
                        "re:.*shared_experts.*",
                        r"re:.*mlp\.(gate|up|down)_proj.*",
                    ],
                },
            },
        },
        None,
        {
            "architecture": "KimiK25ForConditionalGeneration",
            "decoder": "DeepseekV3ForCausalLM",
            "weights": "int4",
            "formats": {"experts": "int4", "shared": "bf16", "dense": "bf16", "attention": "bf16"},
            "other_parameters": 4 * 16 + 2 * 4 * 5,
        },
        ENDS + 2 * OF_MLA + PLAIN + 5 * EXPERT + ROUTER + 104,
    ),
    "Qwen3 with experts in NVFP4, all layers but two": Example(
        {
            **BASE,
            **GQA,
            "architectures": ["Qwen3MoeForCausalLM"],
            "model_type": "qwen3_moe",
            "num_hidden_layers": 6,
            "decoder_sparse_step": 2,
            "mlp_only_layers": [1],
            "intermediate_size": 10,
            "moe_intermediate_size": 6,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "sliding_window": None,
            "use_sliding_window": False,
        },
        {
            "quantization": {
                "quant_algo": "NVFP4",
                "group_size": 16,
                "exclude_modules": ["lm_head", "model.layers.*.self_attn*"],
            }
        },
        {
            "dense_layers": 4,
            "weights": "fp4",
            "formats": {"experts": "nvfp4", "dense": "nvfp4", "attention": "bf16"},
        },
        ENDS + 6 * OF_GQA + 4 * PLAIN + 2 * (4 * EXPERT + ROUTER),
    ),
    "Qwen3.5: three of four layers have a state, shared experts": Example(
        {
            "architectures": ["Qwen3_5MoeForConditionalGeneration"],
            "model_type": "qwen3_5_moe",
            "text_config": {
                **BASE,
                **GQA,
                "model_type": "qwen3_5_moe_text",
                "num_hidden_layers": 4,
                "full_attention_interval": 4,
                "linear_num_key_heads": 2,
                "linear_num_value_heads": 4,
                "linear_key_head_dim": 2,
                "linear_value_head_dim": 2,
                "linear_conv_kernel_dim": 4,
                "moe_intermediate_size": 6,
                "shared_expert_intermediate_size": 5,
                "num_experts": 4,
                "num_experts_per_tok": 2,
                "mtp_num_hidden_layers": 1,
            },
        },
        None,
        {
            "dense_layers": 0,
            "attention": {
                "kind": "gqa",
                "heads": 4,
                "head_dim": 4,
                "kv_heads": 2,
                "gated": True,
                # Keys and queries of 4, values and gate of 8, two numbers a head; a convolution; the output.
                "linear": {
                    "layers": 3,
                    "parameters": 8 * (4 + 4 + 8 + 8 + 8) + 16 * 4 + 8 * 8,
                    "state_bytes": 4 * 4 * 2 * 2 + 2 * 3 * 16,
                },
            },
        },
        ENDS + OF_GQA + 8 * 16 + 3 * (256 + 64 + 64) + 4 * (4 * EXPERT + ROUTER + 3 * 8 * 5),
    ),
    "gpt-oss: MXFP4 experts, every second layer a window": Example(
        {
            **BASE,
            **GQA,
            "architectures": ["GptOssForCausalLM"],
            "model_type": "gpt_oss",
            "num_hidden_layers": 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "sliding_window": 16,
            "intermediate_size": 6,
            "num_local_experts": 4,
            "experts_per_token": 2,
            "quantization_config": {
                "quant_method": "mxfp4",
                "modules_to_not_convert": [
                    "model.layers.*.self_attn",
                    "model.layers.*.mlp.router",
                    "lm_head",
                ],
            },
        },
        None,
        {"weights": "fp4", "formats": {"experts": "mxfp4", "attention": "bf16"}, "dense_layers": 0},
        ENDS + 4 * (OF_GQA + 4 * EXPERT + ROUTER),
    ),
    "Llama 4: every second layer has experts, chunks of attention": Example(
        {
            "architectures": ["Llama4ForConditionalGeneration"],
            "model_type": "llama4",
            "text_config": {
                **BASE,
                **GQA,
                "model_type": "llama4_text",
                "num_hidden_layers": 4,
                "interleave_moe_layer_step": 2,
                "attention_chunk_size": 32,
                "intermediate_size": 6,
                "intermediate_size_mlp": 10,
                "num_local_experts": 4,
                "num_experts_per_tok": 1,
            },
        },
        None,
        {"dense_layers": 2, "intermediate_size": 10},
        ENDS + 4 * OF_GQA + 2 * PLAIN + 2 * (5 * EXPERT + ROUTER),
    ),
    "MiMo: windows with heads of their own, values of another size": Example(
        {
            **BASE,
            "architectures": ["MiMoV2FlashForCausalLM"],
            "model_type": "mimo_v2_flash",
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 4,
            "v_head_dim": 2,
            "swa_num_key_value_heads": 2,
            "swa_head_dim": 4,
            "swa_v_head_dim": 2,
            "hybrid_layer_pattern": [0, 1, 1],
            "sliding_window": 16,
            "moe_layer_freq": [0, 1, 1],
            "intermediate_size": 10,
            "moe_intermediate_size": 6,
            "n_routed_experts": 4,
            "n_shared_experts": None,
            "num_experts_per_tok": 2,
        },
        None,
        {
            "dense_layers": 1,
            "attention": {
                "kind": "gqa",
                "heads": 4,
                "head_dim": 4,
                "kv_heads": 1,
                "v_head_dim": 2,
                "window": {"tokens": 16, "layers": 2, "kv_heads": 2, "head_dim": 4, "v_head_dim": 2},
            },
        },
        ENDS + 8 * (16 + 6 + 8) + 2 * 8 * (16 + 12 + 8) + PLAIN + 2 * (4 * EXPERT + ROUTER),
    ),
    "GLM-5: an index in some layers, FP8 for each channel": Example(
        {
            **BASE,
            **MLA,
            "architectures": ["GlmMoeDsaForCausalLM"],
            "model_type": "glm_moe_dsa",
            "num_hidden_layers": 4,
            "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
            "index_topk": 16,
            "index_n_heads": 2,
            "index_head_dim": 4,
            "indexer_types": ["full", "full", "shared", "shared"],
            "intermediate_size": 10,
            "moe_intermediate_size": 6,
            "n_routed_experts": 4,
            "n_shared_experts": 1,
            "num_experts_per_tok": 2,
            "quantization_config": {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "group_0": {"weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}
                },
                "ignore": ["lm_head"],
            },
        },
        None,
        {
            "weights": "fp8",
            "formats": dict.fromkeys(("experts", "shared", "dense", "attention"), "fp8-channel"),
        },
        ENDS + 4 * OF_MLA + 2 * (4 * 8 + 8 * 4 + 8 * 2) + PLAIN + 3 * (5 * EXPERT + ROUTER),
    ),
    "DeepSeek-V4: compressed attention, MXFP4 experts": Example(
        {
            **BASE,
            "architectures": ["DeepseekV4ForCausalLM"],
            "model_type": "deepseek_v4",
            "num_hidden_layers": 3,
            "compress_ratios": [128, 4, 0, 0],
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 6,
            "qk_rope_head_dim": 2,
            "q_lora_rank": 4,
            "o_lora_rank": 3,
            "o_groups": 2,
            "index_n_heads": 2,
            "index_head_dim": 4,
            "index_topk": 8,
            "sliding_window": 16,
            "hc_mult": 2,
            "moe_intermediate_size": 6,
            "n_routed_experts": 4,
            "n_shared_experts": 1,
            "num_experts_per_tok": 2,
            "expert_dtype": "fp4",
            "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
        },
        None,
        {"formats": {"experts": "mxfp4", "shared": "fp8-block", "attention": "fp8-block"}, "dense_layers": 0},
        # Queries, key, output in two steps; two mixers of streams; compressors; the index.
        ENDS
        + 3 * (8 * 4 + 4 * 24 + 8 * 6 + 24 * 3 + 2 * 3 * 8 + 2 * 8 * 16)
        + 2 * 8 * 6
        + 4 * 8 * 6
        + (4 * 8 * 4 + 4 * 8 + 8 * 2)
        + 3 * (5 * EXPERT + ROUTER),
    ),
    "Ernie: other names of experts, a wrapper of two levels": Example(
        {
            "architectures": ["ErnieVLForConditionalGeneration"],
            "thinker_config": {
                "text_config": {
                    **BASE,
                    **GQA,
                    "num_hidden_layers": 4,
                    "moe_layer_start_index": 1,
                    "moe_layer_end_index": 3,
                    "moe_layer_interval": 1,
                    "intermediate_size": 10,
                    "moe_intermediate_size": [6, 2],
                    "moe_num_experts": [4, 4],
                    "moe_num_shared_experts": 2,
                    "moe_k": 2,
                },
            },
        },
        None,
        {"dense_layers": 1},
        ENDS + 4 * OF_GQA + PLAIN + 3 * (6 * EXPERT + ROUTER),
    ),
    "MiniMax-M3: sparse attention over heads": Example(
        {
            **BASE,
            **GQA,
            "architectures": ["MiniMaxM3ForCausalLM"],
            "model_type": "minimax_m3",
            "num_hidden_layers": 3,
            "moe_layer_freq": [0, 1, 1],
            "dense_intermediate_size": 10,
            "intermediate_size": 6,
            "num_local_experts": 4,
            "n_shared_experts": 1,
            "shared_intermediate_size": 6,
            "num_experts_per_tok": 2,
            "sparse_attention_config": {
                "use_sparse_attention": True,
                "sparse_attention_freq": [0, 1, 1],
                "sparse_num_index_heads": 2,
                "sparse_index_dim": 4,
                "sparse_topk_blocks": 2,
                "sparse_block_size": 8,
            },
        },
        None,
        {"dense_layers": 1, "intermediate_size": 10},
        # Its index has no weights of heads, which a card counts: 2 of 8 in two layers.
        ENDS + 3 * OF_GQA + 2 * (8 * 8 + 8 * 4 + 8 * 2) + PLAIN + 2 * (5 * EXPERT + ROUTER),
    ),
    "a dense model": Example(
        {
            **BASE,
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 10,
            "tie_word_embeddings": True,
        },
        None,
        {"dense_layers": 2, "tied_embeddings": True, "weights": "bf16"},
        ENDS // 2 + 2 * (4 * 8 * 8 + PLAIN),
    ),
}
