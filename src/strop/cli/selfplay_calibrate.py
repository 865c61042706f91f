"""``strop selfplay calibrate``: from which similarity on two texts say the same, for one encoder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strop.cli.output import AsJson, print_json, print_table

if TYPE_CHECKING:
    from strop.evaluation.statistics import Interval
    from strop.methods.selfplay.calibration import Calibration, Part


def calibrate_command(
    embedder: Annotated[str, typer.Option(help="The encoder: builtin:minilm, or a folder.")] = "builtin:minilm",
    cards: Annotated[Path | None, typer.Option(help="Patient cards; the shipped ones by default.")] = None,
    pairs: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Rows of card, field, text; the shipped ones by default.")
    ] = None,
    behaviours: Annotated[Path | None, typer.Option(help="Behaviour groups; the shipped ones by default.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for calibration.json and the figure.")] = None,
    seed: Annotated[int, typer.Option(help="Of the halves and the intervals.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Compare statements about cards with the right fields and with those of other cards, and choose thresholds.

    Half of the cards choose, the other half (other conditions) measures. A recipe names the file that --out gets as
    matcher.calibration, together with the encoder.

    Example:
        strop selfplay calibrate --out calibration
    """
    from strop.methods.selfplay.behaviours import BEHAVIOURS
    from strop.methods.selfplay.calibration import STATEMENTS
    from strop.methods.selfplay.calibration_figure import histogram_lines
    from strop.methods.selfplay.calibration_files import CalibrationRequest, calibration_of, write_calibration
    from strop.methods.selfplay.cards import CARDS

    request = CalibrationRequest(embedder, cards or CARDS, pairs or STATEMENTS, behaviours or BEHAVIOURS, seed)
    found, content = calibration_of(request)
    if out is not None:
        write_calibration(found, content, out)
    if as_json:
        print_json(content)
        return
    typer.echo("\n".join(histogram_lines(found.pairs)))
    print_table("AUC of matching against other texts, 95 % intervals over cards", _areas(found))
    print_table(f"{embedder}: thresholds, and what they do on cards that did not choose them", _parts(found))
    if out is not None:
        typer.echo(f"{out}: name its calibration.json as matcher.calibration")


def _areas(found: Calibration) -> list[dict[str, Any]]:
    titles = {"all": "all fields together", "within": "within fields, mean"}
    return [
        {
            "field": titles.get(name, name),
            "all other cards": _interval(area),
            "same condition": _interval(found.near_auc.get(name)),
            "pairs": area.n,
        }
        for name, area in found.auc.items()
    ]


def _parts(found: Calibration) -> list[dict[str, Any]]:
    rows = [_row(field, found.thresholds[field], part) for field, part in found.held_out_fields.items()]
    rows.append(_row("all fields, each its own", None, found.held_out))
    rows.append(_row("all fields, one for all", found.threshold, found.held_out_single))
    return [*rows, _row("(cards that chose, each its own)", None, found.chosen_on)]


def _row(name: str, threshold: float | None, part: Part) -> dict[str, Any]:
    return {
        "field": name,
        "threshold": "-" if threshold is None else f"{threshold:.4f}",
        "sensitivity": _share(part.sensitivity),
        "specificity": _share(part.specificity),
        "same condition": _share(part.near_specificity),
        "constant": f"{part.constant:.1%}",
        "cards": part.cards,
    }


def _interval(found: Interval | None) -> str:
    return "-" if found is None else f"{found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _share(found: Interval | None) -> str:
    return "-" if found is None else f"{found.estimate:.1%} [{found.low:.1%}, {found.high:.1%}] n={found.n:,}"
