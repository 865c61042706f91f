"""A reward model out of a file: trained, measured, and nothing left beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from strop.errors import UserError
from strop.models.placement import Placement
from strop.models.rewards import open_reward
from strop.models.rewards.facts import RewardFacts
from strop.records.tables import write_table
from strop.training.reward_files import train_reward_model
from strop.training.settings import RewardSettings

SETTINGS = RewardSettings(learning_rate=1e-3, max_steps=4, batch_size=4, micro_batch_size=4, max_length=64)
GOOD, BAD = "what do you need ?", "you should work more"


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Twelve pairs without ids."""
    rows = [{"prompt": f"i feel {word}", "chosen": GOOD, "rejected": BAD} for word in ("sad", "tired", "alone") * 4]
    write_table(tmp_path / "pairs.jsonl", rows)
    return tmp_path / "pairs.jsonl"


def trained(pairs: Path, encoder: Path, out: Path, **more: Any) -> None:
    arguments: dict[str, Any] = {"settings": SETTINGS, "device": "cpu", "quiet": True, **more}
    torch.set_num_threads(1)
    train_reward_model(pairs, model=str(encoder), out=out, **arguments)


def test_without_development_pairs_the_training_pairs_give_the_scale(
    pairs: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    """Twelve pairs: 24 rewards; their mean and deviation, and no work folder left."""
    out = tmp_path / "reward"
    trained(pairs, tiny_encoder, out)
    facts = RewardFacts.read(out)
    assert (facts.form, facts.base) == ("pair", str(tiny_encoder))
    assert facts.normalisation is not None
    assert facts.normalisation.n == 24
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    items = [(row["prompt"], row[side]) for row in rows for side in ("chosen", "rejected")]
    scores = torch.tensor(open_reward(out, Placement(device="cpu")).score(items))
    assert facts.normalisation.mean == pytest.approx(scores.mean().item(), abs=1e-5)
    assert facts.normalisation.std == pytest.approx(scores.std(correction=0).item(), abs=1e-5)
    assert not out.with_name("reward.work").exists()


def test_development_pairs_give_the_scale(pairs: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "dev.jsonl", [{"prompt": "help", "chosen": GOOD, "rejected": BAD}])
    trained(pairs, tiny_encoder, tmp_path / "reward", development=tmp_path / "dev.jsonl")
    normalisation = RewardFacts.read(tmp_path / "reward").normalisation
    assert normalisation is not None
    assert normalisation.n == 2


def test_general_pairs_are_mixed_in(pairs: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    """Half and half of 12 and 5: at most 10 pairs; the scale of the training pairs is then that of 20 rewards."""
    write_table(tmp_path / "g.jsonl", [{"prompt": f"how {n}", "chosen": "yes", "rejected": "no"} for n in range(5)])
    trained(pairs, tiny_encoder, tmp_path / "reward", general=tmp_path / "g.jsonl")
    normalisation = RewardFacts.read(tmp_path / "reward").normalisation
    assert normalisation is not None
    assert normalisation.n == 20


def test_a_folder_that_holds_a_reward_model_is_not_written_over(
    pairs: Path, tiny_encoder: Path, tiny_reward: Path
) -> None:
    before = (tiny_reward / "reward.json").read_bytes()
    with pytest.raises(UserError, match="holds a reward model already"):
        trained(pairs, tiny_encoder, tiny_reward)
    assert (tiny_reward / "reward.json").read_bytes() == before


def test_a_base_that_is_not_there(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        trained(pairs, tmp_path / "nowhere", tmp_path / "reward")
    assert not (tmp_path / "reward").exists()


def test_rows_that_are_no_pairs_are_named(tiny_encoder: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "pairs.jsonl", [{"prompt": "a", "chosen": "b"}])
    with pytest.raises(UserError, match="rejected"):
        trained(tmp_path / "pairs.jsonl", tiny_encoder, tmp_path / "reward")
    assert not (tmp_path / "reward" / "reward.json").exists()
