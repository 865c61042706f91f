"""Single responses that people scored: how far a judge's own ratings of them agree.

Rank correlation needs no common scale. Weighted kappa and Krippendorff's alpha do: people's scores are mapped linearly
from the ends of their scale to the rubric's 1 to 5, and where the ends are not known the two are not available.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop.errors import UserError
from strop.evaluation.statistics import Interval
from strop.evaluation.statistics.agreement import SPEARMAN, agreement_intervals, alpha_measure, kappa_measure
from strop.judging.fitting.features import Response
from strop.judging.fitting.fitted import FittedJudge
from strop.judging.judge import PairJudge
from strop.judging.llm import LlmJudge
from strop.judging.pairs import prompt_group, prompt_words
from strop.judging.qualifying.measures import Resampling
from strop.judging.rewarding import RewardJudge
from strop.judging.rubric import SCALE
from strop.records.rows import Answer, Prompt, prompt_from_json, prompt_to_json
from strop.records.tables import iter_table
from strop.runs.seeds import derive_seed

Scores = NDArray[np.float64]
Scale = tuple[float, float]
"""The lowest and the highest score that people could give."""

RATINGS = "ratings: "
"""How the names of these figures begin."""
SPEARMAN_NAME, KAPPA_NAME, ALPHA_NAME = f"{RATINGS}Spearman", f"{RATINGS}weighted kappa", f"{RATINGS}alpha"
LEAN_NAME, FAILURES_NAME = f"{RATINGS}lean", f"{RATINGS}failures"


@dataclass(frozen=True, slots=True)
class RatedResponse:
    """A response with the score that people gave it, higher is better."""

    prompt: Prompt
    response: str
    score: float
    group: str


@dataclass(frozen=True, slots=True)
class RatedFile:
    """What a file of rated responses held, and how many rows were left out, by reason."""

    rows: list[RatedResponse]
    left_out: Mapping[str, int]

    @property
    def hash(self) -> str:
        """Hash of the rows, whatever their order."""
        lines = sorted(
            json.dumps([prompt_to_json(row.prompt), row.response, row.score, row.group], ensure_ascii=False)
            for row in self.rows
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_rated(path: Path, fields: Mapping[str, str] | None = None) -> RatedFile:
    """Read rated responses: `context` or `prompt`, `response`, `score`, and optionally `group`.

    Without a group every prompt, folded, is one of its own. Rows without a score or with an empty response are left out
    and counted.

    Raises:
        UserError: The file or a field is missing or mistyped, or no row is left.
    """
    rows: list[RatedResponse] = []
    left_out: Counter[str] = Counter()
    for number, row in enumerate(iter_table(path, fields=fields), 1):
        found = _rated(row, f"{path}, row {number}")
        if isinstance(found, str):
            left_out[found] += 1
        else:
            rows.append(found)
    if not rows:
        raise UserError(f"{path}: no rated response that can be used", value=dict(left_out))
    # An order of their own: figures must not depend on how the file's rows happen to be sorted.
    rows.sort(key=lambda row: (row.group, prompt_words(row.prompt), row.response, row.score))
    return RatedFile(rows, dict(left_out))


def _rated(row: Mapping[str, Any], where: str) -> RatedResponse | str:
    given = row.get("prompt", row.get("context"))
    response, score = row.get("response"), row.get("score")
    if given is None or not isinstance(response, str):
        raise UserError(
            f"{where}: a rated response needs 'context' (or 'prompt'), 'response' and 'score'",
            value=sorted(map(str, row)),
            fix="map the file's fields with --ratings-fields score=YOURS",
        )
    if score is None:
        return "no score"
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not math.isfinite(score):
        raise UserError(f"{where}: a score must be a number", value=score)
    if not response.strip():
        return "empty response"
    prompt = prompt_from_json(given)
    group = row.get("group")
    return RatedResponse(prompt, response, float(score), prompt_group(prompt) if group is None else str(group))


def ratings_by(judge: PairJudge, rows: Sequence[RatedResponse]) -> Scores:
    """Return a judge's own rating of each response; NaN where it failed to give one.

    A model's rating is the weighted mean of its ratings by the rubric's criteria, a fitted judge's is its score, a
    reward model's its reward.

    Raises:
        UserError: The judge compares only.
    """
    if isinstance(judge, FittedJudge):
        return judge.scores([Response(prompt_words(row.prompt), row.response) for row in rows])
    if isinstance(judge, RewardJudge):
        return np.array(judge.scores([(row.prompt, row.response) for row in rows]))
    if isinstance(judge, LlmJudge):
        rated = judge.rate([Answer(number, row.prompt, row.response) for number, row in enumerate(rows)])
        return np.array([math.nan if rating.mean is None else rating.mean for rating in rated])
    raise UserError("this judge compares two responses and rates none", value=judge.name, fix="leave out --ratings")


@dataclass(frozen=True, slots=True)
class RatingFigures:
    """Agreement of ratings: figures by name, and why one is None."""

    figures: Mapping[str, Interval | None]
    unavailable: Mapping[str, str]


def measure_ratings(
    rows: Sequence[RatedResponse], ratings: Scores, *, stepped: bool, scale: Scale | None, level: float, seed: int
) -> RatingFigures:
    """Compare a judge's ratings with people's scores, with intervals by group.

    Args:
        rows: What people scored.
        ratings: The judge's rating of each, NaN for a failure.
        stepped: Whether the ratings lie on the rubric's scale of 1 to 5; otherwise only their order has a meaning.
        scale: The ends of people's scale; None where it is the rubric's own.
        level: Confidence level.
        seed: Of the intervals.

    Returns:
        Spearman's correlation; Cohen's kappa with quadratic weights (of ratings rounded to whole numbers);
        Krippendorff's alpha for intervals; the judge's mean rating minus people's, as a share of the scale; failures.

    Raises:
        UserError: A score lies outside `scale`.
    """
    people = np.array([row.score for row in rows])
    resampling = Resampling(np.array([row.group for row in rows]), level, seed)
    failures = resampling.rate(np.isnan(ratings).astype(np.float64))
    mapped, why = _on_rubric_scale(people, scale) if stepped else (None, "the judge's scores have no scale")
    figures = _agreement(people, ratings, {SPEARMAN_NAME: SPEARMAN}, resampling)
    unavailable: dict[str, str] = {}
    if mapped is None:
        figures |= dict.fromkeys((KAPPA_NAME, ALPHA_NAME, LEAN_NAME))
        unavailable = dict.fromkeys((KAPPA_NAME, ALPHA_NAME, LEAN_NAME), why)
    else:
        whole = (np.floor(mapped + 0.5), np.floor(ratings + 0.5))
        figures |= _agreement(*whole, {KAPPA_NAME: kappa_measure("quadratic")}, resampling)
        figures |= _agreement(mapped, ratings, {ALPHA_NAME: alpha_measure("interval")}, resampling)
        width = SCALE[-1] - SCALE[0]
        figures[LEAN_NAME] = resampling.difference((ratings - SCALE[0]) / width, (mapped - SCALE[0]) / width)
    figures[FAILURES_NAME] = failures
    for name, figure in figures.items():
        if figure is None:
            unavailable.setdefault(name, "ratings or scores do not vary")
    return RatingFigures(figures, unavailable)


def _on_rubric_scale(people: Scores, scale: Scale | None) -> tuple[Scores | None, str]:
    low, high = SCALE[0], SCALE[-1]
    if scale is None:
        fits = bool(np.isin(people, SCALE).all())
        return (people, "") if fits else (None, "people's scale is not 1 to 5: give its ends with --scale")
    if people.min() < scale[0] or people.max() > scale[1]:
        raise UserError(
            "a score lies outside the scale",
            value=f"{people.min():g} to {people.max():g}, scale {scale[0]:g} to {scale[1]:g}",
            fix="give the lowest and the highest score that people could give: --scale LOW,HIGH",
        )
    return low + (people - scale[0]) / (scale[1] - scale[0]) * (high - low), ""


def _agreement(
    people: Scores, judged: Scores, measures: Mapping[str, Any], resampling: Resampling
) -> dict[str, Interval | None]:
    generator = np.random.default_rng(derive_seed(resampling.seed, "ratings"))
    groups = [str(group) for group in resampling.groups]
    # Means of several criteria have many digits and few distinct values: rounding joins what differs by rounding only.
    columns = (np.round(people, 6), np.round(judged, 6))
    found = agreement_intervals(*columns, groups, generator, measures=measures, level=resampling.level)
    return {name: value if isinstance(value, Interval) else None for name, value in found.items()}


def parse_scale(text: str) -> Scale:
    """Read ``LOW,HIGH``.

    Raises:
        UserError: It has another form, or the ends are not in order.
    """
    ends = text.split(",")
    try:
        low, high = map(float, ends)
    except ValueError:
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError("a scale is its lowest and its highest score", value=text, fix="for example --scale 0,6")
    return low, high
