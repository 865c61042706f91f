"""A model folder as one GGUF file, for llama.cpp and what is built on it; only where nothing has to be guessed.

The `gguf` library names the tensors and writes the file. What it leaves to its callers is done here: which
architectures keep their meaning, the order of the rows of query and key weights, and stretched positions. How text
becomes tokens is `strop.models.gguf_vocabulary`. Tensors pass one by one: memory holds the largest, not the model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from strop.errors import Stopped, UserError
from strop.models.gguf_vocabulary import add_vocabulary, check_vocabulary
from strop.models.weights import check_folder

Weights = Literal["f32", "f16", "bf16", "q8_0"]
"""How matrices are stored; vectors are always f32."""

ARCHITECTURES: Mapping[str, str] = {
    "LlamaForCausalLM": "LLAMA",
    "MistralForCausalLM": "LLAMA",
    "Qwen2ForCausalLM": "QWEN2",
}
"""What can be written: transformers' class and the name of gguf's architecture."""
OWN_CONVERTER = "use llama.cpp's own converter on the safetensors folder"
ROPE_FACTORS = "rope_freqs.weight"
_COMPUTED = ".rotary_emb.inv_freq"
"""Ends the names of what old files hold although it follows from the configuration."""


@dataclass(frozen=True, slots=True)
class GgufFacts:
    """What a GGUF file says about itself.

    Attributes:
        architecture: As llama.cpp names it.
        tensors: How many there are.
        tokens: Size of the vocabulary.
    """

    architecture: str
    tensors: int
    tokens: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    """One tensor on its way.

    Attributes:
        file: Where it lies.
        name: Its name there.
        written: Its name in GGUF.
        shape: ``(rows, columns)`` of a matrix, ``(rows,)`` of a vector.
        heads: Heads whose rows are to be interleaved, or 0.
    """

    file: Path
    name: str
    written: str
    shape: tuple[int, ...]
    heads: int


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
        UserError: The model cannot be written without a change of meaning, or a weight overflows half precision.
        Stopped: The disk is full.
    """
    import gguf

    from strop.records.tables import atomic_path

    check_gguf(folder)
    config = _read(folder / "config.json")
    architecture = _architecture(config)
    tensors = _plan(folder, config, architecture)
    factors = rope_factors(config)
    with atomic_path(out) as part:
        writer = gguf.GGUFWriter(part, gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH[architecture]])
        try:
            _describe(writer, config, weights, name or folder.name)
            add_vocabulary(writer, folder, int(config["vocab_size"]))
            if factors is not None:
                writer.add_tensor_info(ROPE_FACTORS, factors.shape, factors.dtype, factors.nbytes)
            for tensor in tensors:
                _announce(writer, tensor, weights)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            if factors is not None:
                writer.write_tensor_data(factors)
            for tensor in tensors:
                writer.write_tensor_data(_stored(tensor, weights))
        except OSError as error:
            # numpy hides the number of the error behind a count of what it could not write.
            if error.errno is not None:
                raise
            fix = "free some space and run the same command again"
            raise Stopped("a GGUF file could not be written whole", value=str(out), why=str(error), fix=fix) from error
        finally:
            writer.close()
    return out


def check_gguf(folder: Path) -> tuple[str, ...]:
    """Make sure that a model folder can be written as GGUF, as far as configuration, tokenizer and names tell.

    Returns:
        What llama.cpp does otherwise than transformers, a sentence each.

    Raises:
        UserError: It cannot be written without a change of meaning.
    """
    try:
        import gguf  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise UserError("GGUF files need gguf and torch", why=str(error), fix="pip install 'strop[train]'") from error
    check_folder(folder)
    config = _read(folder / "config.json")
    _require_known(config)
    _plan(folder, config, _architecture(config))
    return (*_window_notes(config), *check_vocabulary(folder, int(config["vocab_size"])))


