"""A model folder as one GGUF file, for llama.cpp and what is built on it; only where nothing has to be guessed.

The `gguf` library names the tensors and writes the file. What it leaves to its callers is done here: which
architectures keep their meaning, the order of the rows of query and key weights, and how text is cut before byte-pair
merging. Of the last, llama.cpp knows a fixed list by name; a tokenizer that is none of them would be read with other
tokens, so it is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from strop.errors import UserError
from strop.models.weights import check_folder

Weights = Literal["f32", "f16", "bf16", "q8_0"]
"""How matrices are stored; vectors are always f32."""

ARCHITECTURES: Mapping[str, str] = {
    "LlamaForCausalLM": "LLAMA",
    "MistralForCausalLM": "LLAMA",
    "Qwen2ForCausalLM": "QWEN2",
}
"""What can be written: transformers' class and the name of gguf's architecture."""

GPT2_REGEX = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CUTS: Mapping[tuple[str, ...], str] = {
    (GPT2_REGEX,): "gpt-2",
    ("digits", GPT2_REGEX): "smollm",
    (LLAMA3_REGEX,): "llama-bpe",
    (QWEN2_REGEX,): "qwen2",
}
"""How a tokenizer cuts text before merging, and llama.cpp's name for it."""


def write_gguf(folder: Path, out: Path, *, weights: Weights = "f16", name: str = "") -> Path:
    """Write a model folder as one GGUF file.

    Args:
        folder: Safetensors, configuration and tokenizer of a causal language model.
        out: The file to write, whole or not at all.
        weights: Precision of the matrices.
        name: What the file says it holds; the folder's name by default.

    Returns:
        `out`.

    Raises:
        UserError: The architecture, its positions or its tokenizer cannot be written without a change of meaning.
    """
    import gguf

    from strop.records.tables import atomic_path

    check_folder(folder)
    config = _read(folder / "config.json")
    architecture = _architecture(config)
    _require_plain_positions(config)
    kind = gguf.MODEL_ARCH[architecture]
    with atomic_path(out) as part:
        writer = gguf.GGUFWriter(part, gguf.MODEL_ARCH_NAMES[kind])
        _describe(writer, config, weights, name or folder.name)
        _add_tokenizer(writer, folder, int(config["vocab_size"]))
        names = gguf.get_tensor_name_map(kind, int(config["num_hidden_layers"]))
        for tensor_name, array, stored in _tensors(folder, config, architecture, names, weights):
            writer.add_tensor(tensor_name, array, raw_dtype=stored)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return out


