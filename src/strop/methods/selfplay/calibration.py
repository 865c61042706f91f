"""From which similarity on two texts say the same: thresholds chosen on some cards and measured on others.

A statement is what a therapist who has understood says about one field of a card. It matches that field, and no other
card's field of that kind; cards of the same condition are the harder ones to tell apart. Cards of one condition stay
together, so that the threshold is measured on conditions that did not choose it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop.errors import UserError
from strop.evaluation.risk import clustered_share
from strop.evaluation.statistics import RESAMPLES, SHARE, Interval
from strop.evaluation.statistics.clusters import widened_percentiles
from strop.methods.selfplay.behaviours import Behaviours
from strop.methods.selfplay.cards import Card
from strop.methods.selfplay.decoding import BEHAVIOUR, COGNITION, true_fields
from strop.methods.selfplay.similarity import Matcher, compared_text, passes
from strop.records.tables import iter_table
from strop.runs.seeds import derive_seed
from strop.runs.shipped import DATA

STATEMENTS = DATA / "selfplay" / "paraphrases-v1.jsonl"
FIELDS = (*COGNITION, *BEHAVIOUR)
RULE = "largest sensitivity + specificity (Youden 1950); of equal ones the highest; halfway to the next score below"
FEWEST_CARDS = 4
"""Cards below which halves say nothing."""
DECIMALS = 4
"""Of a threshold: what is written is what was measured."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Statement:
    """What somebody who has understood a field of a card says about it.

    Attributes:
        card: The card's id.
        field: Which field, of `FIELDS`.
        text: The statement.
        truth: What the card says, as the decoder compares it.
    """

    card: str
    field: str
    text: str
    truth: str


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """A statement beside a field: their similarity, and whether they belong together.

    Attributes:
        statement: The number of the statement.
        field: Which field.
        stated: The card that the statement is about.
        compared: The card whose field it is compared with.
        matches: Whether both are the same.
        near: Whether the cards are different ones of one condition.
        similarity: The cosine.
    """

    statement: int
    field: str
    stated: str
    compared: str
    matches: bool
    near: bool
    similarity: float


@dataclass(frozen=True, slots=True)
class Part:
    """How thresholds do on the pairs of some cards.

    Attributes:
        cards: How many cards.
        sensitivity: Of the matching pairs, the share that passes.
        specificity: Of the others, the share that fails.
        near_specificity: The same of cards of one condition; None where no condition has two cards.
        constant: The largest share of other cards for which one and the same statement passes.
    """

    cards: int
    sensitivity: Interval
    specificity: Interval
    near_specificity: Interval | None
    constant: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """An encoder's thresholds, and what they are worth.

    Attributes:
        threshold: From this similarity on texts of any field say the same.
        thresholds: The same, field by field.
        pairs: Every comparison.
        auc: Chance that a matching pair is nearer than another one: of ``all`` pairs, their mean ``within`` the fields,
            and of each field.
        near_auc: The same, against cards of one condition only; empty where no condition has two cards.
        chosen_on: The cards that chose the thresholds, each field by its own.
        held_out: The others, each field by its own.
        held_out_single: The others, all fields by `threshold`.
        held_out_fields: The others, field by field.
    """

    threshold: float
    thresholds: Mapping[str, float]
    pairs: tuple[ScoredPair, ...]
    auc: Mapping[str, Interval]
    near_auc: Mapping[str, Interval]
    chosen_on: Part
    held_out: Part
    held_out_single: Part
    held_out_fields: Mapping[str, Part]

    def to_row(self) -> dict[str, Any]:
        """Return the figures as JSON, without the pairs."""
        row = asdict(self)
        del row["pairs"]
        matching = sum(pair.matches for pair in self.pairs)
        return {**row, "rule": RULE, "matching_pairs": matching, "other_pairs": len(self.pairs) - matching}


def read_statements(path: Path, cards: Sequence[Card], behaviours: Behaviours) -> list[Statement]:
    """Read statements: ``card``, ``field``, ``text``, and for ``principles`` the ``group`` that the patient was given.

    Args:
        path: A table.
        cards: The cards that they are about.
        behaviours: The library of the groups.

    Raises:
        UserError: A row names no card, field or group, says nothing, or a card's field is empty.
    """
    known = {card.id: card for card in cards}
    found = []
    for number, row in enumerate(iter_table(path), 1):
        where = f"{path}: row {number}"
        card, field, text = row.get("card"), row.get("field"), row.get("text")
        if card not in known:
            raise UserError(f"{where} is about no card", value=card, alternatives=list(known))
        if field not in FIELDS:
            raise UserError(f"{where} is about no field", value=field, alternatives=FIELDS)
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"{where} says nothing", value=text)
        group = row.get("group")
        if field in BEHAVIOUR and group not in behaviours.groups:
            raise UserError(f"{where} names no group", value=group, alternatives=list(behaviours.groups))
        truth = true_fields(known[str(card)], behaviours.groups.get(str(group), ())).get(str(field))
        if truth is None:
            raise UserError(f"{where}: the card leaves this field empty", value=field)
        found.append(Statement(str(card), str(field), text, truth))
    if not found:
        raise UserError("the file holds no statement", value=str(path))
    return found


