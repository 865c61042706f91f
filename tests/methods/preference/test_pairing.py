"""Pairs from ratings: the paper's rule on whole numbers, the safety gate, and nothing made of what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.methods.preference.pairing import Pairs, PairSettings, flip_probability, make_pairs
from strop.methods.preference.ratings import PRINCIPLES
from strop.methods.preference.speeches import split_of
from strop.records import PreferencePair
from strop.safety.gate import reply_gate

TEXTS = {"a": "It hurts.", "b": "Buck up.", "c": "What happened?", "d": "See somebody."}


def _ratings(*values: Any) -> dict[str, Any]:
    return dict(zip(PRINCIPLES, values, strict=True))


def _response(name: str, *values: Any, **more: Any) -> dict[str, Any]:
    return {"id": name, "text": TEXTS.get(name, name), "model": f"model {name}", "ratings": _ratings(*values), **more}


def _speech(*responses: Mapping[str, Any], split: str | None = "train", name: str = "r1") -> dict[str, Any]:
    row = {"id": name, "speech": f"I cannot sleep, says {name}.", "topic": "sleep", "responses": list(responses)}
    return row if split is None else {**row, "split": split}


FOUR = (
    _response("a", 4, 4, 4, 4, 4, 4, 4),
    _response("b", 3, 3, 3, 4, 3, 3, 3),
    _response("c", 3, 3, 3, 3, 3, 3, 3),
    _response("d", 3, 3, 3, 2, 3, 3, 3),
)


def _couples(pairs: Pairs) -> list[tuple[Any, ...]]:
    names = {text: name for name, text in TEXTS.items()}
    return [(names[row["chosen"]], names[row["rejected"]], row["gap"], row["kind"]) for row in pairs.rows]


def test_the_hand_made_table() -> None:
    """Sums 28, 22, 21, 20: a-b differ by 6 (mean 0.857), a-c by 7 (1.0), a-d by 8 (1.143), b-c 1, b-d 2, c-d 1.

    At 7: a over c and a over d; four possible pairs are closer. At 6 also a over b; at 8 only a over d.
    """
    assert _couples(make_pairs([_speech(*FOUR)])) == [("a", "d", 8, "gap"), ("a", "c", 7, "gap")]
    assert make_pairs([_speech(*FOUR)]).counts.below == 4
    at_six = make_pairs([_speech(*FOUR)], PairSettings(min_gap=6))
    assert [couple[:3] for couple in _couples(at_six)] == [("a", "d", 8), ("a", "c", 7), ("a", "b", 6)]
    assert [couple[:2] for couple in _couples(make_pairs([_speech(*FOUR)], PairSettings(min_gap=8)))] == [("a", "d")]


def test_the_row() -> None:
    row = make_pairs([_speech(*FOUR, split="development")]).rows[1]
    assert row == {
        "id": "r1/1",
        "ID": "r1",
        "prefID": 1,
        "prompt": "I cannot sleep, says r1.",
        "chosen": "It hurts.",
        "rejected": "What happened?",
        "chosen_model": "model a",
        "rejected_model": "model c",
        "chosen_ratings": _ratings(4, 4, 4, 4, 4, 4, 4),
        "rejected_ratings": _ratings(3, 3, 3, 3, 3, 3, 3),
        "gap": 7,
        "topic": "sleep",
        "split": "development",
        "kind": "gap",
        "disagree": [],
        "noise": None,
    }
    assert PreferencePair.from_row(row) == PreferencePair("r1/1", row["prompt"], "It hurts.", "What happened?")


def test_a_test_speech_gives_best_against_worst_and_apart_the_close_pairs() -> None:
    """a-d (8) is the extreme; b-d (2), a-b (6), b-c, c-d (1) are close; a-c (7) is neither, and counted.

    d fails the gate (safety 2) and may be rejected only, so c-d stands and d over nobody.
    """
    made = make_pairs([_speech(*FOUR, split="test")])
    assert _couples(made) == [
        ("a", "d", 8, "extreme"),
        ("a", "b", 6, "close"),
        ("b", "d", 2, "close"),
        ("b", "c", 1, "close"),
        ("c", "d", 1, "close"),
    ]
    assert (made.counts.between, made.counts.pairs["test", "close"]) == (1, 4)


def test_ties_make_no_pair() -> None:
    """Equal sums by different ratings, 21 and 21, in every split."""
    tied = (_response("a", 5, 1, 3, 3, 3, 3, 3), _response("b", 3, 3, 3, 3, 3, 3, 3))
    for split in ("train", "test"):
        made = make_pairs([_speech(*tied, split=split)], PairSettings(min_gap=1))
        assert (made.rows, made.counts.ties, made.counts.unpaired) == ((), 1, 1)


def test_equally_good_test_responses_are_drawn_by_seed() -> None:
    twins = (_response("a", 5, 5, 5, 5, 5, 5, 5), _response("b", *[5] * 7), _response("c", *[3] * 7))
    best = {_couples(make_pairs([_speech(*twins, split="test")], seed=seed))[0][0] for seed in range(20)}
    assert best == {"a", "b"}
    assert {pair for seed in range(5) for pair in _couples(make_pairs([_speech(*twins, split="test")]))} == {
        _couples(make_pairs([_speech(*twins, split="test")]))[0]
    }


@pytest.mark.parametrize(
    ("better", "expected"),
    [
        (_response("a", 5, 5, 5, 3, 5, 5, 5), True),
        (_response("a", 5, 5, 5, 2, 5, 5, 5), False),
        (_response("a", 5, 5, 5, 5, 5, 5, 5, gate="failed"), False),
        (_response("a", 5, 5, 5, 5, 5, 5, 5, gate="unknown"), False),
        (_response("a", 5, 5, 5, 2, 5, 5, 5, gate="passed"), False),
        (_response("a", 5, 5, 5, 5, 5, 5, 5, gate="passed"), True),
    ],
)
def test_the_gate(better: dict[str, Any], expected: bool) -> None:
    """A failed or an unknown gate is never chosen, whatever the sum; a safety rating below 3 fails by itself."""
    speech = _speech(better, _response("b", 1, 1, 1, 1, 1, 1, 1))
    made = make_pairs([speech])
    assert bool(made.rows) is expected
    assert made.counts.gated == (not expected)
    assert len(make_pairs([speech], PairSettings(gate=False)).rows) == 1


def test_a_safer_response_is_not_rejected_with_the_gate() -> None:
    """35 - 2 = 33 against 7 + 4 = 11: safety 3 against 5. Without the gate the pair stands, and is counted."""
    speech = _speech(_response("a", 5, 5, 5, 3, 5, 5, 5), _response("b", 1, 1, 1, 5, 1, 1, 1))
    gated, free = make_pairs([speech]), make_pairs([speech], PairSettings(gate=False))
    assert (len(gated.rows), gated.counts.inverted) == (0, 1)
    assert (len(free.rows), free.counts.inverted, free.rows[0]["disagree"]) == (1, 1, ["safety"])


@dataclass(frozen=True)
class _Verdict:
    passed: bool
    faults: tuple[str, ...] = ()


def test_a_second_gate_is_asked_with_speech_and_response() -> None:
    """The best response fails it: of the others only b against d would do, and they differ by 2."""
    asked = []

    def gate(speech: str, text: str) -> _Verdict:
        asked.append((speech, text))
        return _Verdict(text != TEXTS["a"], ("misses_risk",) if text == TEXTS["a"] else ())

    made = make_pairs([_speech(*FOUR)], gate=gate)
    assert made.rows == ()
    assert (made.counts.gated, dict(made.counts.faults)) == (3, {"misses_risk": 1})
    assert asked == [("I cannot sleep, says r1.", TEXTS[name]) for name in "abcd"]


def test_the_gate_of_the_safety_floor_fits() -> None:
    risky = {**_speech(*FOUR), "speech": "I want to kill myself tonight. I have the pills here."}
    made = make_pairs([risky], gate=reply_gate)
    assert made.rows == ()
    assert made.counts.gate["passed"] == 0
    assert sum(made.counts.faults.values()) >= 4


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "clarity: no rating"),
        (0, "clarity: outside 1 to 5"),
        (6, "clarity: outside 1 to 5"),
        (-4, "clarity: outside 1 to 5"),
        (10, "clarity: outside 1 to 5"),
        (4.5, "clarity: not a whole number"),
        (True, "clarity: not a number"),
        ("4", "clarity: not a number"),
        ([4, 5], "clarity: not a number"),
        (float("nan"), "clarity: not a number"),
        (float("inf"), "clarity: not a number"),
    ],
)
def test_an_impossible_rating_is_no_number(value: Any, reason: str) -> None:
    bad = _response("b", 1, 1, value, 1, 1, 1, 1)
    made = make_pairs([_speech(_response("a", *[5] * 7), bad, _response("c", *[3] * 7))])
    assert _couples(made) == [("a", "c", 14, "gap")]
    assert dict(made.counts.unusable) == {reason: 1}


def test_missing_keys_texts_and_ratings() -> None:
    absent = _response("b", *[1] * 7)
    del absent["ratings"]["staging"]
    rows = [
        _speech(_response("a", *[5] * 7), absent, _response("c", *[1] * 7, text="  "), {**FOUR[3], "ratings": None})
    ]
    made = make_pairs(rows)
    assert made.rows == ()
    assert dict(made.counts.unusable) == {"staging: no rating": 1, "no text": 1, "not rated": 1}
    assert (made.counts.alone, made.counts.responses) == (1, 4)


def test_numbers_of_parquet_are_whole() -> None:
    """A column with a gap holds 4.0 for 4."""
    made = make_pairs([_speech(_response("a", *[5.0] * 7), _response("b", *[4.0] * 7))])
    assert (made.rows[0]["gap"], type(made.rows[0]["gap"])) == (7, int)


def test_expected_ratings_compare_sums_of_fractions() -> None:
    better, worse = _response("a", *[4.5] * 7), _response("b", 3.5, 3.5, 3.5, 3.5, 3.5, 3.5, 3.75)
    assert make_pairs([_speech(better, worse)]).counts.unusable.total() == 2
    settings = PairSettings(expected=True)
    assert make_pairs([_speech(better, worse)], settings).counts.below == 1
    worse["ratings"]["staging"] = 3.25
    assert make_pairs([_speech(better, worse)], settings).rows[0]["gap"] == 7.25


def test_label_noise_from_repeats() -> None:
    """Repeats sum to 20, 24 and to 21, 15: of the four couples 21 > 20 flips: a quarter. A broken one is left out."""
    better = _response("a", *[4] * 7, repeats=[_ratings(2, 3, 3, 3, 3, 3, 3), _ratings(3, 3, 3, 3, 4, 4, 4)])
    worse = _response("b", *[3] * 7, repeats=[_ratings(*[3] * 7), _ratings(3, 2, 2, 2, 2, 2, 2), _ratings(9, *[1] * 6)])
    assert make_pairs([_speech(better, worse)]).rows[0]["noise"] == 0.25
    assert flip_probability([3, 3], [3, 4]) == 0.75
    assert flip_probability([], [3]) is None


def test_equal_texts_make_no_pair() -> None:
    twin = {**_response("b", *[1] * 7), "text": TEXTS["a"]}
    made = make_pairs([_speech(_response("a", *[5] * 7), twin)])
    assert (made.rows, made.counts.same_text) == ((), 1)


def test_splits_come_from_the_row_or_from_the_text() -> None:
    def by_text(text: str) -> Any:
        return split_of(text, seed=3, development=0.3, test=0.3)

    rows = [_speech(*FOUR, split=None, name=f"r{number}") for number in range(40)]
    made = make_pairs(rows, split=by_text)
    assert {row["split"] for row in made.rows} == {"train", "development", "test"}
    assert all(row["split"] == by_text(row["prompt"].upper().replace(" ", "")) for row in made.rows)
    with pytest.raises(UserError, match="has no 'split'"):
        make_pairs(rows)
    with pytest.raises(UserError, match="unknown split"):
        make_pairs([_speech(*FOUR, split="validation")])


def test_one_speech_on_two_sides_is_refused() -> None:
    again = {**_speech(*FOUR, split="test", name="r2"), "speech": "I CANNOT sleep - says R1!"}
    with pytest.raises(UserError, match=r"'r1' \(train\) and 'r2' \(test\) are one"):
        make_pairs([_speech(*FOUR), again])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([_speech(*FOUR), _speech(*FOUR)], "a speech id occurs more than once"),
        ([_speech(FOUR[0], FOUR[0])], "a response id occurs more than once"),
        ([_speech(FOUR[0], {**FOUR[1], "model": "model a"})], "one model wrote two responses"),
        ([_speech(FOUR[0], {**FOUR[1], "model": None})], "does not say which model"),
        ([_speech(FOUR[0], {**FOUR[1], "gate": "maybe"})], "unknown gate"),
        ([_speech(FOUR[0], {**FOUR[1], "ratings": [1, 2]})], "must be a mapping"),
        ([_speech(FOUR[0], {**FOUR[1], "repeats": 3})], "must be a list of ratings"),
        ([_speech(FOUR[0], {**FOUR[1], "text": 3})], "a response must be text"),
        ([{**_speech(), "responses": "none"}], "must be a list of rated responses"),
        ([{**_speech(*FOUR), "speech": " "}], "has no text"),
        ([{"speech": "a", "responses": []}], "no field 'id'"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_pairs(rows)


def test_any_models_on_request() -> None:
    rows = [_speech(FOUR[0], {**FOUR[2], "model": None})]
    assert make_pairs(rows, PairSettings(distinct_models=False)).rows[0]["rejected_model"] == ""


RATING = st.one_of(st.integers(1, 5), st.sampled_from([None, 0, 6, 2.5, "3"]))
GATE = st.sampled_from([None, "passed", "failed", "unknown"])
RESPONSES = st.lists(st.tuples(st.lists(st.integers(1, 5), min_size=7, max_size=7), GATE), min_size=1, max_size=4)
SPEECHES = st.lists(st.tuples(RESPONSES, st.sampled_from(["train", "development", "test"])), max_size=4)


def _table(drawn: Any) -> list[dict[str, Any]]:
    return [
        _speech(
            *(_response("abcd"[at], *values, gate=gate) for at, (values, gate) in enumerate(of)),
            split=split,
            name=f"s{n}",
        )
        for n, (of, split) in enumerate(drawn)
    ]


@given(SPEECHES, st.booleans(), st.integers(1, 12))
def test_what_holds_of_every_pair(drawn: Any, gate: bool, min_gap: int) -> None:
    """The chosen sum is higher; gaps are kept; with the gate nothing unsafe is chosen and no pair inverts safety."""
    table = _table(drawn)
    gates = {(row["id"], one["model"]): one["gate"] for row in table for one in row["responses"]}
    made = make_pairs(table, PairSettings(gate=gate, min_gap=min_gap))
    for row in made.rows:
        chosen, rejected = row["chosen_ratings"], row["rejected_ratings"]
        assert sum(chosen.values()) - sum(rejected.values()) == row["gap"] > 0
        assert (row["gap"] >= min_gap) or row["split"] == "test"
        assert row["disagree"] == [key for key in PRINCIPLES if rejected[key] > chosen[key]]
        if gate:
            assert gates[row["ID"], row["chosen_model"]] in (None, "passed")
            assert chosen["safety"] >= max(3, rejected["safety"])
    extremes = [row["ID"] for row in made.rows if row["kind"] == "extreme"]
    assert len(set(extremes)) == len(extremes)
    counts = made.counts.to_row()
    assert sum(sum(kinds.values()) for kinds in counts["pairs"].values()) == len(made.rows)
    possible = sum(len(of) * (len(of) - 1) // 2 for of, _ in drawn)
    inverted = made.counts.inverted if gate else 0
    assert possible == len(made.rows) + inverted + sum(
        counts["possible_pairs"][name] for name in ("ties", "below", "between", "gated", "same_text")
    )


@given(SPEECHES, st.randoms(use_true_random=False), st.integers(0, 3))
def test_the_order_of_the_table_changes_nothing(drawn: Any, random: Any, seed: int) -> None:
    table = _table(drawn)
    shuffled = [{**row, "responses": random.sample(row["responses"], len(row["responses"]))} for row in table]
    random.shuffle(shuffled)
    first, second = (sorted(make_pairs(rows, seed=seed).rows, key=lambda row: row["id"]) for rows in (table, shuffled))
    assert first == second


@given(st.lists(st.lists(RATING, min_size=7, max_size=7), min_size=2, max_size=4))
def test_only_whole_ratings_of_the_scale_take_part(drawn: Any) -> None:
    table = [_speech(*(_response("abcd"[at], *values) for at, values in enumerate(drawn)))]
    for row in make_pairs(table, PairSettings(min_gap=1, gate=False)).rows:
        values = [*row["chosen_ratings"].values(), *row["rejected_ratings"].values()]
        assert all(type(value) is int and 1 <= value <= 5 for value in values)
