"""Every number of `results.json` against hand-worked values; what was not graded is left out, never a wrong answer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from strop.evaluation.statistics import Interval
from strop.methods.weak_to_strong.config import Evaluation
from strop.methods.weak_to_strong.results import (
    EQUAL_WITHIN,
    Experiment,
    Iteration,
    _Bootstrap,
    _judge,
    _recovered,
    bootstrap_lift,
    claims,
    summarise,
)
from strop.runs import Artifact, Config, Run
from strop.runs.content import hash_tree

Outcomes = NDArray[np.float64]
Flags = Sequence[bool | None]
Make = Callable[..., Artifact]

NAN = math.nan
EVALUATION = Evaluation(resamples=200, pass_at=(1, 2))
BOOTSTRAP = _Bootstrap(EVALUATION, same_items=False)


class NoSettings(Config):
    """A run without settings of its own."""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with Run.open(tmp_path / "run", config=NoSettings(), origins={}, seed=0, workspace=tmp_path, quiet=True) as opened:
        yield opened


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write tables into a folder and return it as an artifact."""
    counter = iter(range(1000))

    def artifact(**tables: Sequence[Mapping[str, Any]]) -> Artifact:
        folder = tmp_path / f"made-{next(counter)}"
        folder.mkdir()
        for name, rows in tables.items():
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return Artifact(folder.name, folder, hash_tree(folder))

    return artifact


def grades(flags: Flags, gold: Sequence[str] | None = None) -> list[dict[str, Any]]:
    golds = gold or ["1"] * len(flags)
    return [
        {"id": number, "pred": "", "gold": known, "correct": flag}
        for number, (flag, known) in enumerate(zip(flags, golds, strict=True))
    ]


def labels(kept: Sequence[bool], weak: Flags, icl: Flags) -> list[dict[str, Any]]:
    return [
        {"id": number, "prompt": "", "kept": k, "weak": "", "icl": "", "weak_correct": w, "icl_correct": i}
        for number, (k, w, i) in enumerate(zip(kept, weak, icl, strict=True))
    ]


def decisions(kept: Sequence[bool]) -> list[dict[str, Any]]:
    return [{"id": number, "kept": flag} for number, flag in enumerate(kept)]


class TestRecovered:
    @pytest.mark.parametrize(
        ("floor", "model", "ceiling", "expected"),
        [
            ([0, 0, 0, 1], [0, 0, 1, 1], [1, 1, 1, 1], 1 / 3),  # (0.5 - 0.25) / (1 - 0.25)
            ([0, 1], [0, 1], [1, 1], 0.0),
            ([0, 1], [0, 0], [1, 1], -1.0),
            ([0, 1], [1, 1], [0, 1], None),  # no gap, no share of it
            ([0, NAN], [1, NAN], [1, 1], 1.0),
            ([NAN, NAN], [1, 1], [1, 1], None),
        ],
    )
    def test_hand_worked(
        self, floor: list[float], model: list[float], ceiling: list[float], expected: float | None
    ) -> None:
        found = _recovered(*(np.array(row, dtype=float) for row in (floor, model, ceiling)))
        assert found == (None if expected is None else pytest.approx(expected))


class TestJudge:
    @pytest.mark.parametrize(
        ("low", "high", "order", "verdict"),
        [
            (0.001, 0.1, ">", "shown"),
            (0.0, 0.1, ">", "cannot tell at this n"),
            (-0.1, 0.1, ">", "cannot tell at this n"),
            (-0.1, 0.0, ">", "cannot tell at this n"),
            (-0.1, -0.001, ">", "refuted"),
            (-0.019, 0.1, ">=", "shown"),
            (-EQUAL_WITHIN, 0.1, ">=", "cannot tell at this n"),
            (-0.3, -0.001, ">=", "refuted"),
            (-0.015, -0.005, ">=", "shown"),  # surely below, but within what counts as equal
        ],
    )
    def test_boundaries(self, low: float, high: float, order: str, verdict: str) -> None:
        assert _judge(Interval((low + high) / 2, low, high, 100), order) == verdict

    @given(st.floats(-1, 1), st.floats(0, 1), st.sampled_from([">", ">="]))
    def test_an_interval_around_the_bound_never_decides(self, centre: float, half: float, order: str) -> None:
        low, high = centre - half, centre + half
        bound = 0.0 if order == ">" else -EQUAL_WITHIN
        if low <= bound and high >= 0:
            assert _judge(Interval(centre, low, high, 10), order) == "cannot tell at this n"


