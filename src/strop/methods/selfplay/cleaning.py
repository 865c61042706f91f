"""Which sentences of a session are worth learning: the strict filter, and the published one, as rules that are counted.

A session ends in a diagnosis, a treatment and a medicine; each becomes a training pair of its own, and each is judged
on its own. The rules are patterns: they are cheap and they explain themselves. What a rule removes is counted under its
name, once under every rule that is broken and once under the first, so that the second counts add up.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from strop.errors import UserError
from strop.evaluation.surface import refuses, words_of

Part = Literal["diagnosis", "treatment", "medication"]
PARTS: tuple[Part, ...] = ("diagnosis", "treatment", "medication")
Filter = Literal["strict", "published"]

ILLNESS_WORDS = 16
"""Most words of the name of an illness: a longer one is an argument, or a list."""
PLAN_WORDS = 30
"""Most words of a treatment or a medicine: a longer one has swallowed its explanation."""
EXPLANATION_WORDS = 250
"""Most words of an explanation."""

_NO_WORD = r"^[\W_]+$"
_RESIDUE = re.compile(rf"\*\*|```|^\s*[:#*_`>|]|{_NO_WORD}")
# An explanation may stress a word in its middle: only what a reader of labels leaves behind is residue there.
_RESIDUE_IN_PROSE = re.compile(rf":\*\*|^\s*:|{_NO_WORD}")
_LABEL = re.compile(r"\b(?:explanation|treatment|medicine|medication|diagnosis|illness)\s*\d?\s*:", re.IGNORECASE)
_DOCTOR = re.compile(r"\b(?:doctor|dr\.?)\s*#?\s*(?:[12]|one|two)\b", re.IGNORECASE)
_NOTHING = re.compile(
    r"^\W*(?:none|no|nil|n/?a|null|unknown|answer|not)\b"
    r"|\bnot\s+(?:\w+\s+){0,3}(?:stated|specified|provided|applicable|mentioned|given|available|determined)\b"
    r"|\bno\s+(?:\w+\s+)?information\b|\bimpossible\s+to\b|\bundiagnosed\b",
    re.IGNORECASE,
)
_DENIED = re.compile(r"\b(?:not|neither|nor|rather\s+than|instead\s+of|versus|vs)\b", re.IGNORECASE)
_COMPARES = re.compile(r"\b(?:diagnos\w*|accurate)\b", re.IGNORECASE)
_ILLNESS = re.compile(
    r"\b(?:\w*disorders?|\w*depress(?:ion|ive)|dysthymi[ac]|\w*anxiety|panic|\w*phobia|bipolar|mania|hypomania"
    r"|cyclothymia|schizo\w+|psychosis|psychotic|post-?\s?traumatic|trauma|grief|bereavement|insomnia|bulimia|anorexia"
    r"|binge|addiction|dependence|alcoholism|obsessi(?:on|ve)\w*|burnout|autism|adhd|hoarding|somati[sz]ation"
    r"|hypochondria\w*|dementia|delirium|tourette\w*|dissociati(?:on|ve)|depersonali[sz]ation"
    r"|mdd|gad|pdd|c?ptsd|ocd|bpd|avpd)\b",
    re.IGNORECASE,
)
_TOGETHER = re.compile(r"\bboth\b|\b(?:combination|mix(?:ture)?|blend)\s+of\b", re.IGNORECASE)
_JOINED = re.compile(r"\b(?:and|or)\b", re.IGNORECASE)
# Mixed anxiety and depressive disorder is one illness.
_MIXED = re.compile(r"\bmixed\b", re.IGNORECASE)
# What only a treatment can be, though it may name the illness that it is for.
_REMEDY = re.compile(
    r"\b(?:\w*therap(?:y|ies)|treatment|training|support|groups?|exercis\w*|medication|inhibitors?|s[sn]ris?|activation"
    r"|exposure|restructuring|processing|mindfulness|meditation|counsell?ing|intervention|management|hygiene|program\w*"
    r"|education|for|with)\b",
    re.IGNORECASE,
)
PUBLISHED_MEDICINE = ("None", "N/A", "Not", "Explanation")
"""Case-sensitive substrings at which the released code leaves a medicine out; *No specific medicine* holds none."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one session ended, as the released files hold it.

    Attributes:
        illness: The diagnosis.
        treatment: The best treatment.
        explain_t: Why this treatment.
        medicine: The best medicine.
        explain_m: Why this medicine.
    """

    illness: str
    treatment: str
    explain_t: str
    medicine: str
    explain_m: str

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Read the five fields of a session's row, or of a released file's; others are left behind.

        Raises:
            UserError: A field is missing, or holds something that is no text.
        """
        names = tuple(cls.__slots__)
        for name in names:
            if not isinstance(row.get(name), str):
                raise UserError(
                    f"a session's outcome needs the text {name!r}",
                    value=row.get(name, f"fields: {', '.join(map(str, row))}"),
                    fix="give session records, or the files that MentalArena releases",
                    alternatives=names,
                )
        return cls(**{name: row[name] for name in names})


