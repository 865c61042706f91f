"""``strop reward train``: a reward model from a file of pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strop.cli.options import Device
from strop.cli.output import AsJson, Quiet, print_json


def train_command(
    pairs: Annotated[Path, typer.Argument(metavar="PAIRS", help="Rows of prompt, chosen and rejected.")],
    model: Annotated[str, typer.Option(metavar="M", help="What to start from: builtin:minilm, a folder, hf:ORG/NAME.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The reward model's folder.")],
    development: Annotated[
        Path | None, typer.Option(metavar="F", help="Pairs on which the best state is chosen.")
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-4,
    epochs: Annotated[float, typer.Option(help="Passes over the pairs.")] = 2.0,
    batch_size: Annotated[int, typer.Option(min=1, help="Pairs of an optimiser step.")] = 8,
    max_length: Annotated[int, typer.Option(min=2, help="Longest text in tokens; a longer one is left out.")] = 512,
    lora: Annotated[int | None, typer.Option(metavar="RANK", min=1, help="Train adapters of this rank.")] = None,
    heads: Annotated[str, typer.Option(help="single, or principles: one output for each rated principle.")] = "single",
    mix: Annotated[Path | None, typer.Option(metavar="F", help="General pairs to mix in.")] = None,
    share: Annotated[float, typer.Option(min=0, max=1, help="Share of general pairs, with --mix.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Of the order of pairs and of adapters.")] = 0,
    device: Device = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train a reward model by Bradley and Terry's loss; the same command continues a training that was stopped.

    Example:
        strop reward train pairs.jsonl --model builtin:minilm --development dev.jsonl --out reward
    """
    from strop.training.reward_files import train_reward_model
    from strop.training.settings import LoraSettings, RewardSettings

    settings = RewardSettings.model_validate(
        {
            "learning_rate": learning_rate,
            "epochs": epochs,
            "batch_size": batch_size,
            "micro_batch_size": batch_size,
            "max_length": max_length,
            "lora": LoraSettings(rank=lora, alpha=2 * lora) if lora else None,
            "heads": heads,
            "save_steps": 25,
        }
    )
    outcome = train_reward_model(
        pairs,
        model=model,
        out=out,
        development=development,
        settings=settings,
        general=mix,
        share=share,
        seed=seed,
        device="cpu" if device == "cpu" else "auto",
        quiet=quiet or as_json,
    )
    if as_json:
        print_json({"out": str(out), **outcome.model_dump(mode="json")})
        return
    for finding in outcome.findings:
        typer.echo(f"{finding.status:>4}  {finding.name}: {finding.value}")
    typer.echo(out)