def score_pairs(statements: Sequence[Statement], cards: Sequence[Card], matcher: Matcher) -> list[ScoredPair]:
    """Compare every statement with its own field and with that field of every other card.

    Left out: a field of another card that says the same word for word (two situations of one patient, or one behaviour
    group), which would match.
    """
    condition = {card.id: card.condition for card in cards}
    truths: dict[str, dict[str, dict[str, None]]] = {}
    for statement in statements:
        truths.setdefault(statement.field, {}).setdefault(statement.card, {})[statement.truth] = None
    planned: list[tuple[int, Statement, str, str]] = []
    for number, statement in enumerate(statements):
        planned.append((number, statement, statement.card, statement.truth))
        for other, texts in truths[statement.field].items():
            if other != statement.card:
                own = truths[statement.field][statement.card]
                planned += [(number, statement, other, text) for text in texts if text not in own]
    found = matcher.similarities(
        [(compared_text(statement.text), compared_text(truth)) for _, statement, _, truth in planned]
    )
    pairs = []
    for (number, statement, other, _), similarity in zip(planned, found, strict=True):
        same = bool(condition[other]) and condition[other] == condition[statement.card]
        matches = other == statement.card
        near = same and not matches
        pairs.append(ScoredPair(number, statement.field, statement.card, other, matches, near, similarity))
    return pairs


def halves_of(cards: Sequence[Card], *, seed: int) -> tuple[frozenset[str], frozenset[str]]:
    """Return the cards that choose a threshold and those that measure it, about as many.

    Cards of one condition stay together; without conditions, cards of one name.

    Raises:
        UserError: There are too few cards, or only one condition.
    """
    groups: dict[str, list[str]] = {}
    for card in cards:
        groups.setdefault(card.condition or card.name, []).append(card.id)
    if len(cards) < FEWEST_CARDS or len(groups) < 2:
        raise UserError(
            "too few cards for a threshold and its measurement",
            value=f"{len(cards)} cards of {len(groups)} conditions",
            fix=f"give at least {FEWEST_CARDS} cards of two conditions",
        )
    first: list[str] = []
    second: list[str] = []
    for name in sorted(groups, key=lambda name: (-len(groups[name]), derive_seed(seed, "half", name))):
        (first if len(first) <= len(second) else second).extend(groups[name])
    return frozenset(first), frozenset(second)


