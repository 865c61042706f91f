"""A plan says what a run then does: the same stages, calls and tokens. It spends nothing and changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.methods import RECIPES
from strop.methods.weak_to_strong.config import WeakToStrongConfig
from strop.methods.weak_to_strong.plan import Plan, plan
from strop.methods.weak_to_strong.recipe import SeedRun
from strop.models.lengths import Range
from strop.runs import CallStore, Run
from strop.runs.configuration import load_recipe
from strop.runs.history import StageHistory, read_history
from strop.runs.workspace import store_path
from strop.training.planning import PlannedStage, training_steps
from strop.training.settings import TrainingSettings

MINIMAL = [
    *("seeds=[1]", "data.population=development", "data.train_1=60", "data.train_2=24", "data.test=20"),
    *("weak.train.max_steps=60", "stage_one.train.max_steps=2", "stage_one.iterations=2", "stage_one.top_up=12"),
    *("stage_two.keep=0.2", "stage_two.reject_weak=0.3", "stage_two.samples=4", "stage_two.train.dpo.max_steps=2"),
    *("arms=[naive, icl, self_labels]", "evaluation.pass_at=[1, 2]"),
]


def load(*sets: str) -> WeakToStrongConfig:
    config = load_recipe("weak_to_strong/demo", sets=sets, recipes=RECIPES).config
    assert isinstance(config, WeakToStrongConfig)
    return config


@dataclass(frozen=True)
class Finished:
    """A workspace with one real run, and the plan that was made before it."""

    workspace: Path
    before: Plan
    stages: dict[str, StageHistory]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Plan the minimal configuration, then run every stage of its seed with the shipped models."""
    workspace, config = tmp_path_factory.mktemp("plan"), load(*MINIMAL)
    before = plan(config, workspace=workspace)
    assert list(workspace.iterdir()) == []
    folder = workspace / "minimal"
    with Run.open(folder, config=config, origins={}, seed=0, workspace=workspace, quiet=True) as run:
        SeedRun(config, run, 1).experiment()
    history = {stage.stage.partition("-seed1-")[2]: stage for stage in read_history(folder).stages}
    return Finished(workspace, before, history)


def planned(plan: Plan) -> dict[str, PlannedStage]:
    return {stage.stage: stage for stage in plan.stages}


@pytest.mark.slow
class TestAgainstARealRun:
    def test_the_stages_are_those_of_the_run_in_order(self, finished: Finished) -> None:
        assert [stage.stage for stage in finished.before.stages] == [*finished.stages, "results"]

    def test_the_calls_are_those_of_the_run(self, finished: Finished) -> None:
        expected = {name: stage.calls for name, stage in finished.stages.items()}
        assert {name: stage.calls for name, stage in planned(finished.before).items() if name != "results"} == expected

    def test_the_store_holds_as_many_calls_as_planned(self, finished: Finished) -> None:
        with CallStore(store_path(finished.workspace)) as store:
            assert store.sizes().calls == finished.before.one_seed.calls

    def test_the_tokens_are_within_the_bounds(self, finished: Finished) -> None:
        for name, stage in finished.stages.items():
            expected = planned(finished.before)[name]
            low, high = expected.prompt_tokens.plus(expected.completion_tokens)
            assert low <= stage.tokens <= high, name

    def test_prompts_that_are_known_are_counted_to_the_token(self, finished: Finished) -> None:
        """22 or 23 tokens a question; the run stored what the model's own tokenizer counted."""
        with CallStore(store_path(finished.workspace)) as store:
            rows = store._connection.execute(
                "SELECT total(prompt_tokens) FROM calls WHERE revision = "
                "(SELECT revision FROM calls WHERE model LIKE 'builtin:stories-strong' LIMIT 1) "
                "AND request NOT LIKE '%####%'"
            ).fetchone()
        stages = planned(finished.before)
        counted = stages["self-answers"].prompt_tokens.plus(stages["test-zero-shot"].prompt_tokens)
        assert counted == Range.exactly(int(rows[0]))

    def test_trainings_take_the_planned_steps(self, finished: Finished) -> None:
        for name, stage in finished.stages.items():
            expected = planned(finished.before)[name].steps
            assert Range.exactly(stage.notes.get("steps", 0)) == expected, name

    def test_a_plan_after_the_run_knows_its_stored_calls_and_its_times(self, finished: Finished) -> None:
        after = plan(load(*MINIMAL), workspace=finished.workspace)
        stages = planned(after)
        assert (stages["self-answers"].stored, stages["test-zero-shot"].stored) == (24, 20)
        assert stages["test-floor"].stored is None
        assert after.one_seed.stored == 44
        training = stages["weak-model"].seconds
        real = finished.stages["weak-model"].seconds
        assert training is not None
        assert real is not None
        assert training.low <= real <= training.high

    def test_times_of_other_settings_are_not_taken_over(self, finished: Finished) -> None:
        other = plan(load(*MINIMAL, "stage_one.train.max_steps=3"), workspace=finished.workspace)
        assert {stage.seconds for stage in other.stages} == {None}

    def test_another_length_of_answers_is_another_call(self, finished: Finished) -> None:
        other = plan(load(*MINIMAL, "decoding.max_tokens=47"), workspace=finished.workspace)
        assert planned(other)["self-answers"].stored == 0


