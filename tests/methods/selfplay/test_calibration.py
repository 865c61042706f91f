"""Thresholds of similarity: which pairs they are chosen on, how, and what the figures say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from pair_table import PairTable
from strop.errors import UserError
from strop.evaluation.statistics import SHARE
from strop.evaluation.statistics.clusters import widened_percentiles
from strop.methods.selfplay.behaviours import Behaviours, read_behaviours
from strop.methods.selfplay.calibration import (
    FIELDS,
    STATEMENTS,
    ScoredPair,
    Statement,
    auc_interval,
    calibrate,
    choose_threshold,
    halves_of,
    part_of,
    read_statements,
    score_pairs,
    weighted_auc,
)
from strop.methods.selfplay.calibration_figure import draw_histograms, histogram_lines
from strop.methods.selfplay.calibration_files import CalibrationRequest, calibration_of, write_calibration
from strop.methods.selfplay.cards import CARDS, Card, read_cards
from strop.methods.selfplay.decoding import compared, true_fields
from strop.methods.selfplay.similarity import CALIBRATION, MatcherSettings, open_matcher, read_thresholds
from strop.models.embedding import encoder_revision
from strop.models.weights import file_hash
from strop.records.tables import read_table, write_table

LIBRARY = Behaviours("test", "1", {"shy": ("Whisper.", "Blush."), "loud": ("Shout.",)})


def _pair(
    similarity: float, matches: bool, *, stated: str = "a", compared: str = "b", field: str = "situation"
) -> ScoredPair:
    return ScoredPair(0, field, stated, stated if matches else compared, matches, False, similarity)


def _pairs(matching: Sequence[float], others: Sequence[float]) -> list[ScoredPair]:
    return [*(_pair(value, True) for value in matching), *(_pair(value, False) for value in others)]


def _cards(*conditions: str) -> list[Card]:
    first = read_cards()[0]
    return [
        replace(first, id=f"c{place}", name=f"n{place}", condition=name, coping_strategies=f"coping {place}")
        for place, name in enumerate(conditions)
    ]


def test_the_threshold_has_the_largest_sum_of_sensitivity_and_specificity() -> None:
    """Matching .9 .8 .4, others .5 .3 .2 .1.

    From .4 on: 3/3 + 3/4 = 1.75; from .8 on: 2/3 + 4/4 = 1.67; from .5 on: 2/3 + 3/4. So .4, halfway to .3 below.
    """
    assert choose_threshold(_pairs([0.9, 0.8, 0.4], [0.5, 0.3, 0.2, 0.1])) == 0.35


def test_of_equal_thresholds_the_highest() -> None:
    """Matching .8 .4, others .6 .2: from .8 on 1/2 + 2/2, from .4 on 2/2 + 1/2. So .8, halfway to .6."""
    assert choose_threshold(_pairs([0.8, 0.4], [0.6, 0.2])) == 0.7


def test_rounding_moves_no_threshold_beyond_the_score_that_has_to_pass() -> None:
    assert choose_threshold(_pairs([0.400004], [0.400003])) == 0.400004


@pytest.mark.parametrize("pairs", [_pairs([0.5], []), _pairs([], [0.5])])
def test_a_threshold_needs_both_kinds(pairs: list[ScoredPair]) -> None:
    with pytest.raises(UserError, match="matching and other pairs"):
        choose_threshold(pairs)


SCORES = st.lists(st.integers(-20, 20).map(lambda value: value / 20), min_size=1, max_size=12)


@given(SCORES, SCORES)
def test_the_threshold_is_as_good_as_any_on_the_roc_curve(matching: list[float], others: list[float]) -> None:
    """Against scikit-learn's ROC curve, whose steps are all the thresholds there are."""
    pairs = _pairs(matching, others)
    threshold = choose_threshold(pairs)
    hits = np.mean([value >= threshold for value in matching])
    rejected = np.mean([value < threshold for value in others])
    false, true, _ = roc_curve([pair.matches for pair in pairs], [pair.similarity for pair in pairs])
    assert hits + rejected == pytest.approx(max(1 + np.delete(true - false, 0)))


@given(SCORES, SCORES, st.randoms(use_true_random=False))
def test_the_area_is_that_of_scikit_learn(matching: list[float], others: list[float], random: Any) -> None:
    pairs = _pairs(matching, others)
    weights = np.array([random.randint(1, 3) for _ in pairs], dtype=np.float64)
    scores = np.array([pair.similarity for pair in pairs])
    matches = np.array([pair.matches for pair in pairs])
    _, ranks = np.unique(scores, return_inverse=True)
    assert weighted_auc(ranks, matches, weights) == pytest.approx(roc_auc_score(matches, scores, sample_weight=weights))


