"""``strop selfplay``: parts of self-play between patient and therapist, without a run."""

from __future__ import annotations

import typer

from strop.cli.selfplay_calibrate import calibrate_command
from strop.cli.selfplay_clean import clean_command
from strop.cli.selfplay_judge import judge_command

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
app.command("calibrate")(calibrate_command)
app.command("clean")(clean_command)
app.command("judge")(judge_command)


@app.callback()
def _selfplay() -> None:
    """Parts of self-play between patient and therapist, on files of your own, without a run."""