def test_a_plan_loads_no_torch(tmp_path: Path) -> None:
    program = (
        "import json, sys\nfrom pathlib import Path\nfrom strop.methods import RECIPES\n"
        "from strop.runs.configuration import load_recipe\nfrom strop.methods.weak_to_strong.plan import plan\n"
        f"made = plan(load_recipe('weak_to_strong/demo', recipes=RECIPES).config, workspace=Path({str(tmp_path)!r}))\n"
        "print(json.dumps([made.one_seed.calls, [m for m in ('torch', 'transformers', 'trl') if m in sys.modules]]))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    calls, loaded = json.loads(result.stdout)
    assert calls > 1000
    assert loaded == []


def test_calls_of_all_seeds_are_added(tmp_path: Path) -> None:
    """Each seed: 24 questions, 20 tests; weak, icl; floor, icl, three arms twice, dpo, naive, self; samples 4, tests 2.

    Greedy on train_2: weak, icl, iteration 1 weak and icl, self = 5 x 24. Tests: floor, icl, 6 of Stage I, dpo,
    zero-shot, naive, self-labels = 12 x 20. Samples: 24 x 4 and 20 x 2. Together 120 + 240 + 96 + 40 = 496.
    """
    made = plan(load(*MINIMAL, "seeds=[1, 2, 3]"), workspace=tmp_path)
    assert made.one_seed.calls == 496
    assert made.all_seeds.calls == 3 * 496
    # weak-model; two iterations of three; dpo; naive and self-labels.
    assert (made.one_seed.trainings, made.all_seeds.trainings) == (10, 30)
    assert made.one_seed.steps == Range.exactly(60 + 6 * 2 + 2 + 2 * 2)
    assert any("All 3 seeds" in note for note in made.notes)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (Range(100, 100), Range(6, 8)),  # 90 to 100 rows: 3 to 4 batches of 32, twice
        (Range(1, 64), Range(2, 4)),  # a single row is a batch too
        (Range(320, 320), Range(18, 20)),
    ],
)
def test_steps_follow_rows_epochs_and_batches(rows: Range, expected: Range) -> None:
    settings = TrainingSettings(learning_rate=1e-3, epochs=2, batch_size=32, too_long_ceiling=0.1)
    assert training_steps(settings, rows) == expected