def _some_pairs(cards: int = 6) -> list[ScoredPair]:
    random = np.random.default_rng(0)
    names = [f"c{place}" for place in range(cards)]
    return [
        ScoredPair(0, field, one, other, one == other, False, float(random.normal(0.6 if one == other else 0.4, 0.2)))
        for field in ("situation", "principles")
        for one in names
        for other in names
    ]


def test_the_interval_counts_a_pair_by_both_its_cards() -> None:
    """Against copies of the pairs: c drawn twice and d three times make 6 copies of c beside d, and 2 of c itself."""
    pairs = _some_pairs()
    found = auc_interval(pairs, np.random.default_rng(4), resamples=60)
    random = np.random.default_rng(4)
    draws = []
    for _ in range(60):
        times = np.bincount(random.integers(6, size=6), minlength=6)
        copies = [
            pair
            for pair in pairs
            for _ in range(times[int(pair.stated[1])] * (1 if pair.matches else times[int(pair.compared[1])]))
        ]
        draws.append(roc_auc_score([pair.matches for pair in copies], [pair.similarity for pair in copies]))
    wanted = widened_percentiles(found.estimate, np.array(draws), len(pairs), 6, bounds=SHARE)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))
    assert (found.n, found.groups) == (72, 6)
    assert found.low < found.estimate < found.high


def test_the_area_within_fields_is_the_mean_of_their_areas() -> None:
    """Fields whose scores lie .5 apart: each separates its own pairs, both together do not."""
    low = _pairs([0.4, 0.3], [0.2, 0.1])
    high = [replace(pair, field="principles", similarity=pair.similarity + 0.5) for pair in low]
    random = np.random.default_rng(0)
    assert auc_interval(low + high, random, within_fields=True, resamples=10).estimate == 1
    assert auc_interval(low + high, random, resamples=10).estimate == 0.75


@given(
    st.lists(st.sampled_from("abcdef"), min_size=4, max_size=30).filter(lambda names: len(set(names)) > 1),
    st.integers(0, 5),
)
def test_conditions_are_not_divided(conditions: list[str], seed: int) -> None:
    cards = _cards(*conditions)
    first, second = halves_of(cards, seed=seed)
    assert not first & second
    assert first | second == {card.id for card in cards}
    sides = {card.condition: card.id in first for card in cards}
    assert all(sides[card.condition] == (card.id in first) for card in cards)
    assert abs(len(first) - len(second)) <= max(map(conditions.count, conditions))
    assert halves_of(cards, seed=seed) == (first, second)


def test_cards_without_conditions_are_halved_by_name() -> None:
    cards = [replace(card, condition="", name=f"n{place // 2}") for place, card in enumerate(_cards(*"aaaaaa"))]
    first, second = halves_of(cards, seed=0)
    assert {len(first), len(second)} == {2, 4}
    assert not {card.name for card in cards if card.id in first} & {card.name for card in cards if card.id in second}


@pytest.mark.parametrize("conditions", ["ab", "aaaa"])
def test_too_few_cards(conditions: str) -> None:
    with pytest.raises(UserError, match="too few cards"):
        halves_of(_cards(*conditions), seed=0)


def test_every_statement_meets_its_own_field_and_the_others() -> None:
    """Cards 0 and 1 share a condition, 1 and 2 the text of the field: 1 and 2 are not compared with each other."""
    cards = _cards("a", "a", "b")
    truths = ("zero", "same", "same")
    statements = [Statement(f"c{place}", "situation", f"said {place}", truth) for place, truth in enumerate(truths)]
    table = PairTable({("said 0", "zero"): 0.9, ("said 0", "same"): 0.2})
    found = score_pairs(statements, cards, table)
    assert [(pair.stated, pair.compared, pair.matches, pair.near) for pair in found] == [
        ("c0", "c0", True, False),
        ("c0", "c1", False, True),
        ("c0", "c2", False, False),
        ("c1", "c1", True, False),
        ("c1", "c0", False, True),
        ("c2", "c2", True, False),
        ("c2", "c0", False, False),
    ]
    assert [pair.similarity for pair in found[:3]] == [0.9, 0.2, 0.2]


