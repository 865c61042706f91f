"""Perplexities and their ratios, by hand and beside other computations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from strop.errors import UserError
from strop.methods.mixture_of_heads.results import Losses, perplexity, ratio


def rows(*losses: tuple[str, int, float]) -> list[dict[str, object]]:
    return [{"document": name, "tokens": tokens, "nll": nll} for name, tokens, nll in losses]


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def test_perplexity_by_hand() -> None:
    """Two documents of 10 tokens with 10 and 30 nats: exp(40 / 20) = e^2 = 7.389; blocks of a document add up."""
    losses = Losses.of([rows(("a", 4, 3.0), ("a", 6, 7.0), ("b", 10, 30.0))])
    found = perplexity(losses, generator())
    assert found.value == pytest.approx(math.exp(2))
    assert (found.documents, found.tokens) == (2, 20)
    assert list(found.seeds) == pytest.approx([math.exp(2)])
    assert found.low < found.value < found.high


def test_seeds_are_averaged_before_documents_are_drawn() -> None:
    """Seeds that err in opposite ways on a document cancel: 8 and 12 nats there are 10, as in the other document."""
    losses = Losses.of([rows(("a", 10, 8.0), ("b", 10, 10.0)), rows(("a", 10, 12.0), ("b", 10, 10.0))])
    found = perplexity(losses, generator())
    assert found.value == pytest.approx(math.e)
    assert list(found.seeds) == pytest.approx([math.exp(0.9), math.exp(1.1)])


def test_a_ratio_is_of_the_same_tokens() -> None:
    """Every document about 0.1 nats a token better: the ratio is near exp(-0.1), however unlike the documents are."""
    source = np.random.default_rng(1)
    levels, noise = source.uniform(1, 5, size=40), source.normal(0, 0.01, size=40)
    other = Losses.of([rows(*((str(n), 100, 100 * level) for n, level in enumerate(levels)))])
    arm = Losses.of([rows(*((str(n), 100, 100 * level - 10 + 100 * noise[n]) for n, level in enumerate(levels)))])
    found = ratio(arm, other, generator())
    assert found.value == pytest.approx(math.exp(-0.1 + noise.mean()))
    assert found.high - found.low < 0.01
    assert math.isinf(ratio(other, other, generator()).high), "no spread says nothing about unseen documents"


def test_interval_covers_the_true_ratio_as_often_as_it_says() -> None:
    """200 made-up comparisons of 30 documents without a difference: about 190 intervals say so, at least 180."""
    source = np.random.default_rng(2)
    covered = 0
    for _ in range(200):
        noise = source.normal(0, 5, size=30)
        base = [(str(n), 100, 300.0) for n in range(30)]
        arm = [(name, tokens, nll + shift) for (name, tokens, nll), shift in zip(base, noise, strict=True)]
        found = ratio(Losses.of([rows(*arm)]), Losses.of([rows(*base)]), source)
        covered += found.low <= 1 <= found.high
    assert covered >= 180


def test_other_documents_are_refused() -> None:
    one, other = Losses.of([rows(("a", 10, 1.0))]), Losses.of([rows(("b", 10, 1.0))])
    with pytest.raises(UserError, match="same tokens"):
        ratio(one, other, generator())
    with pytest.raises(UserError, match="other held-back documents"):
        Losses.of([rows(("a", 10, 1.0)), rows(("b", 10, 1.0))])
    with pytest.raises(UserError, match="not a number"):
        Losses.of([rows(("a", 10, math.nan))])
