"""``strop heads``: language models whose tokens use only some attention heads."""

from __future__ import annotations

import typer

from strop.cli.heads_calibrate import calibrate_command
from strop.cli.heads_convert import convert_command
from strop.cli.heads_profile import profile_command
from strop.cli.heads_verify import verify_command

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
app.command("convert")(convert_command)
app.command("verify")(verify_command)
app.command("profile")(profile_command)
app.command("calibrate")(calibrate_command)


@app.callback()
def _heads() -> None:
    """Mixture-of-head attention in a model of yours: converted, verified, and measured on this machine."""
