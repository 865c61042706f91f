"""From a dense folder to a converted one: weights stay, the rest is copied, and what cannot be converted is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import strop.heads  # noqa: F401  # makes the converted types known to transformers
from routed_decoders import FAMILIES, GROUPS, HEADS, LAYERS, dense_decoder, logits, tokens
from strop.errors import UserError
from strop.heads.conversion import CARD, CONFIG, INDEX, ROUTERS, convert, read_dense, weight_files, weights_hash
from strop.heads.layout import HeadLayout, layout_for
from strop.heads.modeling import MoHSettings, load
from strop.heads.modeling.refusal import ATTENTION

ONE_OF_EACH = HeadLayout(query_heads=HEADS, kv_groups=GROUPS, shared=(0, 4), active=2, choice="per_group")
FREE = HeadLayout(query_heads=HEADS, kv_groups=GROUPS, shared=(), active=4)


def settings(layout: HeadLayout = ONE_OF_EACH, layers: int = LAYERS, **named: Any) -> MoHSettings:
    return MoHSettings(layers=(layout,) * layers, **named)


def saved(folder: Path, family: str = "llama", *, shards: str = "1GB", **changed: Any) -> Path:
    """Save a tiny dense decoder with a tokenizer's files beside it."""
    dense_decoder(family, **changed).save_pretrained(folder, max_shard_size=shards)
    (folder / "tokenizer.json").write_text('{"version": "1.0"}', encoding="utf-8")
    (folder / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    return folder


def weights(folder: Path) -> dict[str, Tensor]:
    return {name: weight for path in folder.glob("*.safetensors") for name, weight in load_file(path).items()}


def told(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    return found


def change(folder: Path, **values: Any) -> None:
    config = {**told(folder), **values}
    kept = {key: value for key, value in config.items() if value is not None}
    (folder / CONFIG).write_text(json.dumps(kept), encoding="utf-8")


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("dense") / "tiny")


@pytest.fixture
def changed(dense: Path, tmp_path: Path) -> Path:
    """Return a copy that a test may spoil."""
    return Path(shutil.copytree(dense, tmp_path / "spoilt"))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("router", ["learned", "query_norm"])
@pytest.mark.parametrize("shards", ["1GB", "60KB"])
def test_every_weight_stays_and_routers_start_at_zero(tmp_path: Path, family: str, router: Any, shards: str) -> None:
    """Single and sharded weights; a learned router: two shared heads, six routed ones, two stages; width 64."""
    source = saved(tmp_path / "dense", family, shards=shards)
    assert (source / INDEX).exists() == (shards == "60KB")
    done = convert(source, settings(router=router), tmp_path / "moh")
    own, dense = weights(done.folder), weights(source)
    assert all(torch.equal(own.pop(name), weight) for name, weight in dense.items())
    assert sum(weight.numel() for weight in own.values()) == done.router_parameters
    assert done.router_parameters == (LAYERS * (2 + 6 + 2) * 64 if router == "learned" else 0)
    assert all(".self_attn.router." in name and not weight.any() for name, weight in own.items())
    if (done.folder / INDEX).exists():
        assert set(json.loads((done.folder / INDEX).read_text())["weight_map"]) == {*own, *dense}
    model: Any = load(done.folder, output_loading_info=True)
    assert type(model[0]).__name__.startswith("MoH")
    assert not any(model[1][key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))


def test_byte_for_byte(dense: Path, tmp_path: Path) -> None:
    """Without routers the weight file itself is copied; with them under another name, which the index knows."""
    plain = convert(dense, settings(router="query_norm"), tmp_path / "plain").folder
    assert (plain / "model.safetensors").read_bytes() == (dense / "model.safetensors").read_bytes()
    routed = convert(dense, settings(), tmp_path / "routed").folder
    assert (routed / "model-dense.safetensors").read_bytes() == (dense / "model.safetensors").read_bytes()
    assert (routed / ROUTERS).exists()
    assert not (routed / "model.safetensors").exists()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_config_comes_back(tmp_path: Path, family: str) -> None:
    """All of the dense config's values, and the heads; then again through transformers' own saving."""
    source = saved(tmp_path / "dense", family)
    wanted = settings(router="query_norm", straight_through="exact", balance=0.05, backend="gathered")
    done = convert(source, wanted, tmp_path / "moh")
    assert done.settings.source == weights_hash(weight_files(source))
    kept, dense = told(done.folder), told(source)
    for name in ("model_type", "architectures"):
        assert kept.pop(name) != dense.pop(name)
    assert MoHSettings.from_config(load(done.folder).config) == done.settings
    assert kept.pop("moh") == done.settings.to_dict()
    assert kept.pop("attn_implementation") == ATTENTION
    assert kept == dense
    load(done.folder).save_pretrained(tmp_path / "again")
    again = load(tmp_path / "again")
    assert MoHSettings.from_config(again.config) == done.settings
    assert type(again.config).model_type == f"moh_{family}"
    assert torch.equal(logits(again, tokens(2, 9)), logits(load(done.folder), tokens(2, 9)))


def test_what_belongs_to_the_model_comes_along_and_nothing_else(dense: Path, changed: Path, tmp_path: Path) -> None:
    """The authors' weights under other names, pickles, code and a card about the dense model stay behind."""
    for name in ("pytorch_model.bin", "pytorch_model.bin.index.json", "modeling_llama.py", "README.md", "model.gguf"):
        (changed / name).write_text("{}", encoding="utf-8")
    save_file({"tok_embeddings.weight": torch.zeros(2)}, changed / "consolidated.safetensors")
    (changed / "original").mkdir()
    change(changed, auto_map={"AutoModelForCausalLM": "modeling_llama.LlamaForCausalLM"})
    done = convert(changed, settings(), tmp_path / "moh").folder
    assert {path.name for path in done.iterdir()} == {
        CONFIG,
        CARD,
        INDEX,
        ROUTERS,
        "model-dense.safetensors",
        "generation_config.json",
        "tokenizer.json",
        "chat_template.jinja",
    }
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (done / name).read_bytes() == (dense / name).read_bytes()
    assert "auto_map" not in told(done)


def test_the_card_says_what_was_made(dense: Path, tmp_path: Path) -> None:
    """Six of eight heads, two of them shared, in three layers."""
    done = convert(dense, settings(), tmp_path / "moh")
    card = json.loads((done.folder / CARD).read_text(encoding="utf-8"))
    assert card["source"] == "tiny"
    assert card["active"] == done.share.describe()
    assert done.share.over_heads == 0.75
    assert card["layers"] == [ONE_OF_EACH.describe()] * 3
    assert card["router_parameters"] == done.router_parameters
    assert card["weights_sha256"] == done.settings.source


def test_links_are_followed(dense: Path, tmp_path: Path) -> None:
    """As in the cache of a model hub, whose folders link to files elsewhere."""
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in dense.iterdir():
        (linked / path.name).symlink_to(path)
    done = convert(linked, settings(), tmp_path / "moh").folder
    assert not any(path.is_symlink() for path in done.iterdir())


def test_routers_have_the_type_of_the_weights(tmp_path: Path) -> None:
    source = tmp_path / "dense"
    dense_decoder("llama").bfloat16().save_pretrained(source)
    done = convert(source, settings(), tmp_path / "moh").folder
    with safe_open(done / ROUTERS, framework="pt") as routers:
        assert {str(routers.get_tensor(name).dtype) for name in list(routers.keys())} == {"torch.bfloat16"}
    assert load(done).dtype == torch.bfloat16


def test_tied_embeddings_stay_tied(tmp_path: Path) -> None:
    source = saved(tmp_path / "dense", tie_word_embeddings=True)
    model = load(convert(source, settings(), tmp_path / "moh").folder)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_a_layer_may_have_its_own_layout(dense: Path, tmp_path: Path) -> None:
    """Pruned, routed, all on: only the middle layer has a router. Shares 2/8, 6/8 and 8/8: two thirds of all heads."""
    pruned = HeadLayout(query_heads=HEADS, kv_groups=GROUPS, shared=(1, 6), active=0)
    full = HeadLayout(query_heads=HEADS, kv_groups=GROUPS, shared=(), active=HEADS)
    done = convert(dense, MoHSettings(layers=(pruned, ONE_OF_EACH, full)), tmp_path / "moh")
    assert done.share.over_heads == pytest.approx(2 / 3)
    names = [name for name in weights(done.folder) if ".router." in name]
    assert {name.split(".")[2] for name in names} == {"1"}
    assert torch.isfinite(logits(load(done.folder), tokens(1, 7))).all()


def test_a_stop_leaves_no_folder_that_looks_whole(dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_paths: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "copyfile", stopped)
    with pytest.raises(KeyboardInterrupt):
        convert(dense, settings(), tmp_path / "out" / "moh")
    assert list((tmp_path / "out").iterdir()) == []


def no_config(folder: Path) -> None:
    (folder / CONFIG).unlink()


def no_json(folder: Path) -> None:
    (folder / CONFIG).write_text("{model_type: llama", encoding="utf-8")


def a_list(folder: Path) -> None:
    (folder / CONFIG).write_text("[]", encoding="utf-8")


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def a_pointer(folder: Path) -> None:
    """What stands in for a large file that was not fetched."""
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf-8")


def a_shard_is_missing(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")


def a_shard_elsewhere(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"model.norm.weight": "../tiny/model.safetensors"}}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")


def an_empty_index(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / INDEX).write_text("{}", encoding="utf-8")


def no_projection(folder: Path) -> None:
    own = load_file(folder / "model.safetensors")
    del own["model.layers.1.self_attn.k_proj.weight"]
    save_file(own, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_config, "no model folder"),
        (no_json, "not JSON"),
        (a_list, "no JSON object"),
        (pickled, "no weights in safetensors"),
        (cut_short, "cannot be read"),
        (a_pointer, "cannot be read"),
        (a_shard_is_missing, "not there"),
        (a_shard_elsewhere, "not there"),
        (an_empty_index, "no weights in safetensors"),
        (no_projection, "lack an attention projection"),
        (lambda folder: change(folder, model_type="gpt2"), "cannot be converted"),
        (lambda folder: change(folder, model_type="phi3"), "cannot be converted"),
        (lambda folder: change(folder, model_type=None), "cannot be converted"),
        (lambda folder: change(folder, model_type=["llama"]), "cannot be converted"),
        (lambda folder: change(folder, architectures=["LlamaForSequenceClassification"]), "only causal language"),
        (lambda folder: change(folder, quantization_config={"bits": 4}), "quantised"),
        (lambda folder: change(folder, num_attention_heads=16), "does not fit the config"),
        (lambda folder: change(folder, num_key_value_heads=4), "does not fit the config"),
        (lambda folder: change(folder, num_key_value_heads=8), "does not fit the config"),
        (lambda folder: change(folder, num_hidden_layers=4), "lack an attention projection"),
        (lambda folder: change(folder, hidden_size="wide"), "cannot read the model's config"),
    ],
)
def test_what_cannot_be_converted_is_refused(changed: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(changed)
    with pytest.raises(UserError, match=message):
        convert(changed, settings(), changed.parent / "moh")
    assert not (changed.parent / "moh").exists()


def test_other_decoders_are_refused_by_their_type(tmp_path: Path) -> None:
    """Real folders of decoders whose projections are joined in one matrix."""
    from transformers import GPT2Config, GPT2LMHeadModel, Phi3Config, Phi3ForCausalLM

    sizes = {"num_hidden_layers": 1, "num_attention_heads": 4, "hidden_size": 32, "vocab_size": 20, "pad_token_id": 0}
    GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=4, n_embd=32, vocab_size=20)).save_pretrained(tmp_path / "gpt2")
    Phi3ForCausalLM(Phi3Config(**sizes, intermediate_size=32)).save_pretrained(tmp_path / "phi3")
    for name in ("gpt2", "phi3"):
        with pytest.raises(UserError, match="cannot be converted") as refused:
            read_dense(tmp_path / name)
        assert refused.value.value == name