def read_gguf(file: Path) -> GgufFacts:
    """Return what a GGUF file says about itself.

    Raises:
        UserError: It cannot be read.
    """
    import gguf

    try:
        reader = gguf.GGUFReader(file)
        architecture = str(reader.fields["general.architecture"].contents())
        tokens = len(reader.fields["tokenizer.ggml.tokens"].data)
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise UserError("a GGUF file cannot be read", value=str(file), why=str(error)) from error
    return GgufFacts(architecture, len(reader.tensors), tokens)


def verify_gguf(file: Path, folder: Path) -> GgufFacts:
    """Read a file back and compare it with the folder that it was made from.

    Raises:
        UserError: It cannot be read, or tensors or tokens are missing.
    """
    config = _read(folder / "config.json")
    tensors = len(_plan(folder, config, _architecture(config))) + (rope_factors(config) is not None)
    found = read_gguf(file)
    if (found.tensors, found.tokens) != (tensors, config["vocab_size"]):
        raise UserError(
            "a GGUF file is not what was written",
            value=f"{found.tensors} tensors, {found.tokens} tokens",
            why=f"the folder holds {tensors} and {config['vocab_size']}",
            fix="check the disk, and write it again",
        )
    return found


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
            fix=OWN_CONVERTER,
            alternatives=sorted(ARCHITECTURES),
        )
    return ARCHITECTURES[told]


def _require_known(config: Mapping[str, Any]) -> None:
    """Refuse what llama.cpp would compute in another way."""
    _architecture(config)
    kind = _rope_kind(config)
    if kind not in ("default", "llama3"):
        raise UserError("positions stretched in this way cannot be written as GGUF", value=kind, fix=OWN_CONVERTER)
    expected = {"hidden_act": "silu", "partial_rotary_factor": 1.0, "quantization_config": None}
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise UserError(f"a model with this {key} cannot be written as GGUF", value=config[key], fix=OWN_CONVERTER)


def _rope(config: Mapping[str, Any]) -> Mapping[str, Any]:
    told = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return {"rope_theta": config.get("rope_theta", 10000.0), **told}


def _rope_kind(config: Mapping[str, Any]) -> str:
    rope = _rope(config)
    return str(rope.get("rope_type", rope.get("type", "default")))


def rope_factors(config: Mapping[str, Any]) -> Any:
    """Return by what each frequency of the positions is divided, ``(head_dim / 2,)`` in f32; None where by nothing.

    Llama 3.1's rule: short waves stay, waves longer than the old context are stretched by the factor, and between the
    two the share goes from one to the other.
    """
    import numpy as np

    if _rope_kind(config) != "llama3":
        return None
    rope, size = _rope(config), _head_dim(config)
    factor, context = float(rope["factor"]), float(rope["original_max_position_embeddings"])
    low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    frequencies = float(rope["rope_theta"]) ** (-np.arange(0, size, 2) / size)
    turns = context * frequencies / (2 * math.pi)
    share = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return (1 / (share + (1 - share) / factor)).astype(np.float32)


def _head_dim(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _window(config: Mapping[str, Any]) -> int:
    """Return how far the model looks: its context, or its sliding window, which llama.cpp does not know here."""
    longest = int(config["max_position_embeddings"])
    windowed = "Mistral" in config["architectures"][0] or config.get("use_sliding_window")
    return min(longest, int(config.get("sliding_window") or longest)) if windowed else longest


def _window_notes(config: Mapping[str, Any]) -> Iterator[str]:
    window, longest = _window(config), int(config["max_position_embeddings"])
    if window < longest:
        yield f"The file states a context of {window} tokens, the model's sliding window, in place of {longest}."


def _describe(writer: Any, config: Mapping[str, Any], weights: Weights, name: str) -> None:
    import gguf

    heads, head_dim = int(config["num_attention_heads"]), _head_dim(config)
    writer.add_name(name)
    writer.add_context_length(_window(config))
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(config.get("num_key_value_heads") or heads))
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(float(_rope(config)["rope_theta"]))
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_vocab_size(int(config["vocab_size"]))
    kinds = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}
    writer.add_file_type(gguf.LlamaFileType[kinds[weights]])


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold a folder's weights: the shards of its index, or ``model.safetensors``, or all."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return [folder / shard for shard in sorted(set(_read(index)["weight_map"].values()))]
    single = folder / "model.safetensors"
    return [single] if single.is_file() else sorted(folder.glob("*.safetensors"))


