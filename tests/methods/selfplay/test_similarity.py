"""An encoder and its thresholds as one pair."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pair_table import PairTable
from strop.errors import UserError
from strop.methods.selfplay.similarity import (
    CALIBRATION,
    CALIBRATION_FORMAT,
    EmbeddingMatcher,
    MatcherSettings,
    compared_text,
    open_matcher,
    passes,
    read_thresholds,
    threshold_for,
)
from strop.models.embedding import Embedder, Vectors, encoder_revision, open_embedder


class Counting(Embedder):
    """A real encoder that keeps what it was asked to embed."""

    def __init__(self, folder: Path, cache: Path) -> None:
        super().__init__(folder, name="tiny", cache=cache)
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str], *, advance: Callable[[int], None] | None = None) -> Vectors:
        self.asked += texts
        return super().encode(texts, advance=advance)


def _calibration(path: Path, **changes: object) -> Path:
    content = {
        "format": CALIBRATION_FORMAT,
        "embedder": "tiny",
        "revision": "r",
        "threshold": 0.25,
        "thresholds": {"coping_strategies": 0.75},
        **changes,
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_the_threshold_itself_passes_and_less_does_not() -> None:
    assert passes(0.9, 0.9)
    assert not passes(0.8999, 0.9)
    assert not passes(float("nan"), 0.9)


@pytest.mark.parametrize(
    ("text", "compared"),
    [
        ("Automatic Thoughts: I fail.\nEmotions: sad, low\nBehavior: hid", "I fail. sad, low hid"),
        ("**Emotions:** sad. Behaviour: hid", "sad. hid"),
        ("- Thought: a; Feelings : b", "a; b"),
        ("Intermediate Beliefs during Depression: I am alone.", "I am alone."),
        ("Coping strategies:\n  she hides", "she hides"),
        ("Automatic Thoughts:\nEmotions:\nBehavior:", ""),
        ("She thinks: no.  His behaviour was odd.", "She thinks: no. His behaviour was odd."),
        ("His emotions were these: sad", "His emotions were these: sad"),
    ],
)
def test_texts_are_compared_without_labels(text: str, compared: str) -> None:
    assert compared_text(text) == compared


@given(st.text() | st.from_regex(r"(the |his |automatic |thoughts|emotions|:|\n|[*]|\. ){0,40}", fullmatch=True))
def test_comparing_takes_characters_away_and_adds_none(text: str) -> None:
    left = iter(text)
    assert all(character in left for character in compared_text(text) if character != " ")


@pytest.mark.parametrize("text", ["the " * 50_000, "\n" * 50_000, "* " * 50_000, "\nthe thoughts when " * 10_000])
def test_a_long_reply_is_compared_in_linear_time(text: str) -> None:
    """An expression that backtracks would not come back."""
    compared_text(text)


def test_similarities_are_the_cosines_of_the_encoder(tiny_encoder: Path, tmp_path: Path) -> None:
    matcher = EmbeddingMatcher(open_embedder(str(tiny_encoder), cache=tmp_path), 0.5)
    pairs = [("i feel sad", "i feel sad"), ("i feel sad", "work is hard"), ("work is hard", "i feel sad")]
    found = matcher.similarities(pairs)
    vectors = open_embedder(str(tiny_encoder), cache=tmp_path / "other").encode(["i feel sad", "work is hard"])
    assert found[0] == pytest.approx(1)
    assert found[1] == found[2] == pytest.approx(float(np.dot(vectors[0], vectors[1])), abs=1e-5)
    assert all(-1 <= value <= 1 for value in found)


def test_each_text_is_embedded_once(tiny_encoder: Path, tmp_path: Path) -> None:
    embedder = Counting(tiny_encoder, tmp_path)
    matcher = EmbeddingMatcher(embedder, 0.5)
    for coping in ("i work", "i talk", "i work"):
        matcher.similarities([(coping, "calm"), (coping, "tired"), (coping, "calm")])
    assert sorted(embedder.asked) == ["calm", "i talk", "i work", "tired"]


@pytest.mark.parametrize("pair", [("", "calm"), ("calm", " \n")])
def test_an_empty_text_has_no_similarity(tiny_encoder: Path, tmp_path: Path, pair: tuple[str, str]) -> None:
    matcher = EmbeddingMatcher(open_embedder(str(tiny_encoder), cache=tmp_path), 0.5)
    with pytest.raises(ValueError, match="no similarity"):
        matcher.similarities([pair])
    assert matcher.similarities([]) == []


def test_an_encoder_opens_with_its_calibration(tiny_encoder: Path, tmp_path: Path) -> None:
    path = _calibration(tmp_path / "own.json", revision=encoder_revision(tiny_encoder))
    matcher = open_matcher(MatcherSettings(embedder=str(tiny_encoder), calibration=path), cache=tmp_path)
    assert threshold_for(matcher, "coping_strategies") == 0.75
    assert threshold_for(matcher, "situation") == matcher.threshold == 0.25
    assert matcher.name == f"{tiny_encoder} at 0.2500, coping_strategies 0.7500"


def test_a_threshold_of_another_encoder_is_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="of another encoder") as told:
        open_matcher(MatcherSettings(embedder=str(tiny_encoder)), cache=tmp_path)
    assert "strop selfplay calibrate --embedder" in str(told.value)


def test_a_threshold_of_ones_own_holds_for_every_field(tiny_encoder: Path, tmp_path: Path) -> None:
    matcher = open_matcher(MatcherSettings(embedder=str(tiny_encoder), threshold=0.9), cache=tmp_path)
    assert threshold_for(matcher, "coping_strategies") == 0.9


def test_a_matcher_of_one_threshold() -> None:
    assert threshold_for(PairTable({}, threshold=0.4), "situation") == 0.4


@pytest.mark.parametrize("threshold", [1.5, -1, "high"])
def test_a_threshold_is_a_cosine(threshold: object) -> None:
    with pytest.raises(ValidationError):
        MatcherSettings.model_validate({"threshold": threshold})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format": "other"}, "no calibration file"),
        ({"revision": None}, "lacks its encoder"),
        ({"thresholds": None}, "lacks its encoder"),
        ({"threshold": None}, "between -1 and 1"),
        ({"threshold": True}, "between -1 and 1"),
        ({"threshold": float("nan")}, "between -1 and 1"),
        ({"thresholds": {"situation": 2}}, "between -1 and 1"),
    ],
)
def test_what_is_no_calibration(tmp_path: Path, changes: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_thresholds(_calibration(tmp_path / "broken.json", **changes))


def test_a_missing_or_broken_calibration(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_thresholds(tmp_path / "absent.json")
    (tmp_path / "text.json").write_text("0.9 {", encoding="utf-8")
    with pytest.raises(UserError, match="is no JSON"):
        read_thresholds(tmp_path / "text.json")


def test_the_shipped_calibration_is_of_the_default_encoder() -> None:
    found = read_thresholds(CALIBRATION)
    assert found.embedder == MatcherSettings().embedder
    assert found.revision == open_embedder(found.embedder).revision
    assert 0 < found.threshold < 1