def test_a_converted_model_is_not_converted_again(dense: Path, tmp_path: Path) -> None:
    done = convert(dense, settings(), tmp_path / "moh").folder
    with pytest.raises(UserError, match="converted already"):
        convert(done, settings(), tmp_path / "twice")


def test_a_folder_that_is_there_is_left_alone(dense: Path, tmp_path: Path) -> None:
    (tmp_path / "moh").mkdir()
    (tmp_path / "moh" / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(UserError, match="there already"):
        convert(dense, settings(), tmp_path / "moh")
    assert (tmp_path / "moh" / "thesis.txt").read_text(encoding="utf-8") == "years of work"


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: settings(HeadLayout(query_heads=16, kv_groups=2, shared=(), active=8)), "for another model"),
        (lambda: settings(HeadLayout(query_heads=8, kv_groups=8, shared=(), active=4)), "for another model"),
        (lambda: settings(layers=2), "every layer needs a layout"),
        (lambda: settings(layers=0), "every layer needs a layout"),
        (lambda: settings(HeadLayout(query_heads=8, kv_groups=2, shared=(0, 1), active=7)), "cannot take that many"),
        (
            lambda: settings(HeadLayout(query_heads=8, kv_groups=2, shared=(0, 1), active=1, choice="groups")),
            "cut a KV group",
        ),
        (lambda: settings(layout_for(8, 2, active_share=0.6)), "makes that share"),
    ],
)
def test_layouts_that_cannot_be_are_refused(dense: Path, tmp_path: Path, made: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        convert(dense, made(), tmp_path / "moh")
    assert not (tmp_path / "moh").exists()