def test_a_part_counts_shares_of_each_kind() -> None:
    """Matching .9 .4 at .5: 1 of 2; others .6 .3 .5 at .5: 1 of 3 fails (.5 itself passes): a constant passes 2."""
    pairs = [*_pairs([0.9, 0.4], [0.6, 0.3]), replace(_pair(0.5, False), near=True)]
    found = part_of(pairs, {"situation": 0.5})
    assert found.sensitivity.estimate == 0.5
    assert found.specificity.estimate == pytest.approx(1 / 3)
    assert found.constant == pytest.approx(2 / 3)
    assert found.near_specificity is not None
    assert found.near_specificity.estimate == 0
    assert part_of(_pairs([0.9], [0.6]), {"situation": 0.5}).near_specificity is None
    with pytest.raises(UserError, match="no statements"):
        part_of(_pairs([0.9], []), {"situation": 0.5})


def test_what_chooses_does_not_measure() -> None:
    """All scores of the measuring half lie .3 lower: its sensitivity falls and the threshold stays."""
    cards = _cards(*"aabbccdd")
    choosing, _ = halves_of(cards, seed=0)
    statements = [Statement(card.id, "coping_strategies", f"say {card.id}", card.coping_strategies) for card in cards]
    moved = {card.id: 0.0 if card.id in choosing else -0.3 for card in cards}
    values = {(one.text, other.truth): 0.4 + moved[one.card] for one in statements for other in statements}
    values |= {(one.text, one.truth): 0.6 + moved[one.card] for one in statements}
    found = calibrate(statements, cards, PairTable(values), resamples=20)
    assert found.threshold == 0.5
    assert found.thresholds == {"coping_strategies": 0.5}
    assert (found.chosen_on.sensitivity.estimate, found.chosen_on.specificity.estimate) == (1, 1)
    assert (found.held_out.sensitivity.estimate, found.held_out.specificity.estimate) == (0, 1)
    assert found.chosen_on.cards + found.held_out.cards == 8
    assert found.auc["within"].estimate == found.auc["coping_strategies"].estimate == found.auc["all"].estimate < 1
    row = json.loads(json.dumps(found.to_row()))
    assert (row["matching_pairs"], row["other_pairs"]) == (8, 56)
    assert "pairs" not in row


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"card": "c9"}, "is about no card"),
        ({"field": "mood"}, "is about no field"),
        ({"text": " "}, "says nothing"),
        ({"field": "principles"}, "names no group"),
        ({"field": "principles", "group": "quiet"}, "names no group"),
        ({"field": "intermediate_belief_depression"}, "leaves this field empty"),
    ],
)
def test_statements_that_cannot_be_used(tmp_path: Path, changes: dict[str, str], told: str) -> None:
    row = {"card": "c0", "field": "situation", "text": "He is sad.", **changes}
    write_table(tmp_path / "said.jsonl", [row])
    cards = [replace(card, intermediate_belief_depression="") for card in _cards("a")]
    with pytest.raises(UserError, match=told):
        read_statements(tmp_path / "said.jsonl", cards, LIBRARY)


def test_statements_carry_what_the_decoder_compares_with(tmp_path: Path) -> None:
    (card,) = _cards("a")
    rows = [{"card": "c0", "field": field, "text": "So it is.", "group": "shy"} for field in FIELDS]
    write_table(tmp_path / "said.jsonl", rows)
    found = read_statements(tmp_path / "said.jsonl", [card], LIBRARY)
    assert {each.field: each.truth for each in found} == true_fields(card, LIBRARY.groups["shy"])
    write_table(tmp_path / "none.jsonl", [])
    with pytest.raises(UserError):
        read_statements(tmp_path / "none.jsonl", [card], LIBRARY)


def test_the_histogram_has_each_kind_on_the_same_scale() -> None:
    """Two of three matching pairs in .50 to .55 fill the longest bar, 36; one of two others is 27 of it."""
    lines = histogram_lines(_pairs([0.51, 0.52, 0.61], [0.41, 0.52]))
    assert lines[0].split() == ["similarity", "matching", "(3)", "others", "(2)"]
    (row,) = [line for line in lines if line.startswith(" 0.50")]
    assert [cell for cell in row.split() if "#" in cell] == ["#" * 36, "#" * 27]
    assert row.count("%") == 2


def test_the_figure_is_the_same_every_time(tmp_path: Path) -> None:
    pairs = _some_pairs()
    for name in ("a.svg", "b.svg"):
        draw_histograms(pairs, {"situation": 0.5, "principles": 0.4}, tmp_path / name)
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "b.svg").read_text(encoding="utf-8")
    assert "principles, 0.400" in text


