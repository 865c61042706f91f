"""Random choices derive from the run seed and a named stream, never from global state.

Streams are independent: adding one, or drawing more from one, leaves the others as they were.
"""

from __future__ import annotations

import hashlib
import json
import random

SEED_LIMIT = 2**31


def derive_seed(seed: int, *stream: str | int) -> int:
    """Return the seed of a named stream.

    Args:
        seed: The run seed.
        stream: The names that lead to the stream, such as ``"sampling", "iteration", 2``.

    Returns:
        An integer in [0, 2**31), which every library accepts as a seed.
    """
    content = json.dumps([seed, *stream], ensure_ascii=False)
    return int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big") % SEED_LIMIT


def stream(seed: int, *names: str | int) -> random.Random:
    """Return the random generator of a named stream; see `derive_seed`."""
    return random.Random(derive_seed(seed, *names))
