"""The text: Python's own documentation, the split by document, and what is taken out of training."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.evaluation.contamination import contamination
from strop.methods.mixture_of_heads.text import (
    RUN_OF_WORDS,
    Document,
    _docstrings,
    read_files,
    split,
    standard_library,
)
from strop.records.tables import write_table


@pytest.fixture(scope="module")
def library() -> list[Document]:
    return standard_library()


def test_the_library_is_a_megabyte_in_many_documents(library: list[Document]) -> None:
    assert len(library) > 150
    assert sum(len(one.text) for one in library) > 1_000_000
    names = [one.name for one in library]
    assert len(set(names)) == len(names)
    assert {"json", "argparse", "asyncio"} < set(names)


def test_docstrings_in_the_order_of_the_source() -> None:
    """The module's, a class's, its method's, a function's; a docstring inside a function's body is none of them."""
    source = '"""M."""\nclass A:\n "a"\n def b(self):\n  "b"\n  def inner(): "no"\ndef c():\n "c"\nx = "no"\n'
    assert list(_docstrings(ast.parse(source))) == ["M.", "a", "b", "c"]


def test_the_split_shares_no_run_of_words(library: list[Document]) -> None:
    """No training document holds thirteen words in a row of a held-back one, found by the benchmarks' own search."""
    made = split(library, held_back=0.2, seed=0)
    assert made.digest == split(library, held_back=0.5, seed=1).digest
    assert made.removed > 0
    found = contamination(
        ((one.name, one.text) for one in made.train[:30]),
        ((one.name, one.text) for one in made.held_back),
        words=RUN_OF_WORDS,
        template_items=len(made.held_back),
    )
    # A run may still cross from one kept passage into the next: one in thirty documents at most.
    assert len(found.texts_hit) <= 1


def test_a_shared_passage_is_taken_out_by_hand() -> None:
    words = " ".join(f"w{number}" for number in range(RUN_OF_WORDS))
    documents = [Document("a", (words, "kept a")), Document("b", (words, "kept b")), Document("c", ("kept c",))]
    for seed in range(6):
        made = split(documents, held_back=0.5, seed=seed)
        held = {one.name for one in made.held_back}
        assert len(held) == 2
        (left,) = made.train
        assert left.passages == {"a": ("kept a",), "b": ("kept b",), "c": ("kept c",)}[left.name]


@given(count=st.integers(3, 30), share=st.floats(0.01, 0.99), seed=st.integers(0, 5))
def test_documents_are_on_one_side(count: int, share: float, seed: int) -> None:
    documents = [Document(str(number), (f"text {number}",)) for number in range(count)]
    made = split(documents, held_back=share, seed=seed)
    train, held = ({one.name for one in side} for side in (made.train, made.held_back))
    assert train | held == {one.name for one in documents}
    assert not train & held
    assert len(held) >= 2
    assert train


def test_too_few_documents_are_refused() -> None:
    with pytest.raises(UserError, match="too few documents"):
        split([Document("a", ("x",)), Document("b", ("y",))], held_back=0.5, seed=0)


def test_files_of_documents(tmp_path: Path) -> None:
    write_table(tmp_path / "a.jsonl", [{"id": 1, "text": "one\n\ntwo\n\n \n\n"}, {"id": 2, "text": "three"}])
    assert [one.passages for one in read_files([tmp_path / "a.jsonl"])] == [("one", "two"), ("three",)]
    with pytest.raises(UserError, match="two documents have one id"):
        read_files([tmp_path / "a.jsonl", tmp_path / "a.jsonl"])
    write_table(tmp_path / "b.jsonl", [{"id": 1, "text": " "}])
    with pytest.raises(UserError, match="a document needs text"):
        read_files([tmp_path / "b.jsonl"])
