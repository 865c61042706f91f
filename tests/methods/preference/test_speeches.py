"""Speeches: what is left out and why, and splits that no copy of a speech can cross."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

from strop.errors import UserError
from strop.methods.preference import speeches
from strop.methods.preference.speeches import Speeches, SpeechSettings, fold_speech, load_speeches, split_of
from strop.records.tables import write_table

OPENINGS = ("My sister moved out", "I lost my job", "We argue about money", "He never calls back", "Work is too much")
ENDINGS = ("and I cannot tell anybody.", "so I lie awake until four.", "which is my fault, I think.", "and it is June.")
SMALL = {"min_characters": 10, "test": 0.2, "development": 0.2}


def _texts(count: int) -> list[str]:
    """Different speeches: a word that no other has stands between an opening and an ending."""
    words = [
        "".join(string.ascii_lowercase[(number * step) % 26] for step in (1, 3, 7, 11)) * 8 for number in range(count)
    ]
    return [f"{OPENINGS[n % 5]}, {word} {n}, {ENDINGS[n % 4]}" for n, word in enumerate(words)]


def _load(path: Path, rows: list[dict[str, Any]], *, seed: int = 0, **limits: Any) -> Speeches:
    write_table(path, rows)
    return load_speeches(SpeechSettings(files=(path,), **{**SMALL, **limits}), seed=seed)


def test_what_is_left_out_and_why(tmp_path: Path) -> None:
    texts = [*_texts(20), "Too short", "x" * 1001, "", "!?...", f"  {_texts(20)[3].upper()}!!", f"{_texts(20)[4]} Yes."]
    rows = [{"id": n, "speech": text, "topic": "work" if n else None} for n, text in enumerate(texts)]
    found = _load(tmp_path / "s.jsonl", [*rows, {"id": 99, "speech": None}])
    assert found.rows == 27
    assert dict(found.left_out) == {
        speeches.NO_TEXT: 3,
        speeches.SHORT: 1,
        speeches.LONG: 1,
        speeches.SAME: 1,
        speeches.NEAR: 1,
    }
    assert len(found.speeches) == 20
    assert [one.text for one in found.speeches if one.text.endswith("Yes.")] == [texts[-1]], "the longest stays"
    assert sum(found.splits.values()) == 20
    assert {one.topic for one in found.speeches} == {"", "work"}
    assert found.to_row()["left_out"]["too long"] == 1


def test_the_limits_are_inclusive(tmp_path: Path) -> None:
    rows = [{"speech": letter * length} for letter, length in zip("abcd", (99, 100, 1000, 1001), strict=True)]
    found = _load(tmp_path / "s.jsonl", rows, min_characters=100, test=0, development=0)
    assert [len(one.text) for one in found.speeches] == [100, 1000]


def test_a_mapping_serves_files_of_different_shapes(tmp_path: Path) -> None:
    mapped, plain = tmp_path / "a.csv", tmp_path / "b.jsonl"
    texts = _texts(4)
    mapped.write_text(f'questionID,questionText\n7,"{texts[0]}"\n8,"{texts[1]}"\n', encoding="utf-8-sig")
    write_table(plain, [{"id": 1, "speech": texts[2], "topic": 5}, {"speech": texts[3]}])
    fields = {"speech": "questionText", "id": "questionID"}
    found = load_speeches(
        SpeechSettings(files=(mapped, plain), fields=fields, min_characters=10, test=0, development=0), seed=0
    )
    assert [one.id for one in found.speeches][:3] == ["7", "8", "1"]
    assert len(found.speeches[3].id) == 12
    assert [one.topic for one in found.speeches] == ["", "", "5", ""]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": 1, "text": "a"}], "row 1: no speech"),
        ([{"id": 1, "speech": 5}], "row 1: a speech must be text"),
        ([{"id": [1], "speech": _texts(1)[0]}], "an id must be an integer or text"),
        (
            [{"id": "1", "speech": _texts(2)[0]}, {"id": 1, "speech": _texts(2)[1]}],
            "two different speeches have one id",
        ),
        ([{"id": 1, "speech": "short"}], "too few speeches: none for train and development and test"),
        ([], "too few speeches"),
    ],
)
def test_clear_errors(rows: list[dict[str, Any]], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        _load(tmp_path / "s.jsonl", rows)


def test_a_repeated_id_with_the_same_words_is_a_copy(tmp_path: Path) -> None:
    """As in question-and-answer files, where every answer repeats its question."""
    texts = _texts(12)
    rows = [{"id": n, "speech": text} for n, text in enumerate(texts)]
    found = _load(tmp_path / "s.jsonl", rows + rows)
    assert (len(found.speeches), found.left_out[speeches.SAME]) == (12, 12)


def test_an_edited_speech_under_its_id_is_a_near_duplicate(tmp_path: Path) -> None:
    texts = _texts(12)
    edited = {"id": 3, "speech": f"{texts[3]} Thank you."}
    found = _load(tmp_path / "s.jsonl", [{"id": n, "speech": text} for n, text in enumerate(texts)] + [edited])
    assert (len(found.speeches), found.left_out[speeches.NEAR]) == (12, 1)


def test_settings_that_leave_nothing() -> None:
    with pytest.raises(ValueError, match="leave nothing to train on"):
        SpeechSettings(files=(Path("a.jsonl"),), test=0.5, development=0.5)
    with pytest.raises(ValueError, match="larger than"):
        SpeechSettings(files=(Path("a.jsonl"),), min_characters=2000)


def test_same_seed_same_bytes_and_shares_as_asked(tmp_path: Path) -> None:
    """Of 2,000 texts 20 % each: 400 expected, standard deviation 18."""
    drawn = [split_of(f"text {n}", seed=1, development=0.2, test=0.2) for n in range(2000)]
    assert drawn == [split_of(f"text {n}", seed=1, development=0.2, test=0.2) for n in range(2000)]
    assert all(320 < drawn.count(split) < 480 for split in ("test", "development"))
    assert drawn != [split_of(f"text {n}", seed=2, development=0.2, test=0.2) for n in range(2000)]
    rows = [{"speech": text} for text in _texts(30)]
    first, second = (
        json.dumps([one.to_row() for one in _load(tmp_path / "s.jsonl", rows, seed=5).speeches]) for _ in range(2)
    )
    assert first == second


WORDS = st.lists(
    st.text("abcde\u00e9\u00df\u0131\ufb01\u4e2d\u0e01\u0e47", min_size=1, max_size=6), min_size=1, max_size=8
)
MARKS = st.lists(
    st.sampled_from([" ", "  ", "\n", "\u00a0", "-", "...", "!", "'", "\u2019", "\u200b", '"', ""]), min_size=8
)


@given(WORDS, MARKS, st.booleans(), st.integers(0, 5))
def test_no_change_of_case_space_or_punctuation_crosses_a_split(
    words: list[str], marks: list[str], upper: bool, seed: int
) -> None:
    shares = {"development": 0.3, "test": 0.3}
    plain = " ".join(words)
    changed = "".join(word + mark for word, mark in zip(words, marks * 8, strict=False))
    changed = changed.upper() if upper else changed
    if upper and fold_speech(plain.upper()) != fold_speech(plain):
        return  # Unicode's own one-way cases: a dotless i has no capital that leads back to it.
    assert fold_speech(changed) == fold_speech(plain)
    assert split_of(changed, seed=seed, **shares) == split_of(plain, seed=seed, **shares)


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(24)))
def test_the_order_of_rows_changes_no_speech_and_no_split(
    tmp_path_factory: pytest.TempPathFactory, order: list[int]
) -> None:
    texts = [*_texts(20), _texts(20)[0].lower(), f"Oh. {_texts(20)[1]}", f"{_texts(20)[2]} Why?", _texts(20)[3]]
    rows = [{"id": f"s{n}", "speech": text} for n, text in enumerate(texts)]
    folder = tmp_path_factory.mktemp("speeches")
    first = _load(folder / "a.jsonl", rows)
    second = _load(folder / "b.jsonl", [rows[at] for at in order])
    assert {one.id: one for one in first.speeches} == {one.id: one for one in second.speeches}
    assert first.left_out == second.left_out


def test_near_duplicates_agree_with_all_pairs_of_scikit_learn(tmp_path: Path) -> None:
    """Every left-out text is at least 0.7 similar to a kept one, and no two kept ones are, by an independent count."""
    base = _texts(30)
    changed = [text.replace("and", "but") + " Really so." * (n % 4) for n, text in enumerate(base)]
    texts = [*base, *changed]
    rows = [{"id": n, "speech": text} for n, text in enumerate(texts)]
    found = _load(tmp_path / "s.jsonl", rows, test=0, development=0)
    kept = [one.text for one in found.speeches]
    lost = [text for text in texts if text not in kept]
    assert len(lost) >= 20
    counts = CountVectorizer(analyzer="char", ngram_range=(5, 5), binary=True, lowercase=False)
    matrix = counts.fit_transform([fold_speech(text) for text in kept + lost]).astype(float)
    shared = (matrix @ matrix.T).toarray()
    sizes = shared.diagonal()
    similar = shared / (sizes[:, None] + sizes[None, :] - shared)
    among = similar[: len(kept), : len(kept)] - 2 * (similar[: len(kept), : len(kept)] == 1)
    assert among.max() < 0.7
    assert similar[len(kept) :, : len(kept)].max(axis=1).min() >= 0.7
