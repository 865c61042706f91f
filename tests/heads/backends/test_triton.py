"""The Triton backend: its tables here, its kernels in processes of their own, as the interpreter is chosen at import.

On a machine without a GPU the kernels are shown right in Triton's interpreter and are compiled, but never timed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings

from head_cases import HeadCase, build, head_cases
from strop.heads.backends.triton_tiles import default_blocks, row_tiles, row_walks, tile_bound
from strop.heads.plan import RoutingPlan

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]


def run(*arguments: str, interpret: bool) -> subprocess.CompletedProcess[str]:
    """Run Python in a process that has not imported Triton yet."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_INTERPRET": "1"} if interpret else {}
    environment |= {"PYTHONPATH": os.pathsep.join([str(REPOSITORY / "src"), environment.get("PYTHONPATH", "")])}
    return subprocess.run(
        [sys.executable, *arguments], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )


def run_tests(name: str, *, marks: str, interpret: bool) -> None:
    """Run a file of tests and show what it said where it fails."""
    pytest.importorskip("triton")
    done = run(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", marks, str(HERE / name), interpret=interpret
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.slow
def test_kernels_in_the_interpreter() -> None:
    run_tests("triton_interpreted.py", marks="slow or not slow", interpret=True)


def test_some_kernels_in_the_interpreter() -> None:
    run_tests("triton_interpreted.py", marks="not slow", interpret=True)


@pytest.mark.slow
def test_kernels_compile_for_gpus() -> None:
    run_tests("triton_compiled.py", marks="slow or not slow", interpret=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_says_that_there_is_no_gpu() -> None:
    program = """
import os, torch
from strop.heads.backends import triton
query, plan = torch.zeros(3, 16), None
print(triton.missing(query, plan))
os.environ["TRITON_INTERPRET"] = "1"
print(triton.missing(query, plan))
"""
    pytest.importorskip("triton")
    done = run("-c", program, interpret=False)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert "no GPU" in first
    assert "when the program starts" in second


def plan_by_hand() -> RoutingPlan:
    """Two KV heads, five causal tokens; the first head takes tokens 0, 2, 3, 4, the second token 1."""
    problem = build(HeadCase(queries=5, groups=2, width=1))
    mask_bnh = torch.tensor([[[True, False], [False, True], [True, False], [True, False], [True, False]]])
    from strop.heads.plan import routing_plan

    return routing_plan(mask_bnh, groups=2, visible=problem.visible)


def test_tiles_by_hand() -> None:
    """Tiles of two rows: rows 0-1 see up to key 2, rows 2-3 up to 4, row 4 (token 1) up to 1; 5 // 2 + 2 entries."""
    plan = plan_by_hand()
    assert tile_bound(plan, 2) == 4
    assert row_tiles(plan, 2).tolist() == [[0, 0, 1, -1], [2, 0, 4, 6], [4, 2, 5, 5]]


def test_walks_by_hand() -> None:
    """Key tiles 0-1, 2-3 and 4 of head 0, whose rows stand at 0, 2, 3 and 4.

    All four rows see the first tile, those from row 1 on all of it; rows 1 to 3 see the second, those from row 2 all of
    it; row 3 alone sees the last.
    """
    start, whole, whole_end, end = row_walks(plan_by_hand(), 2)[:, 0].tolist()
    assert (start, end) == ([0, 1, 3], [4, 4, 4])
    assert (whole, whole_end) == ([1, 2, 3], [4, 4, 4])


@settings(deadline=None, max_examples=60)
@given(case=head_cases(longest=70, widths=(1,)))
def test_tiles_hold_every_row_once(case: HeadCase) -> None:
    plan = build(case).plan
    segment_i, first_i, end_i = row_tiles(plan, 16).tolist()
    rows = [
        (segment, row)
        for segment, first, end in zip(segment_i, first_i, end_i, strict=True)
        if segment >= 0
        for row in range(first, end)
    ]
    offsets = plan.offset_s.tolist()
    want = [(s, row) for s in range(len(offsets) - 1) for row in range(offsets[s], offsets[s + 1])]
    assert sorted(rows) == want
    assert all(end - first <= 16 for first, end, s in zip(first_i, end_i, segment_i, strict=True) if s >= 0)


@settings(deadline=None, max_examples=60)
@given(case=head_cases(longest=70, widths=(1,)))
def test_walks_hold_every_row_that_sees_a_tile(case: HeadCase) -> None:
    """And in their middle only rows that see the whole tile, or nothing at all."""
    plan = build(case).plan
    seen_rt = torch.stack(
        [(plan.first_r <= key) & (key <= plan.last_r) for key in range(plan.visible.keys)], dim=1
    )  # fmt: skip
    walks = row_walks(plan, 16)
    offsets = plan.offset_s.tolist()
    for segment in range(walks.shape[1]):
        for tile in range(walks.shape[2]):
            start, whole, whole_end, end = walks[:, segment, tile].tolist()
            block_rt = seen_rt[:, tile * 16 : (tile + 1) * 16]
            rows = range(offsets[segment], offsets[segment + 1])
            assert start <= whole <= whole_end <= end
            assert all(start <= row < end for row in rows if block_rt[row].any())
            assert all(row in rows for row in range(start, end))
            nothing_r = ~seen_rt.any(dim=1)
            assert all(bool(block_rt[row].all() | nothing_r[row]) for row in range(whole, whole_end))


@pytest.mark.parametrize("width", [1, 16, 64, 128, 256])
@pytest.mark.parametrize("itemsize", [2, 4])
def test_sizes_are_powers_of_two(width: int, itemsize: int) -> None:
    for rows_per_token in (0.25, 1.0, 4.0):
        blocks = default_blocks(width, itemsize, rows_per_token)
        sizes = (blocks.rows, blocks.keys, blocks.backward_keys, blocks.walked_rows, blocks.owned_keys)
        assert all(size >= 16 and size & (size - 1) == 0 for size in sizes)
    assert default_blocks(64, 2, 1.0).rows == 128
    assert default_blocks(64, 2, 0.5).rows == 64