class TestClaims:
    @staticmethod
    def arms(**shares: float) -> dict[str, Outcomes]:
        """Arms that have the first share of 200 items right, in one seed."""
        return {arm: (np.arange(200) < 200 * share).astype(float)[None] for arm, share in shares.items()}

    def test_the_papers_order_is_shown(self) -> None:
        outcomes = self.arms(floor=0.2, naive=0.4, shuffled=0.1, iteration2_hybrid=0.6, dpo=0.8, ceiling=0.9)
        rows = claims(outcomes, BOOTSTRAP, final="dpo", iterations=2)
        assert [row["verdict"] for row in rows] == ["shown"] * 6
        assert [round(row["value"], 6) for row in rows] == [0.2, 0.2, 0.4, 0.3, 0.2, 0.3]
        assert all(row["low"] < row["value"] < row["high"] and row["n"] == 200 for row in rows)

    def test_the_opposite_order_is_refuted(self) -> None:
        outcomes = self.arms(floor=0.9, naive=0.7, shuffled=0.8, iteration1_hybrid=0.5, dpo=0.3, ceiling=0.2)
        rows = claims(outcomes, BOOTSTRAP, final="dpo", iterations=1)
        assert [row["verdict"] for row in rows] == ["refuted"] * 6

    def test_missing_arms_make_no_claim(self) -> None:
        outcomes = self.arms(floor=0.2, iteration1_hybrid=0.6)
        rows = claims(outcomes, BOOTSTRAP, final="iteration1_hybrid", iterations=1)
        assert [(row["left"], row["right"]) for row in rows] == [("iteration1_hybrid", "floor")]

    def test_what_was_not_graded_is_left_out_of_both_arms(self) -> None:
        """The model has the two graded items right, the floor one of them; the third was not graded."""
        outcomes = {"floor": np.array([[1.0, 0.0, 1.0]]), "iteration1_hybrid": np.array([[1.0, 1.0, NAN]])}
        (row,) = claims(outcomes, BOOTSTRAP, final="iteration1_hybrid", iterations=1)
        assert (row["value"], row["n"]) == (0.5, 2)


class TestLift:
    def test_sign_and_size(self) -> None:
        """Of four labels two are right; the two kept are right: 1.0 - 0.5. Keeping the wrong ones: 0.0 - 0.5."""
        offered = np.array([[1.0, 1.0, 0.0, 0.0]] * 3)
        good = np.array([[1.0, 1.0, NAN, NAN]] * 3)
        bad = np.array([[NAN, NAN, 0.0, 0.0]] * 3)
        up, down = (bootstrap_lift(kept, offered, BOOTSTRAP) for kept in (good, bad))
        assert (up["value"], up["n"], down["value"]) == (0.5, 6, -0.5)
        assert 0 < up["low"] <= up["high"] <= 1
        assert -1 <= down["low"] <= down["high"] < 0

    def test_keeping_everything_lifts_nothing(self) -> None:
        offered = np.array([[1.0, 0.0, NAN, 1.0]])
        row = bootstrap_lift(offered, offered, BOOTSTRAP)
        assert (row["value"], row["low"], row["high"], row["n"]) == (0.0, 0.0, 0.0, 3)

    @pytest.mark.filterwarnings("error")
    def test_draws_without_a_kept_label_are_left_out(self) -> None:
        """One label of twelve is kept: a third of all draws holds none, and the interval stays a number."""
        offered = np.zeros((1, 12))
        offered[0, :6] = 1
        kept = np.full((1, 12), NAN)
        kept[0, 0] = 1
        row = bootstrap_lift(kept, offered, BOOTSTRAP)
        assert row["value"] == 0.5
        assert 0 < row["low"] <= row["value"] <= row["high"] <= 1

    def test_the_interval_covers_as_often_as_it_says(self) -> None:
        """Labels right with 0.5; right ones kept with 0.8, wrong ones with 0.4: precision 2/3, a true lift of 1/6.

        Of 120 experiments 114 are expected inside a 95 % interval; fewer than 104 (87 %) has probability below 0.001.
        """
        generator, inside = np.random.default_rng(5), 0
        for _ in range(120):
            offered = (generator.random((3, 100)) < 0.5).astype(float)
            kept = generator.random((3, 100)) < np.where(offered == 1, 0.8, 0.4)
            row = bootstrap_lift(np.where(kept, offered, NAN), offered, BOOTSTRAP)
            inside += row["low"] <= 1 / 6 <= row["high"]
        assert inside >= 104

    def test_the_same_questions_in_every_seed_are_drawn_together(self) -> None:
        """Ten seeds that repeat one outcome hold no more than one: the interval is as wide as with one seed."""
        generator = np.random.default_rng(0)
        offered = (generator.random((1, 60)) < 0.5).astype(float)
        kept = np.where(generator.random((1, 60)) < np.where(offered == 1, 0.8, 0.4), offered, NAN)
        shared = _Bootstrap(Evaluation(resamples=1000), same_items=True)
        one = bootstrap_lift(kept, offered, shared)
        ten = bootstrap_lift(kept.repeat(10, axis=0), offered.repeat(10, axis=0), shared)
        assert ten["value"] == pytest.approx(one["value"])
        assert ten["high"] - ten["low"] == pytest.approx(one["high"] - one["low"], rel=0.15)

    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=20))
    def test_the_estimate_is_the_difference_of_two_shares(self, rows: list[tuple[bool, bool]]) -> None:
        kept = [right for right, keep in rows if keep]
        if not kept:
            return
        offered = np.array([[float(right) for right, _ in rows]])
        chosen = np.array([[float(right) if keep else NAN for right, keep in rows]])
        found = bootstrap_lift(chosen, offered, BOOTSTRAP)["value"]
        assert found == pytest.approx(sum(kept) / len(kept) - float(offered.mean()))


