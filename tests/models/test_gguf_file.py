"""GGUF files: read back by `gguf`, run by llama.cpp beside the safetensors, refused where they would mean another."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from strop.errors import UserError
from strop.models.builtin import SMOLLM2, builtin_folder
from strop.models.gguf_file import (
    Weights,
    check_gguf,
    interleave_rows,
    read_gguf,
    rope_factors,
    verify_gguf,
    weight_files,
    write_gguf,
)
from strop.models.serving.llama_cpp import BOUNDS, check_gguf_text, llama_server
from strop.models.serving.serving_text import verdict
from tiny_gguf import LLAMA3_POSITIONS, Cut, byte_tokenizer, change_json, write_model

MODELS: dict[str, tuple[Cut, dict[str, Any]]] = {
    "llama, gpt-2": ("gpt-2", {}),
    "llama with biases, smollm": ("smollm", {"attention_bias": True, "mlp_bias": True}),
    "llama 3.1, start token": ("llama-bpe", {"start": True, "rope_parameters": LLAMA3_POSITIONS}),
    "qwen2, its biases, tied": ("qwen2", {"tie_word_embeddings": True}),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with GPT-2's cut and eight rows that no token has; not to be changed."""
    return write_model(tmp_path_factory.mktemp("plain"), "gpt-2", unused=8)


def read(file: Path) -> Any:
    import gguf

    return gguf.GGUFReader(file)


def tensor(reader: Any, name: str) -> Any:
    import gguf

    found = next(each for each in reader.tensors if each.name == name)
    return gguf.quants.dequantize(found.data, found.tensor_type)


class TestWhatIsWritten:
    def test_the_file_says_what_the_folder_says(self, plain: Path, tmp_path: Path) -> None:
        reader = read(write_gguf(plain, tmp_path / "model.gguf", weights="f32", name="tiny"))
        told = {name: field.contents() for name, field in reader.fields.items()}
        config, tokenizer = json.loads((plain / "config.json").read_text()), byte_tokenizer("gpt-2")
        assert told["general.name"] == "tiny"
        assert (told["llama.attention.head_count"], told["llama.attention.head_count_kv"]) == (4, 2)
        assert (told["llama.block_count"], told["llama.embedding_length"]) == (2, 64)
        assert told["tokenizer.ggml.tokens"][: len(tokenizer)] == [
            tokenizer.convert_ids_to_tokens(number) for number in range(len(tokenizer))
        ]
        assert len(told["tokenizer.ggml.tokens"]) == config["vocab_size"] == len(tokenizer) + 8
        assert told["tokenizer.ggml.token_type"][-8:] == [5] * 8
        assert (told["tokenizer.ggml.add_bos_token"], told["tokenizer.ggml.add_eos_token"]) == (False, False)
        assert told["tokenizer.chat_template"] == tokenizer.chat_template

    def test_tensors_hold_the_weights(self, plain: Path, tmp_path: Path) -> None:
        """Two layers of nine tensors each, embedding, last norm and output: 21; f32 is exact."""
        import numpy as np
        from safetensors.numpy import load_file

        weights = load_file(plain / "model.safetensors")
        reader = read(write_gguf(plain, tmp_path / "model.gguf", weights="f32"))
        assert len(reader.tensors) == len(weights) == 21
        down = weights["model.layers.1.mlp.down_proj.weight"]
        assert np.array_equal(tensor(reader, "blk.1.ffn_down.weight"), down)
        assert np.array_equal(tensor(reader, "output.weight"), weights["lm_head.weight"])

    @pytest.mark.parametrize(("weights", "error"), [("f16", 2**-11), ("bf16", 2**-8), ("q8_0", 1 / 254 + 2**-11)])
    def test_precision(self, plain: Path, tmp_path: Path, weights: Weights, error: float) -> None:
        """Half a unit in the last place of the value; for q8_0 of the block's largest, its scale rounded to f16."""
        import numpy as np
        from safetensors.numpy import load_file

        stored = load_file(plain / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
        reader = read(write_gguf(plain, tmp_path / "model.gguf", weights=weights))
        blocks, found = (a.reshape(-1, 32) for a in (stored, tensor(reader, "blk.0.ffn_up.weight")))
        scale = np.abs(blocks).max(axis=1, keepdims=True) if weights == "q8_0" else np.abs(blocks)
        assert (np.abs(found - blocks) <= 1.001 * error * scale + 1e-7).all()
        assert tensor(reader, "output_norm.weight").dtype == np.float32

    def test_shards_and_one_file_give_the_same_bytes(self, plain: Path, tmp_path: Path) -> None:
        """Names are sorted within a file, so only the order of tensors may differ: every tensor is the same."""
        import numpy as np

        sharded = write_model(tmp_path / "sharded", "gpt-2", shards="100KB", unused=8)
        assert len(weight_files(sharded)) > 1
        whole, parts = (
            read(write_gguf(folder, tmp_path / f"{number}.gguf", weights="f16"))
            for number, folder in enumerate((plain, sharded))
        )
        assert {each.name for each in whole.tensors} == {each.name for each in parts.tensors}
        assert all(np.array_equal(tensor(parts, each.name), tensor(whole, each.name)) for each in whole.tensors)

    def test_again_gives_the_same_bytes_in_place_of_what_was_there(self, plain: Path, tmp_path: Path) -> None:
        out = tmp_path / "model.gguf"
        out.write_text("something else")
        first = write_gguf(plain, out).read_bytes()
        assert write_gguf(plain, out).read_bytes() == first
        assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]

    def test_files_beside_the_weights_are_not_read(self, tmp_path: Path) -> None:
        """Hub folders hold the same weights twice, as consolidated.safetensors; old ones hold computed frequencies."""
        import torch
        from safetensors.torch import load_file, save_file

        folder = write_model(tmp_path / "model", "gpt-2")
        tensors = load_file(folder / "model.safetensors")
        before = write_gguf(folder, tmp_path / "before.gguf").read_bytes()
        save_file({"layers.0.wq": torch.zeros(2)}, folder / "consolidated.safetensors")
        frequencies = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(8)}
        save_file({**tensors, **frequencies}, folder / "model.safetensors")
        assert write_gguf(folder, tmp_path / "after.gguf", name="model").read_bytes() == before


