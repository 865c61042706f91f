"""Batches: bounded, sorted, whole, and the same whoever cuts them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.errors import UserError
from strop.models.batching import WINDOW, Batching
from strop.models.local import LocalModel
from strop.models.protocol import Call, Sampling

SHORT, LONG = Sampling(max_tokens=4), Sampling(1.0, max_tokens=9)


def places(batching: Batching, calls: list[Call], *, done: set[int] | None = None) -> list[list[int]]:
    return [batch.places for batch in batching.batches(calls, done=done or set())]


@pytest.fixture(scope="module")
def narrow(tiny_folder: Path) -> Batching:
    return Batching(tiny_folder, dtype="float32", chat="auto", batch_size=6, cache_bytes=1 << 16)


def test_batches_are_sorted_bounded_and_whole(narrow: Batching) -> None:
    """Two layers, two key-value heads of 8, float32: 2 * 2 * 2 * 8 * 4 = 256 bytes a token.

    With 64 KiB a batch holds 256 tokens: at 60 + 4 tokens a completion, four completions.
    """
    calls = [Call("go" + " go" * 59, SHORT, sample) for sample in range(5)]
    calls += [Call(f"go {number}", SHORT) for number in range(8)]
    whole = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11, 12]]
    assert places(narrow, calls) == whole
    assert places(narrow, calls, done={*range(4), 8, 9}) == whole[1:]
    assert places(narrow, calls, done=set(range(13))) == []


def test_half_the_bytes_a_token_make_batches_twice_as_large(tiny_folder: Path) -> None:
    half = Batching(tiny_folder, dtype="bfloat16", chat="auto", batch_size=100, cache_bytes=1 << 16)
    calls = [Call("go" + " go" * 59, SHORT, sample) for sample in range(9)]
    assert places(half, calls) == [list(range(8)), [8]]


def test_a_model_computes_the_batches_that_are_cut_without_its_weights(tiny_folder: Path, narrow: Batching) -> None:
    model = LocalModel(tiny_folder, device="cpu", batch_size=6, cache_bytes=1 << 16)
    calls = [Call("go" + " go" * (7 * number % 40), SHORT, sample) for number in range(6) for sample in range(3)]
    assert [[place for place, _ in batch] for batch in model.complete(calls)] == places(narrow, calls)


def test_a_window_is_cut_by_itself(narrow: Batching) -> None:
    """The one call behind the first window shares no batch with it, and its place goes on counting."""
    calls = [Call("go", SHORT, sample) for sample in range(WINDOW + 1)]
    last = places(narrow, calls)[-1]
    assert last == [WINDOW]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 70), st.integers(0, 4), st.booleans()), min_size=1, max_size=60))
def test_a_batch_that_is_cut_again_stays_as_it_is(narrow: Batching, rows: list[tuple[int, int, bool]]) -> None:
    """So a worker that is handed one batch computes it as the process that cut it would have."""
    calls = [Call("go" + " ti" * length, LONG if long else SHORT, sample) for length, sample, long in rows]
    batches = list(narrow.batches(calls))
    assert sorted(place for batch in batches for place in batch.places) == list(range(len(calls)))
    for batch in batches:
        assert batch.calls == [calls[place] for place in batch.places]
        (again,) = narrow.batches(batch.calls)
        assert again.places == list(range(len(batch.calls)))
        assert again.tokens == batch.tokens


def test_a_folder_that_transformers_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no-such-architecture"}')
    with pytest.raises(UserError, match="transformers cannot load this model"):
        Batching(tmp_path, dtype="float32", chat="auto")
