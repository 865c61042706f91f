"""A reward that counts words: what a policy does with a reward that has nothing to do with quality."""

from __future__ import annotations

from collections.abc import Sequence

from strop.models.rewards.protocol import Advance, Item


class WordsReward:
    """The number of words of a response."""

    name = "words"
    revision = "words-1"

    def score(self, items: Sequence[Item], *, advance: Advance | None = None) -> list[float]:
        """Return the number of words of each response."""
        if advance is not None:
            advance(len(items))
        return [float(len(response.split())) for _, response in items]

    def close(self) -> None:
        """Release nothing."""
