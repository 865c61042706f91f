"""``strop generate``: a file of prompts in, a file of answers out; every call stored before it is used."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from strop.cli.options import (
    BudgetOption,
    Device,
    Dtype,
    Executor,
    Fields,
    Workspace,
    parse_budget,
    parse_fields,
    workspace_or_default,
)
from strop.cli.output import AsJson, print_json, print_table

if TYPE_CHECKING:
    from strop.models.generating import GenerationConfig
    from strop.runs.budget import Budget

RUN_SEED = 0


@dataclass(frozen=True, slots=True)
class Generated:
    """What a generation came to."""

    prompts: int
    answers: int
    failures: dict[str, int]
    asked: int
    tokens: int
    money: float | None
    run: str
    out: str


def generate_command(
    prompts: Annotated[Path, typer.Argument(metavar="PROMPTS", help="Rows of prompt (text or messages) and id.")],
    model: Annotated[str, typer.Option(metavar="M", help="builtin:NAME, a folder, http://HOST/v1#NAME, openai:NAME.")],
    out: Annotated[Path, typer.Option(metavar="F", help="Where answers go: .jsonl, .json or .parquet, also .gz.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Answers a prompt.")] = 1,
    temperature: Annotated[
        float | None, typer.Option(min=0, help="0 is greedy; by default 0 for one answer and 1 for several.")
    ] = None,
    top_p: Annotated[float, typer.Option(min=0, max=1, help="Nucleus sampling.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer in tokens.")] = 512,
    stop: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="Ends an answer; repeatable.")] = None,
    seed: Annotated[int, typer.Option(help="Names the stream of samples.")] = 0,
    chat: Annotated[
        Literal["auto", "on", "off"], typer.Option(help="on: plain prompts become user messages; auto: they do not.")
    ] = "auto",
    fields: Fields = None,
    budget: BudgetOption = None,
    pilot: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Only forecast: ask N prompts, keep their answers.")
    ] = None,
    workspace: Workspace = None,
    device: Device = None,
    dtype: Dtype = None,
    executor: Executor = "local",
    replicas: Annotated[int, typer.Option(min=1, help="With --executor ray: models that answer side by side.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Answer a file of prompts.

    The same command continues after any stop and asks only what is missing; an answer that the workspace holds costs
    nothing. A stop before the end leaves what is complete in F with .partial in its name.

    Example:
        strop generate prompts.jsonl --model http://localhost:8000/v1#NAME --n 4 --out answers.jsonl
    """
    from strop.models.generating import GenerationConfig
    from strop.models.spec import parse_model

    if temperature is None:
        temperature = 0.0 if n == 1 else 1.0
    config = GenerationConfig.model_validate(
        {
            "prompts": prompts,
            "fields": parse_fields(fields),
            "model": parse_model({"model": model, "chat": chat}),
            "samples": n,
            "sampling": {
                "temperature": temperature,
                "top_p": top_p,
                "max_tokens": max_tokens,
                "stop": tuple(stop or ()),
                "seed": seed,
            },
            "placement": {
                "device": device or "auto",
                "dtype": dtype or "auto",
                "executor": executor,
                "replicas": replicas,
            },
        }
    )
    place = workspace_or_default(workspace)
    if pilot is not None:
        show_forecast(config, pilot=pilot, workspace=place, as_json=as_json)
        return
    done = execute(config, out=out, workspace=place, budget=parse_budget(budget), quiet=as_json)
    if as_json:
        print_json(asdict(done))
        return
    told = "price unknown" if done.money is None else f"{done.money:,.4g} in money"
    typer.echo(f"{done.answers:,} answers to {done.prompts:,} prompts")
    if done.failures:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in done.failures.items())
        typer.echo(f"calls without an answer: {kinds}; see failures.jsonl in {done.run}")
    typer.echo(f"asked just now or in earlier executions: {done.asked:,} calls, {done.tokens:,} tokens, {told}")
    typer.echo(done.out)


def execute(config: GenerationConfig, *, out: Path, workspace: Path, budget: Budget, quiet: bool) -> Generated:
    """Run the one stage of a generation and put its answers where they were asked for.

    Args:
        config: What to ask, of whom, how.
        out: The file of answers; its suffix decides the format.
        workspace: Where the run's folder and the call store are.
        budget: The most that the generation may spend.
        quiet: Whether to keep progress to itself.
    """
    from strop.errors import Stopped
    from strop.models.generating import ANSWERS, FAILURES, PromptTable, generate, partial_answers
    from strop.records.tables import iter_table, table_kind, write_table
    from strop.runs.configuration import origins_of
    from strop.runs.run import Run
    from strop.runs.workspace import run_folder

    table_kind(out)  # before anything is paid for
    folder = run_folder(workspace, f"generate-{out.name.partition('.')[0] or 'answers'}")
    partial = out.with_name(f"{out.name.partition('.')[0]}.partial.jsonl")
    with Run.open(
        folder,
        config=config,
        origins=origins_of(config, {}),
        seed=RUN_SEED,
        workspace=workspace,
        budget=budget,
        quiet=quiet,
    ) as run:
        try:
            made = run.stage(
                generate,
                config.model,
                config.prompts,
                fields=config.fields,
                sampling=config.sampling,
                samples=config.samples,
                placement=config.placement,
                name="answers",
            )
        except Stopped as stop:
            answered = partial_answers(folder)
            if answered is None or not write_table(partial, iter_table(answered)):
                raise
            why = f"{stop.why}; the prompts that are complete so far are in {partial}"
            raise Stopped(stop.what, value=stop.value, why=why, fix=stop.fix) from stop
        write_table(out, iter_table(made.path(ANSWERS)))
        failures = Counter(row["kind"] for row in iter_table(made.path(FAILURES)))
        spent = run.store.spent(run.id)
    partial.unlink(missing_ok=True)
    money = None if spent.unpriced else spent.money
    prompts = len(PromptTable(config.prompts))
    answers = prompts * config.samples - failures.total()
    return Generated(prompts, answers, dict(failures), spent.calls, spent.tokens, money, str(folder), str(out))


def show_forecast(config: GenerationConfig, *, pilot: int, workspace: Path, as_json: bool) -> None:
    """Ask a few of the prompts and print what the others will take."""
    from random import Random

    from strop.models.forecasting import forecast
    from strop.models.generating import PromptTable
    from strop.models.placement import open_placed
    from strop.runs.progress import Reporter
    from strop.runs.workspace import open_calls

    model = open_placed(config.model, config.placement)
    try:
        with (
            open_calls(workspace, "pilot", config.model.model) as store,
            Reporter(quiet=as_json).progress("pilot") as advance,
        ):
            told = forecast(
                model,
                PromptTable(config.prompts, config.fields),
                config.sampling,
                samples=config.samples,
                store=store,
                pilot=pilot,
                random=Random(config.sampling.seed),
                parallel=config.model.parallel,
                advance=advance,
            )
    finally:
        model.close()
    if as_json:
        print_json({**asdict(told), "remaining": told.remaining, "rest": asdict(told.rest)})
        return
    typer.echo(f"{told.calls:,} calls: {told.stored:,} stored before, {told.asked:,} answered by the pilot just now")
    rest = {**asdict(told.rest), "calls": {"estimate": told.remaining, "low": told.remaining, "high": told.remaining}}
    print_table(
        f"what the other {told.remaining:,} calls take (95 % ranges)",
        [
            {"figure": name.replace("_", " "), **{key: f"{value:,.4g}" for key, value in figure.items()}}
            if figure
            else {"figure": name, "estimate": "price unknown", "low": "-", "high": "-"}
            for name, figure in rest.items()
        ],
    )
