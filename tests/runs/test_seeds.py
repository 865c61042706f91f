"""Streams are stable, distinct and within the range that every library accepts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from strop.runs import derive_seed, stream


def test_seeds_are_the_same_everywhere_and_always() -> None:
    """The first 8 bytes of SHA-256 of ``[0, "a"]``, big-endian, modulo 2**31; a change here changes every result."""
    assert [derive_seed(0, "a"), derive_seed(1, "a"), derive_seed(0, "b")] == [469865670, 41353921, 1491191425]


@given(st.integers(), st.lists(st.text() | st.integers()))
def test_seeds_fit_every_library(seed: int, names: list[str | int]) -> None:
    assert 0 <= derive_seed(seed, *names) < 2**31


def test_names_are_not_run_together() -> None:
    seeds = [derive_seed(0, *names) for names in (("ab",), ("a", "b"), ("a", "b", ""), (1,), ("1",), (), (1, 1), (11,))]
    assert len(set(seeds)) == len(seeds)


def test_a_stream_does_not_depend_on_others() -> None:
    expected = stream(3, "order").random()
    stream(3, "noise").random()
    assert stream(3, "order").random() == expected
