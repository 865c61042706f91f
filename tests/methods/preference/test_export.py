"""What a preference run made, exported: the cards name judge, label counts, intended use and limits."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from strop.methods.preference.config import PreferenceConfig
from strop.methods.preference.recipe import preference
from strop.models.rewards.facts import RewardFacts
from strop.records.tables import read_table
from strop.report import read_report, write_report
from strop.report.exporting import export_run
from strop.runs import Run

Configure = Callable[..., PreferenceConfig]


def test_policies_rewards_and_pairs_with_their_cards(configure: Configure, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "first"
    config = configure(comparison=None, policy__online=None)
    with Run.open(folder, config=config, origins={}, seed=0, workspace=folder.parent, quiet=True) as run:
        write_report(preference(config, run), folder)
    made = {each.name: each.folder for each in export_run(folder, tmp_path / "out", everything=True)}
    assert {"dpo", "reward-model", "second-model", "pairs"} <= made.keys()

    report = read_report(folder)
    counts = json.loads(next(folder.glob("stages/*-pairs/report.json")).read_text())
    card = (made["dpo"] / "README.md").read_text()
    for fact in report.provenance:
        assert f"| {fact.name} |" in card
    assert "standing of the judge that rated" in card
    assert re.search(rf"\| pairs, train, gap \| {counts['pairs']['train']['gap']:,} \|", card)
    for paragraph in (*report.intended_use, *report.warnings):
        assert paragraph.split(".")[0] in card.replace("\\", "")
    headlines = [number for number in report.numbers if number.headline]
    assert headlines
    assert all(f"| {number.label} |" in card for number in headlines)

    assert (made["dpo"] / "model.safetensors").is_file()
    assert RewardFacts.read(made["reward-model"]).form == "chat"
    trained = read_table(made["pairs"] / "trl" / "train.jsonl")
    assert len(trained) == sum(counts["pairs"]["train"].values())
    assert "llama_factory" in {path.name for path in made["pairs"].iterdir()}
    assert (made["pairs"] / "README.md").is_file()
