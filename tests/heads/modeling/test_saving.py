"""Folders of converted models in fresh processes: the same with strop, refused without, and no other model changed.

The published code, loaded once, made every later Llama of the process a routed one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import strop.heads  # noqa: F401  # makes the converted types known to transformers
from routed_decoders import FAMILIES, dense_decoder, logits, routed_decoder, tokens
from strop.heads.modeling import load

RELOAD = """
import strop.heads, sys, torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaForCausalLM
folder, dense, out = sys.argv[1:]
ids = torch.arange(3, 27)[None]
def run(model):
    with torch.no_grad():
        return model.eval()(input_ids=ids, use_cache=False).logits.contiguous()
before = AutoModelForCausalLM.from_pretrained(dense)
first = run(before)
moh = AutoModelForCausalLM.from_pretrained(folder)
after = AutoModelForCausalLM.from_pretrained(dense)
found = {"moh": run(moh), "before": first, "again": run(before), "after": run(after)}
save_file(found, out)
print(type(before).__name__, type(moh).__name__, type(after).__name__, type(before) is type(after))
"""
ALONE = """
import sys
from transformers import AutoModelForCausalLM, AutoConfig
assert "strop" not in sys.modules
for automatic in (AutoConfig, AutoModelForCausalLM):
    try:
        print(type(automatic.from_pretrained(sys.argv[1])).__name__)
    except ValueError as error:
        print("refused", "moh_llama" in str(error))
"""


def said(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.mark.slow
def test_a_fresh_process_loads_it_and_leaves_llama_dense(tmp_path: Path) -> None:
    """The same class and logits as here; a dense Llama loaded before and after stays what it is."""
    dense = dense_decoder("llama")
    model = routed_decoder(dense, "one of each group", router="learned")
    dense.save_pretrained(tmp_path / "dense")
    model.save_pretrained(tmp_path / "moh")
    line = said(RELOAD, str(tmp_path / "moh"), str(tmp_path / "dense"), str(tmp_path / "logits"))
    assert line == "LlamaForCausalLM MoHLlamaForCausalLM LlamaForCausalLM True"
    found = load_file(tmp_path / "logits")
    ids = torch.arange(3, 27)[None]
    scale = float(logits(dense, ids).abs().max())
    assert float((found["moh"] - logits(model, ids)).abs().max()) < 1e-6 * scale
    for name in ("before", "again", "after"):
        assert float((found[name] - logits(dense, ids)).abs().max()) < 1e-6 * scale
    assert float((found["moh"] - found["after"]).abs().max()) > 1e-2 * scale


@pytest.mark.slow
def test_transformers_alone_refuses_it(tmp_path: Path) -> None:
    """Config and model, by the name of the type that it does not know."""
    routed_decoder(dense_decoder("llama"), "free", router="query_norm").save_pretrained(tmp_path / "moh")
    assert said(ALONE, str(tmp_path / "moh")).splitlines() == ["refused True", "refused True"]


def test_loading_a_converted_model_leaves_the_dense_class_alone(tmp_path: Path) -> None:
    from transformers.models.llama.modeling_llama import LlamaAttention

    dense = dense_decoder("llama")
    forward = LlamaAttention.forward
    wanted = logits(dense, tokens(1, 12))
    routed_decoder(dense, "free", router="query_norm").save_pretrained(tmp_path / "moh")
    load(tmp_path / "moh")
    assert LlamaAttention.forward is forward
    assert torch.equal(logits(dense, tokens(1, 12)), wanted)
    assert torch.equal(logits(dense_decoder("llama"), tokens(1, 12)), wanted)
    assert type(dense_decoder("llama").model.layers[0].self_attn) is LlamaAttention


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_saved_is_loaded(family: str, tmp_path: Path) -> None:
    """Sharded, with drawn routers: every weight, the class, and the logits to the last bit."""
    model = routed_decoder(dense_decoder(family), "one of each group", router="learned")
    model.save_pretrained(tmp_path / "moh", max_shard_size="60KB")
    assert len(list((tmp_path / "moh").glob("*.safetensors"))) > 1
    again = load(tmp_path / "moh")
    assert type(again) is type(model)
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in model.state_dict().items())
    assert torch.equal(logits(again, tokens(2, 11)), logits(model, tokens(2, 11)))
    config = json.loads((tmp_path / "moh" / "config.json").read_text())
    assert (config["model_type"], "auto_map" in config) == (f"moh_{family}", False)


def test_routers_that_a_checkpoint_lacks_are_zero(tmp_path: Path) -> None:
    """Some or all of them; those that are there are kept."""
    model = routed_decoder(dense_decoder("llama"), "one of each group", router="learned")
    model.save_pretrained(tmp_path / "moh")
    path = tmp_path / "moh" / "model.safetensors"
    own = load_file(path)
    save_file({name: w for name, w in own.items() if "layers.1.self_attn.router" not in name}, path, {"format": "pt"})
    found: Any = load(tmp_path / "moh")
    for number, layer in enumerate(found.model.layers):
        for name, weight in layer.self_attn.router.state_dict().items():
            wanted = model.state_dict()[f"model.layers.{number}.self_attn.router.{name}"]
            assert torch.equal(weight, torch.zeros_like(wanted) if number == 1 else wanted)


def test_in_another_type_it_routes_alike(tmp_path: Path) -> None:
    """Loaded as bfloat16: the routers' weights too, finite logits, about the same ones."""
    model = routed_decoder(dense_decoder("llama"), "first half", router="learned")
    model.save_pretrained(tmp_path / "moh")
    half = load(tmp_path / "moh", dtype=torch.bfloat16)
    assert {weight.dtype for weight in half.parameters()} == {torch.bfloat16}
    found, wanted = logits(half, tokens(2, 15)).float(), logits(model, tokens(2, 15))
    assert float(torch.nn.functional.cosine_similarity(found.flatten(), wanted.flatten(), dim=0)) > 0.9
