"""Decoders of other families than the tested ones: tried out before they are converted, then as exact as those.

OLMo 2 normalises all heads of a token together, Cohere and GLM pair neighbouring coordinates in the rotation, GLM and
StableLM rotate a part of each head, SmolLM3 leaves layers without places, Gemma 3 has local and global layers and
scales its embeddings, Mixtral mixes experts behind the attention.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

import strop.heads  # noqa: F401  # makes the converted types known to transformers
from routed_decoders import dense_config, dense_decoder, logits, routed_decoder, tokens
from strop.errors import UserError
from strop.heads.attention import using
from strop.heads.conversion import convert
from strop.heads.modeling import MoHSettings, load
from strop.heads.modeling.sameness import prove
from strop.heads.modeling.variants import dense_twin
from strop.heads.requested import Request, settings_for
from strop.heads.verification.verifying import verify

OTHERS = ("olmo2", "cohere", "glm", "stablelm", "smollm3", "gemma3_text", "mixtral")
CHANGED: dict[str, dict[str, int]] = {"stablelm": {"hidden_size": 128}}
"""StableLM's heads are always as wide as the model together."""


@pytest.mark.parametrize("family", OTHERS)
def test_a_small_copy_proves_that_the_type_can_be_converted(family: str) -> None:
    prove(dense_config(family))


@pytest.mark.parametrize(
    ("family", "why"),
    [
        ("phi3", "q_proj"),  # one joint projection
        ("exaone4", "differs"),  # global layers know no places
        ("gpt_oss", "GptOss"),  # sinks; no attention kernel of torch either
        ("mamba", "num_attention_heads"),
        ("blenderbot", "other names"),  # the copy would not be small
    ],
)
def test_a_type_that_does_more_is_refused_with_the_reason(family: str, why: str) -> None:
    from transformers import AutoConfig

    with pytest.raises(UserError, match="cannot be converted") as refusal:
        prove(AutoConfig.for_model(family))
    assert why in str(refusal.value)


@pytest.mark.parametrize("cap", [5.0, float("nan")])
def test_a_difference_that_no_list_names_is_seen(monkeypatch: pytest.MonkeyPatch, cap: float) -> None:
    """Llama's layers, but what attention gives goes through c tanh(x / c); with NaN the dense model gives no number."""
    from transformers.models.llama import modeling_llama

    dense = modeling_llama.LlamaAttention.forward

    def capped(self: Any, hidden_states: torch.Tensor, *arguments: Any, **named: Any) -> Any:
        out, none = dense(self, hidden_states, *arguments, **named)
        return cap * torch.tanh(out / cap), none

    monkeypatch.setattr(modeling_llama.LlamaAttention, "forward", capped)
    with pytest.raises(UserError, match="differs from the dense model"):
        prove(dense_config("llama"))


@pytest.mark.parametrize("router", ["learned", "query_norm"])
@pytest.mark.parametrize("family", OTHERS)
def test_sparse_is_the_reference(family: str, router: str) -> None:
    dense = dense_decoder(family, **CHANGED.get(family, {}))
    model = routed_decoder(dense, "one of each group", router=router)
    ids = tokens(2, 21)
    mask = torch.ones_like(ids)
    mask[1, :5] = 0
    real = mask.bool()
    with using("reference"):
        wanted = logits(model, ids, attention_mask=mask)[real]
    with using("gathered"):
        found = logits(model, ids, attention_mask=mask)[real]
    own = logits(dense, ids, attention_mask=mask)[real]
    largest = float(wanted.abs().max())
    assert float((found - wanted).abs().max()) < 1e-5 * largest
    assert float((own - wanted).abs().max()) > 1e-3 * largest
    assert torch.equal(logits(dense_twin(model), ids, attention_mask=mask)[real], own)


@pytest.mark.parametrize("family", ["olmo2", "gemma3_text"])
def test_convert_load_and_verify(family: str, tmp_path: Path) -> None:
    dense = dense_decoder(family, num_hidden_layers=6)
    dense.save_pretrained(tmp_path / "dense")
    settings = settings_for(tmp_path / "dense", Request(active=0.5))
    convert(tmp_path / "dense", settings, tmp_path / "moh")
    model: Any = load(tmp_path / "moh")
    assert model.config.model_type == f"moh_{family}"
    assert MoHSettings.from_config(model.config).layers == settings.layers
    assert pickle.loads(pickle.dumps(type(model))) is type(model)
    report = verify(tmp_path / "moh", original=tmp_path / "dense")
    assert report.passed, report
