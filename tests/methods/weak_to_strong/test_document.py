"""The report says what the results say: tones, unique numbers, nothing where there is nothing, no markup of models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from strop.methods import RECIPES
from strop.methods.weak_to_strong.config import WeakToStrongConfig
from strop.methods.weak_to_strong.document import compose, document, label
from strop.methods.weak_to_strong.results import Experiment, Iteration
from strop.records.document import Document, Selection
from strop.report import write_report
from strop.runs import Artifact
from strop.runs.configuration import load_recipe
from strop.runs.content import hash_tree

HOSTILE = '<script>alert(1)</script> & "quoted" \u202e\x00#### 4'


def config(*sets: str) -> WeakToStrongConfig:
    loaded = load_recipe("weak_to_strong/demo", sets=sets, recipes=RECIPES).config
    assert isinstance(loaded, WeakToStrongConfig)
    return loaded


def number(value: float | None, n: int = 200) -> dict[str, Any]:
    if value is None:
        return {"value": None, "low": None, "high": None, "n": n}
    return {"value": value, "low": value - 0.05, "high": value + 0.05, "n": n}


def arm(value: float, not_graded: int = 0) -> dict[str, Any]:
    return {**number(value), "per_seed": [value], "not_graded": not_graded}


def claim(verdict: str, value: float) -> dict[str, Any]:
    sides = {"left": "naive", "right": "floor"}
    return {"claim": "naive fine-tuning is above the weak floor", **sides, **number(value), "verdict": verdict}


def results() -> dict[str, Any]:
    """A small run: floor 30 %, DPO 60 %, ceiling 90 %, so one half of the gap."""
    return {
        "seeds": [7],
        "final": "dpo",
        "items": 200,
        "confidence": 0.95,
        "most_frequent_answer": {"value": 0.04, "per_seed": [0.04], "n": 200},
        "arms": {
            "floor": arm(0.3),
            "naive": arm(0.4),
            "iteration1_hybrid": arm(0.5),
            "dpo": arm(0.6),
            "ceiling": arm(0.9),
        },
        "gap_recovered": {
            "naive": {**number(1 / 6), "verdict": "recovers", "needed": None, "per_seed": [1 / 6]},
            "iteration1_hybrid": {**number(1 / 3), "verdict": "recovers", "needed": None, "per_seed": [1 / 3]},
            "dpo": {**number(0.5), "verdict": "recovers", "needed": None, "per_seed": [0.5]},
        },
        "claims": [claim("shown", 0.1), claim("refuted", -0.1), claim("cannot tell at this n", 0.0)],
        "iterations": [
            {
                "number": 1,
                "offered": 20,
                "kept": 10,
                "weak": number(0.3),
                "icl": number(0.5),
                "precision": number(0.8),
                "lift": number(0.5),
                "recall": 0.9,
            }
        ],
        "pairs": {
            "graded": 12,
            "chosen_correct": {"value": 0.9, "low": 0.7, "high": 1.0, "n": 12},
            "rejected_correct": {"value": None, "low": None, "high": None, "n": 0},
        },
        "pass_at": [
            {"k": 10, "unbiased": 0.7, "low": 0.6, "high": 0.8, "any_of_first": 0.7, "n": 200, "not_graded": 0}
        ],
    }


def artifact(folder: Path, **files: str) -> Artifact:
    folder.mkdir()
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return Artifact("results", folder, hash_tree(folder))


def experiment(folder: Path, text: str = "1 + 3 = 4\n#### 4", *, rows: int = 2) -> Experiment:
    told = [
        {
            "id": identifier,
            "prompt": text,
            "kept": identifier == 0,
            "weak": text,
            "icl": text,
            "weak_correct": None,
            "icl_correct": True,
        }
        for identifier in range(rows)
    ]
    labels = artifact(folder / "labels", labels__jsonl="".join(json.dumps(row) + "\n" for row in told))
    return Experiment(7, {}, (Iteration(1, labels, labels),), None, None)


@pytest.fixture
def composed(tmp_path: Path) -> Document:
    return compose(config(), results(), artifact(tmp_path / "results"), [experiment(tmp_path)])


def told(tmp_path: Path, changed: dict[str, Any], *sets: str) -> Document:
    return compose(config(*sets), changed, artifact(tmp_path / "results"), [experiment(tmp_path)])


class TestVerdicts:
    def test_tones_follow_the_verdicts(self, composed: Document) -> None:
        assert [verdict.tone for verdict in composed.verdicts] == ["good", "good", "bad", "unclear"]

    def test_the_first_sentence_is_the_result(self, composed: Document) -> None:
        sentence = composed.verdicts[0].text
        assert "30.0% -> 60.0%, where gold labels reach 90.0%" in sentence
        assert "recovers 0.50 of the gap (0.45 to 0.55)." in sentence

    def test_points_carry_their_sign(self, composed: Document) -> None:
        assert composed.verdicts[2].text.endswith("refuted, -10.0 points (-15.0 to -5.0).")

    def test_no_gap_is_no_number(self, tmp_path: Path) -> None:
        changed = results()
        needed = {"items": 900, "seeds": None}
        changed["gap_recovered"]["dpo"] = {
            **number(None),
            "verdict": "cannot tell at this n",
            "needed": needed,
            "per_seed": [None],
        }
        first = told(tmp_path, changed).verdicts[0]
        assert first.tone == "unclear"
        assert first.text.endswith("Gap recovered: cannot tell at this n; about 900 items would settle it.")


class TestNumbers:
    def test_names_are_unique_and_lead_to_the_results(self, composed: Document) -> None:
        names = [entry.name for entry in composed.numbers]
        assert len(names) == len(set(names))
        assert {(entry.artifact, entry.file) for entry in composed.numbers} == {("results", "results.json")}

    def test_values_are_those_of_the_results(self, composed: Document) -> None:
        found = {entry.name: entry.value for entry in composed.numbers}
        assert (found["gap_recovered.dpo"], found["accuracy.dpo"], found["pass_at_10"]) == (0.5, 0.6, 0.7)
        assert (found["iteration1.precision"], found["most_frequent_answer"]) == (0.8, 0.04)

    def test_headlines_are_the_result_and_its_two_ends(self, composed: Document) -> None:
        headlines = {entry.name for entry in composed.numbers if entry.headline}
        assert headlines == {"gap_recovered.dpo", "accuracy.floor", "accuracy.dpo", "accuracy.ceiling"}


class TestMissing:
    def test_without_a_ceiling(self, tmp_path: Path) -> None:
        changed = results()
        del changed["arms"]["ceiling"]
        changed["gap_recovered"] = {}
        made = told(tmp_path, changed)
        assert [verdict.tone for verdict in made.verdicts] == ["good", "bad", "unclear"]
        assert not any(entry.name.startswith("gap_recovered") for entry in made.numbers)
        assert write_report(made, tmp_path).is_file()

    def test_without_gold_for_train_2(self, tmp_path: Path) -> None:
        changed = results()
        changed["iterations"] = [{"number": 1, "offered": 20, "kept": 10}]
        empty = experiment(tmp_path, rows=0)
        made = compose(config(), changed, artifact(tmp_path / "results"), [empty])
        assert not any(isinstance(figure, Selection) for figure in made.figures)
        assert not any(entry.name.startswith("iteration1.") for entry in made.numbers)
        assert made.samples == ()
        assert write_report(made, tmp_path).is_file()

    def test_without_stage_two(self, tmp_path: Path) -> None:
        changed = results()
        del changed["arms"]["dpo"], changed["gap_recovered"]["dpo"]
        changed |= {"final": "iteration1_hybrid", "pairs": None, "pass_at": []}
        made = told(tmp_path, changed, "stage_two=null")
        assert made.verdicts[0].text.startswith("Stage I, iteration 1: hybrid reaches")
        assert [table.title for table in made.tables] == ["Arms"]


class TestWarnings:
    def test_one_seed_and_shared_bases_are_said(self, composed: Document) -> None:
        assert any(warning.startswith("One seed:") for warning in composed.warnings)
        assert any("shipped bases" in warning for warning in composed.warnings)
        assert not any("graded" in warning for warning in composed.warnings)

    def test_answers_that_were_not_graded_are_counted(self, tmp_path: Path) -> None:
        changed = results()
        changed["arms"]["naive"]["not_graded"], changed["arms"]["dpo"]["not_graded"] = 2, 1
        assert any(warning.startswith("3 answers could not be graded") for warning in told(tmp_path, changed).warnings)

    def test_development_and_gold_demonstrations_are_said(self, tmp_path: Path) -> None:
        sets = ("data.population=development", "demonstrations.choice=first_correct")
        warnings = told(tmp_path, results(), *sets).warnings
        assert any(warning.startswith("Development stories") for warning in warnings)
        assert any("chosen with gold" in warning for warning in warnings)


def test_samples_show_both_sides_and_what_became_of_them(composed: Document) -> None:
    kept, dropped = composed.samples
    assert (kept.samples[0].identifier, dropped.samples[0].identifier) == ("0", "1")
    assert [answer.correct for answer in kept.samples[0].answers] == [None, True]


def test_markup_in_a_models_text_is_shown_and_never_run(tmp_path: Path) -> None:
    made = compose(config(), results(), artifact(tmp_path / "results"), [experiment(tmp_path, HOSTILE)])
    page = write_report(made, tmp_path).read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "\x00" not in page
    assert "\u202e" not in page
    json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))


def test_the_report_is_composed_from_the_file(tmp_path: Path) -> None:
    folder = artifact(tmp_path / "results", results__json=json.dumps(results()))
    made = document(config(), folder, [experiment(tmp_path)])
    assert made.title == "stories-weak teaches stories-strong"
    assert {fact.name: fact.value for fact in made.provenance}["results"] == folder.digest


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("floor", "weak floor"),
        ("iteration2_icl", "Stage I, iteration 2: icl"),
        ("orpo", "Stage II: ORPO"),
    ],
)
def test_labels(name: str, shown: str) -> None:
    assert label(name) == shown
