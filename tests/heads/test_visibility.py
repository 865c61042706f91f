"""Visible keys as intervals: the masks that they stand for, by hand, and intervals that are read off masks."""

from __future__ import annotations

from itertools import pairwise

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from head_cases import SIGHTS, HeadCase, build, head_cases
from strop.heads.visibility import Visible, causal, everything, from_mask, packed, padded, windowed


def drawn(visible: Visible, row: int = 0) -> list[str]:
    """Draw a row's mask: one line a query, ``x`` where a key is seen."""
    return ["".join(".x"[int(seen)] for seen in line) for line in visible.mask_bnt()[row]]


def test_causal() -> None:
    assert drawn(causal(1, 3)) == ["x..", "xx.", "xxx"]
    assert drawn(causal(1, 2, 4)) == ["xxx.", "xxxx"]


def test_everything() -> None:
    assert drawn(everything(1, 2, 3)) == ["xxx", "xxx"]


def test_padding_at_either_end() -> None:
    left = padded(torch.tensor([[0, 1, 1], [0, 0, 0]]))
    assert drawn(left) == ["...", ".x.", ".xx"]
    assert drawn(left, 1) == ["...", "...", "..."]
    assert left.seen_bn.tolist() == [[False, True, True], [False, False, False]]
    assert drawn(padded(torch.tensor([[1, 1, 0]]))) == ["x..", "xx.", "..."]


def test_padding_behind_a_cache() -> None:
    """The last two of four places are queries; the first place is padding."""
    assert drawn(padded(torch.tensor([[0, 1, 1, 1]]), queries=2)) == [".xx.", ".xxx"]


def test_packed_documents() -> None:
    assert drawn(packed(torch.tensor([[0, 0, 2, 2]]))) == ["x...", "xx..", "..x.", "..xx"]


def test_windows() -> None:
    assert drawn(windowed(causal(1, 4), 2)) == ["x...", "xx..", ".xx.", "..xx"]
    assert drawn(windowed(packed(torch.tensor([[0, 0, 0, 3]])), 2)) == ["x...", "xx..", ".xx.", "...x"]


@settings(deadline=None)
@given(case=head_cases(longest=60))
def test_intervals_come_back_from_their_mask(case: HeadCase) -> None:
    visible = build(case).visible
    found = from_mask(visible.mask_bnt())
    assert found is not None
    assert torch.equal(found.mask_bnt(), visible.mask_bnt())
    assert torch.equal(found.seen_bn, visible.seen_bn)


@settings(deadline=None)
@given(rows=st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=4))
def test_other_masks_are_no_intervals(rows: list[list[bool]]) -> None:
    mask_bnt = torch.tensor([rows])
    found = from_mask(mask_bnt)
    ends = [(row.index(True), 4 - row[::-1].index(True)) for row in rows if any(row)]
    whole = all(all(row[first : last + 1]) for row, (first, last) in zip(filter(any, rows), ends, strict=True))
    rising = all(a <= b and c <= d for (a, c), (b, d) in pairwise(ends))
    assert (found is not None) == (whole and rising)
    assert found is None or torch.equal(found.mask_bnt(), mask_bnt)


def test_ends_never_fall_among_queries_that_see() -> None:
    """What backends rely on to bound a block of rows by its first and its last row."""

    def rises(end_bn: Tensor, seen_bn: Tensor) -> bool:
        return all(bool((end[seen].diff() >= 0).all()) for end, seen in zip(end_bn, seen_bn, strict=True))

    for sight in SIGHTS:
        visible = build(HeadCase(queries=40, batch=3, sight=sight, seed=5)).visible
        assert rises(visible.first_bn, visible.seen_bn)
        assert rises(visible.last_bn, visible.seen_bn)


def test_what_a_pass_without_gradients_made_serves_one_with_them() -> None:
    """Intervals are kept; those of inference mode could not be saved for a backward pass."""
    with torch.inference_mode():
        first = causal(3, 37, 41)
    again = causal(3, 37, 41)
    assert again is first
    assert not again.last_bn.is_inference()
    assert again.last_bn[0].tolist() == list(range(4, 41))
