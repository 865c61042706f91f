"""Slices of human pairs on which a judge can fail unseen: where length does not help, where people wrote better."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strop.judging.pairs import HumanPair, word_count

Members = NDArray[np.bool_]

ALL = "all pairs"
LENGTH_MATCHED = "length-matched"
BETTER_IS_SHORTER = "better one is shorter"
HUMAN_PREFERRED = "human text preferred to a model's"
RISK_LANGUAGE = "risk language"
SOURCE = "source: "


@dataclass(frozen=True, slots=True)
class Slice:
    """Some of the pairs.

    Attributes:
        name: What to call it.
        members: Which pairs belong to it, ``(pairs,)``.
        unavailable: Why it cannot be formed; empty where it can.
    """

    name: str
    members: Members
    unavailable: str = ""


def slices_of(pairs: Sequence[HumanPair]) -> list[Slice]:
    """Return all slices: the whole, the fixed ones, and one for each source where there are several.

    A slice that the file gives no grounds for, or that is empty, is there with the reason.
    """
    sources = sorted({pair.source for pair in pairs})
    no_origins = not any(pair.better_origin and pair.worse_origin for pair in pairs)
    return [
        _slice(ALL, pairs, lambda _: True),
        _slice(LENGTH_MATCHED, pairs, lambda pair: pair.length_matched),
        _slice(BETTER_IS_SHORTER, pairs, _better_is_shorter),
        _slice(
            HUMAN_PREFERRED, pairs, _human_preferred, unavailable="the file states no origins" if no_origins else ""
        ),
        _slice(RISK_LANGUAGE, pairs, lambda pair: pair.risk_language),
        *(_slice(f"{SOURCE}{name}", pairs, _from_source(name)) for name in sources if len(sources) > 1),
    ]


def _slice(
    name: str, pairs: Sequence[HumanPair], belongs: Callable[[HumanPair], bool], *, unavailable: str = ""
) -> Slice:
    members: Members = np.array([belongs(pair) for pair in pairs], dtype=bool)
    return Slice(name, members, unavailable or ("" if members.any() else "no such pair in the file"))


def _better_is_shorter(pair: HumanPair) -> bool:
    return not pair.length_matched and word_count(pair.better) < word_count(pair.worse)


def _human_preferred(pair: HumanPair) -> bool:
    if pair.better_origin is None or pair.worse_origin is None:
        return False
    return is_human(pair.better_origin) and not is_human(pair.worse_origin)


def _from_source(name: str) -> Callable[[HumanPair], bool]:
    return lambda pair: pair.source == name


def is_human(origin: str) -> bool:
    """Say whether a text's origin is a person: its first word is "human"."""
    return origin.strip().casefold().startswith("human")


def model_family(name: str) -> str | None:
    """Return the family of a model by its name: ``meta-llama/Llama-2-13b`` is llama, ``openai:gpt-4o`` is gpt.

    The family is the first run of letters after the last slash, colon or hash; None for people and for names without
    letters. It is a guess by spelling: a model tuned from another family under a new name is not found out.
    """
    if is_human(name):
        return None
    letters = re.match(r"[^a-z]*([a-z]+)", re.split(r"[/:#]", name.strip().rstrip("/"))[-1].casefold())
    return None if letters is None else letters[1]
