"""Speeches and pairs on files: what `strop preference` does, without a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strop.errors import UserError
from strop.methods.preference.card import Provenance, card_facts, render_card
from strop.methods.preference.formats import write_formats
from strop.methods.preference.pairing import Gate, Pairs, PairSettings, make_pairs
from strop.methods.preference.speeches import Speeches, SpeechSettings, Split, load_speeches, split_of
from strop.records.tables import atomic_path, iter_table, table_kind, write_table
from strop.runs.configuration import validate
from strop.runs.yaml_files import Located

ROWS, REPORT, CARD = "rows.jsonl", "report.json", "README.md"


def speech_settings(given: Mapping[str, Any]) -> SpeechSettings:
    """Return settings that came as options.

    Raises:
        UserError: They contradict each other.
    """
    settings = validate(SpeechSettings, Located(dict(given), {}), where="the options")
    assert isinstance(settings, SpeechSettings)
    return settings


def speech_files(settings: SpeechSettings, *, seed: int, out: Path) -> Speeches:
    """Write the speeches of files, cleaned and split, as a table of `id`, `speech`, `topic`, `split`.

    Raises:
        UserError: See `load_speeches`; or `out` names no format. Nothing was written.
    """
    table_kind(out)
    found = load_speeches(settings, seed=seed)
    write_table(out, (speech.to_row() for speech in found.speeches))
    return found


@dataclass(frozen=True, slots=True)
class PairRequest:
    """What `pair_files` is asked for.

    Attributes:
        rated: The table of rated responses.
        out: Folder for rows, forms, card and report.
        settings: The rule.
        development: Share of the speeches, of rows without a split.
        test: Share of the speeches, of rows without a split.
        provenance: For the card.
        fields: Names to map, ours to the file's.
        gate: A check beside the judge's safety rating.
        seed: Of splits, ties and intervals.
    """

    rated: Path
    out: Path
    settings: PairSettings
    provenance: Provenance
    development: float = 0.1
    test: float = 0.1
    fields: Mapping[str, str] | None = None
    gate: Gate | None = None
    seed: int = 0


def pair_files(request: PairRequest) -> Pairs:
    """Make the pairs of a table of rated responses, and write them in every form with a card and a report.

    Raises:
        UserError: The table is broken or gives no pair; nothing was written.
    """
    if request.development + request.test >= 1:
        shares = f"{request.development} and {request.test}"
        raise UserError("the shares of development and test leave nothing to train on", value=shares)

    def split(text: str) -> Split:
        return split_of(text, seed=request.seed, development=request.development, test=request.test)

    rows = iter_table(request.rated, fields=request.fields)
    made = make_pairs(rows, request.settings, seed=request.seed, gate=request.gate, split=split)
    counts = made.counts.to_row()
    if not made.rows:
        raise UserError(
            f"{request.rated}: the ratings give no pair",
            value=counts,
            fix="look at the counts: a smaller --min-gap, more speeches, or complete ratings",
        )
    settings = request.settings
    checked = request.gate is not None
    facts = card_facts(made.rows, counts, settings, request.provenance, seed=request.seed, second_check=checked)
    write_table(request.out / ROWS, made.rows)
    write_formats(request.out, made.rows, principles=settings.principles, expected=settings.expected)
    _write(request.out / CARD, render_card(facts))
    report: dict[str, Any] = {"settings": settings.model_dump(mode="json"), "seed": request.seed, **counts}
    _write(request.out / REPORT, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return made


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")
