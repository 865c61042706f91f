"""Grade responses one by one, and sum up what came out.

A response that cannot be graded is neither right nor wrong: its result is None, its reason says why, and it counts in
neither the numerator nor the denominator of the accuracy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from strop.evaluation.answer_files import Response
from strop.evaluation.answers import AnswerKey, Mode, extract_answer, prepare_gold, same_answer
from strop.evaluation.statistics import Interval, wilson
from strop.records.rows import Identifier


class GradedAnswer(NamedTuple):
    """A response's final answer, and whether it is right.

    Attributes:
        id: The row's id.
        pred: The final answer; empty where there is none. In ``compat`` the published normal form.
        gold: The gold answer, in ``compat`` normalised; None where none was given.
        result: Whether it is right; None where that was not decided, or without gold.
        reason: Why it was not decided.
        model: Which model of a nested file it is.
        sample: Which of several responses it is.
    """

    id: Identifier
    pred: str
    gold: str | None
    result: bool | None
    reason: str | None = None
    model: str | None = None
    sample: int | None = None

    def to_row(self) -> dict[str, Any]:
        """Return ``{"id", "pred"}``, with ``gold`` and ``result`` where gold was given."""
        row: dict[str, Any] = {"id": self.id}
        if self.model is not None:
            row["model"] = self.model
        if self.sample is not None:
            row["sample"] = self.sample
        row["pred"] = self.pred
        if self.gold is not None:
            row["gold"], row["result"] = self.gold, self.result
        if self.reason:
            row["reason"] = self.reason
        return row


def grade_response(response: Response, key: AnswerKey, mode: Mode) -> GradedAnswer:
    """Extract a response's final answer and compare it with gold."""
    pred = "" if response.text is None else extract_answer(response.text, key, mode)
    gold = None if response.gold is None else prepare_gold(response.gold, key, mode)
    result: bool | None = None
    reason: str | None = None
    if response.text is None:
        reason = "there is no response"
    elif gold:
        verdict = same_answer(pred, gold, mode)
        result, reason = verdict.correct, verdict.reason if verdict.correct is None else None
    elif gold is not None:
        reason = "the gold answer is empty"
    return GradedAnswer(response.id, pred, gold, result, reason, response.model, response.sample)


def grade(responses: Iterable[Response], key: AnswerKey, mode: Mode) -> Iterator[tuple[Response, GradedAnswer]]:
    """Yield each response with its grade; memory does not grow with their number.

    Args:
        responses: What to grade; see `strop.evaluation.answer_files.read_responses`.
        key: What announces the final answer.
        mode: How answers are read and compared.
    """
    for response in responses:
        yield response, grade_response(response, key, mode)


@dataclass(slots=True)
class _Clusters:
    """Running sums over questions of answers (n) and right answers (c); a question's answers come one after another."""

    count: int = 0
    cc: int = 0
    cn: int = 0
    nn: int = 0
    _current: Identifier | None = None
    _c: int = 0
    _n: int = 0

    def add(self, question: Identifier, correct: bool) -> None:
        if not self._n or question != self._current:
            self._close()
            self._current = question
        self._c += correct
        self._n += 1

    def _close(self) -> None:
        if self._n:
            self.count += 1
            self.cc, self.cn, self.nn = self.cc + self._c**2, self.cn + self._c * self._n, self.nn + self._n**2
        self._c = self._n = 0

    def design_effect(self, correct: int, n: int) -> float:
        """Return the factor by which clustering inflates the variance of the accuracy, at least 1."""
        self._close()
        if self.count == n:
            return 1.0
        share = correct / n
        if share in (0.0, 1.0):
            # No variance to compare: take the answers to one question as one observation.
            return n / self.count
        between = self.cc - 2 * share * self.cn + share**2 * self.nn
        return max(1.0, between / (n * share * (1 - share)))


def _count(counts: list[int], equal: bool) -> None:
    counts[0] += equal
    counts[1] += 1


@dataclass(slots=True)
class GradingSummary:
    """Counts over graded answers, kept up to date one answer at a time.

    Attributes:
        n: Responses.
        graded: Responses with a verdict.
        correct: Right ones among them.
        no_answer: Responses without a final answer; where there is gold they count as wrong.
        not_graded: Responses with gold but without a verdict.
        without_gold: Responses without gold.
        published_preds: How many of the file's own answers, where it states any, equal ours.
        published_results: How many of the file's own flags, where it states any, equal ours.
        reasons: How often each reason for not grading occurred.
    """

    n: int = 0
    graded: int = 0
    correct: int = 0
    no_answer: int = 0
    not_graded: int = 0
    without_gold: int = 0
    published_preds: list[int] = field(default_factory=lambda: [0, 0])
    published_results: list[int] = field(default_factory=lambda: [0, 0])
    reasons: dict[str, int] = field(default_factory=dict)
    _clusters: _Clusters = field(default_factory=_Clusters)

    def add(self, response: Response, graded: GradedAnswer) -> None:
        """Count one graded answer."""
        self.n += 1
        self.no_answer += not graded.pred
        self.without_gold += graded.gold is None
        if graded.result is not None:
            self.graded += 1
            self.correct += graded.result
            self._clusters.add(graded.id, graded.result)
        elif graded.gold is not None:
            self.not_graded += 1
        if graded.reason:
            self.reasons[graded.reason] = self.reasons.get(graded.reason, 0) + 1
        if response.published_pred is not None:
            _count(self.published_preds, response.published_pred == graded.pred)
        if response.published_result is not None:
            _count(self.published_results, response.published_result == graded.result)

    def accuracy(self) -> Interval | None:
        """Return the share of right answers with its Wilson interval, or None where nothing was graded.

        Several answers to one question are not independent: the interval then uses the effective number of answers
        (the number divided by the design effect of the questions; Kish 1965).
        """
        if not self.graded:
            return None
        effective = self.graded / self._clusters.design_effect(self.correct, self.graded)
        share = self.correct / self.graded
        interval = wilson(share * effective, effective)
        return Interval(share, interval.low, interval.high, self.graded, interval.level)

    def to_row(self) -> dict[str, Any]:
        """Return the counts and the accuracy as one JSON object."""
        row: dict[str, Any] = {
            "n": self.n,
            "graded": self.graded,
            "correct": self.correct,
            "no_answer": self.no_answer,
            "not_graded": self.not_graded,
            "without_gold": self.without_gold,
        }
        accuracy = self.accuracy()
        row["accuracy"] = None if accuracy is None else accuracy.estimate
        row["interval"] = None if accuracy is None else [accuracy.low, accuracy.high]
        for name, (equal, stated) in (
            ("published_preds_equal", self.published_preds),
            ("published_results_equal", self.published_results),
        ):
            if stated:
                row[name] = {"equal": equal, "stated": stated}
        return row | ({"reasons": self.reasons} if self.reasons else {})
