"""The verbs: where each one lives, what the overview says about it, and how it is loaded when it is called."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from strop import __version__


@dataclass(frozen=True)
class Verb:
    """One verb of the command line.

    Attributes:
        name: What the user types.
        target: ``module:attribute`` below `strop.cli`: a command function, or a typer app for a group.
        summary: One line for ``strop --help``; shown without importing the target.
    """

    name: str
    target: str
    summary: str

    def load(self) -> TyperCommand | TyperGroup:
        """Import the verb's module and return its command."""
        module, _, attribute = self.target.partition(":")
        found = getattr(import_module(f"strop.cli.{module}"), attribute)
        group = isinstance(found, typer.Typer)
        app = found if isinstance(found, typer.Typer) else _single(self.name, found)
        _shape_help(app)
        if not isinstance(app.info.help, str) and app.registered_callback is None:
            app.info.help = self.summary
        command = typer.main.get_group(app) if group else typer.main.get_command(app)
        command.name = self.name
        return command  # type: ignore[return-value]  # typer states the base class of both


SECTIONS: dict[str, tuple[Verb, ...]] = {
    "Run": (
        Verb("demo", "demo:demo_command", "Every shipped demo, offline, in minutes; ends with a report."),
        Verb("run", "run:run_command", "Run a recipe; the same command continues a run that was stopped."),
        Verb("recipes", "recipes:app", "List the shipped recipes, or copy one to edit."),
    ),
    "Before a run": (
        Verb("plan", "plan:plan_command", "Calls, tokens and trainings that a recipe needs; spends nothing."),
        Verb("doctor", "doctor:doctor_command", "Two-minute checks of your own models and data."),
        Verb("endpoint", "endpoint:app", "Compare a server with a local model: prompt tokens and greedy text."),
        Verb("config", "config:config_command", "The resolved settings, with the origin of each value."),
        Verb("schema", "schema:schema_command", "The JSON schema of a recipe, for editors."),
    ),
    "After a run": (
        Verb("show", "show:show_command", "What a run did, in the terminal."),
        Verb("report", "report:report_command", "Rebuild a run's report.html."),
        Verb("trace", "trace:trace_command", "What a reported number was made from, back to the calls."),
        Verb("export", "export:export_command", "Models, GGUF and pairs out of a run's folder, with cards."),
        Verb("store", "store:app", "Size and pruning of the store of model calls."),
    ),
    "On files": (
        Verb("generate", "generate:generate_command", "Answer a file of prompts; every call is kept, none paid twice."),
        Verb("judge", "judge:app", "Rate and compare by a rubric; fit a judge to labels; qualify it against people."),
        Verb("reward", "reward:app", "Train reward models, score by them, and measure them on pairs and on people."),
        Verb("serve-reward", "serve_reward:serve_reward_command", "A reward model behind the /get_reward protocol."),
        Verb("annotate", "annotate:app", "A local page where experts label blinded pairs; export, agreement."),
        Verb("safety", "safety:app", "Screen clients' messages for risk, gate replies, list helplines; measured."),
        Verb("benchmark", "benchmark:benchmark_command", "Models on MedQA, PubMedQA, your own; beside constants."),
        Verb("grade", "grade:grade_command", "Grade reasoning answers: strict, lenient or as published."),
        Verb(
            "preference", "preference:app", "Client speeches and preference pairs: cleaned, split, paired, with a card."
        ),
        Verb(
            "selfplay",
            "selfplay:app",
            "Parts of self-play: what a filter leaves of sessions, thresholds of similarity.",
        ),
        Verb("heads", "heads:app", "Models whose tokens use only some attention heads: convert, verify, profile."),
        Verb("weak-to-strong", "weak_to_strong:app", "Select, pair and audit answers of a weak and a strong model."),
    ),
}
VERBS: dict[str, Verb] = {verb.name: verb for verbs in SECTIONS.values() for verb in verbs}


def _single(name: str, function: Callable[..., Any]) -> typer.Typer:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name)(function)
    return app


def _shape_help(app: typer.Typer) -> None:
    app.rich_markup_mode = None
    for command in app.registered_commands:
        if command.help is None and command.callback is not None:
            command.help = help_text(command.callback)
    root = app.registered_callback
    if root is not None and root.callback is not None and not isinstance(root.help, str):
        root.help = help_text(root.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            _shape_help(group.typer_instance)


def help_text(function: Callable[..., Any]) -> str:
    """Return a function's docstring as help: without its sections for programmers, examples kept line by line."""
    text = inspect.getdoc(function) or ""
    text = re.split(r"\n\n(?:Args|Returns|Raises|Yields):\n", text)[0]
    return re.sub(r"\n\n(Examples?:)\n", "\n\n\b\n\\1\n", text)


class VerbGroup(TyperGroup):
    """The root command: lists every verb from the table above and imports only the one that is called."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # Placeholders: they give the names for "did you mean" and are never invoked.
        self.commands.update({name: TyperCommand(name) for name in VERBS})

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the verb's command, loaded now; None for an unknown name."""
        return VERBS[cmd_name].load() if cmd_name in VERBS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the overview, section by section, from the table alone."""
        width = max(map(len, VERBS))
        for title, verbs in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(verb.name.ljust(width), verb.summary) for verb in verbs])


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"strop {__version__}")
        raise typer.Exit


app = typer.Typer(cls=VerbGroup, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Example: strop run weak_to_strong/demo --name first. More about a verb: strop VERB --help.",
)
def _root(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    """Post-train language models when good labels are scarce, and make the result cheaper to serve."""
