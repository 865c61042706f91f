"""``strop preference``: client speeches and preference pairs on files of your own, without a run."""

from __future__ import annotations

import typer

from strop.cli.preference_pairs import pairs_command
from strop.cli.preference_speeches import speeches_command

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
app.command("speeches")(speeches_command)
app.command("pairs")(pairs_command)