def _read(file: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return told


def _architecture(config: Mapping[str, Any]) -> str:
    told = (config.get("architectures") or ["none named"])[0]
    if told not in ARCHITECTURES:
        raise UserError(
            "this architecture cannot be written as GGUF",
            value=told,
            why="its tensors have no counterpart that strop has checked",
            fix="use llama.cpp's own converter on the exported safetensors folder",
            alternatives=sorted(ARCHITECTURES),
        )
    return ARCHITECTURES[told]


def _rope(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return config.get("rope_parameters") or {"rope_theta": config.get("rope_theta", 10000.0), "rope_type": "default"}


def _require_plain_positions(config: Mapping[str, Any]) -> None:
    kind = _rope(config).get("rope_type", "default")
    if kind != "default" or config.get("rope_scaling"):
        fix = "use llama.cpp's own converter on the exported safetensors folder"
        raise UserError("stretched positions cannot be written as GGUF", value=kind, fix=fix)


def _describe(writer: Any, config: Mapping[str, Any], weights: Weights, name: str) -> None:
    import gguf

    heads = int(config["num_attention_heads"])
    head_dim = int(config.get("head_dim") or config["hidden_size"] // heads)
    writer.add_name(name)
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(config.get("num_key_value_heads", heads)))
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(float(_rope(config).get("rope_theta", 10000.0)))
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_vocab_size(int(config["vocab_size"]))
    kinds = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}
    writer.add_file_type(gguf.LlamaFileType[kinds[weights]])


def _add_tokenizer(writer: Any, folder: Path, vocabulary: int) -> None:
    import gguf

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise UserError("no tokenizer.json to write into the GGUF file", value=str(folder))
    told = _read(file)
    if told["model"]["type"] != "BPE" or told.get("normalizer"):
        kind = f"{told['model']['type']}, normalizer {(told.get('normalizer') or {}).get('type', 'none')}"
        raise UserError(
            "this tokenizer cannot be written as GGUF", value=kind, why="only byte-level pair merging is checked"
        )
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(cut_of(told))
    tokens, types = _tokens(told, vocabulary)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    special = gguf.SpecialVocab(folder, load_merges=True, n_vocab=vocabulary)
    special.add_to_gguf(writer, quiet=True)
    writer.add_add_space_prefix(False)
    template = folder / "chat_template.jinja"
    if template.is_file() and special.chat_template is None:
        writer.add_chat_template(template.read_text(encoding="utf-8"))


def cut_of(tokenizer: Mapping[str, Any]) -> str:
    """Return llama.cpp's name for how a ``tokenizer.json`` cuts text before it merges.

    Raises:
        UserError: It is none of those that are known.
    """
    told = tokenizer.get("pre_tokenizer") or {}
    steps = told.get("pretokenizers", [told])
    cut = tuple(_cuts(steps))
    if cut not in CUTS:
        raise UserError(
            "llama.cpp has no name for how this tokenizer cuts text",
            value=[step.get("type") for step in steps],
            why="with another cut the file would read other tokens than the model has learned",
            fix="use llama.cpp's own converter on the exported safetensors folder",
            alternatives=sorted(CUTS.values()),
        )
    return CUTS[cut]


def _cuts(steps: list[Mapping[str, Any]]) -> Iterator[str]:
    for step in steps:
        match step.get("type"):
            case "Digits" if step.get("individual_digits"):
                yield "digits"
            case "Split":
                yield str(step["pattern"].get("Regex"))
            case "ByteLevel":
                if step.get("use_regex", True):
                    yield GPT2_REGEX
            case other:
                yield f"unknown: {other}"


def _tokens(told: Mapping[str, Any], vocabulary: int) -> tuple[list[str], list[int]]:
    import gguf

    by_id = {number: token for token, number in told["model"]["vocab"].items()}
    added = {entry["id"]: entry for entry in told.get("added_tokens", [])}
    tokens, types = [], []
    for number in range(vocabulary):
        if number in added:
            tokens.append(added[number]["content"])
            special = added[number]["special"]
            types.append(gguf.TokenType.CONTROL if special else gguf.TokenType.USER_DEFINED)
        elif number in by_id:
            tokens.append(by_id[number])
            types.append(gguf.TokenType.NORMAL)
        else:
            tokens.append(f"[PAD{number}]")
            types.append(gguf.TokenType.UNUSED)
    return tokens, types


def _tensors(
    folder: Path, config: Mapping[str, Any], architecture: str, names: Any, weights: Weights
) -> Iterator[tuple[str, Any, Any]]:
    """Yield each tensor as ``(name, array, how it is stored)``."""
    import torch
    from safetensors import safe_open

    heads = int(config["num_attention_heads"])
    groups = int(config.get("num_key_value_heads", heads))
    turned = {"q_proj.weight": heads, "k_proj.weight": groups} if architecture == "LLAMA" else {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as stored:
            for name in sorted(stored.keys()):
                if name == "lm_head.weight" and config.get("tie_word_embeddings"):
                    continue
                tensor = stored.get_tensor(name).to(torch.float32)
                count = next((count for end, count in turned.items() if name.endswith(end)), None)
                array = (tensor if count is None else interleave_rows(tensor, count)).numpy()
                written = names.get_name(name, try_suffixes=(".weight", ".bias"))
                if written is None:
                    raise UserError("a tensor has no name in GGUF", value=name, fix="use llama.cpp's own converter")
                yield written, *_stored(array, weights)


def interleave_rows(weight: Any, heads: int) -> Any:
    """Return query or key weights with the two halves of each head's rows interleaved.

    transformers rotates the first half of a head against the second, llama.cpp neighbours: its row 2i is our row i, its
    row 2i + 1 our row i + head_dim / 2.

    Args:
        weight: Weights, ``(heads * head_dim, hidden)``.
        heads: Query heads, or KV groups for keys.
    """
    rows, hidden = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, hidden).swapaxes(1, 2).reshape(rows, hidden).contiguous()


def _stored(array: Any, weights: Weights) -> tuple[Any, Any]:
    import gguf

    kinds = {"f16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}
    if array.ndim < 2 or weights == "f32":
        return array, None
    # Rows that do not divide into blocks stay half precision.
    kind = "F16" if weights == "q8_0" and array.shape[-1] % 32 else kinds[weights]
    if kind == "F16":
        return array.astype("float16"), None
    quantised = gguf.GGMLQuantizationType[kind]
    return gguf.quants.quantize(array, quantised), quantised
