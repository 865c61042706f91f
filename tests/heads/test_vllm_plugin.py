"""What vLLM would call; vLLM itself is replaced by stand-ins that record, as it is not installed here.

The gated decoder is real, and is compared with the converted model.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import strop.heads  # tells transformers the converted types
from strop.errors import UserError
from strop.heads.vllm_plugin import ARCHITECTURES, MODEL, register

assert strop.heads
HEADS, GROUPS = 4, 2


class RecordingRegistry:
    """`vllm.ModelRegistry`, as far as a plug-in calls it."""

    def __init__(self) -> None:
        self.registered: list[tuple[str, str]] = []

    def get_supported_archs(self) -> list[str]:
        return ["LlamaForCausalLM", *(name for name, _ in self.registered)]

    def register_model(self, name: str, model: str) -> None:
        self.registered.append((name, model))


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> RecordingRegistry:
    """A module named vllm, and the modules that lead to its Transformers backend."""
    found, base = RecordingRegistry(), ModuleType("vllm.model_executor.models.transformers")
    base.TransformersForCausalLM = StandInBase  # type: ignore[attr-defined]
    for name in ("vllm", "vllm.model_executor", "vllm.model_executor.models"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, base.__name__, base)
    monkeypatch.setattr(sys.modules["vllm"], "ModelRegistry", found, raising=False)
    monkeypatch.delitem(sys.modules, "strop.heads.vllm_model", raising=False)
    return found


class StandInBase:
    """What vLLM's class does that matters here: build the decoder by AutoModel, then replace linear layers."""

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        from transformers import AutoModel

        self.config = vllm_config.model_config.hf_config
        self.model = AutoModel.from_config(self.config).eval()
        for layer in self.model.layers:
            old = layer.self_attn.o_proj
            layer.self_attn.o_proj = torch.nn.Linear(old.in_features, old.out_features, bias=False)


def settings_of(config: Any, *, parallel: int = 1, eager: bool = True) -> Any:
    return SimpleNamespace(
        parallel_config=SimpleNamespace(tensor_parallel_size=parallel),
        model_config=SimpleNamespace(hf_config=config, enforce_eager=eager),
    )


def converted(family: str, router: str) -> Any:
    """A tiny converted model with weights and routers that are not zero; half of the heads are active."""
    from transformers import AutoConfig, AutoModelForCausalLM

    layers = [{"shared": [0], "active": 1, "choice": "free"}, {"shared": [], "active": 1, "choice": "per_group"}]
    if router == "learned":
        layers[0]["active"] = 2
    config = AutoConfig.for_model(
        f"moh_{family}",
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=GROUPS,
        head_dim=8,
        max_position_embeddings=64,
        moh={"version": 1, "layers": layers, "router": router, "gates": "released", "straight_through": "off"},
    )
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model


def test_every_architecture_is_registered_once(registry: RecordingRegistry) -> None:
    register()
    register()
    assert registry.registered == [(name, MODEL) for name in ARCHITECTURES.values()]


def test_the_names_are_those_of_converted_models() -> None:
    from strop.heads.modeling.families import FAMILIES, model_class

    assert {family: model_class(family).__name__ for family in FAMILIES} == ARCHITECTURES


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_the_entry_point_leads_to_register() -> None:
    """As vLLM finds it, where the package was installed since the entry point exists."""
    found = [each for each in entry_points(group="vllm.general_plugins") if each.name == "strop_moh"]
    if not found:
        pytest.skip("installed before the entry point existed: make .venv/.installed-stamp again")
    assert found[0].load() is register


@pytest.mark.filterwarnings("ignore:a token picks one")
@pytest.mark.parametrize("router", ["learned", "query_norm"])
@pytest.mark.parametrize("family", list(ARCHITECTURES))
def test_answers_are_those_of_the_converted_model(registry: RecordingRegistry, family: str, router: str) -> None:
    """The same weights under the same names; gates hang on the projection that took the first one's place."""
    from strop.heads.attention import using
    from strop.heads.vllm_model import MoHTransformersForCausalLM

    model = converted(family, router)
    built = MoHTransformersForCausalLM(vllm_config=settings_of(model.config))
    built.model.load_state_dict(model.model.state_dict())
    tokens_bn = torch.arange(22).view(2, 11) % 61
    with torch.no_grad(), using("reference"):
        want: Tensor = model.model(tokens_bn).last_hidden_state
        got: Tensor = built.model(tokens_bn).last_hidden_state
        assert torch.allclose(got, want, atol=1e-5), (got - want).abs().max()
        # One row of many tokens, as vLLM passes them.
        flat: Tensor = built.model(tokens_bn[:1]).last_hidden_state
    assert torch.allclose(flat, want[:1], atol=1e-5)


@pytest.mark.filterwarnings("ignore:a token picks one")
def test_what_vllm_must_not_do_is_refused(registry: RecordingRegistry) -> None:
    from strop.heads.gated_decoder import gate
    from strop.heads.vllm_model import MoHTransformersForCausalLM

    model = converted("llama", "query_norm")
    with pytest.raises(UserError, match="split over GPUs"):
        MoHTransformersForCausalLM(vllm_config=settings_of(model.config, parallel=2))
    with pytest.raises(UserError, match="enforce-eager"):
        MoHTransformersForCausalLM(vllm_config=settings_of(model.config, eager=False))
    attention = model.model.layers[0].self_attn
    attention.q_proj = None
    with pytest.raises(UserError, match="lost q_proj"):
        gate(model.model.layers, model.config)
