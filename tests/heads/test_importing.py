"""The authors' LLaMA checkpoint, against a re-statement of their formula on transformers' own Llama."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from routed_decoders import HEADS, LAYERS, dense_decoder, logits, tokens
from strop.errors import UserError
from strop.heads.importing import authors_layout, import_authors
from strop.heads.modeling import load

WIDTH = 16


def checkpoint(folder: Path, family: str = "llama", **changed: Any) -> Any:
    """Write a tiny checkpoint laid out as theirs: Llama's keys and type, and code of its own beside it."""
    model = dense_decoder(family, **changed)
    model.save_pretrained(folder)
    path = folder / "config.json"
    told = json.loads(path.read_text())
    told["auto_map"] = {"AutoModelForCausalLM": "modeling_llama.LlamaForCausalLM"}
    path.write_text(json.dumps(told))
    (folder / "modeling_llama.py").write_text("raise SystemExit('never run')\n")
    return model


def published_mask(query_bnhd: Tensor) -> Tensor:
    """Re-state the published choice: the best half of the last half by softmax of norm over deviation; (b, n, h)."""
    heads = query_bnhd.shape[2]
    norm = query_bnhd[:, :, heads // 2 :].norm(dim=-1)
    score = (norm / norm.std(dim=-1, keepdim=True)).softmax(-1)
    best = score.topk(heads // 4, dim=-1).indices
    routed = torch.zeros_like(score).scatter(-1, best, 1.0)
    return torch.cat([torch.ones_like(routed), routed], -1)


def published_logits(model: Any, ids: Tensor) -> Tensor:
    """Run transformers' Llama with each head's output multiplied by the published gates before o_proj."""
    queries: dict[int, Tensor] = {}
    handles = []
    for number, layer in enumerate(model.model.layers):
        attention = layer.self_attn

        def keep(_m: Any, _given: Any, made: Tensor, number: int = number) -> None:
            queries[number] = made.unflatten(-1, (HEADS, WIDTH))  # type: ignore[no-untyped-call]

        def gate(_m: Any, given: tuple[Tensor], number: int = number) -> tuple[Tensor]:
            mask = published_mask(queries[number]).repeat_interleave(WIDTH, -1)
            return (given[0] * mask,)

        handles += [attention.q_proj.register_forward_hook(keep), attention.o_proj.register_forward_pre_hook(gate)]
    found = logits(model, ids)
    for handle in handles:
        handle.remove()
    return found


def test_the_published_layout_is_sixteen_shared_and_eight_of_sixteen() -> None:
    layout = authors_layout(32, 8)
    assert (layout.shared, layout.active, layout.units, layout.choice) == (tuple(range(16)), 8, 16, "free")
    assert layout.active_share == 0.75


@pytest.mark.parametrize("groups", [HEADS, 2])
def test_the_import_computes_the_published_formula(groups: int, tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "theirs", num_key_value_heads=groups)
    done = import_authors(tmp_path / "theirs", tmp_path / "ours")
    model: Any = load(tmp_path / "ours").eval()
    ids = tokens(2, 33)
    wanted = published_logits(source, ids)
    found = logits(model, ids)
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-5
    assert float((logits(source, ids) - wanted).abs().max()) > 1e-2
    assert done.settings.router == "query_norm"
    assert len(done.settings.layers) == LAYERS
    assert not list((tmp_path / "ours").glob("*.py"))


def test_what_is_not_theirs_is_refused(tmp_path: Path) -> None:
    dense_decoder("llama").save_pretrained(tmp_path / "dense")
    with pytest.raises(UserError, match="no code of its own"):
        import_authors(tmp_path / "dense", tmp_path / "out")
    checkpoint(tmp_path / "qwen", "qwen3")
    with pytest.raises(UserError, match="published a Llama"):
        import_authors(tmp_path / "qwen", tmp_path / "out")
    with pytest.raises(UserError, match="multiple of four"):
        authors_layout(7, 7)
    assert not (tmp_path / "out").exists()