@dataclass(frozen=True, slots=True)
class Rule:
    """One reason to leave a part of a session out of the training set.

    Attributes:
        name: What is counted.
        part: The part that it removes.
        broken: Whether an outcome breaks it.
    """

    name: str
    part: Part
    broken: Callable[[Outcome], bool]


def names_doctor(text: str) -> bool:
    """Say whether a text names one of the two doctors of the comparison, as *Doctor 2's diagnosis*."""
    return _DOCTOR.search(text) is not None


def names_illness(text: str) -> bool:
    """Say whether a text holds a word that names a mental illness."""
    return _ILLNESS.search(text) is not None


def names_several(text: str) -> bool:
    """Say whether a text settles for both illnesses, for a combination of them, or for one or the other."""
    if _TOGETHER.search(text):
        return True
    named = [found.span() for found in _ILLNESS.finditer(text)]
    between = text[named[0][1] : named[-1][0]] if len(named) > 1 else ""
    return _JOINED.search(between) is not None and not _MIXED.search(text)


def is_residue(text: str) -> bool:
    """Say whether a text holds marks that a reader of replies should have removed, such as ``:**``, or no word."""
    return bool(text.strip()) and _RESIDUE.search(text.strip()) is not None


def _is_residue_in_prose(text: str) -> bool:
    return bool(text.strip()) and _RESIDUE_IN_PROSE.search(text.strip()) is not None


def says_nothing(text: str) -> bool:
    """Say whether a text states that there is nothing to state, or refuses: *None*, *Not specified*, *I cannot*."""
    return _NOTHING.search(text) is not None or refuses(text)


def is_illness_name(text: str) -> bool:
    """Say whether a plan is nothing but the name of an illness, such as *Major Depressive Disorder (MDD)*."""
    return names_illness(text) and _REMEDY.search(text) is None


def folded_name(text: str) -> str:
    """Return a name without case, abbreviation in brackets, and punctuation around it."""
    return " ".join(words_of(re.sub(r"\([^()]*\)", " ", text)))


def _too_long(text: str, words: int) -> bool:
    return len(words_of(text)) > words


def _plan_rules(part: Part, plan: Callable[[Outcome], str], explanation: Callable[[Outcome], str]) -> tuple[Rule, ...]:
    def same(outcome: Outcome) -> bool:
        return bool(plan(outcome).strip()) and folded_name(plan(outcome)) == folded_name(outcome.illness)

    return (
        Rule("empty", part, lambda outcome: not plan(outcome).strip()),
        Rule("residue", part, lambda outcome: is_residue(plan(outcome))),
        Rule("label inside", part, lambda outcome: _LABEL.search(plan(outcome)) is not None),
        Rule("says nothing", part, lambda outcome: says_nothing(plan(outcome))),
        Rule("is the illness", part, same),
        Rule("is an illness", part, lambda outcome: is_illness_name(plan(outcome))),
        Rule("too long", part, lambda outcome: _too_long(plan(outcome), PLAN_WORDS)),
        Rule("no explanation", part, lambda outcome: not explanation(outcome).strip()),
        Rule("residue in the explanation", part, lambda outcome: _is_residue_in_prose(explanation(outcome))),
        Rule("explanation too long", part, lambda outcome: _too_long(explanation(outcome), EXPLANATION_WORDS)),
    )


