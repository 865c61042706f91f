"""``strop safety``: screen what clients write, measure and extend the screen, gate replies, list helplines."""

from __future__ import annotations

import typer

from strop.cli.safety_evaluate import evaluate_command
from strop.cli.safety_fit import fit_command
from strop.cli.safety_gate import gate_command
from strop.cli.safety_helplines import helplines_command
from strop.cli.safety_screen import screen_command

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
app.command("screen")(screen_command)
app.command("evaluate")(evaluate_command)
app.command("fit")(fit_command)
app.command("gate")(gate_command)
app.command("helplines")(helplines_command)
