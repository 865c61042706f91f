"""Baselines: by hand, by group, and equal to what scikit-learn computes without our code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from strop.errors import UserError
from strop.judging.pairs import HumanPair, read_pairs
from strop.judging.qualifying.baselines import (
    BASELINES,
    SURFACE_FEATURES,
    out_of_fold,
    score_differences,
    surface_features,
)
from strop.judging.qualifying.folds import group_folds


def pair(better: str, worse: str, group: str) -> HumanPair:
    return HumanPair(group, "p", better, worse, group, "s", None, length_matched=False, risk_language=False)


def many(count: int = 60) -> list[HumanPair]:
    """Half of the better ones are the longer ones; a good word marks every better one."""
    return [
        pair("gently ask " + "word " * (3 + number % 2 * 4), "order now " + "word " * 5, f"g{number // 2}")
        for number in range(count)
    ]


def test_folds_never_part_a_group_and_are_scikit_learns() -> None:
    from sklearn.model_selection import GroupKFold

    groups = [f"g{number % 17}" for number in range(80)]
    folds = group_folds(groups)
    theirs = GroupKFold(5, shuffle=True, random_state=0).split(groups, groups=groups)
    for number, (_, tested) in enumerate(theirs):
        assert list(np.flatnonzero(folds == number)) == list(tested)
    assert all(len({int(folds[row]) for row in range(80) if groups[row] == group}) == 1 for group in set(groups))


def test_few_groups_make_few_folds_and_one_group_is_refused() -> None:
    assert set(group_folds(["a", "b", "a"])) == {0, 1}
    with pytest.raises(UserError, match="at least two groups"):
        group_folds(["a", "a"])


def test_longer_wins_counts_words_and_halves_ties() -> None:
    pairs = [pair("one two", "one", "a"), pair("one", "one two", "b"), pair("one  two", "two one", "c")]
    assert list(out_of_fold("longer wins", pairs, group_folds(["a", "b", "c"]))) == [1.0, 0.0, 0.5]


def test_surface_features_by_hand() -> None:
    """Seven words, three sentences, one "?", one "!", "I" and "my", "you", two list lines."""
    text = "- I see! \n1. my cat ran.\nDo you?"
    expected = [np.log1p(7), 7 / 3, 1, 1, 2 / 7, 1 / 7, 2]
    assert len(SURFACE_FEATURES) == 7
    assert surface_features(text) == pytest.approx(expected)
    assert np.isfinite(surface_features("")).all()


@pytest.mark.parametrize("name", BASELINES)
def test_exchanging_the_sides_turns_the_sign(name: str) -> None:
    pairs = many()
    folds = group_folds([each.group for each in pairs])
    swapped = [pair(each.worse, each.better, each.group) for each in pairs]
    assert score_differences(name, swapped, folds) == pytest.approx(score_differences(name, pairs, folds) * sign(name))


def sign(name: str) -> int:
    """What learns from labels learns the mirrored labels too; what does not, turns."""
    return -1 if name == "longer wins" else 1


def test_tf_idf_finds_a_planted_word_that_length_does_not() -> None:
    pairs = many()
    folds = group_folds([each.group for each in pairs])
    assert out_of_fold("TF-IDF", pairs, folds).mean() == 1.0
    assert out_of_fold("longer wins", pairs, folds).mean() == 0.5


def test_a_label_changes_no_prediction_of_its_own_fold() -> None:
    pairs = many()
    folds = group_folds([each.group for each in pairs])
    before = score_differences("TF-IDF", pairs, folds)
    mirrored = [
        pair(each.worse, each.better, each.group) if folds[row] == 0 else each for row, each in enumerate(pairs)
    ]
    after = score_differences("TF-IDF", mirrored, folds)
    assert after[folds == 0] == pytest.approx(-before[folds == 0])


def test_words_that_never_recur_are_ties() -> None:
    pairs = [pair(f"a{number}b", f"c{number}d", f"g{number}") for number in range(10)]
    assert set(out_of_fold("TF-IDF", pairs, group_folds([each.group for each in pairs]))) == {0.5}


def test_an_unknown_baseline_names_the_known_ones() -> None:
    with pytest.raises(UserError, match="longer wins, surface features, TF-IDF"):
        out_of_fold("bert", [], np.zeros(0, dtype=np.int64))


def test_figures_of_the_real_file_equal_an_independent_computation(shared_data: Path) -> None:
    """Longer wins .655 (183.5 of 280), TF-IDF .657 (184 of 280), computed here by scikit-learn alone."""
    from scipy.sparse import vstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold

    path = shared_data / "counsel" / "dev_pairs.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    groups = [row["group"] for row in rows]
    right = np.zeros(len(rows))
    for train, test in GroupKFold(5, shuffle=True, random_state=0).split(rows, groups=groups):
        texts = [rows[row][side] for row in train for side in ("better", "worse")]
        words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True).fit(texts)
        better, worse = (words.transform([row[side] for row in rows]) for side in ("better", "worse"))
        difference = (better - worse).tocsr()
        model = LogisticRegression(C=1, fit_intercept=False, max_iter=5000)
        model.fit(vstack([difference[train], -difference[train]]), [1] * len(train) + [0] * len(train))
        right[test] = model.decision_function(difference[test]) > 0
    longer = [(len(row["better"].split()) > len(row["worse"].split())) for row in rows]
    equal = [(len(row["better"].split()) == len(row["worse"].split())) for row in rows]

    pairs = read_pairs(path)
    folds = group_folds(groups)
    assert list(out_of_fold("TF-IDF", pairs, folds)) == list(right)
    assert right.sum() == 184
    assert list(out_of_fold("longer wins", pairs, folds)) == [
        up + tie / 2 for up, tie in zip(longer, equal, strict=True)
    ]
    assert out_of_fold("longer wins", pairs, folds).sum() == 183.5
