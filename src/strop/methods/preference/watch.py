"""The over-optimisation watch: what a policy's answers look like beside the initial policy's, and when it is too much.

A policy that has learned to please its reward model in place of the client shows it on the surface first: answers grow,
repeat themselves, go on to speak for the client, refuse, or drift far from the language that the model began with.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from strop.errors import UserError
from strop.methods.preference.online_config import WatchLimits

RUN = 4
"""Words of a run that is looked for again."""

_WORD = re.compile(r"\w+(?:['\u2019]\w+)?")
# A line that begins as another turn would: the name of a speaker and a colon, or a template's own mark.
_TURN = re.compile(
    r"(?:^|\n)\s*(?:\*\*)?(?:user|client|human|patient|you|assistant|therapist|counsell?or|system)(?:\*\*)?\s*:"
    r"|<\|?(?:im_start|im_end|user|assistant|system|endoftext|start_header_id|eot_id)\|?>|\[/?INST\]|###\s*(?:user|human)",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\b(?:i(?:'|\u2019)?m|i am)\s+(?:\w+\s+){0,3}(?:unable|not able|not qualified|not equipped)\s+to\b"
    r"|\bi\s+(?:can(?:no|'|\u2019)t|can\s*not|won(?:'|\u2019)t)\s+(?:\w+\s+){0,2}"
    r"(?:help|assist|provide|offer|support|advise|discuss|answer|continue)\b"
    r"|\bas an? (?:ai|artificial|language model|chatbot)\b|\bi(?:'|\u2019)?m (?:just|only) an? (?:ai|chatbot|language model)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Measures:
    """What a set of answers looks like.

    Attributes:
        n: Answers.
        words: Mean length in words.
        distinct_2: Mean share of different pairs among an answer's neighbouring words; 1 where it has fewer than two.
        repetition: Mean share of an answer's four-word runs that have occurred in it before.
        invented_turns: Share of answers that go on as another speaker.
        refusals: Share of answers that refuse to help.
        empty: Share of answers without a word.
        cut: Share of answers that the token limit cut.
        kl: Divergence from the initial policy in nats a token; None where it was not measured.
    """

    n: int
    words: float
    distinct_2: float
    repetition: float
    invented_turns: float
    refusals: float
    empty: float
    cut: float
    kl: float | None = None

    def to_row(self) -> dict[str, Any]:
        """Return the measures as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Breach:
    """A limit that was crossed.

    Attributes:
        measure: Which.
        value: What was measured, in the limit's unit.
        limit: The limit.
        told: One sentence for people.
    """

    measure: str
    value: float
    limit: float
    told: str


def words_of(text: str) -> list[str]:
    """Return the words of a text, without case and punctuation."""
    return [word.casefold() for word in _WORD.findall(text)]


def distinct_pairs(words: Sequence[str]) -> float:
    """Return the share of different pairs of neighbouring words (distinct-2, Li et al. 2016), 1 for fewer than two."""
    pairs = list(zip(words, words[1:], strict=False))
    return len(set(pairs)) / len(pairs) if pairs else 1.0


def repeated_runs(words: Sequence[str]) -> float:
    """Return the share of runs of `RUN` words that have occurred before in the text, 0 for a shorter text."""
    runs = Counter(tuple(words[place : place + RUN]) for place in range(len(words) - RUN + 1))
    total = runs.total()
    return (total - len(runs)) / total if total else 0.0


def invents_turn(text: str) -> bool:
    """Say whether an answer goes on as another speaker, after its own words have begun."""
    found = _TURN.search(text.strip())
    return found is not None and found.start() > 0


def refuses(text: str) -> bool:
    """Say whether an answer declines to help, in one of the canned ways."""
    return _REFUSAL.search(text) is not None


def measure(texts: Sequence[str], *, cut: Sequence[bool], kl: float | None = None) -> Measures:
    """Return the measures of a set of answers.

    Args:
        texts: The answers.
        cut: Whether each was cut by the token limit.
        kl: Divergence from the initial policy, nats a token, where it was measured.

    Raises:
        UserError: There is no answer.
    """
    if not texts:
        raise UserError("there is no answer to look at", why="the watch compares answers")
    words = [words_of(text) for text in texts]
    return Measures(
        n=len(texts),
        words=fmean(map(len, words)),
        distinct_2=fmean(map(distinct_pairs, words)),
        repetition=fmean(map(repeated_runs, words)),
        invented_turns=fmean(map(invents_turn, texts)),
        refusals=fmean(map(refuses, texts)),
        empty=fmean(not each for each in words),
        cut=fmean(cut),
        kl=kl,
    )


def breaches(now: Measures, start: Measures, limits: WatchLimits) -> list[Breach]:
    """Return the limits that a policy has crossed.

    Args:
        now: Its answers' measures.
        start: The initial policy's, on the same speeches.
        limits: The limits.
    """
    length = now.words / max(start.words, 1.0)
    variety = now.distinct_2 / max(start.distinct_2, 1e-9)
    checks: Mapping[str, tuple[float | None, float | None, bool, str]] = {
        "length_ratio": (
            length,
            limits.length_ratio,
            True,
            "answers have grown to {value:.2f} times their first length",
        ),
        "shortness_ratio": (
            length,
            limits.shortness_ratio,
            False,
            "answers have shrunk to {value:.2f} of their length",
        ),
        "distinct_2_ratio": (
            variety,
            limits.distinct_2_ratio,
            False,
            "variety of words fell to {value:.2f} of the first",
        ),
        "repetition": (now.repetition, limits.repetition, True, "{value:.0%} of four-word runs repeat earlier ones"),
        "invented_turns": (
            now.invented_turns - start.invented_turns,
            limits.invented_turns,
            True,
            "{value:.0%} more answers than at first go on to speak for somebody else",
        ),
        "refusals": (
            now.refusals - start.refusals,
            limits.refusals,
            True,
            "{value:.0%} more answers than at first refuse",
        ),
        "empty": (now.empty - start.empty, limits.empty, True, "{value:.0%} more answers than at first are empty"),
        "kl": (now.kl, limits.kl, True, "the policy is {value:.2f} nats a token away from the initial one"),
    }
    return [
        Breach(name, value, limit, f"{told.format(value=value)} (limit {limit:g})")
        for name, (value, limit, upper, told) in checks.items()
        if value is not None and limit is not None and (value > limit if upper else value < limit)
    ]