def experiment(
    make: Make,
    *,
    seed: int = 1,
    arms: Mapping[str, Flags],
    gold: Sequence[str] | None = None,
    kept: Sequence[bool] = (True, False, True, False),
    labelled: Sequence[Mapping[str, Any]] | None = None,
    passes: Sequence[Flags] | None = None,
) -> Experiment:
    graded = labels(kept, [True, False, True, False], [True, True, True, True]) if labelled is None else labelled
    return Experiment(
        seed,
        {arm: make(grades=grades(flags, gold)) for arm, flags in arms.items()},
        (Iteration(1, make(decisions=decisions(kept)), make(labels=graded)),),
        make(sides=[{"id": 0, "chosen_correct": True, "rejected_correct": None}]),
        None if passes is None else make(passes=[{"id": i, "flags": flags} for i, flags in enumerate(passes)]),
    )


def summary(run: Run, *experiments: Experiment, final: str = "dpo", name: str = "results") -> dict[str, Any]:
    made = run.stage(summarise, list(experiments), settings=EVALUATION, final=final, same_items=False, name=name)
    found: dict[str, Any] = json.loads(made.path("results.json").read_text())
    return found


ARMS: dict[str, Flags] = {
    "floor": [True] * 5 + [False] * 15,
    "iteration1_hybrid": [True] * 10 + [False] * 10,
    "dpo": [True] * 15 + [False] * 5,
    "ceiling": [True] * 20,
}


