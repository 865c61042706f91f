"""Importance of heads on small random decoders, against gates and weights changed by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from strop.errors import UserError
from strop.heads.importance import Batch, attention_layers, gradient_importance, leave_one_out_importance

SHAPE: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "initializer_range": 0.2,
}


def llama() -> Any:
    torch.manual_seed(5)
    return LlamaForCausalLM(LlamaConfig(**SHAPE)).double().eval()


def qwen3() -> Any:
    torch.manual_seed(6)
    return Qwen3ForCausalLM(Qwen3Config(**SHAPE)).double().eval()


def texts(count: int = 3, length: int = 7) -> Tensor:
    return torch.randint(0, 32, (count, length), generator=torch.Generator().manual_seed(8))


def columns(model: Any, layer: int, head: int) -> Tensor:
    """The weights that read one head's output."""
    weight: Tensor = model.model.layers[layer].self_attn.o_proj.weight
    return weight[:, 4 * head : 4 * head + 4]


def mean_loss(model: Any, ids: Tensor) -> float:
    """Transformers' own, which is float32."""
    with torch.no_grad():
        return float(model(input_ids=ids, labels=ids).loss)


def summed_loss(model: Any, ids: Tensor) -> float:
    with torch.no_grad():
        return -sum(
            float(row.log_softmax(-1)[token]) for row, token in zip(model(ids[None]).logits[0], ids[1:], strict=False)
        )


@pytest.mark.parametrize("make", [llama, qwen3])
def test_leaving_out_is_reading_nothing(make: Any) -> None:
    """The rise of transformers' own loss when the output projection's columns of the head are zero."""
    model, ids = make(), texts()
    measured = leave_one_out_importance(model, [{"input_ids": ids}])
    before = mean_loss(model, ids)
    for layer, head in ((0, 0), (0, 3), (1, 2)):
        kept = columns(model, layer, head).detach().clone()
        columns(model, layer, head).data.zero_()
        assert measured[layer, head].item() == pytest.approx(mean_loss(model, ids) - before, abs=1e-6)
        columns(model, layer, head).data.copy_(kept)


@pytest.mark.parametrize("make", [llama, qwen3])
def test_the_gradient_of_a_text_is_that_of_scaled_weights(make: Any) -> None:
    """One gate for a text scales the head's columns: a central difference of the loss of each text alone."""
    model, ids = make(), texts(2)
    measured = gradient_importance(model, [{"input_ids": ids}], unit="text")
    step, slopes = 1e-2, []  # these models normalise in float32, whatever their type
    for text in ids:
        losses = []
        for factor in (1 + step, 1 - step):
            kept = columns(model, 1, 2).detach().clone()
            columns(model, 1, 2).data.mul_(factor)
            losses.append(summed_loss(model, text))
            columns(model, 1, 2).data.copy_(kept)
        slopes.append(abs(losses[0] - losses[1]) / (2 * step))
    assert measured[1, 2].item() == pytest.approx(sum(slopes) / 12, rel=1e-3)


def test_a_head_that_nobody_reads_does_not_matter() -> None:
    model = llama()
    columns(model, 0, 1).data.zero_()
    batches = [{"input_ids": texts()}]
    for measured in (
        gradient_importance(model, batches),
        gradient_importance(model, batches, squared=True),
        gradient_importance(model, batches, unit="text"),
        leave_one_out_importance(model, batches),
    ):
        assert measured.shape == (2, 4)
        assert measured.dtype == torch.float64
        assert (measured == 0).nonzero().tolist() == [[0, 1]]


def test_batches_add_up_and_padding_changes_nothing() -> None:
    """Two batches, one batch, and a batch with padding on the left measure the same heads alike."""
    model, ids = llama(), texts(2)
    padded = torch.cat([torch.full((2, 3), 9), ids], dim=1)
    mask = torch.cat([torch.zeros(2, 3, dtype=torch.long), torch.ones_like(ids)], dim=1)
    ways: list[list[Batch]] = [
        [{"input_ids": ids}],
        [{"input_ids": ids[:1]}, {"input_ids": ids[1:]}],
        [{"input_ids": padded, "attention_mask": mask}],
    ]
    for measure in (gradient_importance, leave_one_out_importance):
        whole, *others = [measure(model, way) for way in ways]
        for other in others:
            torch.testing.assert_close(whole, other, rtol=1e-5, atol=1e-7)


def test_labels_say_what_is_scored() -> None:
    model, ids = llama(), texts(1)
    labels = ids.clone()
    labels[:, :5] = -100
    measured = gradient_importance(model, [{"input_ids": ids, "labels": labels}])
    assert measured.sum().item() > 0
    assert not torch.allclose(measured, gradient_importance(model, [{"input_ids": ids}]))


def test_the_model_is_as_before() -> None:
    """Frozen, training and without hooks: nothing changes, and no parameter gets a gradient."""
    model = llama().train()
    model.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradient_importance(model, [{"input_ids": texts()}])
    leave_one_out_importance(model, [{"input_ids": texts()}])
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(not layer._forward_pre_hooks for layer in attention_layers(model))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_layers_done_are_told() -> None:
    told: list[tuple[int, int]] = []
    leave_one_out_importance(
        llama(), [{"input_ids": texts(1)}], on_layer=lambda done, every: told.append((done, every))
    )
    assert told == [(1, 2), (2, 2)]


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(UserError, match="cannot be found"):
        gradient_importance(nn.Linear(2, 2), [])
    with pytest.raises(UserError, match="no token to score"):
        gradient_importance(llama(), [])
    with pytest.raises(UserError, match="no token to score"):
        leave_one_out_importance(llama(), [{"input_ids": texts(2, 1)}])
    broken = llama()
    broken.model.layers[0].self_attn.o_proj.weight.data[0, 0] = float("nan")
    for measure in (gradient_importance, leave_one_out_importance):
        with pytest.raises(UserError, match="not finite"):
            measure(broken, [{"input_ids": texts()}])
    assert all(not layer._forward_pre_hooks for layer in attention_layers(broken))
