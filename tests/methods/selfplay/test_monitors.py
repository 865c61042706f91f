"""Monitors by hand, perplexity of a model that knows nothing, and gains of vectors on paper."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from made_sessions import discarded, record
from strop.errors import UserError
from strop.methods.selfplay.monitors import (
    Monitors,
    card_of,
    diversity_gain,
    diversity_interval,
    entropy,
    gains,
    illness_of,
    perplexity,
    perplexity_interval,
    sampled,
)
from strop.methods.selfplay.session_record import Decoding, Failure, PlanTry
from strop.models.scoring import TokenScores, completion_log_probs
from strop.records.rows import SupervisedExample


def test_entropy_by_hand() -> None:
    """Two, one and one of four: half a bit and twice half a bit are 1.5."""
    assert entropy(["a", "a", "b", "c"]) == pytest.approx(1.5)
    assert entropy(["a", "a"]) == 0.0
    assert math.copysign(1, entropy(["a"]) or 0.0) == 1.0
    assert entropy([]) is None


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=30))
def test_entropy_is_scipys(names: list[str]) -> None:
    counts = [names.count(name) for name in set(names)]
    assert entropy(names) == pytest.approx(stats.entropy(counts, base=2), abs=1e-12)


def test_monitors_by_hand() -> None:
    """Four sessions: converged with two faults; capped; a doctor for an illness; a failure."""
    last = Decoding(1, {}, {"coping_strategies": 0.5, "situation": None}, {}, leaked=("x",))
    tries = (PlanTry("CBT", "", "", 4), PlanTry("ACT", "", "", 9), PlanTry("IPT", "", "", None))
    first = record(
        0, ledger=(discarded(1), discarded(2, "kept: repeats"), discarded(-1)), decoding=(last,), stopped="converged"
    )
    second = record(1, decoding=(replace(last, leaked=()),), stopped="cap", exchanges=8, treatments=tries)
    third = record(2, illness="Doctor 2's diagnosis.", status="partial", failure=Failure("no_choice", "m"))
    fourth = record(3, illness="", status="failed", failure=Failure("empty", "m"), dialogue=(), treatments=())
    found = Monitors.of([first, second, third, replace(fourth, medicines=())])
    assert (found.sessions, found.failed, dict(found.failures)) == (4, 1, {"no_choice": 1, "empty": 1})
    assert (found.converged, found.similarity) == (0.5, 0.5)
    assert found.exchanges == pytest.approx((4 + 8 + 4) / 3)
    assert (found.named, found.illnesses, found.illness_entropy) == (2, 2, 1.0)
    assert (found.commonest, found.commonest_share) == ("depression", 0.5)
    assert (found.said, found.discarded, found.faulty, found.discarded_share) == (6, 1, 1, 1 / 7)
    assert (found.reasons, found.leaked) == ({"repeats": 2}, 1)
    assert (found.treatment_scores, found.medicine_scores) == ({4: 1, 5: 2, 9: 1}, {7: 3})
    assert (found.unread_scores, found.best_treatment, found.best_medicine) == pytest.approx((1, 19 / 3, 7.0))
    assert found.distinct_2_patient == 1.0
    assert json.loads(json.dumps(found.to_row()))["treatment_scores"] == {"4": 1, "5": 2, "9": 1}


def test_missing_is_never_zero() -> None:
    failed = record(0, status="failed", illness="", dialogue=(), treatments=(), medicines=())
    found = Monitors.of([failed])
    none = (
        "converged",
        "exchanges",
        "similarity",
        "illness_entropy",
        "commonest",
        "distinct_2_plans",
        "best_treatment",
    )
    assert all(getattr(found, name) is None for name in (*none, "distinct_2_patient", "discarded_share"))
    with pytest.raises(UserError, match="no session"):
        Monitors.of([])


def test_the_same_word_pairs_count_once() -> None:
    """Four sessions that say the same: a fourth of the variety."""
    found = Monitors.of([record(n, same=True) for n in range(4)])
    assert found.distinct_2_patient == 0.25
    assert (found.illnesses, found.illness_entropy) == (1, 0.0)
    assert illness_of(record(0, illness="Panic disorder (PD).")) == illness_of(record(0, same=True))


def test_perplexity_of_a_uniform_model_is_its_vocabulary() -> None:
    """Items of 3 and 1 tokens, each of probability 1/50; then one token in e: exp(-(4 log(1/50) - 1) / 5)."""
    uniform = [TokenScores((1, 2, 3), (-math.log(50),) * 3), TokenScores((4,), (-math.log(50),))]
    assert perplexity(uniform) == pytest.approx(50)
    assert perplexity([*uniform, TokenScores((5,), (-1.0,))]) == pytest.approx(math.exp((4 * math.log(50) + 1) / 5))
    with pytest.raises(UserError, match="needs tokens"):
        perplexity([])
    found = perplexity_interval(uniform, ["a", "b"], np.random.default_rng(0))
    assert (found.estimate, found.groups) == pytest.approx((50, 2))
    assert (found.low, found.high) == pytest.approx((50, 50))


def test_perplexity_of_a_real_uniform_model(tiny_uniform: Path) -> None:
    """A Llama whose output layer is zero gives every token the same probability."""
    from transformers import AutoConfig

    scores = completion_log_probs(tiny_uniform, ["how many apples", "has"], ["go and stop", "books"])
    assert perplexity(scores) == pytest.approx(AutoConfig.from_pretrained(tiny_uniform).vocab_size, rel=1e-4)


def test_gains_by_hand() -> None:
    """(3, 4) is 5 from (0, 0) and 4 from (3, 0); (0, 0) is there already: gains 4 and 0, mean 2."""
    previous = np.array([[0, 0], [3, 0]], np.float32)
    new = np.array([[3, 4], [0, 0]], np.float32)
    assert gains(new, previous) == [4.0, 0.0]
    assert diversity_gain(new, previous) == 2.0
    assert diversity_gain(previous, previous) == 0.0


@pytest.mark.parametrize("shape", [(0, 2), (1, 3)])
def test_impossible_gains(shape: tuple[int, int]) -> None:
    with pytest.raises(UserError, match="two sets of vectors"):
        gains(np.zeros(shape, np.float32), np.zeros((1, 2), np.float32))


def example(card: int, text: str, pass_: int = 0) -> SupervisedExample:
    return SupervisedExample(f"c{card}#{pass_}/treatment", "q", text)


def test_gain_through_a_real_encoder(tiny_encoder: Path, tmp_path: Path) -> None:
    from strop.models.embedding import open_embedder

    embedder = open_embedder(str(tiny_encoder), cache=tmp_path)
    old = [example(0, "talk to your mother"), example(1, "sleep at night")]
    same = diversity_interval(old, old, embedder, np.random.default_rng(0))
    assert (same.estimate, same.low) == (0.0, 0.0)
    new = [example(0, "work every day"), example(1, "sleep at night")]
    found = diversity_interval(new, old, embedder, np.random.default_rng(0))
    assert 0 < found.estimate <= found.high <= 2
    assert found.groups == 2
    embedder.close()


def test_samples() -> None:
    examples = [example(n, str(n)) for n in range(20)]
    drawn = sampled(examples, seed=1, items=5)
    assert drawn == sampled(examples, seed=1, items=5) == sorted(drawn, key=examples.index)
    assert len({one.id for one in drawn}) == 5
    assert drawn != sampled(examples, seed=2, items=5)
    assert sampled(examples, seed=1) == examples
    assert card_of(SupervisedExample("7#2#1/diagnosis", "", "")) == "7#2"


@pytest.fixture(scope="module")
def tiny_uniform(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder of a tiny Llama whose output layer is zero."""
    import torch

    from tiny_llama import build_model, build_tokenizer

    folder = tmp_path_factory.mktemp("uniform")
    tokenizer = build_tokenizer()
    model = build_model(tokenizer)
    torch.nn.init.zeros_(model.lm_head.weight)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
