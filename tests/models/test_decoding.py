"""Batched sampling: the noise, the stop strings, and parity with transformers' own generation."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.models.local import LocalModel
from strop.models.protocol import Call, Completion, Sampling
from strop.records.rows import Message

PROMPTS = [f"Question: has {i} apples and {2 * i} books?\nAnswer:" for i in range(24)]
PROMPTS += ["go " * count + "1" for count in range(1, 9)]


def texts(model: LocalModel, calls: list[Call]) -> list[str]:
    """The text of every call, in order."""
    found: dict[int, str] = {}
    for batch in model.complete(calls):
        for index, outcome in batch:
            assert isinstance(outcome, Completion)
            assert index not in found
            found[index] = outcome.text
    return [found[index] for index in range(len(calls))]


def test_gumbel_noise_has_its_mean_and_variance() -> None:
    """Standard Gumbel: mean 0.5772 (Euler's constant), variance pi^2 / 6 = 1.6449; 2.5 million draws."""
    import torch

    from strop.models.decoding import gumbel_noise

    keys = torch.arange(50) * 7919
    noise = torch.cat([gumbel_noise(keys, step, 500) for step in range(100)]).double()
    assert torch.isfinite(noise).all()
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.004)
    assert float(noise.var()) == pytest.approx(1.6449, abs=0.01)


def test_gumbel_noise_does_not_repeat_between_keys_steps_and_tokens() -> None:
    import torch

    from strop.models.decoding import gumbel_noise

    keys = torch.tensor([0, 1, 2, 2**62, 2**63 - 1])
    noise = torch.stack([gumbel_noise(keys, step, 200) for step in range(20)])
    # 20,000 draws of 31 bits: fewer than one equal pair is expected, runs of them would be a defect.
    assert len(set(noise.flatten().tolist())) > 19_950
    flat = noise.double()
    for left, right in ((flat[:-1], flat[1:]), (flat[:, :-1], flat[:, 1:]), (flat[..., :-1], flat[..., 1:])):
        correlation = torch.corrcoef(torch.stack([left.flatten(), right.flatten()]))[0, 1]
        assert abs(float(correlation)) < 0.03


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (1.0, 0.8)])
def test_sampling_follows_the_softmax(temperature: float, top_p: float) -> None:
    """Chi-square against the softmax of logits 0, 1, 2, 3 at 20,000 draws and a fixed seed.

    At top-p 0.8 the probabilities 0.644, 0.237, 0.087, 0.032 keep the first two: 0.731 and 0.269.
    """
    import torch
    from scipy.stats import chisquare

    from strop.models.decoding import Sampler

    logits = torch.tensor([0.0, 1.0, 2.0, 3.0])
    count = 20_000
    sampler = Sampler(Sampling(temperature=temperature, top_p=top_p))
    drawn = sampler(logits.expand(count, 4), torch.arange(count), 0)
    observed = torch.bincount(drawn, minlength=4).tolist()
    if top_p < 1:
        assert observed[:2] == [0, 0]
        expected = [0.0, 0.0, 0.268941, 0.731059]
    else:
        weights = [math.exp(logit / temperature) for logit in range(4)]
        expected = [weight / sum(weights) for weight in weights]
    pairs = [(o, e * count) for o, e in zip(observed, expected, strict=True) if e > 0]
    result = chisquare([o for o, _ in pairs], [e for _, e in pairs], sum_check=False)
    assert result.pvalue > 0.001


def test_greedy_equals_generate_one_by_one(tiny: LocalModel) -> None:
    import torch

    batched = texts(tiny, [Call(prompt, Sampling(max_tokens=20)) for prompt in PROMPTS])
    for prompt, text in zip(PROMPTS, batched, strict=True):
        ids = torch.tensor([tiny.tokenizer(prompt).input_ids])
        with torch.inference_mode():
            whole = tiny.model.generate(input_ids=ids, max_new_tokens=20, do_sample=False, use_cache=True)
        alone = tiny.tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True)
        assert text == alone.removeprefix(" ")


def test_padding_on_the_left_changes_no_logits(tiny: LocalModel) -> None:
    import torch

    from strop.models.decoding import _prefill

    prompts = [tiny.tokenizer(prompt).input_ids for prompt in (PROMPTS[0], PROMPTS[-1], PROMPTS[-8])]
    with torch.inference_mode():
        together = _prefill(tiny.model, prompts, 0).logits_rv
        for row, prompt in zip(together, prompts, strict=True):
            alone = tiny.model(input_ids=torch.tensor([prompt])).logits[0, -1]
            torch.testing.assert_close(row, alone, atol=1e-4, rtol=1e-4)


def test_a_shared_beginning_is_computed_once_and_changes_no_logits(tiny: LocalModel) -> None:
    import torch

    from strop.models.decoding import SHORTEST_SHARED_PREFIX, _prefill, common_prefix

    beginning = "Question: how many apples and books has 1?\nAnswer: 2\n\n" * 2
    prompts = [tiny.tokenizer(beginning + prompt).input_ids for prompt in [*PROMPTS[:3], "go 1", "go go go 2"]]
    assert common_prefix(prompts) >= SHORTEST_SHARED_PREFIX
    with torch.inference_mode():
        together = _prefill(tiny.model, prompts, 0).logits_rv
        for row, prompt in zip(together, prompts, strict=True):
            alone = tiny.model(input_ids=torch.tensor([prompt])).logits[0, -1]
            torch.testing.assert_close(row, alone, atol=1e-4, rtol=1e-4)


