"""The settings of a session: the paper's numbers, and what cannot work."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from strop.methods.selfplay.session_config import SessionSettings


def test_the_published_numbers() -> None:
    settings = SessionSettings()
    assert (settings.exchanges, settings.extra_rounds, settings.tries, settings.good_enough) == (4, 5, 7, 9)
    assert (settings.temperature, settings.max_tokens) == (0.8, 256)
    assert settings.treatment_state == "carried"


def test_a_repeated_question_to_a_greedy_judge_is_warmer() -> None:
    judge = SessionSettings().judge
    assert (judge.sampling(seed=1).temperature, judge.sampling(seed=1, repeat=1).temperature) == (0.0, 0.7)
    assert judge.model_copy(update={"temperature": 0.8}).sampling(seed=1, repeat=1).temperature == 0.8


def test_a_context_without_room_for_an_answer() -> None:
    with pytest.raises(ValidationError, match="leaves no room"):
        SessionSettings(max_tokens=512, context_tokens=512)
