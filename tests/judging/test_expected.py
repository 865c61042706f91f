"""Expected ratings: by hand from log-probabilities, and from a small real model against one plain forward pass."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from strop.errors import UserError
from strop.judging.expected import STEM, Expectation, expectation_of, expected_ratings, require_local
from strop.judging.parsing import ParseFailure
from strop.judging.prompts import bare_rating_prompt
from strop.judging.rubric import load_rubric
from strop.models.local import LocalModel
from strop.models.render import render_prompt
from strop.models.scripted import ScriptedModel
from strop.records.rows import Answer
from strop.records.token_choices import TokenChoice
from tiny_llama import build_model, build_tokenizer

RUBRIC = load_rubric("reasoning-v1")


def choice(token: str, **top: float) -> TokenChoice:
    alternatives = tuple((name.replace("_", " "), math.log(share)) for name, share in top.items())
    return TokenChoice(token, dict(alternatives)[token], alternatives)


def test_an_expectation_by_hand() -> None:
    """Shares of "4" .6 and "5" .2 among .8: expectation (4 * .6 + 5 * .2) / .8 = 4.25."""
    found = expectation_of([choice("Rating", Rating=0.9), choice(" 4", **{" 4": 0.6, " 5": 0.2, " well": 0.1})])
    assert isinstance(found, Expectation)
    assert found.value == pytest.approx(4.25)
    assert found.shares == pytest.approx((0, 0, 0, 0.75, 0.25))
    assert found.mass == pytest.approx(0.8)


def test_spellings_of_one_number_are_added_and_the_last_place_counts() -> None:
    """First place says 1; the last one says 3 with .3 + .1 and 5 with .4: (3 * .4 + 5 * .4) / .8 = 4."""
    found = expectation_of([choice("1", **{"1": 0.9}), choice("5", **{"3": 0.3, " 3": 0.1, "5": 0.4})])
    assert isinstance(found, Expectation)
    assert found.value == pytest.approx(4.0)


@pytest.mark.parametrize(
    "log_probs", [None, [], [choice("good", good=0.5)], [choice("10", **{"10": 0.5})]], ids=range(4)
)
def test_nothing_to_read_is_a_failure(log_probs: list[TokenChoice] | None) -> None:
    assert isinstance(expectation_of(log_probs), ParseFailure)


def test_only_local_models_have_probabilities(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("default: '4'\n", encoding="utf-8")
    with pytest.raises(UserError, match="weights are on this machine"):
        require_local(ScriptedModel(tmp_path / "s.yaml"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    """A tiny Llama with random weights, whose context has room for a judge's prompt."""
    folder = tmp_path_factory.mktemp("judge")
    tokenizer = build_tokenizer(chat=True)
    tokenizer.save_pretrained(folder)
    network = build_model(tokenizer)
    network.config.max_position_embeddings = 8192
    network.save_pretrained(folder)
    return LocalModel(folder, device="cpu")


def test_the_tiny_model_gives_what_one_plain_forward_pass_gives(model: LocalModel) -> None:
    items = [Answer(n, "1 + 1 ?", "apples and books . " * n) for n in (1, 9, 4)]
    found = expected_ratings(model, items, rubric=RUBRIC)
    scale = model.tokenizer.convert_tokens_to_ids([f" {rating}" for rating in (1, 2, 3, 4, 5)])
    for item, rating in zip(items, found, strict=True):
        for criterion in RUBRIC.criteria:
            prompt = bare_rating_prompt(item.prompt, item.response, criterion, rubric=RUBRIC)
            text = render_prompt(model.tokenizer, prompt) + STEM
            ids = model.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
            with torch.inference_mode():
                shares = model.model(ids).logits[0, -1].double().softmax(-1)[scale]
            expected = rating.values[criterion.key]
            assert expected.mass == pytest.approx(float(shares.sum()), abs=1e-5)
            assert expected.value == pytest.approx(float((shares * torch.arange(1, 6)).sum() / shares.sum()), abs=1e-4)
        weights = [criterion.weight for criterion in RUBRIC.criteria]
        values = [expected.value for expected in rating.values.values()]
        assert rating.mean == pytest.approx(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))


def test_what_else_is_in_the_batch_changes_nothing(model: LocalModel) -> None:
    items = [Answer(n, "1 + 1 ?", "books " * (3 * n)) for n in range(6)]
    together = expected_ratings(model, items, rubric=RUBRIC)
    for item, rating in zip(items, together, strict=True):
        alone = expected_ratings(model, [item], rubric=RUBRIC)[0]
        assert rating.mean == pytest.approx(alone.mean, abs=1e-4)


def test_a_prompt_over_the_context_is_refused(model: LocalModel) -> None:
    with pytest.raises(UserError, match="for a model that takes 8192"):
        expected_ratings(model, [Answer(1, "1 ?", "go " * 9000)], rubric=RUBRIC)