def test_common_prefix_leaves_every_prompt_a_token() -> None:
    from strop.models.decoding import common_prefix

    assert common_prefix([[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 3, 4, 9]]) == 3
    assert common_prefix([[1, 2], [1, 2]]) == 1
    assert common_prefix([[1, 2], [1, 2, 3]]) == 1
    assert common_prefix([[5], [6]]) == 0


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_sample_does_not_depend_on_its_batch(tiny: LocalModel, temperature: float) -> None:
    sampling = Sampling(temperature=temperature, max_tokens=16, seed=3)
    calls = [Call(prompt, sampling) for prompt in PROMPTS]
    together = texts(tiny, calls)
    assert together == [texts(tiny, [call])[0] for call in calls]
    assert together == texts(tiny, calls[::-1])[::-1]


def test_samples_differ_and_repeat_with_their_seed(tiny: LocalModel) -> None:
    def draw(seed: int) -> list[str]:
        return texts(tiny, [Call(PROMPTS[0], Sampling(1.0, max_tokens=12, seed=seed), index) for index in range(10)])

    assert len(set(draw(0))) == 10
    assert draw(0) == draw(0)
    assert not set(draw(0)) & set(draw(1))


def test_messages_are_sampled_through_the_chat_template(tiny: LocalModel) -> None:
    sampling = Sampling(max_tokens=8)
    asked = texts(tiny, [Call((Message("user", "has 1"),), sampling), Call("user:has 1<eos>\nassistant:", sampling)])
    assert asked[0].removeprefix(" ") == asked[1]


class Words:
    """A tokenizer whose tokens are given texts: what a check of stop strings needs of one."""

    def __init__(self, pieces: list[str]) -> None:
        self.pieces = pieces

    def decode(self, tokens: list[int], **_: Any) -> str:
        return "".join(self.pieces[token] for token in tokens)


def written(pieces: list[str], tokens: list[int], stop: str) -> tuple[int | None, str]:
    """After how many tokens the check fires, and the text that is left."""
    from strop.models.decoding import StopStrings

    tokenizer: Any = Words(pieces)
    stops = StopStrings(tokenizer, (stop,), pieces)
    for count in range(1, len(tokens) + 1):
        if stops.reached(tokens[:count]):
            return count, stops.cut(tokenizer.decode(tokens[:count]))
    return None, tokenizer.decode(tokens)


def test_stop_strings_across_tokens() -> None:
    r"""``\n\nQ`` written as ``\n`` + ``\nQ``, within one token, with text behind it, and as its parts only."""
    pieces = ["a", "\n", "\nQ", "b\n\nQuestion", "Q"]
    assert written(pieces, [0, 1, 2], "\n\nQ") == (3, "a")
    assert written(pieces, [0, 3, 0], "\n\nQ") == (2, "ab")
    assert written(pieces, [0, 1, 1, 4], "\n\nQ") == (4, "a")
    assert written(pieces, [0, 1, 4, 1, 1, 0], "\n\nQ") == (None, "a\nQ\n\na")


@settings(max_examples=200, deadline=None)
@given(
    tokens=st.lists(st.integers(0, 5), min_size=1, max_size=30), stop=st.text(alphabet="ab\n", min_size=1, max_size=4)
)
def test_the_stop_check_fires_exactly_when_the_text_holds_the_string(tokens: list[int], stop: str) -> None:
    pieces = ["a", "b", "\n", "ab", "ba\n", ""]
    count, _ = written(pieces, tokens, stop)
    whole = ["".join(pieces[token] for token in tokens[:end]) for end in range(1, len(tokens) + 1)]
    assert count == next((end for end, text in enumerate(whole, 1) if stop in text), None)


def test_stopped_and_unstopped_completions(tiny: LocalModel) -> None:
    """The same sample with and without a stop string: cut right before it, one finish `stop`, the other `length`."""
    plain = Sampling(1.0, max_tokens=20, seed=5)
    (((_, free),),) = tiny.complete([Call(PROMPTS[0], plain)])
    assert isinstance(free, Completion)
    stop = free.text[7:10]
    (((_, cut),),) = tiny.complete([Call(PROMPTS[0], Sampling(1.0, max_tokens=20, seed=5, stop=(stop,)))])
    assert isinstance(cut, Completion)
    assert cut.text == free.text[: free.text.index(stop)]
    assert (free.finish, cut.finish) == ("length", "stop")
    assert cut.completion_tokens < free.completion_tokens == 20


def test_a_growing_cache_holds_what_a_concatenated_one_holds() -> None:
    """Random appends of 1 to 40 tokens with selections of rows in between, against transformers' own layer."""
    import torch
    from transformers.cache_utils import DynamicLayer

    from strop.models.cache import GrowingLayer

    torch.manual_seed(0)
    ours, theirs = GrowingLayer(), DynamicLayer()
    rows = 3
    for count in (5, 1, 1, 40, 1, 33, 2, 1):
        keys, values = torch.randn(rows, 2, count, 4), torch.randn(rows, 2, count, 4)
        for mine, other in zip(ours.update(keys, values), theirs.update(keys, values), strict=True):
            assert torch.equal(mine, other)
        assert ours.get_seq_length() == theirs.get_seq_length()
        chosen = torch.randint(rows, (rows + 1 if rows < 6 else 2,))
        rows = len(chosen)
        ours.batch_select_indices(chosen)
        theirs.batch_select_indices(chosen)
        assert torch.equal(ours.keys, theirs.keys)
        assert torch.equal(ours.values, theirs.values)
