"""``strop reward``: train reward models, score responses by them, and find out what they are worth."""

from __future__ import annotations

import typer

from strop.cli.reward_compare import compare_command
from strop.cli.reward_evaluate import evaluate_command
from strop.cli.reward_score import score_command
from strop.cli.reward_train import train_command

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
app.command("train")(train_command)
app.command("score")(score_command)
app.command("evaluate")(evaluate_command)
app.command("compare")(compare_command)
