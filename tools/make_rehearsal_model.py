#!/usr/bin/env python3
"""Make the model directory that the mocker needs: `tools/make_rehearsal_model.py [DIRECTORY]`.

`dynamo.mocker` computes nothing, but the frontend in front of it tokenizes requests and decodes replies for
real, so it needs a tokenizer and a config.json. This one is ours, small, and made by this script alone: the
same bytes on every run, without network and without any package.

Token ids:
    0…5        special tokens (bos and eos where DeepSeek-V3 has them)
    6…261      the 256 bytes, so that every text can be encoded without loss
    262…999    beginnings of words
    1000…1999  the words below, each with a leading space
    2000…      the other beginnings of words
The mocker draws its output ids from 1000…1999: mock replies are therefore words that a person can read.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

DEFAULT_DIRECTORY = Path(__file__).resolve().parent.parent / "configs" / "models" / "rehearsal"

FIRST_WORD_ID = 1000
WORDS = """
able about above accelerator across after again against air all almost along also always an and animal
another answer any appear are area around arrive art as ask at attention autumn away baby back bag ball
band bandwidth bank base basic batch be bear beat beautiful because become bed been before began begin
behind believe bell below benchmark beside best better between big bird black block blow blue board boat
body book born both bottom bought bowl box boy branch bread break bridge bright bring broad broke brother
brown buffer build burn busy but buy by bytes cache cake call calm came camp can capacity capital captain
car card care carry case cat catch caught cause cell cent center century certain chair chance change
character charge chart check chief child choose circle city claim class clean clear climb clock close
cloth cloud cluster coast coat cold collect color column come common company compare complete compute
condition connect consider contain context continue control cook cool copy corn corner correct cost could
count country course cover cow cross crowd current cut dance dark daughter day decide decode deep degree
depend deploy deployment describe desert design develop device dictionary did differ difficult direct
discuss disk dispatch distant divide do doctor dog dollar done door double down drain draw dream dress
drink drive drop dry during dust duty each eager ear early earth ease east easy eat edge effect egg eight
electric element end endpoint energy engine enjoy enough enter equal especially even evening event every
exact example excite exercise expect experience expert explain eye fabric face fact failure fair fall
family famous far farm fast father favor feed feel feet fell felt few field figure fill final find fine
finger finish fire first fish fit five flat floor flow flower fly follow food foot for force forest form
forward found four free fresh friend from front frontend fruit full fun game garden gas gateway gather
gave general gentle girl give given glad glass going gold gone good got grand graph grass gray great green
grew ground group grow guess guide had hair half hand happen happy hard has have he head healthy hear
heard heart heat heavy held help her high hill him himself his history hit hold hole home hope horse host
hot hour house how however huge human hundred ice idea idle if imagine in inch include industry inference
insect instance instant instrument interest into invent inventory iron is island it its job join joy jump
just keep kept kernel key kind king kitchen knew know lady lake land lane language large last late latency
later laugh law lay lead learn lease least leave left leg length less let letter level life lift light
like line little load logits lone long look loss lost lot loud love low machine made main make man many
map mark market mass master match material matter may me mean means meant measure meet melody memory men
metal method metric middle might migration mile milk million mind mine minute miss mix model modern moment
money monitor month moon more morning most mother motion mount mountain mouth move much music must my name
nation natural nature near need neighbor network never new next night nine no node noise noon north not
note nothing notice now number object observe occur ocean of off offer office oil old on once one only
open operator opposite or orange order original other our out over own page paint pair paper paragraph
parallel parameter parent part particular party pass past path pattern pay people per period person phrase
pick picture piece pitch place plain plan plane planet plant play please point pool poor populate pose
position possible post power practice prefill prepare present press pretty print probable problem process
produce product prompt proper property protect prove provide public pull push put question queue quick
quiet quite race rack radio rail rain raise range rank rather reach read ready real reason receive record
red redundant region register release remember repeat replay replica reply represent request require
response rest restart result retry rich ride right ring rise river road rock roll rollout room root rope
rose round router row rub rule run safe said sail salt same sand sat save saw say scale schedule school
science score sea search season seat second section see seed seem seen segment select self sell send sense
sent sentence separate sequence serve server service set settle seven several shape shard share sharp she
shell shine ship shop shore short should shoulder show side sign silent silver similar simple since sing
single sister sit six size skill sky sleep slip slow small smile snow so socket soft soil soldier solution
solve some son song soon sound south space sparse speak special speech speed spell spend spoke spot spread
spring square stage stand star start state station stay steam steel step still stone stood stop storage
store story straight strange stream street stretch string strong student study subject substance success
such sugar suggest suit summer sun supply support sure surface surprise swim switch symbol system table
tail take talk tall teach team tell temperature ten tensor term test than thank that the their them then
there these they thick thin thing think third this those thought thousand thread three through throughput
time timeout tiny tire to today together token told tone too tool top topology total touch toward town
track trade train transfer travel tree triangle trip trouble truck true try tube tune turn two type under
unit until up update upgrade us use usual valley value vary vector verify version very view village visit
voice wait walk wall want war warm warmup was wash watch watchdog water wave way we wear weather week
weight weights well went were west what wheel when where which while white who whole wide wild will win
wind window wing winter wire wish with without woman women wonder wood word work worker world would write
written year years yellow yes yet you young your
""".split()  # noqa: SIM905 - a thousand quoted words are no easier to read

BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"
SPECIAL = (BOS, EOS, PAD, "<|system|>", "<|user|>", "<|assistant|>")

# One turn: the role's token, the text, eos. The prompt ends where the assistant has to go on.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' }}{{ message['content'] or '' }}{{ eos_token }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def byte_symbols() -> list[str]:
    """Return one printable character per byte value 0…255, as byte-level BPE writes them.

    Printable Latin-1 stands for itself, all other bytes for the characters from U+0100 on.
    """
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in plain else next(others)) for byte in range(256)]


def build_vocabulary() -> tuple[dict[str, int], list[str]]:
    """Return the vocabulary (token -> id, in id order) and the merges ("left right", in rank order).

    The merges are the edges of a prefix tree over the words. Each begins with the space symbol, so inside a
    word only one merge ever applies, and the encoder always walks to the longest known beginning of the word:
    every word of the list becomes exactly one token.
    """
    symbols = byte_symbols()
    space = symbols[ord(" ")]
    words = [space + word for word in sorted(WORDS)]
    nodes = {word[:end] for word in words for end in range(2, len(word) + 1)}
    in_rank_order = sorted(nodes, key=lambda node: (len(node), node))
    beginnings = [node for node in in_rank_order if node not in set(words)]
    below = FIRST_WORD_ID - len(SPECIAL) - len(symbols)
    if len(set(words)) != 1000 or len(beginnings) < below:
        message = f"the list must hold 1000 different words with {below} beginnings or more"
        raise ValueError(message)
    tokens = [*SPECIAL, *symbols, *beginnings[:below], *words, *beginnings[below:]]
    merges = [f"{node[:-1]} {node[-1]}" for node in in_rank_order]
    return {token: number for number, token in enumerate(tokens)}, merges


def build_tokenizer() -> dict[str, Any]:
    """Return the content of tokenizer.json (the format of the `tokenizers` library)."""
    vocabulary, merges = build_vocabulary()
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": vocabulary[token], "content": token, **flags} for token in SPECIAL],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": merges,
        },
    }


def build_config(vocab_size: int) -> dict[str, Any]:
    """Return the content of config.json: DeepSeek-V3 with shrunken widths and few layers.

    Whatever a parallel size has to divide (experts, experts per token, groups, heads) keeps the number of the
    real model, so a topology that is wrong for DeepSeek-R1 is wrong for its rehearsal as well.
    """
    return {
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "deepseek_v3",
        "torch_dtype": "bfloat16",
        "vocab_size": vocab_size,
        "bos_token_id": SPECIAL.index(BOS),
        "eos_token_id": SPECIAL.index(EOS),
        "pad_token_id": SPECIAL.index(PAD),
        "max_position_embeddings": 32768,
        "hidden_size": 256,
        "intermediate_size": 512,
        "moe_intermediate_size": 64,
        "num_hidden_layers": 4,
        "first_k_dense_replace": 1,
        "moe_layer_freq": 1,
        "num_nextn_predict_layers": 0,
        "num_attention_heads": 128,
        "num_key_value_heads": 128,
        "q_lora_rank": 64,
        "kv_lora_rank": 32,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8,
        "v_head_dim": 16,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "n_group": 8,
        "topk_group": 4,
        "topk_method": "noaux_tc",
        "scoring_func": "sigmoid",
        "norm_topk_prob": True,
        "routed_scaling_factor": 2.5,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "rms_norm_eps": 1e-06,
        "rope_theta": 10000,
        "rope_scaling": None,
        "tie_word_embeddings": False,
        "use_cache": True,
    }


def build_files() -> dict[str, str]:
    """Return file name -> text of the whole model directory."""
    tokenizer = build_tokenizer()
    config = build_config(len(tokenizer["model"]["vocab"]))
    content = {
        "config.json": config,
        "generation_config.json": {
            "bos_token_id": config["bos_token_id"],
            "eos_token_id": config["eos_token_id"],
            "pad_token_id": config["pad_token_id"],
        },
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BOS,
            "eos_token": EOS,
            "pad_token": PAD,
            "add_bos_token": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": config["max_position_embeddings"],
            "chat_template": CHAT_TEMPLATE,
        },
    }
    return {name: json.dumps(data, indent=1, ensure_ascii=False) + "\n" for name, data in content.items()}


def main(arguments: list[str]) -> int:
    """Write the directory named by the first argument, else the one in the repository."""
    directory = Path(arguments[0]) if arguments else DEFAULT_DIRECTORY
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in build_files().items():
        (directory / name).write_text(text, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
