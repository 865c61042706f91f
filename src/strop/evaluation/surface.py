"""What the surface of one answer tells: its words, what it repeats, whether it plays another part, whether it refuses.

Patterns, not models: they are cheap, they explain themselves, and they miss what they do not know. The page on online
DPO tells how often they are right on human and on model answers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from itertools import pairwise

RUN = 4
"""Words of a run that is looked for again."""
FIRST_WORDS = 40
"""Words of an answer that count for the variety of a set."""

_WORD = re.compile(r"\w+(?:['\u2019]\w+)?")
# A line that begins as another turn would: the name of a speaker and a colon, or a template's own mark.
_SPEAKER = r"user|human|client|patient|you|me|assistant|ai|bot|therapist|counsell?or|system|response|answer|question"
_TURN = re.compile(
    rf"(?:^|\n)[ \t>]*(?:#+[ \t]*)?(?:\*\*|__)?(?:{_SPEAKER})(?:[ \t]*\d+)?(?:\*\*|__)?[ \t]*:"
    r"|<\|?/?(?:im_start|im_end|user|assistant|system|endoftext|start_header_id|eot_id|s)\|?>"
    r"|\[/?INST\]|(?:^|\n)#+[ \t]*(?:user|human|instruction|response|assistant)\b",
    re.IGNORECASE,
)
_I_AM = r"\bi(?:['\u2019]?m| am)"
_NOT = r"(?:can(?:no|['\u2019])?t|can not|won['\u2019]?t|will not)"
_HELP = r"(?:help|assist|provide|support|advise|answer|continue|engage|fulfill?|comply|discuss|respond)"
_REFUSAL = re.compile(
    rf"{_I_AM}\s+(?:\w+\s+){{0,3}}(?:unable|not\s+able|not\s+(?:qualified|equipped|trained))\s+to\s+(?:\w+\s+){{0,2}}{_HELP}\b"
    rf"|\bi\s+(?:simply\s+|really\s+)?{_NOT}\s+(?:\w+\s+){{0,2}}{_HELP}\b(?!\s+(?:but|wonder|feel|notic|think))"
    rf"|\bi\s+(?:do\s+not|don['\u2019]?t)\s+have\s+the\s+(?:ability|capacity)\s+to\s+{_HELP}\b"
    rf"|\bsorry,?\s+but\s+i\s+{_NOT}\b",
    re.IGNORECASE,
)


def words_of(text: str) -> list[str]:
    """Return the words of a text, without case and punctuation."""
    return [word.casefold() for word in _WORD.findall(text)]


def word_pairs(words: Sequence[str], *, first: int = FIRST_WORDS) -> tuple[tuple[str, str], ...]:
    """Return the pairs of neighbouring words among the `first` words."""
    return tuple(pairwise(words[:first]))


def distinct_share(runs: Iterable[Hashable]) -> float:
    """Return how many of the runs of words of a set are different, as a share of all; 1 without any run.

    Over pairs of neighbouring words this is distinct-2 (Li et al. 2016).
    """
    counts = Counter(runs)
    return len(counts) / counts.total() if counts else 1.0


def repeated_runs(words: Sequence[str]) -> float:
    """Return the share of runs of `RUN` words that have occurred before in the text, 0 for a shorter text."""
    runs = Counter(tuple(words[place : place + RUN]) for place in range(len(words) - RUN + 1))
    total = runs.total()
    return (total - len(runs)) / total if total else 0.0


def invents_turn(text: str) -> bool:
    """Say whether an answer goes on as another speaker, after its own words have begun."""
    stripped = text.strip()
    return any(found.start() > 0 for found in _TURN.finditer(stripped))


def refuses(text: str) -> bool:
    """Say whether an answer declines to help, in one of the canned ways; a warm referral is no refusal."""
    return _REFUSAL.search(text) is not None
