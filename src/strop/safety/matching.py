"""Evidence in a text: which phrases of the patterns occur, which of them are denied, what they mean together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from strop.safety.levels import Level
from strop.safety.patterns import Combination, Group, Patterns, Phrase

_FILLER = re.compile(
    "(?:a|about|actually|any|be|been|being|even|ever|feel|feeling|going|have|having|in|it|just|like|my|of|really|the|think"
    "|thinking|thought|thoughts|to|want|wanted|wanting|would)"
)
"""Words that may stand between a denial and what it denies."""
STEERING = frozenset(("steering", "fiction"))
"""Signals of a text that speaks about the screen, or says that it is only a story."""
SETTING = 120
"""Characters within which a harmless setting explains wording."""
_DENIAL_REACH = 3
"""How many of them."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that was found.

    Attributes:
        start: Where it begins in the plain form.
        name: The group or combination.
        level: The level it gives.
        kinds: What the risk is of.
        sure: Whether no harmless reading is known.
        text: The words.
        signals: What combinations call it; empty where it was denied.
    """

    start: int
    name: str
    level: Level
    kinds: tuple[str, ...]
    sure: bool
    text: str
    signals: frozenset[str]

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


def without_idioms(text: str, idioms: Iterable[Phrase]) -> str:
    """Return a plain form in which every figure of speech is a ``~``."""
    words = frozenset(text.split())
    for idiom in idioms:
        if idiom.needs and idiom.needs.isdisjoint(words):
            continue
        text = idiom.pattern.sub(" ~", text)
    return text


def find(text: str, patterns: Patterns) -> list[Evidence]:
    """Return all evidence in a plain form, that of combinations included, in reading order."""
    masked = without_idioms(text, patterns.idioms)
    words = frozenset(masked.split())
    denied = {end for phrase in patterns.denials for _, end in phrase.spans(masked, words)}
    found = [evidence for group in patterns.groups for evidence in _of_group(group, masked, words, denied)]
    found = _without_harmless(found, {group.name: group.unless for group in patterns.groups if group.unless})
    combined = [made for each in patterns.combinations for made in [combine(each, found, masked)] if made]
    return sorted([*found, *combined], key=lambda evidence: evidence.start)


def _without_harmless(found: list[Evidence], unless: dict[str, tuple[str, ...]]) -> list[Evidence]:
    """Leave out wording that a harmless setting near it explains.

    Nothing is left out where anything else points to risk, or where the text speaks about the screen.
    """
    if any((each.level and each.sure and each.name not in unless) or each.signals & STEERING for each in found):
        return found
    return [
        each
        for each in found
        if not any(
            not other.signals.isdisjoint(unless.get(each.name, ())) and abs(other.start - each.start) <= SETTING
            for other in found
        )
    ]


def of_groups(text: str, groups: Sequence[Group]) -> list[Evidence]:
    """Return the evidence of a few groups in a plain form."""
    words = frozenset(text.split())
    return [evidence for group in groups for evidence in _of_group(group, text, words, frozenset())]


def _of_group(group: Group, text: str, words: frozenset[str], denied: Iterable[int]) -> Iterator[Evidence]:
    seen: set[int] = set()
    for phrase in group.phrases:
        for start, end in phrase.spans(text, words):
            if start in seen:
                continue
            seen.add(start)
            said = text[start:end].strip()
            if group.negatable and _is_denied(text, start, denied):
                yield Evidence(
                    start,
                    f"denied {group.name}",
                    min(group.level, Level.PASSIVE),
                    group.kinds,
                    False,
                    said,
                    frozenset(),
                )
            else:
                yield Evidence(start, group.name, group.level, group.kinds, group.sure, said, group.signals)


def _is_denied(text: str, start: int, denied: Iterable[int]) -> bool:
    ends = denied if isinstance(denied, (set, frozenset)) else frozenset(denied)
    for _ in range(_DENIAL_REACH + 1):
        if start in ends:
            return True
        before = text.rfind(" ", 0, start)
        if before < 0 or not _FILLER.fullmatch(text, before + 1, start):
            return False
        start = before
    return False


def combine(combination: Combination, found: Sequence[Evidence], text: str) -> Evidence | None:
    """Return what signals mean together where they stand near enough to each other, None where they do not.

    The signals must all lie within ``combination.within`` characters of one of the rarest of them.
    """
    reach = combination.within or len(text)
    places = [[each for each in found if signal in each.signals] for signal in combination.when]
    if not all(places):
        return None
    rarest = min(places, key=len)
    for anchor in rarest:
        near = [next((e for e in others if abs(e.start - anchor.start) <= reach), None) for others in places]
        if any(each is None for each in near):
            continue
        if any(
            abs(each.start - anchor.start) <= reach and not each.signals.isdisjoint(combination.unless)
            for each in found
        ):
            continue
        chosen = [each for each in near if each is not None]
        said = " + ".join(dict.fromkeys(each.text for each in chosen))
        sure = combination.sure and all(each.sure for each in chosen)
        first = min(each.start for each in chosen)
        return Evidence(first, combination.name, combination.level, combination.kinds, sure, said, frozenset())
    return None


_YES = re.compile(
    r"^ (?:yes|yeah|yea|yep|yup|ye|aye|sometimes|often|maybe|probably|possibly|kind of|kinda|sort of|a bit|a little"
    r"|i guess|i suppose|i think so|i do|i am|i have|i did|i would|i might|mhm|mm|correct|true|right|always|every"
    r"|all the time|not yet|not sure|i do not know|idk|si|ja|oui|sim|da|tak) "
)
_NO = re.compile(r"^ (?:no|nope|nah|never|not|i am not|i do not|i would never|non|nein|nao|god no|of course not) ")


def answered(question: str, answer: str, patterns: Patterns) -> list[Evidence]:
    """Return what an answer says about the question before it; both are plain forms.

    Yes to a question about suicide is evidence of what was asked. An answer that is neither yes nor no leaves the
    screen unsure.
    """
    asked = " " + " ".join(question.split()[-30:]) + " "
    reply = " " + " ".join(answer.split()[:20]) + " "
    found = of_groups(asked.rstrip() + reply, patterns.answers)
    if "?" not in asked:
        return []
    topics = [each for each in find(asked, patterns) if "idea" in each.signals or "harm-self" in each.signals]
    if not topics or (_NO.match(reply) and not _YES.match(reply)):
        return [each for each in found if not _NO.match(reply) or each.name == "asked-now"]
    topic = max(topics, key=lambda each: each.level)
    yes = _YES.match(reply) is not None
    level = max(topic.level, Level.ACTIVE) if yes else Level.PASSIVE
    said = f"{topic.text}? {reply.strip()}"
    return [*found, Evidence(0, "yes" if yes else "not answered", level, topic.kinds, yes, said, frozenset())]
