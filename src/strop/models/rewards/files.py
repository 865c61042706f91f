"""Rewards of a file of responses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from strop.errors import UserError
from strop.models.rewards.protocol import Advance, RewardModel
from strop.records.rows import prompt_from_json
from strop.records.tables import read_table, write_table


def score_file(
    answers: Path,
    out: Path,
    model: RewardModel,
    *,
    fields: Mapping[str, str] | None = None,
    advance: Advance | None = None,
) -> dict[str, Any]:
    """Score the responses of a table and write its rows with `reward`, or with `rewards` for several responses.

    Args:
        answers: Rows of `prompt` and `response` or `responses`.
        out: The table to write.
        model: An open reward model.
        fields: Renames, wanted name to the file's name.
        advance: Told how many further responses have been scored.

    Returns:
        Counts, and who scored.

    Raises:
        UserError: A field is missing, or a response is longer than the model's window.
    """
    rows = read_table(answers, fields=fields)
    texts = [_responses(row, f"{answers}, row {number}") for number, row in enumerate(rows, 1)]
    prompts = [prompt_from_json(row.get("prompt")) for row in rows]
    items = [(prompt, text) for prompt, each in zip(prompts, texts, strict=True) for text in each]
    scores = iter(model.score(items, advance=advance))
    scored = []
    for row, each in zip(rows, texts, strict=True):
        rewards = [next(scores) for _ in each]
        scored.append({**row, "rewards": rewards} if "responses" in row else {**row, "reward": rewards[0]})
    write_table(out, scored)
    return {"rows": len(rows), "responses": len(items), "reward": model.name, "revision": model.revision}


def _responses(row: Mapping[str, Any], where: str) -> list[str]:
    given = row["responses"] if "responses" in row else [row.get("response")]
    if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
        fix = "map its field with --fields response=YOURS"
        raise UserError(f"{where}: no text under 'response' or 'responses'", value=sorted(row), fix=fix)
    return given
