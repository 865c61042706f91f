"""The data card: a Hugging Face data set card in which every number was computed from the rows it describes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from strop import __version__
from strop.errors import UserError
from strop.evaluation.statistics import SHARE, Interval, cluster_bootstrap
from strop.judging.qualifying.certificate import Certificate
from strop.methods.preference.formats import OPENRLHF_FLAGS, PUBLISHED, SETS, pairs_by_set
from strop.methods.preference.pairing import PairSettings
from strop.methods.preference.ratings import HIGHEST, LOWEST, SAFETY
from strop.runs.seeds import derive_seed

if TYPE_CHECKING:
    from jinja2 import Environment

Row = Mapping[str, Any]

PAPER = "arXiv 2502.19731"
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
LARGEST = "n>1M"


@dataclass(frozen=True, slots=True)
class Source:
    """Where texts come from, and under which licence they may be used."""

    name: str
    licence: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """What the rows cannot tell of themselves.

    Attributes:
        title: What the data set is called.
        command: The command that made it.
        judge: Who rated, with its revision; empty where that was not said.
        certificate: What its certificate says; empty where it has none.
        rubric: The rubric with its hash; empty where that was not said.
        licence: Licence of the data set, as the hub names it: `cc-by-nc-4.0`; empty where that was not said.
        sources: Where the texts come from.
        language: Language code of the texts.
    """

    title: str
    command: str
    judge: str = ""
    certificate: str = ""
    rubric: str = ""
    licence: str = ""
    sources: tuple[Source, ...] = ()
    language: str = "en"


def with_certificate(provenance: Provenance, path: Path) -> Provenance:
    """Return what a card says of a judge that has a certificate.

    Raises:
        UserError: The certificate cannot be read, was changed, or is of another rubric than `provenance` names.
    """
    certificate = Certificate.load(path)
    rubric = certificate.rubric
    label = f"{rubric.name} (version {rubric.version}, {rubric.hash[:12]})" if rubric.hash else ""
    if provenance.rubric and label and provenance.rubric != label:
        raise UserError(
            "the judge's certificate is of another rubric", value=label, why=f"the ratings follow {provenance.rubric}"
        )
    accuracy = certificate.figures.get("accuracy")
    agrees = f", agrees on {accuracy.estimate:.1%} ({accuracy.low:.1%} to {accuracy.high:.1%})" if accuracy else ""
    told = f"{certificate.decision} on {certificate.judged} pairs{agrees}, {certificate.date}"
    judge = f"{certificate.judge.name} (revision {certificate.judge.revision[:12]})"
    return replace(provenance, judge=judge, certificate=told, rubric=provenance.rubric or label)


def card_facts(
    rows: Sequence[Row],
    counts: Mapping[str, Any],
    settings: PairSettings,
    provenance: Provenance,
    *,
    seed: int,
    second_check: bool,
) -> dict[str, Any]:
    """Return everything that a card says of a data set, numbers as they are printed.

    Args:
        rows: The pairs.
        counts: What became of speeches, responses and possible pairs: `PairCounts.to_row`, or the `report.json` of a
            run's stage `pairs`.
        settings: The rule by which the pairs were made.
        provenance: What the rows cannot tell.
        seed: Of the run; the draws of the intervals derive from it.
        second_check: Whether a check of replies stood beside the judge's safety rating.
    """
    sets = {name: some for name, some in pairs_by_set(rows).items() if some}
    return {
        **asdict(provenance),
        "paper": PAPER,
        "version": __version__,
        "seed": seed,
        "size": next((name for limit, name in SIZES if len(rows) < limit), LARGEST),
        "files": {name.replace("test_close", "close"): f"{PUBLISHED}/{name}.parquet" for name in sets},
        "pairs": len(rows),
        "sets": [_set_facts(name, sets[name]) for name in SETS if name in sets],
        "counts": counts,
        "min_gap": settings.min_gap,
        "gate": settings.gate,
        "second_check": second_check,
        "openrlhf_flags": OPENRLHF_FLAGS,
        "passes_from": settings.passes_from,
        "distinct_models": settings.distinct_models,
        "scale": {"lowest": LOWEST, "highest": HIGHEST},
        "principles": [_principle_facts(key, rows, seed) for key in settings.principles],
        "models": _model_facts(rows),
        "topics": [{"name": name, "pairs": count} for name, count in _ordered(str(row["topic"]) for row in rows)],
        "inverted": _share([SAFETY in row["disagree"] for row in rows], rows, seed, "inverted"),
        "longer": _share([_words(row["chosen"]) > _words(row["rejected"]) for row in rows], rows, seed, "longer"),
        "noise": _noise_facts(rows, seed),
        "level": f"{Interval(0, 0, 0, 0).level:.0%}",
    }


def _set_facts(name: str, rows: Sequence[Row]) -> dict[str, Any]:
    gaps = [row["gap"] for row in rows]
    return {
        "name": name,
        "pairs": len(rows),
        "speeches": len({row["ID"] for row in rows}),
        "smallest_gap": _number(min(gaps)),
        "median_gap": _number(median(gaps)),
        "largest_gap": _number(max(gaps)),
    }


def _principle_facts(key: str, rows: Sequence[Row], seed: int) -> dict[str, Any]:
    signs = Counter(_sign(row["chosen_ratings"][key] - row["rejected_ratings"][key]) for row in rows)
    share = _share([key in row["disagree"] for row in rows], rows, seed, key)
    return {"key": key, "higher": signs[1], "equal": signs[0], "lower": signs[-1], "share": share}


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _model_facts(rows: Sequence[Row]) -> list[dict[str, Any]]:
    chosen, rejected = (Counter(str(row[f"{side}_model"]) for row in rows) for side in ("chosen", "rejected"))
    return [
        {"name": name or "not stated", "chosen": chosen[name], "rejected": rejected[name]}
        for name in sorted(chosen | rejected)
    ]


def _noise_facts(rows: Sequence[Row], seed: int) -> dict[str, Any] | None:
    """Return the mean probability that a label flips, over the pairs with repeats; None without any."""
    known = [row for row in rows if row["noise"] is not None]
    if not known:
        return None
    return {"pairs": len(known), "flips": _share([row["noise"] for row in known], known, seed, "noise")}


def _share(values: Sequence[float], rows: Sequence[Row], seed: int, name: str) -> str | None:
    """Return a mean of shares with its interval, clustered by speech, as text; None without rows."""
    import numpy as np

    if not rows:
        return None
    generator = np.random.default_rng(derive_seed(seed, "card", name))
    found = cluster_bootstrap([float(one) for one in values], [row["ID"] for row in rows], generator, bounds=SHARE)
    return f"{found.estimate:.1%} ({found.low:.1%} to {found.high:.1%})"


def _ordered(names: Iterable[str]) -> list[tuple[str, int]]:
    return sorted(
        ((name or "not stated", count) for name, count in Counter(names).items()), key=lambda one: (-one[1], one[0])
    )


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.3g}"


def _words(text: str) -> int:
    return len(text.split())


def render_card(facts: Mapping[str, Any]) -> str:
    """Return the card as Markdown with its YAML front matter.

    Args:
        facts: See `card_facts`; the template holds no number of its own.
    """
    return _environment().get_template("data_card.md").render(facts)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    template = files("strop.methods.preference").joinpath("data_card.md")
    environment = Environment(
        loader=FunctionLoader(lambda name: template.read_text(encoding="utf-8") if name == "data_card.md" else None),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # Markdown, read as text: escaping for HTML would show in code spans. Names are made harmless by `cell`.
        autoescape=False,
    )
    environment.filters["cell"] = _cell
    environment.filters["yaml"] = _yaml
    environment.filters["line"] = _line
    return environment


def _cell(value: object) -> str:
    """Return text from outside for one line of Markdown: no line break, no mark that ends a cell or opens a tag."""
    return _line(value).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "'")


def _line(value: object) -> str:
    """Return text in one line."""
    return " ".join(str(value).split())


def _yaml(value: object) -> str:
    """Return text from outside as a quoted YAML scalar; JSON's strings are YAML's."""
    return json.dumps(_line(value), ensure_ascii=False)
