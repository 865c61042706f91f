"""The small ViT on digits: parts that do not overlap, one start for all arms, and a training that learns."""

from __future__ import annotations

import pytest
import torch

from strop.errors import UserError
from strop.heads.layout import active_share
from strop.heads.vision.digits import ARMS, Recipe, load_digits, train_arm, untrained


def test_parts_cover_all_images_once() -> None:
    from sklearn.datasets import load_digits as all_digits

    parts = [load_digits("train"), load_digits("development"), load_digits("test")]
    assert [len(part.labels) for part in parts] == [600, 400, 797]
    pixels = torch.cat([part.pixels for part in parts]).flatten(1)
    whole = torch.tensor(all_digits().images, dtype=torch.float32).flatten(1) / 8 - 1
    assert sorted(map(tuple, pixels.tolist())) == sorted(map(tuple, whole.tolist()))
    assert (pixels.min().item(), pixels.max().item()) == (-1.0, 1.0)


def test_shares_of_the_arms() -> None:
    shares = {name: active_share(settings.layers).over_heads for name, settings in ARMS.items()}
    assert shares == {
        "dense": 1.0,
        "weighted": 1.0,
        "moh_75": 0.75,
        "moh_50": 0.5,
        "pruned_75": 0.75,
        "pruned_50": 0.5,
        "no_heads": 0.0,
    }


def test_all_arms_of_a_seed_start_alike() -> None:
    starts = [untrained(settings, seed=1).state_dict() for settings in ARMS.values()]
    for start in starts[1:]:
        assert all(torch.equal(start[name], weight) for name, weight in starts[0].items())
        assert not any(weight.any() for name, weight in start.items() if name not in starts[0])
    other = untrained(ARMS["dense"], seed=2).state_dict()
    assert not torch.equal(other["classifier.weight"], starts[0]["classifier.weight"])


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    untrained(ARMS["dense"], seed=1)
    assert torch.equal(torch.rand(1), expected)


def test_a_training_repeats_itself_and_reports_balance_where_something_routes() -> None:
    learn, tested, recipe = load_digits("train"), load_digits("development"), Recipe(steps=3, batch=8)
    made = [train_arm(ARMS["moh_50"], learn, tested, seed=1, recipe=recipe) for _ in range(2)]
    assert torch.equal(made[0].correct, made[1].correct)
    assert made[0].loss == made[1].loss
    assert made[0].balance == pytest.approx(2.0, abs=0.3)
    assert made[0].router_parameters == 2 * 64 * (8 + 2)
    dense = train_arm(ARMS["dense"], learn, tested, seed=1, recipe=recipe)
    assert dense.balance is None
    assert dense.parameters == made[0].parameters - made[0].router_parameters


@pytest.mark.slow
def test_it_learns() -> None:
    made = train_arm(ARMS["moh_75"], load_digits("train"), load_digits("development"), seed=1)
    assert made.correct.float().mean() > 0.8


def test_a_batch_larger_than_the_images_is_refused() -> None:
    learn = load_digits("train")
    with pytest.raises(UserError, match="fit into the images"):
        train_arm(ARMS["dense"], learn, learn, seed=1, recipe=Recipe(batch=601))
