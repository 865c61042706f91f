"""What every reward model is: responses in, one number each out; only differences within one prompt mean anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from strop.records.rows import Prompt

Item = tuple[Prompt, str]
"""What the client said (text, or the conversation so far), and a response to it."""
Advance = Callable[[int], None]


class RewardModel(Protocol):
    """Scores responses."""

    @property
    def name(self) -> str:
        """What to call the model in a report."""

    @property
    def revision(self) -> str:
        """What identifies the model exactly."""

    def score(self, items: Sequence[Item], *, advance: Advance | None = None) -> list[float]:
        """Return one reward for each item, in their order, whatever else is scored with it.

        Args:
            items: Prompts and responses.
            advance: Told how many further items have been scored.

        Raises:
            UserError: An item is longer than the model's window; it is named and never cut.
        """

    def close(self) -> None:
        """Release what the model holds."""