def calibrate(
    statements: Sequence[Statement],
    cards: Sequence[Card],
    matcher: Matcher,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Calibration:
    """Choose the thresholds on one half of the cards and measure them on the other.

    Args:
        statements: What a therapist who has understood says.
        cards: The cards that they are about.
        matcher: Compares texts; its own thresholds are not read.
        seed: Of the halves and the intervals.
        resamples: Draws of the intervals of AUC.

    Raises:
        UserError: Too few cards, or a half without statements of a field.
    """
    about = {statement.card for statement in statements}
    used = [card for card in cards if card.id in about]
    choosing, measuring = halves_of(used, seed=seed)
    pairs = score_pairs(statements, used, matcher)
    fields = [field for field in FIELDS if any(pair.field == field for pair in pairs)]
    first = [pair for pair in pairs if {pair.stated, pair.compared} <= choosing]
    second = [pair for pair in pairs if {pair.stated, pair.compared} <= measuring]
    single = choose_threshold(first)
    own = {field: choose_threshold([pair for pair in first if pair.field == field]) for field in fields}
    return Calibration(
        threshold=single,
        thresholds=own,
        pairs=tuple(pairs),
        auc=_areas(pairs, fields, seed=seed, resamples=resamples),
        near_auc=_areas([pair for pair in pairs if pair.matches or pair.near], fields, seed=seed, resamples=resamples),
        chosen_on=part_of(first, own),
        held_out=part_of(second, own),
        held_out_single=part_of(second, dict.fromkeys(fields, single)),
        held_out_fields={field: part_of([pair for pair in second if pair.field == field], own) for field in fields},
    )


def _areas(pairs: Sequence[ScoredPair], fields: Sequence[str], *, seed: int, resamples: int) -> dict[str, Interval]:
    """Return the area of all pairs, its mean within the fields, and that of each field that has pairs of both kinds."""
    parts = {"all": list(pairs), "within": list(pairs)}
    parts |= {field: [pair for pair in pairs if pair.field == field] for field in fields}
    return {
        name: auc_interval(
            part,
            np.random.default_rng(derive_seed(seed, "auc", name)),
            within_fields=name == "within",
            resamples=resamples,
        )
        for name, part in parts.items()
        if {pair.matches for pair in part} == {True, False}
    }


def choose_threshold(pairs: Sequence[ScoredPair]) -> float:
    """Return the threshold with the largest sum of sensitivity and specificity (`RULE`).

    Raises:
        UserError: There is no matching pair, or no other.
    """
    scores, matches = _columns(pairs)
    if matches.all() or not matches.any():
        raise UserError(
            "a threshold needs matching and other pairs",
            value=f"{int(matches.sum())} and {int((~matches).sum())}",
            fix="state fields of more cards",
        )
    levels = np.unique(scores)
    hits = np.array([(scores[matches] >= level).mean() for level in levels])
    rejected = np.array([(scores[~matches] < level).mean() for level in levels])
    best = int(np.flatnonzero(hits + rejected >= (hits + rejected).max() - 1e-12)[-1])
    below = levels[best - 1] if best else levels[best]
    middle = round(float(levels[best] + below) / 2, DECIMALS)
    # Rounding must not move it beyond the score that has to pass.
    return middle if below < middle <= levels[best] else float(levels[best])


def part_of(pairs: Sequence[ScoredPair], thresholds: Mapping[str, float]) -> Part:
    """Return how thresholds, one a field, do on pairs.

    The intervals count the cards that the statements are about: Wilson's at the effective number of pairs.

    Raises:
        UserError: There is no matching pair, or no other.
    """

    def share(kept: list[ScoredPair], wanted: bool) -> Interval:
        values = [passes(pair.similarity, thresholds[pair.field]) is wanted for pair in kept]
        return clustered_share(values, [pair.stated for pair in kept])

    matching = [pair for pair in pairs if pair.matches]
    others = [pair for pair in pairs if not pair.matches]
    near = [pair for pair in others if pair.near]
    if not matching or not others:
        raise UserError("a half of the cards has no statements to measure by", fix="state fields of more cards")
    passed: dict[int, list[bool]] = {}
    for pair in others:
        passed.setdefault(pair.statement, []).append(passes(pair.similarity, thresholds[pair.field]))
    return Part(
        cards=len({pair.stated for pair in matching}),
        sensitivity=share(matching, True),
        specificity=share(others, False),
        near_specificity=share(near, False) if near else None,
        constant=max(sum(values) / len(values) for values in passed.values()),
    )


def auc_interval(
    pairs: Sequence[ScoredPair],
    generator: np.random.Generator,
    *,
    within_fields: bool = False,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return the area under the ROC curve, ties half, with its bootstrap interval over cards.

    Cards are drawn with replacement; a pair counts as often as both its cards were drawn, one times the other, because
    a comparison depends on the card that is described and on the one that it is compared with (Owen 2007).

    Args:
        pairs: Matching ones and others.
        generator: Source of the draws.
        within_fields: Compare pairs of one field only, and take the mean of the fields' areas.
        resamples: Number of draws.
    """
    scores, matches = _columns(pairs)
    _, ranks = np.unique(scores, return_inverse=True)
    names = sorted({name for pair in pairs for name in (pair.stated, pair.compared)})
    number = {name: place for place, name in enumerate(names)}
    stated = np.array([number[pair.stated] for pair in pairs])
    compared = np.array([number[pair.compared] for pair in pairs])
    fields = np.array([pair.field for pair in pairs])
    kinds = [fields == field for field in sorted(set(fields))] if within_fields else [np.ones(len(pairs), dtype=bool)]

    def area(times: Floats) -> float:
        weights = np.where(matches, times[stated], times[stated] * times[compared])
        return float(np.mean([weighted_auc(ranks[kind], matches[kind], weights[kind]) for kind in kinds]))

    size = len(names)
    draws = [np.bincount(generator.integers(size, size=size), minlength=size).astype(float) for _ in range(resamples)]
    areas = np.array([area(times) for times in draws])
    return widened_percentiles(area(np.ones(size)), areas, len(pairs), size, bounds=SHARE)


def weighted_auc(ranks: NDArray[np.intp], matches: NDArray[np.bool_], weights: Floats) -> float:
    """Return the chance that a matching pair ranks higher, ties half; NaN without pairs of one kind."""
    positive = np.bincount(ranks, weights * matches)
    negative = np.bincount(ranks, weights * ~matches)
    total = positive.sum() * negative.sum()
    return float((positive * (np.cumsum(negative) - negative / 2)).sum() / total) if total else float("nan")


def _columns(pairs: Sequence[ScoredPair]) -> tuple[Floats, NDArray[np.bool_]]:
    scores = np.array([pair.similarity for pair in pairs], dtype=np.float64)
    return scores, np.array([pair.matches for pair in pairs], dtype=bool)
