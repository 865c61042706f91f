"""Items, tasks and the committed rows that the tests of this folder share."""

from __future__ import annotations

from pathlib import Path

from strop.evaluation.benchmarks.items import LETTERS, YES_NO, Family, Item, Task
from strop.evaluation.benchmarks.readers import TaskSettings, read_task

DATA = Path(__file__).parent / "data"


def item(number: int, gold: str = "A", *, options: tuple[str, ...] = ("one", "two"), part: str = "") -> Item:
    letters = tuple(LETTERS[: len(options)])
    return Item(number, f"Which is number {number}?", letters, options, gold, part=part)


def yes_no(number: int, gold: str, part: str = "") -> Item:
    return Item(number, "Does the poster suffer from stress?", YES_NO, YES_NO, gold, ("a post of ours",), part)


def task(*items: Item, family: Family = "choice", layout: str = "choices") -> Task:
    return Task("made", family, items, layout, ("made.jsonl",))


def committed(name: str, *files: str, contexts: bool = False) -> Task:
    """Read one of the committed tables."""
    return read_task(name, TaskSettings(file=tuple(DATA / file for file in files), contexts=contexts))


MMLU = ("mmlu_college_biology_test.jsonl", "mmlu_medical_genetics_test.jsonl")
MEDMCQA = ("medmcqa_ENT.jsonl", "medmcqa_Skin.jsonl")
