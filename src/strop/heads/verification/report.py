"""What a verification found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Check:
    """One property of a converted model.

    Attributes:
        name: What must hold.
        passed: Whether it does; None where it could not be looked at here.
        difference: Largest absolute difference of logits over the largest absolute logit; None where none was taken.
        limit: The largest difference that passes.
        detail: What was compared, or why it could not be.
    """

    name: str
    passed: bool | None
    difference: float | None = None
    limit: float | None = None
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Drop:
    """Loss on a few texts with some choice of shared heads, before any training; reported, not judged.

    Attributes:
        shared: How the shared heads were chosen.
        layout: Of the first layer, for people; or why there is none.
        active: Active heads over all heads of all layers; None without a layout.
        loss: Mean loss of the next token, nats; None without a layout.
        drop: How much more than the dense model's.
    """

    shared: str
    layout: str
    active: float | None = None
    loss: float | None = None
    drop: float | None = None


@dataclass(frozen=True, kw_only=True)
class Verification:
    """All checks of a folder.

    Attributes:
        folder: The converted model.
        checks: In the order in which they were made.
        drops: The dense model first, then this one, then other choices of shared heads at its share.
        texts: What the losses were measured on.
    """

    folder: Path
    checks: tuple[Check, ...]
    drops: tuple[Drop, ...]
    texts: str

    @property
    def passed(self) -> bool:
        """No check failed."""
        return all(check.passed is not False for check in self.checks)