def _plan(folder: Path, config: Mapping[str, Any], architecture: str) -> list[_Tensor]:
    """Return the tensors to write, in the order of files and names."""
    import gguf
    from safetensors import safe_open

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture], int(config["num_hidden_layers"]))
    heads = int(config["num_attention_heads"])
    groups = int(config.get("num_key_value_heads") or heads)
    turned = {".q_proj": heads, ".k_proj": groups} if architecture == "LLAMA" else {}
    planned = []
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as stored:
            for name in sorted(stored.keys()):
                if name.endswith(_COMPUTED) or (name == "lm_head.weight" and config.get("tie_word_embeddings")):
                    continue
                written = names.get_name(name, try_suffixes=(".weight", ".bias"))
                if written is None:
                    raise UserError("a tensor has no name in GGUF", value=name, fix=OWN_CONVERTER)
                shape = tuple(stored.get_slice(name).get_shape())
                place = name.rpartition(".")[0]
                count = next((count for end, count in turned.items() if place.endswith(end)), 0)
                planned.append(_Tensor(file, name, written, shape, count))
    return planned


def _kind(shape: tuple[int, ...], weights: Weights) -> Any:
    """Return how a tensor of this shape is stored: vectors f32; rows that do not divide into blocks f16."""
    import gguf

    if len(shape) < 2 or weights == "f32":
        return gguf.GGMLQuantizationType.F32
    if weights == "q8_0" and shape[-1] % gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType.Q8_0][0]:
        return gguf.GGMLQuantizationType.F16
    return gguf.GGMLQuantizationType[weights.upper()]


def _announce(writer: Any, tensor: _Tensor, weights: Weights) -> None:
    import gguf
    import numpy as np

    kind = _kind(tensor.shape, weights)
    plain = {gguf.GGMLQuantizationType.F32: np.float32, gguf.GGMLQuantizationType.F16: np.float16}
    if kind in plain:
        dtype = np.dtype(plain[kind])
        writer.add_tensor_info(tensor.written, tensor.shape, dtype, math.prod(tensor.shape) * dtype.itemsize)
    else:
        shape = gguf.quant_shape_to_byte_shape(tensor.shape, kind)
        writer.add_tensor_info(tensor.written, shape, np.dtype(np.uint8), math.prod(shape), raw_dtype=kind)


def _stored(tensor: _Tensor, weights: Weights) -> Any:
    """Return a tensor as the file holds it."""
    import gguf
    import numpy as np
    import torch
    from safetensors import safe_open

    with safe_open(tensor.file, framework="pt") as stored:
        weight = stored.get_tensor(tensor.name).to(torch.float32)
    array = (interleave_rows(weight, tensor.heads) if tensor.heads else weight).numpy()
    kind = _kind(tensor.shape, weights)
    if kind == gguf.GGMLQuantizationType.F32:
        return array
    if kind != gguf.GGMLQuantizationType.F16:
        return gguf.quants.quantize(array, kind)
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if not np.isfinite(half).all():
        raise UserError(
            "a weight does not fit into half precision",
            value=tensor.name,
            why=f"its largest value is {np.abs(array).max():.4g}",
            fix="write bf16 or f32",
        )
    return half


def interleave_rows(weight: Any, heads: int) -> Any:
    """Return query or key weights with the two halves of each head's rows interleaved.

    transformers rotates the first half of a head against the second, llama.cpp neighbours: its row 2i is our row i, its
    row 2i + 1 our row i + head_dim / 2.

    Args:
        weight: Weights, ``(heads * head_dim, hidden)``, or a bias, ``(heads * head_dim,)``.
        heads: Query heads, or KV groups for keys.
    """
    rows, *rest = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, *rest)
    return halves.swapaxes(1, 2).reshape(weight.shape).contiguous()