class TestSummarise:
    def test_hand_worked(self, run: Run, make: Make) -> None:
        """Floor 5 of 20, Stage I 10, DPO 15, ceiling 20: Stage I recovers 5/15 of the gap, DPO 10/15.

        Gold is "1" twelve times and "2" eight times: always saying "1" is right in 12 of 20. Kept labels 2 of 2, all
        labels 2 of 4: a lift of one half, and both right labels are kept.
        """
        told = summary(run, experiment(make, arms=ARMS, gold=["1"] * 12 + ["2"] * 8))
        assert {arm: row["value"] for arm, row in told["arms"].items()} == {
            "floor": 0.25,
            "iteration1_hybrid": 0.5,
            "dpo": 0.75,
            "ceiling": 1.0,
        }
        assert told["arms"]["dpo"]["per_seed"] == [0.75]
        assert told["items"] == 20
        recovered = told["gap_recovered"]
        assert set(recovered) == {"iteration1_hybrid", "dpo"}
        assert recovered["iteration1_hybrid"]["value"] == pytest.approx(1 / 3)
        assert recovered["dpo"]["value"] == pytest.approx(2 / 3)
        assert recovered["dpo"]["verdict"] == "recovers"
        assert told["most_frequent_answer"] == {"value": 0.6, "per_seed": [0.6], "n": 20}
        (row,) = told["iterations"]
        assert (row["offered"], row["kept"], row["recall"]) == (4, 2, 1.0)
        assert (row["weak"]["value"], row["icl"]["value"], row["precision"]["value"]) == (0.5, 1.0, 1.0)
        assert row["lift"]["value"] == 0.5
        assert told["pairs"]["graded"] == 1
        assert told["pairs"]["chosen_correct"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 1}
        assert told["pairs"]["rejected_correct"] == {"value": None, "low": None, "high": None, "n": 0}
        assert told["pass_at"] == []

    def test_the_most_frequent_answer_is_each_seeds_own(self, run: Run, make: Make) -> None:
        """Seed 1: "7" in 15 of 20. Seed 2: "3" in 10 of 20. The mean is 0.625 over 40 items."""
        told = summary(
            run,
            experiment(make, seed=1, arms=ARMS, gold=["7"] * 15 + ["3"] * 5),
            experiment(make, seed=2, arms=ARMS, gold=["3"] * 10 + ["7"] * 9 + ["8"]),
        )
        assert told["most_frequent_answer"] == {"value": 0.625, "per_seed": [0.75, 0.5], "n": 40}
        assert told["seeds"] == [1, 2]

    def test_not_graded_is_counted_and_never_wrong(self, run: Run, make: Make) -> None:
        """DPO: 14 right, 5 wrong, one not graded: 14 of 19, not 14 of 20."""
        arms = ARMS | {"dpo": [None, *ARMS["dpo"][1:]]}
        told = summary(run, experiment(make, arms=arms))
        assert told["arms"]["dpo"]["value"] == pytest.approx(14 / 19)
        assert (told["arms"]["dpo"]["n"], told["arms"]["dpo"]["not_graded"]) == (19, 1)
        # Without the first item: floor 4, DPO 14 and ceiling 19 of 19.
        assert told["gap_recovered"]["dpo"]["value"] == pytest.approx(10 / 15)
        assert told["gap_recovered"]["dpo"]["n"] == 19

    def test_without_a_ceiling_there_is_no_gap(self, run: Run, make: Make) -> None:
        told = summary(run, experiment(make, arms={arm: ARMS[arm] for arm in ("floor", "iteration1_hybrid", "dpo")}))
        assert told["gap_recovered"] == {}
        assert "ceiling" not in {row["left"] for row in told["claims"]}

    def test_few_items_pass_no_verdict(self, run: Run, make: Make) -> None:
        few = {arm: flags[::5] for arm, flags in ARMS.items()}
        told = summary(run, experiment(make, arms=few))
        assert told["gap_recovered"]["dpo"]["verdict"] == "cannot tell at this n"
        assert told["gap_recovered"]["dpo"]["value"] is None
        assert told["gap_recovered"]["dpo"]["needed"] == {"items": 20, "seeds": None}

    def test_without_gold_for_train_2_the_selection_is_still_counted(self, run: Run, make: Make) -> None:
        told = summary(run, experiment(make, arms=ARMS, labelled=[]))
        assert told["iterations"] == [{"number": 1, "offered": 4, "kept": 2}]

    def test_kept_labels_that_were_not_graded_have_no_precision(self, run: Run, make: Make) -> None:
        nothing = labels([True, False, True, False], [None, True, None, False], [True] * 4)
        told = summary(run, experiment(make, arms=ARMS, labelled=nothing))
        assert told["iterations"] == [{"number": 1, "offered": 4, "kept": 2}]

    def test_pass_at_k(self, run: Run, make: Make) -> None:
        """Correct of three samples: 1, 3, 0. pass@1 = (1/3 + 1 + 0) / 3; pass@2 = (2/3 + 1 + 0) / 3.

        Among the first sample: 0, 1, 0; among the first two: 1, 1, 0.
        """
        passes = [[False, True, False], [True] * 3, [False] * 3]
        one, two = summary(run, experiment(make, arms=ARMS, passes=passes))["pass_at"]
        assert (one["k"], two["k"], one["n"], one["not_graded"]) == (1, 2, 3, 0)
        assert (one["unbiased"], two["unbiased"]) == (pytest.approx(4 / 9), pytest.approx(5 / 9))
        assert 0 <= one["low"] <= one["unbiased"] <= one["high"] <= 1
        assert one["low"] < one["high"], "three questions cannot pin pass@1 down"
        assert (one["any_of_first"], two["any_of_first"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))

    def test_questions_with_a_sample_that_was_not_graded_are_left_out_of_pass_at_k(self, run: Run, make: Make) -> None:
        passes: list[Flags] = [[False, True], [None, False]]
        one, _ = summary(run, experiment(make, arms=ARMS, passes=passes))["pass_at"]
        assert (one["unbiased"], one["n"], one["not_graded"]) == (0.5, 1, 1)
        told = summary(run, experiment(make, arms=ARMS, passes=[[None, None]]), name="none-graded")
        assert told["pass_at"] == []

    def test_results_are_json_without_infinities(self, run: Run, make: Make) -> None:
        folder = run.stage(
            summarise,
            [experiment(make, arms=ARMS, kept=[False, False, False, True], passes=[[True, False]])],
            settings=EVALUATION,
            final="dpo",
            same_items=True,
            name="results",
        ).folder

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is no JSON")

        json.loads((folder / "results.json").read_text(), parse_constant=refuse)
