"""What makes dense classes refuse a converted folder: the name that its config gives its attention.

Transformers without strop does not know the type of a converted model and says so. A program that names the dense class
itself would get no more than a warning, and all heads; but no class of transformers runs attention by this name.
"""

from __future__ import annotations

from typing import Any

KEY = "attn_implementation"
ATTENTION = "mixture of heads (import strop.heads, then load with the Auto class)"
"""It stands in the error that transformers raises, so it says what to do."""


class RefusedByDense:
    """Mixed into the config of a converted model: its files name the attention, the config itself forgets the name."""

    def __post_init__(self, **kwargs: Any) -> None:
        """Leave the choice of kernels to transformers' defaults where nothing but our name is given."""
        if kwargs.get(KEY) == ATTENTION:
            del kwargs[KEY]
        super().__post_init__(**kwargs)  # type: ignore[misc]  # the config's

    def to_dict(self) -> dict[str, Any]:
        """Return what is saved."""
        return {**super().to_dict(), KEY: ATTENTION}  # type: ignore[misc]
