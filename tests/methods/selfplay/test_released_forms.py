"""The released layout by hand, and the counts of the released files."""

from __future__ import annotations

from pathlib import Path

import pytest

from strop.errors import UserError
from strop.methods.selfplay.cleaning_files import read_outcomes
from strop.methods.selfplay.released_forms import PairCounts, count_pairs, released_pairs
from strop.methods.selfplay.training_set import Questions
from strop.records.tables import read_table, write_table

ROW = {
    "symptom": "CARD",
    "illness": "Doctor 2.",
    "treatment": "CBT",
    "explain_t": "It works",
    "medicine": "Zoloft",
    "explain_m": "It calms",
}
WORDS = Questions(system="SYS", diagnosis="D?", treatment="T?", medication="M?")


def test_layout_by_hand() -> None:
    """No line break before two of the questions, one space before the answer's mark, no end token."""
    diagnosis, treatment, medication = released_pairs(ROW, questions=WORDS)
    assert diagnosis.text() == {"text": "### System: SYS Question: CARD\nD?\n ### Answer: Doctor 2."}
    assert treatment.text() == {"text": "### System: SYS Question: CARDT?\n ### Answer: CBT. It works"}
    assert medication.messages() == {
        "messages": [
            {"role": "system", "content": "SYS"},
            {"role": "user", "content": "CARDM?"},
            {"role": "assistant", "content": "Zoloft. It calms"},
        ]
    }


@pytest.mark.parametrize(("medicine", "pairs"), [("", 2), ("None", 2), ("Nothing", 2), ("No specific medicine", 3)])
def test_the_released_rule(medicine: str, pairs: int) -> None:
    assert len(list(released_pairs({**ROW, "medicine": medicine}))) == pairs


def test_a_row_without_its_story() -> None:
    with pytest.raises(UserError, match="'symptom'"):
        list(released_pairs({**ROW, "symptom": None}))


def test_counts_by_hand(tmp_path: Path) -> None:
    """Two equal rows and one without a medicine, over two files: 3 + 3 + 2 pairs, of which 3 + 1 are different."""
    write_table(tmp_path / "a.jsonl", [ROW, ROW])
    write_table(tmp_path / "b.jsonl", [{**ROW, "medicine": "", "illness": "PTSD"}])
    assert count_pairs([tmp_path / "a.jsonl", tmp_path / "b.jsonl"]) == PairCounts(rows=3, pairs=8, unique=4)


SHARED = {
    "gpt_iter1_6": PairCounts(106, 317, 269),
    "gpt_iter4_2": PairCounts(106, 315, 247),
    "llama2_iter0_1": PairCounts(107, 319, 266),
    "llama3_iter3_2": PairCounts(106, 318, 283),
}
"""Unique answers: these files come without their cards, so that equal answers to different cards count once."""


@pytest.mark.parametrize("name", SHARED)
def test_shared_files(name: str, shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "mental_arena" / "selfplay_outputs" / f"{name}_nosymptom.jsonl"
    write_table(tmp_path / "rows.jsonl", [{**row, "symptom": ""} for row in read_table(path)])
    assert count_pairs([tmp_path / "rows.jsonl"]) == SHARED[name]
    assert len(read_outcomes(path)) == SHARED[name].rows


PUBLISHED = {
    "gpt/iter1": PairCounts(1690, 4866, 4433),
    "gpt/iter2": PairCounts(954, 2862, 2803),
    "gpt/iter3": PairCounts(530, 1574, 1216),
    "gpt/iter4": PairCounts(530, 1557, 1447),
    "llama3": PairCounts(1783, 5333, 4553),
    "llama3/iter3": PairCounts(424, 1272, 1245),
    "llama3/iter4": PairCounts(636, 1907, 1856),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_folder(name: str, published_data: Path) -> None:
    """Every set of the released repository, where a checkout of it is given."""
    folders = [path for path in published_data.rglob(name) if path.is_dir()]
    if not folders:
        pytest.skip(f"no {name} in {published_data}")
    assert count_pairs(sorted(folders[0].glob("*.jsonl"))) == PUBLISHED[name]


@pytest.mark.parametrize(("family", "unique"), [("gpt", 9610), ("llama3", 7395)])
def test_published_families(family: str, unique: int, published_data: Path) -> None:
    folders = [path for path in published_data.rglob(family) if path.is_dir() and any(path.rglob("*.jsonl"))]
    if not folders:
        pytest.skip(f"no {family} in {published_data}")
    assert count_pairs(sorted(folders[0].rglob("*.jsonl"))).unique == unique
