"""Preference pairs as files that others read: the published columns, TRL, LLaMA-Factory, OpenRLHF.

``docs/preference_data.md`` describes them. Every writer takes the rows of `pairing.make_pairs`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from strop.methods.preference.ratings import PRINCIPLES
from strop.records import PreferencePair
from strop.records.tables import PARQUET_ROWS_PER_GROUP, atomic_path, write_table
from strop.records.training_forms import columns_pair, llama_factory_registry, trl_pair

Row = Mapping[str, Any]

SETS = ("train", "development", "test", "test_close")
"""The files of a data set: the splits, and the close test pairs apart from the extreme ones."""
PUBLISHED, TRL, LLAMA_FACTORY, OPENRLHF = "published", "trl", "llama_factory", "openrlhf"
OPENRLHF_FLAGS = "--prompt_key prompt --chosen_key chosen --rejected_key rejected --apply_chat_template"
"""What OpenRLHF's reward and DPO trainings need to read its files."""


def pairs_by_set(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the pairs of each file of `SETS`; close test pairs stand apart, so that none is trained on by mistake."""
    sets: dict[str, list[Row]] = {name: [] for name in SETS}
    for row in rows:
        sets["test_close" if row["kind"] == "close" else row["split"]].append(row)
    return sets


def published_row(row: Row, principles: Sequence[str] = PRINCIPLES) -> dict[str, Any]:
    """Return a pair in the columns of the published data set: `question` for the speech, one column a rating."""
    published = {
        "ID": str(row["ID"]),
        "prefID": row["prefID"],
        "question": row["prompt"],
        "chosen": row["chosen"],
        "rejected": row["rejected"],
        "chosen_model": row["chosen_model"],
        "rejected_model": row["rejected_model"],
    }
    for side in ("chosen", "rejected"):
        published |= {f"{side}_{key}_rating": row[f"{side}_ratings"][key] for key in principles}
    return published


def write_published(
    path: Path, rows: Iterable[Row], *, principles: Sequence[str] = PRINCIPLES, expected: bool = False
) -> int:
    """Write pairs as Parquet with the published columns and their types; return how many there were.

    Args:
        path: The file.
        rows: Pairs.
        principles: Keys of the ratings, one column each for both sides.
        expected: Ratings are fractions: their columns are float64 in place of int64.

    Raises:
        Stopped: The disk is full.
    """
    import pyarrow
    from pyarrow import parquet

    text, whole = pyarrow.string(), pyarrow.int64()
    rating = pyarrow.float64() if expected else whole
    names = ("question", "chosen", "rejected", "chosen_model", "rejected_model")
    schema = pyarrow.schema(
        [
            ("ID", text),
            ("prefID", whole),
            *((name, text) for name in names),
            *((f"{side}_{key}_rating", rating) for side in ("chosen", "rejected") for key in principles),
        ]
    )
    table = pyarrow.Table.from_pylist([published_row(row, principles) for row in rows], schema=schema)
    with atomic_path(path) as part:
        parquet.write_table(table, part, row_group_size=PARQUET_ROWS_PER_GROUP)
    return int(table.num_rows)


def trl_row(row: Row) -> dict[str, Any]:
    """Return a pair in TRL's conversational preference form: `prompt`, `chosen` and `rejected` as messages.

    OpenRLHF reads the same rows with `OPENRLHF_FLAGS`.
    """
    return trl_pair(PreferencePair.from_row(row), conversational=True)


def llama_factory_row(row: Row) -> dict[str, Any]:
    """Return a pair in LLaMA-Factory's ranking form."""
    return columns_pair(PreferencePair.from_row(row))


def write_formats(
    folder: Path, rows: Sequence[Row], *, principles: Sequence[str] = PRINCIPLES, expected: bool = False
) -> list[Path]:
    """Write pairs in every form, a folder each and in it a file for each set of `SETS`; return the files.

    A set without pairs has no file, for readers refuse files without rows.

    Args:
        folder: Where `published`, `trl`, `llama_factory` and `openrlhf` go.
        rows: Pairs of any splits.
        principles: See `write_published`.
        expected: See `write_published`.
    """
    written: list[Path] = []
    sets = {name: some for name, some in pairs_by_set(rows).items() if some}
    for name, some in sets.items():
        published = folder / PUBLISHED / f"{name}.parquet"
        write_published(published, some, principles=principles, expected=expected)
        written.append(published)
        for path, make in _json_files(folder, name):
            write_table(path, map(make, some))
            written.append(path)
    registry = folder / LLAMA_FACTORY / "dataset_info.json"
    entries = llama_factory_registry([], [f"{name}.json" for name in sets])
    with atomic_path(registry) as part:
        # The keys are names in LLaMA-Factory's one list of data sets: `train` alone would say too little there.
        named = {f"counselling_{name}": entry for name, entry in entries.items()}
        part.write_text(json.dumps(named, indent=2) + "\n", encoding="utf-8")
    return [*written, registry]


def _json_files(folder: Path, name: str) -> Iterator[tuple[Path, Any]]:
    yield folder / TRL / f"{name}.jsonl", trl_row
    yield folder / LLAMA_FACTORY / f"{name}.json", llama_factory_row
    yield folder / OPENRLHF / f"{name}.jsonl", trl_row
