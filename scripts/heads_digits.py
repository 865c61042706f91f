"""Mixture-of-head attention on scikit-learn's digits: accuracy of a small ViT, dense, routed, pruned.

python scripts/heads_digits.py [--population development|result] [--steps 300] [--rate 2e-3] [--out FILE]

Seeds 1 to 3 and the development images are for choosing settings; seeds 101 to 110 and the test images are for the
result. Every arm of a seed has the same start, batches and steps. Intervals: joint bootstrap over seeds and images.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from strop.evaluation.statistics.crossed import Outcomes, difference_interval, mean_interval
from strop.evaluation.statistics.intervals import Interval
from strop.heads.vision.digits import ARMS, Part, Recipe, Trained, load_digits, train_arm
from strop.runs import derive_seed

SEEDS: dict[str, tuple[range, Part]] = {
    "development": (range(1, 4), "development"),
    "result": (range(101, 111), "test"),
}
AGAINST = (
    ("moh_75", "dense"),
    ("moh_50", "dense"),
    ("moh_75", "pruned_75"),
    ("moh_50", "pruned_50"),
    ("moh_75", "weighted"),
    ("moh_50", "weighted"),
    ("pruned_75", "dense"),
    ("pruned_50", "dense"),
    ("weighted", "dense"),
    ("dense", "no_heads"),
)


def shown(interval: Interval) -> str:
    """Write an interval."""
    return f"{interval.estimate:.4f} ({interval.low:.4f} to {interval.high:.4f})"


def report(trained: dict[str, list[Trained]]) -> str:
    """Write both tables: accuracy of every arm, and differences paired over seeds and images."""
    outcomes: dict[str, Outcomes] = {
        arm: np.array([one.correct.numpy() for one in runs], dtype=np.float64) for arm, runs in trained.items()
    }
    lines = [
        "| arm | accuracy | by seed | training loss | load balance | weights (router) |",
        "|---|---|---|---|---|---|",
    ]
    for arm, runs in trained.items():
        accuracy = mean_interval(outcomes[arm], np.random.default_rng(derive_seed(0, "digits", "intervals")))
        seeds = " ".join(f"{row.mean():.3f}" for row in outcomes[arm])
        balances = [one.balance for one in runs if one.balance is not None]
        balance = f"{np.mean(balances):.2f}" if balances else "-"
        loss = np.mean([one.loss for one in runs])
        weights = f"{runs[0].parameters:,} ({runs[0].router_parameters:,})"
        lines.append(f"| {arm} | {shown(accuracy)} | {seeds} | {loss:.3f} | {balance} | {weights} |")
    lines += ["", "| difference | accuracy |", "|---|---|"]
    for first, second in AGAINST:
        generator = np.random.default_rng(derive_seed(0, "digits", "intervals"))
        lines.append(
            f"| {first} - {second} | {shown(difference_interval(outcomes[first], outcomes[second], generator))} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Train every arm on every seed and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--population", choices=tuple(SEEDS), default="development")
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--rate", type=float, default=Recipe.rate)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds, part = SEEDS[options.population]
    learn, tested = load_digits("train"), load_digits(part)
    recipe = Recipe(steps=options.steps, rate=options.rate)
    trained: dict[str, list[Trained]] = {arm: [] for arm in ARMS}
    for seed in seeds:
        for arm, settings in ARMS.items():
            began = time.process_time()
            trained[arm].append(train_arm(settings, learn, tested, seed=seed, recipe=recipe))
            accuracy = trained[arm][-1].correct.float().mean().item()
            print(f"seed {seed} {arm}: {accuracy:.4f}, {time.process_time() - began:.0f} s of CPU time", flush=True)
    if options.out is not None:
        correct = {arm: [one.correct.int().tolist() for one in runs] for arm, runs in trained.items()}
        options.out.write_text(json.dumps({"seeds": list(seeds), "part": part, "correct": correct}), encoding="utf-8")
    print(f"\n{len(learn.labels)} images to learn from, {len(tested.labels)} tested, {len(seeds)} seeds, {recipe}\n")
    print(report(trained))


if __name__ == "__main__":
    main()
