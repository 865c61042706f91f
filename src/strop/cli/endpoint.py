"""``strop endpoint``: does a server run the model that it is said to run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strop.cli.options import Device, Dtype
from strop.cli.output import AsJson, Quiet, print_json
from strop.errors import UserError

if TYPE_CHECKING:
    from strop.models.serving.serving_check import ServingCheck

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback()
def endpoint() -> None:
    """Check a server of a model.

    Example:
        strop endpoint check http://127.0.0.1:8000/v1#NAME --model hf:ORG/NAME
    """


@app.command()
def check(
    url: Annotated[str, typer.Argument(metavar="URL", help="http://HOST:PORT/v1, and #NAME if it has several.")],
    model: Annotated[str, typer.Option(metavar="M", help="The same model here: a folder, hf:ORG/NAME or a builtin.")],
    prompts: Annotated[
        Path | None, typer.Option(metavar="F", help="Prompts to compare instead of the usual ones: rows with prompt.")
    ] = None,
    chat_template: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A Jinja chat template for the local model, instead of its own.")
    ] = None,
    margin: Annotated[
        float | None, typer.Option(min=0.0, metavar="NATS", help="How much likelier the local choice may be; 0.8 nats.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Length of the greedy texts, 24; 0 compares prompts alone.")
    ] = None,
    api_key_env: Annotated[str, typer.Option(metavar="NAME", help="Environment variable with the server's key.")] = "",
    device: Device = None,
    dtype: Dtype = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Compare a server with a local model: prompt tokens and greedy text; name the first difference.

    Both render and tokenize prompts where renderings are known to part. The server's greedy text is then read by the
    local model: a token that it finds less likely than its own choice by more than --margin is a difference, a smaller
    gap is rounding. Exit code 0 where all is the same, 2 where something differs.

    Example:
        strop endpoint check http://127.0.0.1:8000/v1 --model builtin:smollm2-135m
    """
    from strop.models.serving.served import open_served
    from strop.models.serving.serving_check import (
        MARGIN,
        MAX_TOKENS,
        PROMPTS,
        check_serving,
        open_local,
        read_prompts,
        use_template,
    )
    from strop.runs.progress import Reporter

    chosen = PROMPTS if prompts is None else read_prompts(prompts)
    local = open_local(model, device=device or "auto", dtype=dtype or "auto")
    if chat_template is not None:
        use_template(local, chat_template)
    served = open_served(url, api_key_env=api_key_env)
    try:
        with Reporter(quiet=quiet).progress("comparing", len(chosen)) as advance:
            found = check_serving(
                served,
                local,
                chosen,
                margin=MARGIN if margin is None else margin,
                max_tokens=MAX_TOKENS if max_tokens is None else max_tokens,
                advance=advance,
            )
    finally:
        served.close()
    _show(found, as_json=as_json)


def _show(found: ServingCheck, *, as_json: bool) -> None:
    from strop.models.serving.serving_text import lines_of, verdict

    if as_json:
        print_json(found.to_json())
    else:
        for line in lines_of(found):
            typer.echo(line)
    if not found.same:
        raise UserError(verdict(found), value=found.server, fix="serve the same weights, tokenizer and chat template")