STRICT: tuple[Rule, ...] = (
    Rule("empty", "diagnosis", lambda outcome: not outcome.illness.strip()),
    Rule("residue", "diagnosis", lambda outcome: is_residue(outcome.illness)),
    Rule("names a doctor", "diagnosis", lambda outcome: names_doctor(outcome.illness)),
    Rule("names several", "diagnosis", lambda outcome: names_several(outcome.illness)),
    Rule("says nothing", "diagnosis", lambda outcome: says_nothing(outcome.illness)),
    Rule("speaks of diagnoses", "diagnosis", lambda outcome: _COMPARES.search(outcome.illness) is not None),
    Rule("denies an illness", "diagnosis", lambda outcome: _DENIED.search(outcome.illness) is not None),
    Rule(
        "names no illness",
        "diagnosis",
        lambda outcome: bool(outcome.illness.strip()) and not names_illness(outcome.illness),
    ),
    Rule("too long", "diagnosis", lambda outcome: _too_long(outcome.illness, ILLNESS_WORDS)),
    *_plan_rules("treatment", lambda outcome: outcome.treatment, lambda outcome: outcome.explain_t),
    *_plan_rules("medication", lambda outcome: outcome.medicine, lambda outcome: outcome.explain_m),
)
"""Our filter: a diagnosis is one illness and nothing else, a plan is a plan with its reason."""


def _holds(text: str) -> Callable[[Outcome], bool]:
    return lambda outcome: text in outcome.medicine


PUBLISHED: tuple[Rule, ...] = (
    Rule("empty", "medication", lambda outcome: not outcome.medicine),
    *(Rule(f"holds {text!r}", "medication", _holds(text)) for text in PUBLISHED_MEDICINE),
)
"""The released code's filter: medicines alone, by case-sensitive substrings; diagnoses and treatments all pass."""

FILTERS: Mapping[Filter, tuple[Rule, ...]] = {"strict": STRICT, "published": PUBLISHED}


def broken_rules(outcome: Outcome, rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Return the rules that an outcome breaks, in their order."""
    return tuple(rule for rule in rules if rule.broken(outcome))


def kept_parts(broken: Iterable[Rule]) -> tuple[Part, ...]:
    """Return the parts that no broken rule removes."""
    gone = {rule.part for rule in broken}
    return tuple(part for part in PARTS if part not in gone)


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What a filter makes of a set of outcomes.

    Attributes:
        rows: Outcomes.
        kept: Pairs that are left, by part.
        found: How many outcomes break each rule, by part and rule; one that breaks two counts under both.
        removed: How many each rule removes as the first that is broken; with `kept` they add up to `rows`.
        parts: The parts that are left of each outcome, in order.
    """

    rows: int
    kept: Mapping[Part, int]
    found: Mapping[tuple[Part, str], int]
    removed: Mapping[tuple[Part, str], int]
    parts: tuple[tuple[Part, ...], ...]

    @property
    def pairs(self) -> int:
        """Pairs that are left."""
        return sum(self.kept.values())

    def to_row(self) -> dict[str, Any]:
        """Return the counts as JSON, without the parts of each row."""
        return {
            "rows": self.rows,
            "pairs": self.pairs,
            "kept": dict(self.kept),
            "rules": [
                {"part": part, "rule": name, "found": count, "removed": self.removed[part, name]}
                for (part, name), count in self.found.items()
            ],
        }


def clean(outcomes: Iterable[Outcome], rules: Iterable[Rule] = STRICT) -> Cleaned:
    """Apply a filter.

    Args:
        outcomes: How sessions ended.
        rules: `STRICT` or `PUBLISHED`.
    """
    order = tuple(rules)
    found: Counter[tuple[Part, str]] = Counter({(rule.part, rule.name): 0 for rule in order})
    removed: Counter[tuple[Part, str]] = Counter(found)
    parts: list[tuple[Part, ...]] = []
    for outcome in outcomes:
        broken = broken_rules(outcome, order)
        found.update((rule.part, rule.name) for rule in broken)
        first = {rule.part: rule.name for rule in reversed(broken)}
        removed.update(first.items())
        parts.append(kept_parts(broken))
    kept = Counter(dict.fromkeys(PARTS, 0))
    kept.update(part for row in parts for part in row)
    return Cleaned(len(parts), kept, found, removed, tuple(parts))