@pytest.mark.parametrize("name", MODELS)
def test_llama_cpp_reads_and_writes_as_transformers_does(name: str, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp's server comes from the wheel xllamacpp (the dev extra)")
    cut, changes = MODELS[name]
    folder = write_model(tmp_path / "model", cut, **changes)
    file = write_gguf(folder, tmp_path / "model.gguf", weights="f32")
    found = check_gguf_text(file, folder, weights="f32")
    assert found.same, verdict(found)
    assert {check.evidence for check in found.prompts} == {"tokens"}
    texts = [check.text for check in found.prompts if check.text is not None]
    assert sum(text.tokens for text in texts) > 100
    assert all(text.log_prob_difference is not None and text.log_prob_difference < 0.005 for text in texts)


def test_a_file_of_another_model_is_noticed(plain: Path, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    other = write_model(tmp_path / "other", "gpt-2", unused=8, intermediate_size=96)
    found = check_gguf_text(write_gguf(other, tmp_path / "other.gguf", weights="f32"), plain, weights="f32")
    assert not found.same
    assert "greedy text differs" in verdict(found)


def test_a_file_that_llama_cpp_cannot_load(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF and nothing more")
    with pytest.raises(UserError, match="does not serve this file"), llama_server(tmp_path / "broken.gguf"):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["f32", "f16", "bf16", "q8_0"])
def test_smollm2_within_the_stated_bound(weights: Weights, smollm2_gguf: Path, tmp_path: Path) -> None:
    assert smollm2_gguf.is_file()
    folder = builtin_folder(SMOLLM2)
    file = write_gguf(folder, tmp_path / "model.gguf", weights=weights)
    found = check_gguf_text(file, folder, weights=weights)
    assert found.margin == BOUNDS[weights]
    assert found.same, verdict(found)


class TestInterleaving:
    def test_by_hand(self) -> None:
        """One head of four rows: halves (0, 1) and (2, 3) become 0, 2, 1, 3; two heads do so each for itself."""
        import torch

        rows = torch.arange(8)
        assert interleave_rows(rows, 2).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
        assert interleave_rows(rows[:, None].repeat(1, 3), 1)[:, 2].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]

    def test_both_ways_to_rotate_give_the_same_scores(self) -> None:
        """Halves rotated as transformers does, neighbours as llama.cpp does: query times key is the same."""
        import numpy as np
        import torch

        random = np.random.default_rng(0)
        heads, size, hidden = 2, 8, 5
        query, key = (random.normal(size=(heads * size, hidden)) for _ in range(2))
        here, there = random.normal(size=(2, hidden))
        angles = 10000.0 ** (-np.arange(0, size, 2) / size)

        def rotate(vector: Any, position: int, *, neighbours: bool) -> Any:
            turn = np.exp(1j * position * angles)
            halves = vector.reshape(heads, -1, 2) if neighbours else vector.reshape(heads, 2, -1).swapaxes(1, 2)
            return (halves[..., 0] + 1j * halves[..., 1]) * turn

        def scores(first: Any, second: Any, *, neighbours: bool) -> Any:
            left, right = (
                rotate(w @ x, p, neighbours=neighbours) for w, x, p in ((first, here, 3), (second, there, 11))
            )
            return (left * right.conj()).real.sum(axis=1)

        turned = [interleave_rows(torch.tensor(weight), heads).numpy() for weight in (query, key)]
        assert scores(*turned, neighbours=True) == pytest.approx(scores(query, key, neighbours=False))


def test_llama3_positions_are_those_of_transformers() -> None:
    import torch
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    positions = {**LLAMA3_POSITIONS, "rope_theta": 500000.0, "original_max_position_embeddings": 8192}
    config = LlamaConfig(hidden_size=512, num_attention_heads=4, rope_parameters=positions)
    ours = rope_factors(config.to_dict())
    plain = 500000.0 ** (-torch.arange(0, 128, 2) / 128)
    theirs = plain / LlamaRotaryEmbedding(config).inv_freq
    assert ours == pytest.approx(theirs.numpy(), rel=1e-5)
    assert (ours[0], ours[-1]) == (1.0, 8.0)
    assert rope_factors(LlamaConfig().to_dict()) is None


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"architectures": ["GemmaForCausalLM"]}, "architecture"),
            ({"architectures": None}, "none named"),
            ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}}, "stretched"),
            ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}}, "linear"),
            ({"hidden_act": "gelu"}, "hidden_act"),
            ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ],
    )
    def test_configurations(self, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
        folder = write_model(tmp_path / "model", "gpt-2")
        change_json(folder / "config.json", **changes)
        with pytest.raises(UserError, match=message):
            write_gguf(folder, tmp_path / "model.gguf")
        assert not (tmp_path / "model.gguf").exists()

    def test_a_tokenizer_of_words(self, tiny_folder: Path) -> None:
        with pytest.raises(UserError, match="WordLevel"):
            check_gguf(tiny_folder)

    @pytest.mark.parametrize(
        ("part", "changes", "message"),
        [
            ("pre_tokenizer", {"type": "Metaspace", "replacement": "_"}, "no name for how"),
            ("pre_tokenizer", {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}, "no name for how"),
            ("pre_tokenizer", {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}, "no name for how"),
            ("normalizer", {"type": "Lowercase"}, "Lowercase"),
            ("model", {"byte_fallback": True}, "cannot be written"),
            ("model", {"ignore_merges": True}, "ignore_merges"),
            ("model", {"end_of_word_suffix": "</w>"}, "end_of_word_suffix"),
        ],
    )
    def test_tokenizers(self, tmp_path: Path, part: str, changes: dict[str, Any], message: str) -> None:
        folder = write_model(tmp_path / "model", "gpt-2")
        told = json.loads((folder / "tokenizer.json").read_text())
        told[part] = {**(told[part] or {}), **changes} if part == "model" else changes
        (folder / "tokenizer.json").write_text(json.dumps(told))
        with pytest.raises(UserError, match=message):
            check_gguf(folder)

    def test_a_token_that_the_model_has_no_row_for(self, tmp_path: Path) -> None:
        folder = write_model(tmp_path / "model", "gpt-2")
        told = json.loads((folder / "tokenizer.json").read_text())
        told["added_tokens"].append({**told["added_tokens"][0], "id": 10_000, "content": "<new>"})
        (folder / "tokenizer.json").write_text(json.dumps(told))
        with pytest.raises(UserError, match="knows no such token"):
            check_gguf(folder)

    def test_half_precision_that_overflows(self, tmp_path: Path) -> None:
        """65,504 is the largest half; what is larger would become infinite."""
        from safetensors.torch import load_file, save_file

        folder = write_model(tmp_path / "model", "gpt-2")
        tensors = load_file(folder / "model.safetensors")
        tensors["model.layers.0.mlp.up_proj.weight"][3, 5] = 70_000.0
        save_file(tensors, folder / "model.safetensors")
        with pytest.raises(UserError, match=r"half precision.*up_proj"):
            write_gguf(folder, tmp_path / "model.gguf", weights="f16")
        assert write_gguf(folder, tmp_path / "model.gguf", weights="bf16").is_file()

    def test_a_tensor_without_a_name(self, tmp_path: Path) -> None:
        import torch
        from safetensors.torch import load_file, save_file

        folder = write_model(tmp_path / "model", "gpt-2")
        extra = {"model.layers.0.self_attn.router.weight": torch.zeros(2, 2)}
        save_file({**load_file(folder / "model.safetensors"), **extra}, folder / "model.safetensors")
        with pytest.raises(UserError, match="router"):
            check_gguf(folder)


def test_a_sliding_window_bounds_the_context(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", "gpt-2")
    change_json(folder / "config.json", architectures=["MistralForCausalLM"], sliding_window=256)
    assert any("256" in note for note in check_gguf(folder))
    reader = read(write_gguf(folder, tmp_path / "model.gguf"))
    assert reader.fields["llama.context_length"].contents() == 256


def test_a_start_token_that_conversations_do_not_have(tmp_path: Path) -> None:
    """llama.cpp has one rule for both; with the template's own start token both have it."""
    folder = write_model(tmp_path / "model", "llama-bpe", start=True)
    assert check_gguf(folder) == ()
    reader = read(write_gguf(folder, tmp_path / "both.gguf"))
    assert reader.fields["tokenizer.ggml.add_bos_token"].contents() is True
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text(template.replace("{{ bos_token }}", ""))
    assert any("plain text" in note for note in check_gguf(folder))
    reader = read(write_gguf(folder, tmp_path / "plain.gguf"))
    assert reader.fields["tokenizer.ggml.add_bos_token"].contents() is False


def test_composed_accents_are_noted(tmp_path: Path) -> None:
    assert "NFC" in check_gguf(write_model(tmp_path / "model", "qwen2"))[0]


class TestReadingBack:
    def test_what_was_written(self, plain: Path, tmp_path: Path) -> None:
        file = write_gguf(plain, tmp_path / "model.gguf")
        found = verify_gguf(file, plain)
        assert (found.architecture, found.tensors, found.tokens) == ("llama", 21, len(byte_tokenizer("gpt-2")) + 8)
        assert read_gguf(file) == found

    def test_another_models_file(self, plain: Path, tmp_path: Path) -> None:
        other = write_model(tmp_path / "other", "gpt-2", num_hidden_layers=1)
        with pytest.raises(UserError, match="not what was written"):
            verify_gguf(write_gguf(other, tmp_path / "model.gguf"), plain)

    @pytest.mark.parametrize("content", [b"", b"GGUF", b"no GGUF at all, only text that goes on for a while"])
    def test_no_gguf_at_all(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "model.gguf").write_bytes(content)
        with pytest.raises(UserError, match="cannot be read"):
            read_gguf(tmp_path / "model.gguf")

    def test_a_file_that_was_cut(self, plain: Path, tmp_path: Path) -> None:
        file = write_gguf(plain, tmp_path / "model.gguf")
        file.write_bytes(file.read_bytes()[: math.floor(file.stat().st_size / 2)])
        with pytest.raises(UserError, match="cannot be read"):
            read_gguf(file)
