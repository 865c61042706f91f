"""A plan counts what a run then does, tells money by the models' prices, and spends nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strop.errors import UserError
from strop.methods import RECIPES
from strop.methods.preference.config import PreferenceConfig
from strop.methods.preference.plan import count_speeches, plan
from strop.models.lengths import Range
from strop.runs.configuration import load_recipe
from strop.training.planning import Plan, PlannedStage

Configure = Callable[..., PreferenceConfig]


def load(name: str, *sets: str) -> PreferenceConfig:
    config = load_recipe(name, sets=sets, recipes=RECIPES).config
    assert isinstance(config, PreferenceConfig)
    return config


def planned(told: Plan) -> dict[str, PlannedStage]:
    assert len({stage.stage for stage in told.stages}) == len(told.stages)
    return {stage.stage: stage for stage in told.stages}


def test_the_papers_counts(tmp_path: Path) -> None:
    """26,483 speeches x 4 responses x 7 principles; 16 rounds x 6,400 speeches x 8 samples; 2,324 test speeches."""
    told = plan(load("preference/paper_8b"), workspace=tmp_path)
    stages = planned(told)
    assert stages["candidates"].calls == stages["ratings"].calls == 26_483 * 4 == 105_932
    assert stages["online: samples"].calls == 819_200
    assert stages["online: DPO"].steps == Range(16 * 1, 16 * 100)
    assert stages["dpo"].steps == Range.exactly(1600)
    notes = "\n".join(told.notes)
    for figure in ("26,483 speeches", "2,324 for the test", "105,932 in all", "741,524 ratings", "819,200 samples"):
        assert figure in notes
    assert "the files are not here" in notes
    assert list(tmp_path.iterdir()) == []


def test_a_judge_that_is_yet_to_be_qualified_is_told_of(tmp_path: Path) -> None:
    notes = plan(load("preference/paper_3b"), workspace=tmp_path).notes
    assert any("no certificate yet" in note for note in notes)
    assert any("of the family 'gpt'" in note for note in notes)


def test_without_files_and_without_an_assumption_there_is_no_plan(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="client_speeches"):
        plan(load("preference/paper_8b", "planning.speeches=null"), workspace=tmp_path)


def test_the_counts_are_those_of_a_finished_run(finished: Any, tmp_path: Path) -> None:
    """Every call that a stage plans is a row that the run then wrote."""
    stages, artifacts = planned(plan(finished.config, workspace=tmp_path)), finished.artifacts
    rows = {name: artifact.rows() for name, artifact in artifacts.items() if (artifact.folder / "rows.jsonl").is_file()}
    assert stages["candidates"].calls == sum(len(row["responses"]) for row in rows["candidates"])
    assert stages["ratings"].calls == sum(len(row["responses"]) for row in rows["rated"])
    samples = [row for name in ("online1-samples", "online2-samples") for row in rows[name]]
    assert stages["online: samples"].calls == sum(len(row["responses"]) for row in samples)
    examined = ("online-start", "online1-examined", "online2-examined")
    assert stages["online: development answers"].calls == sum(len(rows[name]) for name in examined)
    arms = [name for name in rows if name.startswith("test-")]
    assert stages["test answers"].calls == 3 * len(rows["test-initial"]) >= sum(len(rows[name]) for name in arms)
    answers = [name for name in rows if "-answers" in name]
    each = len(rows["initial-answers"])
    assert stages["comparison: policies"].calls == 2 * 4 * each >= sum(len(rows[name]) for name in answers)
    assert "comparison: judge" not in stages


@pytest.mark.parametrize(("opponent", "compared"), [(None, 3), ("great", 4)])
def test_a_judge_is_asked_in_both_orders_and_nobody_stands_against_himself(
    configure: Configure, tmp_path: Path, opponent: str | None, compared: int
) -> None:
    """Four test speeches, two word limits, two orders; by eight aspects where each criterion is asked as well."""
    (tmp_path / "other.yaml").write_text("default: 'Verdict: A'")
    comparison: dict[str, Any] = {
        "judge": {"model": f"scripted:{tmp_path}/other.yaml", "allow_unqualified": True},
        "word_limits": [None, 20],
        "tuned_prompt": "apples",
        "limit": 4,
    }
    if opponent is not None:
        comparison["opponent"] = {"model": f"scripted:{tmp_path}/{opponent}.yaml"}
    stages = planned(plan(configure(comparison=comparison), workspace=tmp_path))
    assert stages["comparison: judge"].calls == compared * 4 * 2 * 2
    assert ("comparison: opponent" in stages) is (opponent is not None)
    comparison["judge"]["per_criterion"] = True
    assert planned(plan(configure(comparison=comparison), workspace=tmp_path))["comparison: judge"].calls == (
        compared * 4 * 2 * 2 * 8
    )


def pool(*prices: dict[str, float] | None) -> dict[str, Any]:
    models = [{"model": f"http://127.0.0.1:9/v1#m{number}"} for number in range(len(prices))]
    priced = [
        model if price is None else {**model, "price": price} for model, price in zip(models, prices, strict=True)
    ]
    return {"pool": [{"model": model, "name": f"m{number}"} for number, model in enumerate(priced)], "per_speech": 2}


PLANNING = {"speech_tokens": (10, 20), "response_tokens": (5, 10), "tokens_per_second": (10, 100)}


def test_money_by_hand(configure: Configure, tmp_path: Path) -> None:
    """80 answers, half by a model at 1 and 2 a million tokens, half by one at 3 and 4.

    One call reads 10 to 20 and writes 5 to 10: 20 to 40, and 50 to 100, millionths; 40 of each are 2.8 to 5.6
    thousandths. 80 x 15 to 80 x 30 tokens at 10 to 100 a second take 12 to 240 s.
    """
    config = configure(
        candidates=pool({"prompt": 1, "completion": 2}, {"prompt": 3, "completion": 4}), planning=PLANNING
    )
    stage = planned(plan(config, workspace=tmp_path))["candidates"]
    assert (stage.calls, stage.prompt_tokens, stage.completion_tokens) == (80, Range(800, 1600), Range(400, 800))
    assert stage.money is not None
    assert (stage.money.low, stage.money.high) == pytest.approx((2.8e-3, 5.6e-3))
    assert stage.seconds == Range(12, 240)


def test_one_unknown_price_leaves_the_money_open_and_says_so(configure: Configure, tmp_path: Path) -> None:
    told = plan(configure(candidates=pool({"prompt": 1, "completion": 2}, None), planning=PLANNING), workspace=tmp_path)
    assert planned(told)["candidates"].money is None
    (note,) = [note for note in told.notes if "No price is known" in note]
    assert "http://127.0.0.1:9/v1#m1" in note
    assert "#m0" not in note


def test_each_mode_and_each_repeat_is_counted(configure: Configure, tmp_path: Path) -> None:
    """160 responses x 7 calls x (1 + 2 repeats)."""
    config = configure(ratings__mode="each", ratings__repeats=2)
    assert planned(plan(config, workspace=tmp_path))["ratings"].calls == 160 * 7 * 3


def test_general_pairs_lengthen_a_reward_models_training(configure: Configure, tmp_path: Path) -> None:
    """24 speeches give at most 144 pairs; mixed half and half at most 288; in batches of 4, one epoch, 72 steps.

    Of exactly 40 pairs the ceiling may drop two as too long: 9 or 10 steps.
    """
    train = {"learning_rate": 1e-3, "epochs": 1, "batch_size": 4, "micro_batch_size": 4}
    general = tmp_path / "general.jsonl"
    general.write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n')
    reward = {"model": configure().reward.model.model, "train": train}

    def steps(**mix: Any) -> Range:
        made = configure(reward={**reward, "mix": {"file": general, **mix}} if mix else reward)
        return planned(plan(made, workspace=tmp_path))["reward-model"].steps

    assert count_speeches(configure()).train == 24
    assert steps().high == 36
    assert steps(share=0.5).high == 72
    assert steps(total=40, share=0.5) == Range(9, 10)


def test_what_is_left_out_is_not_planned(configure: Configure, tmp_path: Path) -> None:
    config = configure(policy__dpo=None, policy__online=None, comparison=None, second_reward=None)
    names = list(planned(plan(config, workspace=tmp_path)))
    assert names == ["speeches", "candidates", "ratings", "pairs", "reward-model", "test answers"]


def test_a_plan_loads_no_torch(tmp_path: Path) -> None:
    program = (
        "import json, sys\nfrom pathlib import Path\nfrom strop.methods import RECIPES\n"
        "from strop.runs.configuration import load_recipe\nfrom strop.methods.preference.plan import plan\n"
        f"made = plan(load_recipe('preference/paper_8b', recipes=RECIPES).config, workspace=Path({str(tmp_path)!r}))\n"
        "print(json.dumps([made.total.calls, [m for m in ('torch', 'transformers', 'trl') if m in sys.modules]]))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    calls, loaded = json.loads(result.stdout)
    assert calls > 1_000_000
    assert loaded == []
