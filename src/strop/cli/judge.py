"""``strop judge``: rate and compare by a rubric; fit judges to people's labels and qualify them against these."""

from __future__ import annotations

import typer

from strop.cli.judge_agree import agree_command
from strop.cli.judge_compare import compare_command
from strop.cli.judge_fit import fit_command
from strop.cli.judge_qualify import qualify_command
from strop.cli.judge_rate import rate_command

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
app.command("rate")(rate_command)
app.command("compare")(compare_command)
app.command("fit")(fit_command)
app.command("qualify")(qualify_command)
app.command("agree")(agree_command)
