"""The whole method with a tiny model: what is made, what is told, what is done only once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from strop.errors import UserError
from strop.heads.conversion import convert
from strop.heads.layout import HeadLayout
from strop.heads.modeling import MoHSettings
from strop.methods.mixture_of_heads.config import MixtureOfHeadsConfig
from strop.methods.mixture_of_heads.doctor import examine_recipe
from strop.methods.mixture_of_heads.pilot import with_pilot
from strop.methods.mixture_of_heads.plan import plan
from strop.methods.mixture_of_heads.recipe import mixture_of_heads
from strop.methods.mixture_of_heads.results import RESULTS
from strop.methods.mixture_of_heads.stages import LOSSES, OUTCOME
from strop.records.document import Document
from strop.report import write_report
from strop.report.exporting import export_run
from strop.runs import Run

Configure = Callable[..., MixtureOfHeadsConfig]
ARMS = ("dense", "four_of_six-pruned", "four_of_six-moh", "one_of_two-pruned", "one_of_two-moh")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def play(config: MixtureOfHeadsConfig, folder: Path) -> tuple[Document, Run]:
    with Run.open(folder, config=config, origins={}, seed=0, workspace=folder.parent, quiet=True) as run:
        return mixture_of_heads(config, run), run


@pytest.mark.slow
def test_the_whole_method(configure: Configure, tmp_path: Path) -> None:
    """Two settings and two seeds: five arms a seed, two small models a seed, a report, and nothing twice."""
    config, folder = configure(), tmp_path / "runs" / "first"
    document, run = play(config, folder)
    for seed in (1, 2):
        assert {f"seed{seed}-{arm}" for arm in ARMS} < set(run.artifacts)
        assert f"seed{seed}-scratch-moh-50" in run.artifacts
    kept = {
        name for name, made in run.artifacts.items() if name.startswith("seed") and (made.folder / "model").is_dir()
    }
    assert {f"seed1-{arm}" for arm in ARMS} < kept
    assert "seed2-dense" in kept, "it is the teacher of its seed"
    assert "seed2-four_of_six-moh" not in kept

    found = run.artifacts["results"].json(RESULTS)
    assert list(found["arms"]) == list(ARMS)
    assert {one["setting"] for one in found["comparisons"]} == {"four_of_six", "one_of_two"}
    curves = run.artifacts["seed1-four_of_six-moh"].json(OUTCOME)["curve"]
    assert {"likelihood", "divergence", "balance"} < set(curves[0])
    used = found["use"]["four_of_six-moh"]
    for layer in used["layers"]:
        for count, use in zip(used["types"].values(), layer["use"], strict=True):
            assert sum(use) == pytest.approx(4 if count else 0, abs=1e-3), "every token uses four heads"
        assert (layer["active"], layer["units"]) == (4, 6)
        assert 3.5 < layer["balance"] < 6.5
    assert "divergence" not in run.artifacts["seed1-dense"].json(OUTCOME)["curve"][0]
    assert all(number.artifact in run.artifacts for number in document.numbers)

    page = write_report(document, folder).read_text(encoding="utf-8")
    for told in ("static pruning", "which heads are used", "load balance over the steps", "the jump at step 0"):
        assert told in page
    made = {each.name: each.folder for each in export_run(folder, tmp_path / "out")}
    assert set(made) == {"four_of_six-moh", "one_of_two-moh"}
    assert json.loads((made["four_of_six-moh"] / "config.json").read_text())["model_type"] == "moh_llama"

    before = {name: made.digest for name, made in run.artifacts.items()}
    _, again = play(config, folder)
    assert {name: made.digest for name, made in again.artifacts.items()} == before


def test_arms_of_a_seed_see_the_same_blocks(configure: Configure, tmp_path: Path) -> None:
    """And the same held-back tokens; what they make of them differs."""
    heads = {"four_of_six": {"active": "4/6", "choice": "free"}}
    plain = {"from_scratch": None, "first_choices": False, "seeds": [1], "train__distillation": None}
    document, run = play(configure(heads=heads, **plain), tmp_path / "run")
    rows = [run.artifacts[f"seed1-{arm}"].rows(LOSSES) for arm in ARMS[:3]]
    assert len({tuple((row["document"], row["tokens"]) for row in held) for held in rows}) == 1
    assert len({tuple(row["nll"] for row in held) for held in rows}) == 3
    first = [run.artifacts[f"seed1-{arm}"].json(OUTCOME) for arm in ARMS[:3]]
    assert len({(one["rows"], one["tokens"], one["steps"]) for one in first}) == 1
    assert [product.name for product in document.products if product.final] == ["four_of_six-moh"]


@pytest.mark.slow
def test_only_small_models(configure: Configure, tmp_path: Path) -> None:
    config = configure(model=None, heads={}, train=None, seeds=[3])
    document, run = play(config, tmp_path / "run")
    assert not [name for name in run.artifacts if name.startswith("jump")]
    assert [product.name for product in document.products if product.final] == ["scratch-moh-50"]


def test_plan_pilot_and_doctor(configure: Configure, tmp_path: Path) -> None:
    config = configure()
    made = plan(config, workspace=tmp_path)
    assert made.total.trainings == 2 * (5 + 2)
    assert made.total.steps.low == made.total.steps.high == 14 * 4
    assert made.total.seconds is None
    timed = with_pilot(made, config, workspace=tmp_path, pilot=2, quiet=True)
    assert timed.total.seconds is not None
    findings = {finding.name: finding for finding in examine_recipe(config)}
    assert findings["perplexity at step 0"].value.count(",") == 4
    assert findings["seeds"].status == "warn"
    assert not [finding for finding in findings.values() if finding.status == "fail"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": {"bad": {"active": 0.7}}}, "share"),
        ({"heads": {"all": {"active": 1.0}}}, "no token a choice"),
        ({"heads": {"cut": {"active": 0.5, "choice": "groups"}}}, "share"),
        ({"text": {"files": ["nowhere.jsonl"]}}, "no such file"),
        ({"model": "http://127.0.0.1:9/v1#m"}, "not on this machine"),
        ({"from_scratch__width": 30}, "do not divide the width"),
    ],
)
def test_what_cannot_end_does_not_start(
    configure: Configure, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        plan(configure(**changes), workspace=tmp_path)


def test_a_converted_model_is_not_converted_again(configure: Configure, dense_model: Path, tmp_path: Path) -> None:
    layout = HeadLayout(query_heads=6, kv_groups=3, shared=(), active=4)
    convert(dense_model, MoHSettings(layers=(layout, layout)), tmp_path / "routed")
    with pytest.raises(UserError, match="routed heads already"):
        plan(configure(model=str(tmp_path / "routed")), workspace=tmp_path)
