"""``strop heads convert``: a language model whose tokens use only some heads, made from a dense one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from warnings import catch_warnings, simplefilter

import typer

from strop.cli.output import AsJson, Quiet, plain, print_json
from strop.errors import UserError

if TYPE_CHECKING:
    from strop.heads.conversion import Converted

ROUTERS: dict[str, Any] = {"learned": "learned", "query-norm": "query_norm"}
CHOICES: dict[str, Any] = {"per-group": "per_group", "free": "free", "groups": "groups"}
SHARED: dict[str, Any] = {
    "first-half": "first",
    "one-per-group": "per_group",
    "none": "none",
    "importance": "importance",
}


def convert_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="builtin:smollm2-135m, or a folder of weights.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write; must not exist.")],
    active: Annotated[
        str, typer.Option(metavar="SHARE", help="Active heads of a layer, shared ones included: 0.75, 75% or 7/9.")
    ] = "0.75",
    router: Annotated[
        Literal["learned", "query-norm"],
        typer.Option(help="Scores from the layer's input, to be trained; or the length of each head's query."),
    ] = "learned",
    choice: Annotated[
        Literal["per-group", "free", "groups"] | None,
        typer.Option(help="Heads inside every KV group (default for grouped queries), of the layer, or whole groups."),
    ] = None,
    shared: Annotated[
        Literal["first-half", "one-per-group", "none", "importance"] | None,
        typer.Option(help="Heads that are always on; by default what makes the share, one of each group if possible."),
    ] = None,
    spread: Annotated[
        Literal["even", "importance"],
        typer.Option(help="As many heads in every layer, or fewer in layers whose heads matter less."),
    ] = "even",
    calibrate: Annotated[
        Path | None,
        typer.Option(metavar="TEXTS", help="What importance is measured on: a .txt, or a table with text."),
    ] = None,
    gates: Annotated[
        Literal["released", "paper"], typer.Option(help="Of a learned router: as in the authors' code, or literally.")
    ] = "released",
    straight_through: Annotated[
        Literal["exact", "selected", "off"],
        typer.Option(help="How a query-norm router learns: from all heads' outputs, from the chosen ones', not."),
    ] = "selected",
    from_authors: Annotated[
        bool, typer.Option("--from-authors", help="MODEL is the authors' MoH-LLaMA3, whose heads are known.")
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Give a model of q_proj, k_proj, v_proj and o_proj (Llama, Mistral, Qwen2, Qwen3, SmolLM2) routed heads.

    The weights are copied byte for byte, the tokenizer and generation settings too; a learned router adds its own, all
    zero. The new folder loads with transformers once strop.heads is imported, and with transformers alone not at all.
    Leaving heads out costs quality until the model is trained further.

    Examples:
        strop heads convert builtin:smollm2-135m --active 2/3 --out smollm2-moh
        strop heads convert builtin:smollm2-135m --active 7/9 --choice free --spread importance --out smollm2-moh
        strop heads convert llama3-8b --active 0.75 --router query-norm --choice free --shared first-half --out moh
    """
    from strop.heads.conversion import convert, refuse_existing
    from strop.heads.importing import import_authors
    from strop.heads.layout import read_share
    from strop.heads.requested import Request, settings_for

    request = Request(
        active=read_share(active),
        router=ROUTERS[router],
        choice=CHOICES[choice] if choice else None,
        sharing=SHARED[shared] if shared else None,
        spread=spread,
        gates=gates,
        straight_through=straight_through,
    )
    source = dense_folder(model)
    refuse_existing(out)
    with catch_warnings():
        simplefilter("ignore")  # what it warns of is said below
        if from_authors:
            done = import_authors(source, out, straight_through=straight_through)
        else:
            weights = _importance(source, calibrate, quiet=quiet or as_json) if request.weighs else None
            done = convert(source, settings_for(source, request, importance=weights), out)
    if as_json:
        print_json(_payload(done))
        return
    typer.echo("\n".join(_lines(done)))


def dense_folder(model: str) -> Path:
    """Return the folder of weights that a name stands for.

    Raises:
        UserError: It names no weights of this machine, or they are not there.
    """
    from strop.models.builtin import builtin_folder
    from strop.models.spec import parse_model

    spec = parse_model(model)
    if spec.kind not in ("local", "builtin"):
        raise UserError("heads are routed in weights on this machine", value=model, fix="name a folder, or a builtin")
    return Path(spec.target) if spec.kind == "local" else builtin_folder(spec.target)


def _importance(source: Path, texts: Path | None, *, quiet: bool) -> list[list[float]]:
    from strop.heads.requested import importance_of, read_texts
    from strop.heads.verification.texts import WEIGHING
    from strop.models.batching import quiet_transformers
    from strop.runs.progress import Reporter

    chosen = list(WEIGHING) if texts is None else read_texts(texts)
    with Reporter(quiet=quiet).progress("weighing heads", len(chosen)) as advance, quiet_transformers():
        return importance_of(source, chosen, on_text=lambda _: advance(1))


def _payload(done: Converted) -> dict[str, Any]:
    return {
        "folder": str(done.folder),
        "active": plain(done.share),
        "router_parameters": done.router_parameters,
        "moh": done.settings.to_dict(),
    }


def _lines(done: Converted) -> list[str]:
    settings = done.settings
    described = [layout.describe() for layout in settings.layers]
    kinds = list(dict.fromkeys(described))
    lines = [f"{done.folder}: {described[0]} in each of {len(described)} layers"]
    if len(kinds) > 1:
        lines = [f"{done.folder}:", *(f"  {kind} in {described.count(kind)} layers" for kind in kinds)]
    lines.append(done.share.describe())
    if settings.router == "learned":
        lines.append(
            f"learned router, {done.router_parameters:,} weights, all zero: untrained, it prefers the first heads"
        )
    else:
        lines.append(f"routed by query norm: no weights; straight-through gradient: {settings.straight_through}")
    picks_one = any(layout.active == 1 < layout.units for layout in settings.layers)
    if picks_one and settings.router == "learned" and settings.gates == "released":
        lines.append(
            "warning: one head is picked a choice, and its gate is then always the same: the task gives the router's "
            "choice no gradient. Use --router query-norm, --gates paper, or a share with two picks."
        )
    lines.append(
        f"next: strop heads verify {done.folder}; then train it further, and strop heads profile {done.folder}"
    )
    return lines