@given(st.integers(1, 500), st.integers(0, 500), st.integers(1, 64), st.floats(0.1, 4))
def test_steps_are_bounded_from_both_sides(low: int, more: int, batch: int, epochs: float) -> None:
    """More rows never need fewer steps, and every training takes at least one."""
    settings = TrainingSettings(learning_rate=1e-3, epochs=epochs, batch_size=batch, micro_batch_size=1)
    steps = training_steps(settings, Range(low, low + more))
    assert 1 <= steps.low <= steps.high
    assert steps.high <= training_steps(settings, Range(low, low + more + 1)).high


def test_max_steps_stand_whatever_the_rows() -> None:
    assert training_steps(TrainingSettings(learning_rate=1e-3, max_steps=7), Range(1, 9)) == Range.exactly(7)


def test_ranges_are_read_by_people_and_machines() -> None:
    assert str(Range(1000, 2000)) == "1,000 to 2,000"
    assert str(Range.exactly(5)) == "5"
    assert json.dumps(Range(1, 2)) == "[1, 2]"
    assert Range(1, 2).plus(Range(3, 5)).times(2) == Range(8, 14)


def write_questions(path: Path, count: int, *, solution: str = "1 + 1 = 2\n#### 2") -> Path:
    rows = ({"question": f"What is {number} + 1?", "solution": solution, "answer": "2"} for number in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def files(folder: Path, *, train_2_solution: str = "1 + 1 = 2\n#### 2") -> str:
    first = write_questions(folder / "first.jsonl", 6)
    second = write_questions(folder / "second.jsonl", 5, solution=train_2_solution)
    return f"data={{kind: files, train_1: {first}, train_2: {second}, test: {first}}}"


def test_repeated_questions_are_asked_once(tmp_path: Path) -> None:
    """GSM8K's published files repeat some questions: equal calls are one call."""
    path = write_questions(tmp_path / "rows.jsonl", 4)
    path.write_text(path.read_text() + path.read_text())
    data = f"data={{kind: files, train_1: {path}, train_2: {path}, test: {path}}}"
    made = plan(load(data), workspace=tmp_path / "runs")
    assert planned(made)["weak-answers"].calls == 4


def test_a_ceiling_without_gold_is_refused_before_anything_is_spent(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'ceiling' would have no row.*(?s:.*)leave 'ceiling' out"):
        plan(load(files(tmp_path, train_2_solution="")), workspace=tmp_path / "runs")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    data = f"data={{kind: files, train_1: {tmp_path / 'none.jsonl'}, train_2: a.jsonl, test: b.jsonl}}"
    with pytest.raises(UserError, match=r"none\.jsonl"):
        plan(load(data), workspace=tmp_path)


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such model folder"):
        plan(load(f"strong={tmp_path / 'model'}"), workspace=tmp_path)


def test_models_whose_tokenizer_is_far_away_have_bounds(tmp_path: Path) -> None:
    """A prompt of 32 characters has between 6 and 16 tokens."""
    made = plan(load(files(tmp_path), "strong=hf:some/model"), workspace=tmp_path / "runs")
    prompt = len("Question: What is 0 + 1?\nAnswer:")
    low, high = -(-prompt // 6), -(-prompt // 2)
    assert planned(made)["test-naive"].prompt_tokens == Range(6 * low, 6 * high)
    assert any("Prompt tokens of hf:some/model are bounded" in note for note in made.notes)


def test_an_endpoint_may_be_asked_but_not_trained(tmp_path: Path) -> None:
    made = plan(load("weak={model: 'http://127.0.0.1:9/v1#weak'}"), workspace=tmp_path)
    assert planned(made)["weak-answers"].stored == 0
    assert "weak-model" not in planned(made)
    with pytest.raises(UserError, match=r"'weak\.model' is to be trained"):
        plan(load("weak.model=http://127.0.0.1:9/v1#weak"), workspace=tmp_path)


def test_without_stage_two_and_arms_the_plan_is_short(tmp_path: Path) -> None:
    made = plan(load("stage_two=null", "arms=[]"), workspace=tmp_path)
    names = list(planned(made))
    assert names[-2:] == ["test-iteration1-hybrid", "results"]
    assert made.one_seed.trainings == 4
