"""``strop safety fit``: a small model as a second opinion of the screen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strop.cli.output import AsJson, Quiet, print_json


def fit_command(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the model.")],
    examples: Annotated[
        list[Path] | None,
        typer.Option(metavar="F", help="Labelled messages: text or messages, level; repeatable. Default: as shipped."),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the examples.")] = 6,
    encoder: Annotated[str, typer.Option(help="builtin:minilm, or the folder of an encoder.")] = "builtin:minilm",
    seed: Annotated[int, typer.Option(help="Of the order, the typing errors and the first weights.")] = 0,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train a small encoder on labelled messages: a second opinion that notices what the rules have no words for.

    By default it learns from the shipped examples and from the development part of the shipped set; the test part is
    never read. Some minutes on one core.

    Example:
        strop safety fit --out risk-model
        strop safety evaluate --second risk-model
    """
    from strop.evaluation.risk import MESSAGES, read_messages
    from strop.runs.progress import Reporter
    from strop.safety import as_text
    from strop.training.risk_model import RiskTraining, client_text, fit_risk_model, read_examples

    labelled = [each for path in examples or () for each in read_messages(path)]
    rows = [] if examples else read_examples()
    labelled += [] if examples else read_messages(MESSAGES, part="development")
    rows += [(client_text(as_text(each.conversation)), each.level) for each in labelled]
    training = RiskTraining(epochs=epochs, encoder=encoder, seed=seed)
    with Reporter(quiet=quiet).progress("steps", total=epochs * -(-len(rows) // training.batch)) as advance:
        model = fit_risk_model(rows, out, training=training, advance=advance)
    if as_json:
        print_json({"out": str(out), "examples": len(rows), "epochs": epochs, "revision": model.revision})
        return
    typer.echo(f"trained on {len(rows):,} messages, written: {out}")
    typer.echo(f"measure it: strop safety evaluate --second {out}")
