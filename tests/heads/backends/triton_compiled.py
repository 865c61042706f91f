"""The Triton kernels compiled for GPUs that this machine need not have; `test_triton.py` starts these tests.

Triton's wheel brings the assembler along. The interpreter accepts what the compiler does not, and knows no registers.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from strop.heads.backends import triton_backward, triton_forward
from strop.heads.backends.triton_tiles import default_blocks

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
SHARED_KIB = {80: 163, 90: 227}
MOST_SPILLED_BYTES = 64
FLOATS = ("part_ptr", "part_logsum_ptr", "logsum_ptr", "delta_ptr", "scale", "unit")
TABLES = ("first_ptr", "last_ptr", "tile_ptr", "walk_ptr")


def signature(kernel: Any, kind: str, constants: dict[str, Any]) -> dict[str, str]:
    """Name the type of each argument."""
    types = {}
    for name in kernel.arg_names:
        pointer = "*" if name.endswith("_ptr") else ""
        short = "fp32" if name in FLOATS else "i32" if name in TABLES or not pointer else kind
        types[name] = "constexpr" if name in constants else pointer + short
    return types


def compile_for(capability: int, kernel: Any, kind: str, constants: dict[str, Any], warps: int, stages: int) -> Any:
    """Compile as a launch would, with pointers and strides that are multiples of 16."""
    names = kernel.arg_names
    aligned = [i for i, name in enumerate(names) if name.endswith(("_ptr", "_stride", "_batch", "_group"))]
    source = ASTSource(
        fn=kernel,
        signature=signature(kernel, kind, constants),
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(i,): [["tt.divisibility", 16]] for i in aligned},
    )
    target = GPUTarget("cuda", capability, 32)
    return triton.compile(source, target=target, options={"num_warps": warps, "num_stages": stages})


def spilled_bytes(compiled: Any, folder: Path) -> int:
    """Return the stack of a thread."""
    (folder / "kernel.cubin").write_bytes(compiled.asm["cubin"])
    said = subprocess.run(
        [CUOBJDUMP, "-res-usage", folder / "kernel.cubin"], capture_output=True, text=True, check=True
    )
    found = re.search(r"STACK:(\d+)", said.stdout)
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
    ("kind", "width", "rows_per_token"),
    [
        ("bf16", 64, 2.0),
        ("bf16", 64, 0.5),
        ("bf16", 128, 2.0),
        ("bf16", 128, 0.5),
        ("bf16", 256, 2.0),
        ("fp16", 128, 2.0),
        ("fp32", 64, 2.0),
        ("fp32", 128, 0.5),
    ],
)
def test_fits(capability: int, kind: str, width: int, rows_per_token: float, tmp_path: Path) -> None:
    """Every kernel with its usual sizes fits into shared memory, and into the registers but for a few bytes."""
    blocks = default_blocks(width, 4 if kind == "fp32" else 2, rows_per_token)
    common: dict[str, Any] = {"width": width, "WIDE": width, "WIDEN": False}
    by_rows = common | {"ROWS": blocks.rows, "KEYS": blocks.keys, "SPLITS": 1}
    for_queries = common | {"ROWS": blocks.rows, "KEYS": blocks.backward_keys}
    for_keys = common | {"ROWS": blocks.walked_rows, "KEYS": blocks.owned_keys}
    backward = (blocks.backward_warps, blocks.backward_stages)
    for kernel, constants, (warps, stages) in (
        (triton_forward.forward_kernel, by_rows, (blocks.warps, blocks.stages)),
        (triton_forward.forward_kernel, by_rows | {"ROWS": 16, "SPLITS": 8}, (4, blocks.stages)),
        (triton_backward.query_kernel, for_queries, backward),
        (triton_backward.key_kernel, for_keys, backward),
    ):
        compiled = compile_for(capability, kernel, kind, constants, warps, stages)
        assert compiled.metadata.shared <= SHARED_KIB[capability] * 1024
        assert spilled_bytes(compiled, tmp_path) <= MOST_SPILLED_BYTES, (kernel.__name__, constants)


def test_the_merge_compiles() -> None:
    constants = {"width": 80, "SPLITS": 8, "WIDE": 128}
    assert compile_for(80, triton_forward.merge_kernel, "bf16", constants, 4, 2).asm["cubin"]
