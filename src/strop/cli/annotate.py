"""``strop annotate``: experts label blinded pairs on a local page; export, and agreement."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from strop.cli.annotate_export import export_command
from strop.cli.annotate_report import report_command
from strop.cli.annotate_serve import serve_command


class _ServesByDefault(TyperGroup):
    """A group in which ``strop annotate PAIRS`` means ``strop annotate serve PAIRS``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put ``serve`` where no command is named."""
        if args and args[0] not in (*self.commands, "--help", "-h"):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ServesByDefault,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("serve")(serve_command)
app.command("export")(export_command)
app.command("report")(report_command)


@app.callback()
def annotate() -> None:
    """Let experts label blinded pairs on a local page; `strop annotate PAIRS` is `strop annotate serve PAIRS`.

    Example:
        strop annotate pairs.jsonl --annotators anna,ben
    """
