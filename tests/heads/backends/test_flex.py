"""FlexAttention over packed rows: the mask of tiles by definition, and parity where it compiles."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask

from head_cases import HeadCase, build, naive_attention, relative_error
from strop.heads.attention import moh_attention
from strop.heads.backends import flex


def test_tiles_are_those_of_the_mask() -> None:
    """Against torch's own, which looks at every pair."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(0, 300, (3, 512), generator=generator, dtype=torch.int32).sort(dim=1).values
    last = first + torch.randint(0, 200, (3, 512), generator=generator, dtype=torch.int32)
    last = last.clamp(max=332)
    last[1, 200:] = -1
    last[2] = -1
    mask = flex.block_mask(first, last, 333)
    want = create_block_mask(mask.mask_mod, 3, None, 512, 333, device="cpu", BLOCK_SIZE=flex.TILE)
    assert torch.equal(mask.to_dense(), want.to_dense())
    seen = mask.mask_mod(torch.arange(3)[:, None, None], torch.tensor(0), torch.arange(512)[:, None], torch.arange(333))
    full_index, full_count = mask.full_kv_indices, mask.full_kv_num_blocks
    assert full_index is not None
    assert full_count is not None
    for segment in range(3):
        for tile in range(4):
            for number in full_index[segment, 0, tile, : int(full_count[segment, 0, tile])].tolist():
                rows = slice(tile * 128, tile * 128 + 128)
                assert seen[segment, rows, number * 128 : number * 128 + 128].all()


def test_no_gradient_on_a_cpu() -> None:
    problem = build(HeadCase(queries=5))
    query = problem.plan.pack(problem.query_bhnd)
    assert flex.missing(query, problem.plan) is None
    assert "no gradient" in str(flex.missing(query.requires_grad_(), problem.plan))
    with torch.no_grad():
        assert flex.missing(query, problem.plan) is None


@pytest.mark.slow
@pytest.mark.parametrize("sight", ["causal", "left_padding", "window"])
def test_parity(sight: str) -> None:
    """Compiles for a minute."""
    problem = build(HeadCase(queries=150, groups=2, heads_per_group=2, chosen=2, sight=sight, seed=3))
    with torch.inference_mode():
        out = moh_attention(problem.query_bhnd, problem.key_bgtd, problem.value_bgtd, plan=problem.plan, backend="flex")
    query, key, value = (x.double() for x in (problem.query_bhnd, problem.key_bgtd, problem.value_bgtd))
    want = naive_attention(query, key, value, problem.visible)
    assert relative_error(out, want * problem.mask_bnh.permute(0, 2, 1)[..., None]) < 1e-5
