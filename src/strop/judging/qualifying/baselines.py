"""What needs no judge: baselines that any judge must beat before its word is worth a model call.

Each baseline scores the difference between two responses, above 0 for the first. Those that learn do so out of fold:
from both orders of the training pairs and without an intercept, so that exchanging the sides turns the sign.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop.errors import UserError
from strop.judging.pairs import HumanPair, word_count
from strop.judging.qualifying.folds import Folds

Scores = NDArray[np.float64]

SURFACE_FEATURES = (
    "log of the word count",
    "words a sentence",
    "question marks",
    "exclamation marks",
    "share of words of the first person",
    "share of words of the second person",
    "lines that begin a list",
)
_FIRST_PERSON = frozenset(["i", "me", "my", "mine", "myself", "i'm", "i've", "i'd", "i'll"])
_SECOND_PERSON = frozenset(["you", "your", "yours", "yourself", "you're", "you've", "you'd", "you'll"])
_LIST_LINE = re.compile(r"^[ \t]*(?:[-*•]|\d{1,2}[.)])[ \t]", re.MULTILINE)


def longer_wins(pairs: Sequence[HumanPair]) -> Scores:
    """Return how many words more the better response has; it learns nothing, so folds play no part."""
    return np.array([word_count(pair.better) - word_count(pair.worse) for pair in pairs], dtype=np.float64)


def surface_features(text: str) -> Scores:
    """Return the `SURFACE_FEATURES` of a response, in that order."""
    plain, items = _LIST_LINE.subn("", text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    words = plain.lower().split()
    bare = [word.strip(".,;:!?\"'()") for word in words]
    count = max(len(words), 1)
    sentences = max(len(re.findall(r"[.!?]+(?=\s|$)", plain)), 1)
    return np.array(
        [
            np.log1p(len(words)),
            len(words) / sentences,
            text.count("?"),
            text.count("!"),
            sum(word in _FIRST_PERSON for word in bare) / count,
            sum(word in _SECOND_PERSON for word in bare) / count,
            items,
        ]
    )


def _surface(train: Sequence[HumanPair], test: Sequence[HumanPair]) -> Scores:
    """Score by logistic regression on scaled differences of surface features."""
    from sklearn.preprocessing import StandardScaler

    learnt, asked = (
        np.stack([surface_features(pair.better) - surface_features(pair.worse) for pair in part])
        for part in (train, test)
    )
    # Not centred: the mean difference between better and worse is what there is to learn.
    scaler = StandardScaler(with_mean=False).fit(learnt)
    return _fitted_scores(scaler.transform(learnt), scaler.transform(asked))


def _tfidf(train: Sequence[HumanPair], test: Sequence[HumanPair]) -> Scores:
    """Score by logistic regression on differences of TF-IDF vectors: one and two words, seen in two responses."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    try:
        vectorizer.fit([text for pair in train for text in (pair.better, pair.worse)])
    except ValueError:  # No word occurs in two responses: nothing can be told apart by words.
        return np.zeros(len(test))
    learnt, asked = (
        vectorizer.transform([pair.better for pair in part]) - vectorizer.transform([pair.worse for pair in part])
        for part in (train, test)
    )
    return _fitted_scores(learnt, asked)


def _fitted_scores(learnt: Any, asked: Any) -> Scores:
    """Fit on differences better - worse and their mirror images, and score other differences.

    Args:
        learnt: Differences ``(training pairs, features)``, dense or sparse.
        asked: Differences ``(test pairs, features)``.
    """
    from scipy.sparse import issparse, vstack
    from sklearn.linear_model import LogisticRegression

    both = vstack([learnt, -learnt]) if issparse(learnt) else np.concatenate([learnt, -learnt])
    labels = np.repeat([1, 0], learnt.shape[0])
    model = LogisticRegression(C=1.0, fit_intercept=False, max_iter=5_000).fit(both, labels)
    scores: Scores = model.decision_function(asked)
    return scores


_LEARNERS: dict[str, Callable[[Sequence[HumanPair], Sequence[HumanPair]], Scores]] = {
    "surface features": _surface,
    "TF-IDF": _tfidf,
}
BASELINES = ("longer wins", *_LEARNERS)


def score_differences(name: str, pairs: Sequence[HumanPair], folds: Folds) -> Scores:
    """Return a baseline's score of better minus worse for every pair, from models that did not learn from its fold.

    Args:
        name: One of `BASELINES`.
        pairs: The pairs.
        folds: The fold of each pair; see `strop.judging.qualifying.folds.group_folds`.

    Returns:
        Scores ``(pairs,)``: above 0 where the baseline agrees with people, 0 where it cannot tell the two apart.

    Raises:
        UserError: There is no such baseline.
    """
    if name == "longer wins":
        return longer_wins(pairs)
    if name not in _LEARNERS:
        raise UserError("no such baseline", value=name, alternatives=BASELINES)
    scores: Scores = np.zeros(len(pairs))
    for fold in np.unique(folds):
        train = [pair for pair, place in zip(pairs, folds, strict=True) if place != fold]
        test = [pair for pair, place in zip(pairs, folds, strict=True) if place == fold]
        scores[folds == fold] = _LEARNERS[name](train, test)
    return scores


def out_of_fold(name: str, pairs: Sequence[HumanPair], folds: Folds) -> Scores:
    """Return whether a baseline is right about each pair, 1, 0 or 0.5 for a tie; see `score_differences`."""
    return correctness(score_differences(name, pairs, folds))


def correctness(differences: Scores) -> Scores:
    """Turn scores of better minus worse into 1 (right), 0 (wrong) and 0.5 (a tie)."""
    return (np.sign(differences) + 1) / 2
