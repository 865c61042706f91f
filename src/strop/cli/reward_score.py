"""``strop reward score``: rewards of a file of responses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strop.cli.options import Device, Dtype, Fields, parse_fields
from strop.cli.output import AsJson, Quiet, print_json


def score_command(
    answers: Annotated[Path, typer.Argument(metavar="FILE", help="Rows of prompt and response, or responses.")],
    reward: Annotated[
        str, typer.Option(metavar="R", help="A reward model's folder, http://HOST:PORT/get_reward, or words.")
    ],
    out: Annotated[Path, typer.Option(metavar="F", help="The rows with their rewards.")],
    fields: Fields = None,
    device: Device = None,
    dtype: Dtype = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Score responses: each row gets `reward`, or `rewards` where it holds several responses.

    Rewards are raw: only differences between responses to one prompt mean anything.

    Example:
        strop reward score answers.jsonl --reward reward --out scored.jsonl
    """
    from strop.models.placement import Placement
    from strop.models.rewards import open_reward
    from strop.models.rewards.files import score_file
    from strop.runs.progress import Reporter

    placement = Placement.model_validate({"device": device or "auto", "dtype": dtype or "auto"})
    model = open_reward(reward, placement)
    try:
        with Reporter(quiet=quiet or as_json).progress("scoring", None) as advance:
            told = score_file(answers, out, model, fields=parse_fields(fields), advance=advance)
    finally:
        model.close()
    if as_json:
        print_json({"out": str(out), **told})
    else:
        typer.echo(f"{told['responses']} responses of {told['rows']} rows, scored by {told['reward']}")
        typer.echo(out)
