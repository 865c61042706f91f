"""The stages between speeches and policies: splits, rated responses, pairs, reward models, offline DPO."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from strop.errors import UserError
from strop.evaluation.reward_pairs import examine_pairs, read_labelled
from strop.judging.contest.answering import addressed
from strop.methods.preference.card import Provenance, card_facts, render_card
from strop.methods.preference.config import RewardModel
from strop.methods.preference.formats import write_formats
from strop.methods.preference.pairing import PairSettings, make_pairs
from strop.methods.preference.speeches import SPLITS, SpeechSettings, load_speeches
from strop.models.placement import Placement
from strop.models.rewards.folder import FolderReward
from strop.records.rows import prompt_to_json
from strop.records.tables import iter_table
from strop.runs import Artifact, Stage
from strop.safety.gate import reply_gate
from strop.training.machine import Machine, Model, train_in
from strop.training.mixing import general_pairs, mixed
from strop.training.reward_files import measure_scale
from strop.training.settings import PreferenceSettings

QUALITY, COUNTS, CARD = "quality.json", "report.json", "README.md"
KINDS = ("extreme", "close")
"""Kinds of test pairs."""


def draw_speeches(stage: Stage, settings: SpeechSettings, *, seed: int) -> None:
    """Read and split the speeches: `rows.jsonl`, a table for each split, and `report.json` with what was left out."""
    drawn = load_speeches(settings, seed=seed)
    rows = [speech.to_row() for speech in drawn.speeches]
    stage.write_rows(rows)
    for split in SPLITS:
        stage.write_rows([row for row in rows if row["split"] == split], f"{split}.jsonl")
    stage.write_json(drawn.to_row(), COUNTS)


def take_rated(stage: Stage, files: Sequence[Path], speeches: Artifact) -> None:
    """Take responses that are rated already, of the run's speeches: `rows.jsonl`.

    A speech that the run has left out, as a near-duplicate, is left out here too.

    Raises:
        UserError: None of the rated speeches is among the run's.
    """
    splits = {(row["id"], row["speech"].strip()): row["split"] for row in speeches.rows()}
    rows, foreign = [], 0
    for row in (row for file in files for row in iter_table(file)):
        key = (str(row.get("id")), str(row.get("speech", "")).strip())
        if key in splits:
            rows.append({**row, "split": splits[key]})
        else:
            foreign += 1
    if not rows:
        fix = "list the files of 'rated' among those of 'speeches', under the same ids"
        raise UserError("none of the rated speeches is among the run's speeches", value=f"{foreign} rows", fix=fix)
    stage.write_rows(rows)
    stage.note(rated=len(rows), not_among_the_speeches=foreign)


def build_pairs(stage: Stage, rated: Artifact, *, settings: PairSettings, seed: int) -> None:
    """Make the preference pairs: `rows.jsonl`, a table for each split, and `report.json` with the counts."""
    made = make_pairs(rated.rows(), settings, seed=seed, gate=reply_gate if settings.gate else None)
    for split in ("train", "development"):
        if not any(row["split"] == split for row in made.rows):
            raise UserError(
                f"the ratings give no pair of the split {split!r}",
                value=made.counts.to_row()["pairs"],
                why="the reward model learns from the training pairs and is chosen on the development pairs",
                fix="give more speeches, a larger share of `speeches.development`, or a smaller `pairs.min_gap`",
            )
    stage.write_rows(made.rows)
    for split in SPLITS:
        stage.write_rows([row for row in made.rows if row["split"] == split], f"{split}.jsonl")
    stage.write_json(made.counts.to_row(), COUNTS)


def publish_pairs(
    stage: Stage,
    pairs: Artifact,
    rated: Artifact,
    *,
    settings: PairSettings,
    provenance: Provenance,
    seed: int,
) -> None:
    """Write the pairs in the forms that others read, with their data card.

    Args:
        stage: Where to write.
        pairs: The pairs and their counts.
        rated: What they were made from; it names the judge where one of the run rated.
        settings: The rule of the pairs.
        provenance: What the rows cannot tell of themselves.
        seed: Of the card's intervals.
    """
    judged = rated.folder / "judge.json"
    if judged.is_file():
        identity = json.loads(judged.read_text(encoding="utf-8"))
        provenance = replace(provenance, judge=f"{identity['name']} ({identity['revision']})")
    rows = pairs.rows()
    write_formats(stage.folder, rows, principles=settings.principles, expected=settings.expected)
    counts = json.loads(pairs.path(COUNTS).read_text(encoding="utf-8"))
    facts = card_facts(rows, counts, settings, provenance, seed=seed, second_check=settings.gate)
    (stage.folder / CARD).write_text(render_card(facts), encoding="utf-8")


def train_reward(stage: Stage, pairs: Artifact, *, reward: RewardModel, machine: Machine, seed: int) -> None:
    """Train a reward model on the training pairs, choose its state on the development pairs, and measure its scale."""
    rows, development = pairs.path("train.jsonl"), pairs.path("development.jsonl")
    if reward.mix is not None:
        rows = stage.folder / "mixture.jsonl"
        domain, general = pairs.rows("train.jsonl"), general_pairs(reward.mix)
        share, total = reward.mix.share, reward.mix.total
        stage.write_rows(mixed(domain, general, share=share, total=total, seed=seed), rows.name)
    train_in(
        stage,
        reward.model,
        rows,
        kind="reward",
        settings=reward.train,
        machine=machine,
        seed=seed,
        development=development,
    )
    place = {"device": machine.device, "dtype": machine.dtype}
    measure_scale(stage.folder / "model", development, base=reward.model.model, **place)


def examine_reward(stage: Stage, model: Artifact, pairs: Artifact, *, seed: int, placement: Placement) -> None:
    """Tell what a reward model is worth on the test pairs, extreme and close ones apart: `quality.json`.

    A kind without pairs has no figures: they are missing, and what was trained is kept.
    """
    kinds = {row["id"]: row["kind"] for row in pairs.rows("test.jsonl")}
    labelled = read_labelled(pairs.path("test.jsonl")) if kinds else []
    opened = FolderReward(model.path("model"), device=placement.device, dtype=placement.dtype)
    told: dict[str, Any] = {}
    try:
        for kind in KINDS:
            some = [pair for pair in labelled if kinds[pair.id] == kind]
            with stage.progress(f"{stage.name}: {kind} pairs", 2 * len(some)) as advance:
                report = examine_pairs(some, opened, seed=seed, advance=advance) if some else None
            told[kind] = None if report is None else report.to_row()
    finally:
        opened.close()
    stage.write_json(told, QUALITY)


def optimise(
    stage: Stage,
    policy: Model,
    pairs: Artifact,
    *,
    system: str,
    settings: PreferenceSettings,
    machine: Machine,
    seed: int,
) -> None:
    """Train the policy on the labelled pairs (offline DPO); it is the reference as well."""
    rows = [{**row, "prompt": prompt_to_json(addressed(row["prompt"], system))} for row in pairs.rows("train.jsonl")]
    stage.write_rows(rows, "pairs.jsonl")
    kind = settings.loss
    train_in(stage, policy, stage.folder / "pairs.jsonl", kind=kind, settings=settings, machine=machine, seed=seed)


def held_out(stage: Stage, speeches: Artifact, *, limit: int | None) -> None:
    """Write the test speeches as prompts of a comparison: `id`, `prompt`, `group`."""
    rows = speeches.rows("test.jsonl")[:limit]
    stage.write_rows({"id": row["id"], "prompt": row["speech"], "group": row["id"]} for row in rows)
