"""From a file of prompts to a file of answers, as a stage: streamed in, asked, streamed out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import Field

from strop.errors import Stopped, UserError
from strop.models.asking import Answered, ask_each
from strop.models.placement import Placement, open_placed
from strop.models.protocol import Call, Sampling, TextModel
from strop.models.spec import ModelField, ModelSpec
from strop.records.rows import Identifier, Prompt, prompt_from_json, prompt_to_json
from strop.records.tables import iter_table, table_writer
from strop.runs.calls import FailedCall, StoredCall
from strop.runs.configuration import Config
from strop.runs.stage import Stage
from strop.runs.store import CallStore

ANSWERS, FAILURES, PARTIAL = "rows.jsonl", "failures.jsonl", "answered.jsonl"
PROMPTS_AT_ONCE = 256


class GenerationConfig(Config):
    """What one generation over a file of prompts is made of."""

    prompts: Path
    """The table of prompts."""
    fields: dict[str, str] = Field(default_factory=dict)
    """Wanted field name to the file's."""
    model: ModelField
    """Who answers."""
    samples: int = Field(1, ge=1)
    """Answers a prompt."""
    sampling: Sampling = Sampling()
    """How to draw them."""
    placement: Placement = Placement()
    """Where the model runs."""


@dataclass(frozen=True)
class PromptTable:
    """The prompts of a table, read anew each time they are gone through: they are never held whole.

    Attributes:
        path: JSONL, JSON or Parquet with `prompt` (text or messages) and optionally `id`.
        fields: Wanted field name to the file's.
    """

    path: Path
    fields: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Prompt]:
        return (prompt for _, prompt in self.rows())

    def __len__(self) -> int:
        return sum(1 for _ in iter_table(self.path))

    def __contains__(self, prompt: object) -> bool:
        return any(prompt == other for other in self)

    def rows(self) -> Iterator[tuple[Identifier, Prompt]]:
        """Yield id and prompt of every row; a row without an id has its number, counted from 0.

        Raises:
            UserError: A row has no prompt, or one that is neither text nor messages; file and row are named.
        """
        for number, row in enumerate(iter_table(self.path, fields=self.fields)):
            where = f"{self.path}, row {number + 1}"
            if "prompt" not in row:
                fix = "map one of its fields with --fields prompt=YOURS"
                raise UserError(f"{where}: no field 'prompt'", value=sorted(row), fix=fix)
            try:
                yield row.get("id", number), prompt_from_json(row["prompt"])
            except UserError as error:
                raise UserError(f"{where}: {error.what}", value=row["prompt"]) from None


def generate(
    stage: Stage,
    model: ModelSpec,
    prompts: Path,
    *,
    fields: Mapping[str, str],
    sampling: Sampling,
    samples: int,
    placement: Placement,
) -> None:
    """Answer every prompt of a table `samples` times: `rows.jsonl`, and `failures.jsonl` for calls without an answer.

    A row holds `id`, `prompt` and `response`, or `responses` where several were asked for. A prompt that no answer
    came to (longer than the model's context, say) is no row: it stands among the failures, with the reason.

    A stop leaves what is answered so far in the stage's work folder, as `answered.jsonl`.
    """
    table = PromptTable(prompts, fields)
    count = len(table)
    if not count:
        raise UserError(f"{prompts}: there is no prompt in this file")
    opened = open_placed(model, placement)
    failed: Counter[str] = Counter()
    try:
        with stage.progress(f"{opened.name}: answers", count * samples) as advance:
            outcomes = ask_each(opened, table, sampling, samples=samples, store=stage.store, advance=advance)
            with table_writer(stage.folder / ANSWERS) as answer, table_writer(stage.folder / FAILURES) as failure:
                for (identifier, prompt), row in zip(table.rows(), outcomes, strict=True):
                    for lost in _failures(row):
                        failed[lost.kind] += 1
                        failure({"id": identifier, "sample": lost.sample, "kind": lost.kind, "message": lost.message})
                    if texts := _texts(row):
                        answer(_row(identifier, prompt, texts, samples))
    except Stopped:
        _write_partial(stage, opened, table, sampling, samples)
        raise
    finally:
        opened.close()
    stage.note(prompts=count, samples=samples, not_answered=dict(failed))


def _texts(row: Sequence[Answered]) -> list[str]:
    return [outcome.text for outcome in row if isinstance(outcome, StoredCall)]


def _failures(row: Sequence[Answered]) -> list[FailedCall]:
    return [outcome for outcome in row if isinstance(outcome, FailedCall)]


def _row(identifier: Identifier, prompt: Prompt, texts: Sequence[str], samples: int) -> dict[str, Any]:
    answers = {"response": texts[0]} if samples == 1 else {"responses": list(texts)}
    return {"id": identifier, "prompt": prompt_to_json(prompt), **answers}


def _write_partial(stage: Stage, model: TextModel, table: PromptTable, sampling: Sampling, samples: int) -> None:
    with table_writer(stage.work / PARTIAL) as write:
        for row in answered_rows(stage.store, model.revision, table, sampling, samples=samples):
            write(row)


def answered_rows(
    store: CallStore, revision: str, table: PromptTable, sampling: Sampling, *, samples: int
) -> Iterator[dict[str, Any]]:
    """Yield the rows of the prompts whose every call the store holds, in the order of the table; asks nothing."""
    rows = table.rows()
    while some := list(islice(rows, PROMPTS_AT_ONCE)):
        keys = [[Call(prompt, sampling, sample).key(revision) for sample in range(samples)] for _, prompt in some]
        found = store.read_many([key for row in keys for key in row])
        for (identifier, prompt), wanted in zip(some, keys, strict=True):
            if all(key in found for key in wanted):
                yield _row(identifier, prompt, [found[key].text for key in wanted], samples)


def partial_answers(run_folder: Path) -> Path | None:
    """Return what a stopped generation left of its answers, or None where it had none."""
    return next((path for path in run_folder.glob(f"work/*/work/{PARTIAL}")), None)