def test_a_calibration_becomes_the_file_that_a_matcher_names(tiny_encoder: Path, tmp_path: Path) -> None:
    """With the cards of two conditions only: the tiny encoder tells nothing apart anyway."""
    some = {card.id: card for card in read_cards() if card.condition in ("major depression", "insomnia")}
    write_table(tmp_path / "cards.jsonl", [card.to_row() for card in some.values()])
    write_table(tmp_path / "said.jsonl", [row for row in read_table(STATEMENTS) if row["card"] in some])
    request = CalibrationRequest(str(tiny_encoder), tmp_path / "cards.jsonl", tmp_path / "said.jsonl")
    found, content = calibration_of(request, cache=tmp_path / "cache")
    write_calibration(found, content, tmp_path / "out")
    settings = MatcherSettings(embedder=str(tiny_encoder), calibration=tmp_path / "out" / "calibration.json")
    matcher = open_matcher(settings, cache=tmp_path / "cache")
    assert matcher.thresholds == {name: round(value, 4) for name, value in found.thresholds.items()}
    assert content["revision"] == encoder_revision(tiny_encoder)
    rows = read_table(tmp_path / "out" / "similarities.jsonl")
    assert len(rows) == len(found.pairs)
    assert set(rows[0]) == {"statement", "field", "stated", "compared", "matches", "near", "similarity"}
    assert str(tmp_path) not in json.dumps(content["files"])


def test_the_shipped_statements_cover_every_field_of_every_card() -> None:
    cards = read_cards()
    rows = read_table(STATEMENTS)
    stated = [(row["card"], row["field"]) for row in rows]
    assert set(stated) == {(card.id, field) for card in cards for field in FIELDS}
    assert len(stated) - len(set(stated)) >= len(set(stated)) // 3
    assert len({row["text"] for row in rows}) == len(rows)
    assert all(row["group"] in read_behaviours().groups for row in rows if row["field"] == "principles")


def test_no_shipped_statement_copies_its_field() -> None:
    """No six words in a row of what it is compared with."""
    for statement in read_statements(STATEMENTS, read_cards(), read_behaviours()):
        words, truth = statement.text.lower().split(), " ".join(statement.truth.lower().split())
        copied = [" ".join(words[place : place + 6]) for place in range(len(words) - 5)]
        assert not [run for run in copied if run in truth], statement


def test_the_shipped_calibration_is_of_the_shipped_files() -> None:
    content = json.loads(CALIBRATION.read_text(encoding="utf-8"))
    for name, path in {"cards": CARDS, "statements": STATEMENTS}.items():
        assert content["files"][name] == {"name": path.name, "sha256": file_hash(path)}
    assert content["auc"]["all"]["estimate"] > 0.9
    assert all(content["auc"][field]["estimate"] > 0.9 for field in FIELDS)
    assert set(content["thresholds"]) == set(FIELDS)


@pytest.mark.slow
def test_the_shipped_calibration_can_be_made_again(tmp_path: Path) -> None:
    found, content = calibration_of(CalibrationRequest(), cache=tmp_path)
    shipped = read_thresholds(CALIBRATION)
    assert content["revision"] == shipped.revision
    assert {"single": found.threshold, **found.thresholds} == pytest.approx(
        {"single": shipped.threshold, **shipped.fields}, abs=1e-3
    )


GENERIC = {
    "intermediate_belief": "The patient believes that weakness leads to rejection, and has low self-esteem.",
    "intermediate_belief_depression": "When low, the patient feels worthless, hopeless and a burden to others.",
    "coping_strategies": "The patient copes by avoiding things, withdrawing and keeping busy.",
    "situation": "Automatic Thoughts: I am a failure.\nEmotions: anxious, ashamed, sad\nBehavior: withdrew",
    "principles": "The patient is guarded, hesitates and gives short answers.",
}


@pytest.mark.slow
def test_an_answer_that_fits_everybody_passes_for_few(tmp_path: Path) -> None:
    """The fourth, labelled as the card is, passed for 27 of 28 cards as long as labels were compared."""
    matcher = open_matcher(MatcherSettings(), cache=tmp_path)
    cards, groups = read_cards(), read_behaviours().groups
    truths = [true_fields(card, next(iter(groups.values()))) for card in cards]
    passed = [compared(matcher, truth, GENERIC)[1] for truth in truths]
    for field in FIELDS[:4]:
        assert sum(each[field] for each in passed) <= len(cards) // 4, field
