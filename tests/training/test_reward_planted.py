"""A real encoder finds a planted signal in fresh pairs, and nothing where labels are drawn by a coin."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from strop.errors import UserError
from strop.evaluation.reward_pairs import examine_pairs, read_labelled
from strop.models.builtin import builtin_encoder
from strop.models.placement import Placement
from strop.models.rewards import open_reward
from strop.records.tables import write_table
from strop.training import RewardSettings, TrainingJob, train
from strop.training.settings import Launcher

SENTENCES = (
    "That sounds very hard.",
    "You have carried this for a long time.",
    "Many people feel like this after a loss.",
    "It makes sense that you are tired.",
    "I hear how much she means to you.",
    "Sleep and food matter in such weeks.",
)
OPEN = (
    "What would help you tonight?",
    "How do you see it yourself?",
    "What matters most to you here?",
    "How has it been since?",
)
CLOSED = ("Is that so?", "Do you sleep?", "You should rest.", "Have you told her?")
SPEECHES = ("I lost my job.", "My father died.", "I can't sleep.", "We always fight.", "I am so tired.")


def write_pairs(path: Path, count: int, *, seed: int, shuffled: bool = False) -> Path:
    """Pairs whose better response asks an open question, at a random place; `shuffled` draws the label by a coin."""
    source = random.Random(seed)
    rows = []
    for number in range(count):
        sides = []
        for question in (source.choice(OPEN), source.choice(CLOSED)):
            texts = [*source.sample(SENTENCES, 2), question]
            source.shuffle(texts)
            sides.append(" ".join(texts))
        if shuffled and source.random() < 0.5:
            sides.reverse()
        speech = f"{source.choice(SPEECHES)} {source.choice(SPEECHES)} ({number})"
        rows.append({"id": number, "prompt": speech, "chosen": sides[0], "rejected": sides[1]})
    write_table(path, rows)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("shuffled", [False, True])
def test_a_real_encoder(tmp_path: Path, shuffled: bool) -> None:
    """160 pairs, 40 steps; 100 fresh pairs. The signal is in words such as what and how: this shows the pipeline."""
    try:
        encoder = builtin_encoder("minilm")
    except UserError as missing:
        pytest.skip(str(missing))
    settings = RewardSettings(learning_rate=1e-4, max_steps=40, batch_size=8, micro_batch_size=8, max_length=128)
    job = TrainingJob(
        kind="reward",
        model=encoder,
        rows=write_pairs(tmp_path / "train.jsonl", 160, seed=1, shuffled=shuffled),
        out=tmp_path / "reward",
        work=tmp_path / "work",
        settings=settings,
        seed=0,
        device="cpu",
    )
    train(job, launcher=Launcher(mode="inline"))
    fresh = read_labelled(write_pairs(tmp_path / "fresh.jsonl", 100, seed=2, shuffled=shuffled))
    report = examine_pairs(fresh, open_reward(job.out, Placement(device="cpu")), seed=0)
    accuracy = report.quality.overall.accuracy
    if shuffled:
        assert not accuracy.excludes(0.5) or abs(accuracy.estimate - 0.5) < 0.15
    else:
        assert accuracy.estimate > 0.95
        assert report.quality.verdict == "ranks"
