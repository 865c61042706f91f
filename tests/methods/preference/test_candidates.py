"""The draw of models: different ones for a speech, each equally often, and letters that tell nothing of them."""

from __future__ import annotations

from collections import Counter

import pytest
from scipy.stats import chisquare

from strop.methods.preference.candidates import PROMPTS, draw_candidates, letter
from strop.methods.preference.config import Candidates


def _pool(size: int, **settings: object) -> Candidates:
    pool = [{"name": f"m{number}", "model": f"scripted:echo{number}"} for number in range(size)]
    return Candidates.model_validate({"pool": pool, **settings})


def test_different_models_and_letters_for_every_speech() -> None:
    pool = _pool(7)
    for number in range(200):
        drawn = draw_candidates(f"s{number}", pool, seed=3)
        assert [draw.id for draw in drawn] == ["a", "b", "c", "d"]
        assert len({draw.model for draw in drawn}) == 4
        assert {draw.system for draw in drawn} <= set(PROMPTS)
        assert drawn == draw_candidates(f"s{number}", pool, seed=3)


def test_models_and_letters_are_independent() -> None:
    """3,000 speeches, 5 models, 4 letters: each of the 20 couples 600 times; chi-squared must not notice."""
    pool = _pool(5)
    counts = Counter((draw.model, draw.id) for number in range(3000) for draw in draw_candidates(number, pool, seed=0))
    assert len(counts) == 20
    assert chisquare(list(counts.values())).pvalue > 0.001


def test_seeds_and_other_speeches() -> None:
    pool = _pool(7)
    assert [draw_candidates(n, pool, seed=0) for n in range(9)] != [draw_candidates(n, pool, seed=1) for n in range(9)]


def test_own_system_messages_stay() -> None:
    own = {"name": "own", "model": "scripted:echo", "system": "Mine."}
    pool = Candidates.model_validate(
        {"pool": [own, {"model": "scripted:other"}], "per_speech": 2, "prompts": ["Yours."]}
    )
    drawn = {draw.model: draw.system for draw in draw_candidates("s", pool, seed=0)}
    assert drawn == {0: "Mine.", 1: "Yours."}


@pytest.mark.parametrize(("place", "name"), [(0, "a"), (25, "z"), (26, "aa"), (27, "ab"), (701, "zz"), (702, "aaa")])
def test_letters(place: int, name: str) -> None:
    assert letter(place) == name
