"""The data card: no number that was typed, nothing hidden, and text from outside that can do no harm."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from strop.errors import UserError
from strop.methods.preference.card import Provenance, Source, card_facts, render_card, with_certificate
from strop.methods.preference.pairing import PairSettings, make_pairs
from strop.methods.preference.ratings import PRINCIPLES

NUMBER = re.compile(r"\d+(?:\.\d+)?")
PLAIN = Provenance("Trial", "strop preference pairs rated.jsonl --out pairs")
FULL = Provenance(
    "Trial of two",
    "strop preference pairs rated.jsonl --out pairs --seed 31",
    judge="openai:judge-77 (revision 8f3a)",
    certificate="qualified on 212 pairs, agrees on 81.5% (75.0% to 87.1%), 2026-03-19",
    rubric="principles-v1 (version 1, 0c6f99)",
    licence="cc-by-nc-4.0",
    sources=(Source("counsel-chat", "MIT"), Source("own", "")),
)


def _facts(
    provenance: Provenance, *, count: int, levels: tuple[int, ...], seed: int = 31, repeats: int = 0, **settings: Any
) -> dict[str, Any]:
    def response(speech: int, at: int, level: int) -> dict[str, Any]:
        ratings = {key: min(5, level + (speech + place + at) % 2) for place, key in enumerate(PRINCIPLES)}
        again = [
            {key: max(1, min(5, level + (speech + turn) % 3 - 1)) for key in PRINCIPLES} for turn in range(repeats)
        ]
        text = f"response {'word ' * ((speech * at) % 5)}{at}"
        return {"id": f"r{at}", "text": text, "model": f"model-{at}", "ratings": ratings, "repeats": again}

    table = [
        {
            "id": f"s{n}",
            "speech": f"speech {n}",
            "topic": ("loss", "work", "")[n % 3],
            "split": ("train", "train", "development", "test")[n % 4],
            "responses": [response(n, at, level) for at, level in enumerate(levels)],
        }
        for n in range(count)
    ]
    rule = PairSettings(**settings)
    made = make_pairs(table, rule, seed=seed)
    return card_facts(made.rows, made.counts.to_row(), rule, provenance, seed=seed, second_check=count % 2 == 0)


def _numbers(value: Any) -> set[str]:
    """Every number that stands in the facts, or in a text of theirs."""
    if isinstance(value, Mapping):
        return {found for each in (*value.keys(), *value.values()) for found in _numbers(each)}
    if isinstance(value, (list, tuple)):
        return {found for each in value for found in _numbers(each)}
    return set(NUMBER.findall(str(value)))


CASES = [
    _facts(PLAIN, count=23, levels=(5, 3, 2, 1)),
    _facts(FULL, count=40, levels=(4, 4, 1), repeats=2, min_gap=6, gate=False, passes_from=2),
]


@pytest.mark.parametrize("facts", CASES)
def test_no_number_of_the_card_is_typed_by_hand(facts: dict[str, Any]) -> None:
    card = render_card(facts)
    assert len(NUMBER.findall(card)) > 60
    assert set(NUMBER.findall(card)) - _numbers(facts) == set()


def test_the_template_holds_no_digit_outside_its_expressions() -> None:
    template = (Path(__file__).parents[3] / "src/strop/methods/preference/data_card.md").read_text(encoding="utf-8")
    assert not re.search(r"\d", re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", template))


def test_counts_are_those_of_the_rows() -> None:
    """23 speeches: 12 train, 6 development, 5 test. Levels 5, 3, 2, 1 with half a point between neighbours."""
    facts = CASES[0]
    table = {one["name"]: one for one in facts["sets"]}
    assert facts["counts"]["speeches"]["read"] == 23
    assert table["test"]["pairs"] == table["test"]["speeches"] == 5
    assert sum(one["pairs"] for one in facts["sets"]) == facts["pairs"]
    for one in facts["principles"]:
        assert one["higher"] + one["equal"] + one["lower"] == facts["pairs"]
    assert sum(one["chosen"] for one in facts["models"]) == facts["pairs"]
    assert {one["name"] for one in facts["topics"]} == {"loss", "work", "not stated"}


def test_front_matter_is_that_of_the_hub() -> None:
    head = render_card(CASES[1]).split("---\n")[1]
    assert yaml.safe_load(head) == {
        "pretty_name": "Trial of two",
        "language": ["en"],
        "license": "cc-by-nc-4.0",
        "size_categories": ["n<1K"],
        "tags": ["preference", "counselling", "synthetic"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": "train", "path": "published/train.parquet"},
                    {"split": "development", "path": "published/development.parquet"},
                    {"split": "test", "path": "published/test.parquet"},
                    {"split": "close", "path": "published/test_close.parquet"},
                ],
            }
        ],
    }


@pytest.mark.parametrize(
    ("case", "said"),
    [
        (0, "Judge: **not stated**"),
        (0, "certificate of agreement with people: **none**"),
        (0, "Label noise: **unknown**"),
        (0, "**Not stated.** Whoever passes this data set on"),
        (0, "The gate was on."),
        (0, "therapy, gives no diagnosis"),
        (1, "qualified on 212 pairs"),
        (1, "counsel-chat: MIT"),
        (1, "own: licence not stated"),
        (1, "**The gate was off**"),
        (1, "of the labels would turn"),
    ],
)
def test_what_is_missing_is_said(case: int, said: str) -> None:
    assert said in render_card(CASES[case])


def test_names_from_outside_stay_in_their_cell() -> None:
    evil = Provenance('x"\n---\nlicense: mit', "strop\n\n# Approved", judge="<script>|a|\n# b")
    facts = _facts(evil, count=8, levels=(5, 1))
    card = render_card({**facts, "models": [{"name": "a | b\n| c", "chosen": 1, "rejected": 1}]})
    assert yaml.safe_load(card.split("\n---\n")[0].removeprefix("---"))["pretty_name"] == 'x" --- license: mit'
    assert "<script>" not in card
    assert "\n# Approved" not in card
    assert "a \\| b \\| c" in card


def test_a_certificate_is_told_as_it_is(tmp_path: Path) -> None:
    from strop.judging.qualifying import certificate as sealed

    made = sealed.Certificate(
        judge=sealed.JudgeIdentity(name="judge", revision="0123456789abcdef"),
        rubric=sealed.RubricIdentity(name="principles-v1", version="1", hash="f" * 64),
        data=sealed.DataIdentity(name="pairs", hash="a", rows=90, groups=80),
        thresholds=sealed.ThresholdsIdentity(name="pairs-v1", version=1, hash="b"),
        judged=88,
        decision="qualified",
        verdict="good",
        figures={"accuracy": sealed.Figure(estimate=0.8125, low=0.7, high=0.9, n=88, level=0.95)},
        rules=(),
        strop_version="0",
        date="2026-11-02",
        command="strop judge qualify",
    )
    made.model_copy(update={"seal": made.expected_seal()}).save(tmp_path / "certificate.json")
    told = with_certificate(PLAIN, tmp_path / "certificate.json")
    assert told.certificate == "qualified on 88 pairs, agrees on 81.2% (70.0% to 90.0%), 2026-11-02"
    assert (told.judge, told.rubric) == ("judge (revision 0123456789ab)", "principles-v1 (version 1, ffffffffffff)")
    with pytest.raises(UserError, match="of another rubric"):
        with_certificate(replace(PLAIN, rubric="mine (version 1, 000000000000)"), tmp_path / "certificate.json")
