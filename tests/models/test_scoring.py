"""Log-probabilities of completions, against a plain computation of one example at a time."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from strop.errors import UserError
from strop.models.local import LocalModel
from strop.models.render import encode_examples
from strop.models.scoring import TokenScores, completion_log_probs
from strop.records.rows import Message, Prompt

PROMPTS: list[Prompt] = [f"Question: has {i} apples?{' go' * i}\nAnswer:" for i in range(7)]
PROMPTS.append((Message("user", "has 3"),))
COMPLETIONS = [f"{i} + {i} = {2 * i}\n#### {2 * i}" for i in range(7)] + ["3"]


def plain(model: LocalModel, prompt: Prompt, completion: str) -> list[float]:
    """Read off log p(token | everything before it) one by one: no batch, no padding, no mask, float64 softmax."""
    import torch

    ((start, rest),) = encode_examples(model.tokenizer, [(prompt, completion)])
    scores = []
    for index, token in enumerate(rest):
        with torch.inference_mode():
            logits = model.model(input_ids=torch.tensor([start + rest[:index]])).logits[0, -1].double()
        scores.append(float(logits[token] - logits.logsumexp(0)))
    return scores


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_scores_equal_the_plain_computation(tiny: LocalModel, batch_size: int, padding_side: str) -> None:
    scored = completion_log_probs(tiny, PROMPTS, COMPLETIONS, batch_size=batch_size, padding_side=padding_side)
    for scores, prompt, completion in zip(scored, PROMPTS, COMPLETIONS, strict=True):
        expected = plain(tiny, prompt, completion)
        assert list(scores.log_probs) == pytest.approx(expected, abs=1e-4)
        assert scores.total == pytest.approx(sum(expected), abs=1e-3)
        assert scores.tokens[-1] == tiny.tokenizer.eos_token_id


def test_total_and_mean_by_hand() -> None:
    """Probabilities 1/2 and 1/8: the sum is -4 ln 2 = -2.7726, the mean half of it."""
    scores = TokenScores((5, 6), (math.log(1 / 2), math.log(1 / 8)))
    assert scores.total == pytest.approx(-2.772589)
    assert scores.mean == pytest.approx(-1.386294)


def test_a_folder_is_scored_and_nothing_gives_nothing(tiny: LocalModel, tiny_folder: Path) -> None:
    from_folder = completion_log_probs(tiny_folder, PROMPTS[:1], COMPLETIONS[:1])
    assert from_folder[0].total == pytest.approx(completion_log_probs(tiny, PROMPTS[:1], COMPLETIONS[:1])[0].total)
    assert completion_log_probs(tiny, [], []) == []


def test_an_example_beyond_the_context_is_refused_not_cut(tiny: LocalModel) -> None:
    with pytest.raises(UserError, match="an example of 132 tokens for a model that takes 128"):
        completion_log_probs(tiny, ["go" + " go" * 129], ["1"])


def test_unequal_lists_are_an_error(tiny: LocalModel) -> None:
    with pytest.raises(ValueError, match="shorter"):
        completion_log_probs(tiny, ["go", "stop"], ["1"])
