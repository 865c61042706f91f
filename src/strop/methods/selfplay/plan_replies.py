"""Reading what models say about plans: a diagnosis, a choice between two, a plan with its explanation, a score.

Every reader returns None for what cannot be read, and takes JSON, labelled lines and markdown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from strop.evaluation.surface import refuses, words_of
from strop.judging.replies import cleaned, json_objects
from strop.methods.selfplay.integrity import CONTROL, check_turn

SCORES = range(1, 11)
"""The scale on which a patient's state is scored."""
LONGEST_NAME = 12
"""Words of an illness's name, beyond which a text is no name."""
LONGEST_PLAN = 40
"""Words of a plan's name, beyond which only its first clause is one."""
NONE_NEEDED = "none needed"
"""The medicine of a patient who is better off without."""

_MARKUP = re.compile(r"\*\*|__|`|^[ \t]*#+[ \t]*|^[ \t]*[>\u2022][ \t]*", re.MULTILINE)
_NAME_KEYS = ("diagnosis", "illness", "disorder", "name")
_REASON_KEYS = ("explanation", "reason", "reasoning", "rationale", "why")
_PLAN_KEYS = {
    "treatment": ("treatment", "plan", "therapy", "name"),
    "medicine": ("medicine", "medication", "drug", "plan", "name"),
}
# Lines that only announce what follows.
_HEADINGS = re.compile(r"\A(?:[^\n]*:[ \t]*(?:\n|\Z)\s*)+")
_NO_NAME = re.compile(
    r"\b(?:doctor|doctors|dr|therapist|both|neither|either|diagnos[ei]s|first|second)\b|\bnumber\s+\w+|\bnone\b|\bn/?a\b|\bunknown\b"
    r"|\bunclear\b|\bname\s+of\b",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"\A(?:the\s+)?(?:most\s+likely\s+|most\s+fitting\s+|best\s+fitting\s+)?(?:diagnosis|illness|disorder)(?:\s+(?:for|of)\s+(?:the|this)\s+patient)?"
    r"\s+(?:is|would\s+be|seems\s+to\s+be|appears\s+to\s+be)\s+"
    r"|\A(?:the|this)\s+patient\s+(?:most\s+likely\s+|probably\s+|likely\s+)?(?:has|suffers\s+from|is\s+suffering\s+from|meets\s+(?:the\s+)?criteria\s+for)\s+"
    r"|\A(?:i\s+(?:would\s+)?(?:suggest|recommend|propose|prescribe|diagnose)\s+)",
    re.IGNORECASE,
)
_WHY = re.compile(
    r"\s*(?:,?\s+(?:because|since|as\s+(?:the|this|it|they|he|she)|due\s+to|given\s+(?:the|that)|which|based\s+on|for\s+the\s+following)\b|[.;\n]|\s[-\u2013\u2014]\s)",
    re.IGNORECASE,
)
_NO_MEDICINE = re.compile(
    r"\A\W*(?:none(?:\s+(?:is\s+)?(?:needed|required|necessary|recommended|indicated))?|no\s+(?:\w+\s+)?(?:medicine|medication|drug|drugs)\b.*"
    r"|n/?a|(?:medicine|medication)\s+is\s+not\s+(?:needed|required|necessary|recommended|indicated)\b.*)\W*\Z",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What was proposed, and why; the reason may be empty."""

    name: str
    reason: str


def read_diagnosis(reply: str) -> Proposal | None:
    """Return the illness that a reply names, and why; None for a refusal, and for what names no illness."""
    found = _read(reply, _NAME_KEYS)
    if found is None:
        return None
    name = _clause(_LEAD.sub("", found.name))
    name = re.sub(r"\A(?:an?|the)\s+", "", name, flags=re.IGNORECASE)
    named = 0 < len(words_of(name)) <= LONGEST_NAME and not _NO_NAME.search(name)
    return Proposal(name, found.reason) if named else None


def read_plan(reply: str, kind: str) -> Proposal | None:
    """Return the plan that a reply proposes, and why; None for a refusal, and for what proposes nothing.

    Args:
        reply: The therapist's reply.
        kind: ``treatment`` or ``medicine``; "none" is a medicine that reads as `NONE_NEEDED`, and no treatment.
    """
    found = _read(reply, _PLAN_KEYS[kind])
    if found is None:
        return None
    name = found.name.strip(" \t\n.;:,")
    if _NO_MEDICINE.match(name):
        return Proposal(NONE_NEEDED, found.reason) if kind == "medicine" else None
    name = _LEAD.sub("", name).strip(" \t\n.;:,")
    if len(words_of(name)) > LONGEST_PLAN:
        name = _clause(name)
    return Proposal(name, found.reason) if 0 < len(words_of(name)) <= LONGEST_PLAN else None


def _clause(text: str) -> str:
    """Return what stands before the first reason or stop, as a name."""
    end = _WHY.search(text.strip())
    return (text.strip()[: end.start()] if end else text).strip(" \t\n.;:,\"'")


def _read(reply: str, name_keys: Sequence[str]) -> Proposal | None:
    offered = cleaned(reply)
    body = CONTROL.sub("", offered).strip()
    if not body:
        return None
    for found in reversed(json_objects(body)):
        folded = {key.strip().casefold(): value for key, value in found.value.items() if isinstance(value, str)}
        name = next((folded[key].strip() for key in name_keys if folded.get(key, "").strip()), "")
        if name:
            return Proposal(name, next((folded[key].strip() for key in _REASON_KEYS if key in folded), ""))
    body = _MARKUP.sub("", body)
    label = _label(name_keys)
    if label.search(body):
        return _labelled(body, label)
    # Without a label, only what could be said may be read: a refusal, debris and another part propose nothing.
    body = _MARKUP.sub("", CONTROL.split(offered, maxsplit=1)[0]).strip()
    if refuses(body) or not check_turn(body, speaker="therapist", earlier=()).usable:
        return None
    body = _HEADINGS.sub("", body)
    first, _, rest = body.partition("\n") if "\n" in body else _first_sentence(body)
    return Proposal(first.strip(), rest.strip())


def _first_sentence(text: str) -> tuple[str, str, str]:
    end = re.search(r"(?<=[.!?])\s+(?=[A-Z])", text)
    return (text[: end.start()], "", text[end.end() :]) if end else (text, "", "")


def _label(name_keys: Sequence[str]) -> re.Pattern[str]:
    """Return what a label of a name or of a reason looks like."""
    names, reasons = "|".join(name_keys), "|".join(_REASON_KEYS)
    return re.compile(
        rf"^[ \t]*(?:[-\d.)]+[ \t]+)?(?:(?:final|proposed|recommended|suggested|specific|main)[ \t]+)?"
        rf"(?:(?P<name>{names})|(?P<reason>{reasons}))[ \t]*(?:\([^()\n]*\))?[ \t]*:[ \t]*"
        rf"|(?<=[.;,])[ \t]*(?P<inline>{reasons})[ \t]*:[ \t]*",
        re.IGNORECASE | re.MULTILINE,
    )


def _labelled(body: str, label: re.Pattern[str]) -> Proposal | None:
    """Read ``Label: text``, or a label alone with its text on the lines below; the last label of a kind counts.

    Where only the reason has a label, the name stands before it.
    """
    marks = list(label.finditer(body))
    name = reason = ""
    if not any(mark["name"] for mark in marks):
        name = body[: marks[0].start()].strip(" \t\n.;,")
    for place, mark in enumerate(marks):
        end = marks[place + 1].start() if place + 1 < len(marks) else len(body)
        text = body[mark.end() : end].strip()
        if not mark["name"]:
            reason = text or reason
        elif text:
            name, _, below = text.partition("\n")
            reason = below.strip() or reason
    return Proposal(name.strip(), reason) if name.strip() else None


_CHOICE = re.compile(
    r"\b(?:final\s+)?(?:choice|answer|decision)\b\W{0,4}(?:is\b\W{0,3})?(?:diagnosis\s*)?(?:number\s*|no\.?\s*|#\s*)?(1|2|one|two)\b",
    re.IGNORECASE,
)
_NUMBERED = re.compile(
    r"\b(?:diagnosis|doctor|option|number)\s*(?:number\s*)?#?(1|2|one|two)\b|\bthe\s+(first|second)\b", re.IGNORECASE
)
_ALONE = re.compile(r"\A\W*(1|2|one|two)\W*\Z", re.IGNORECASE)
_PLACES = {"1": 0, "one": 0, "first": 0, "2": 1, "two": 1, "second": 1}


def read_choice(reply: str, names: Sequence[str]) -> int | None:
    """Return which of two diagnoses a reply chooses, 0 or 1; None where it chooses none, or both.

    A labelled number counts, then a last line that is nothing but a number, then the only one that is named by its
    number, then the only one that is named by its name.

    Args:
        reply: The patient's reply.
        names: The two diagnoses.
    """
    body = _MARKUP.sub("", cleaned(reply)).strip()
    objects = json_objects(body)
    for found in reversed(objects):
        for key, value in found.value.items():
            if key.strip().casefold() in ("choice", "answer", "number", "diagnosis") and str(value) in ("1", "2"):
                return int(value) - 1
    if labelled := _CHOICE.findall(body):
        return _PLACES[labelled[-1].lower()]
    if alone := _ALONE.match(body.rpartition("\n")[2]):
        return _PLACES[alone[1].lower()]
    numbered = {_PLACES[(one or other).lower()] for one, other in _NUMBERED.findall(body)}
    if numbered:
        return numbered.pop() if len(numbered) == 1 else None
    folded = " ".join(words_of(body))
    named = {place for place, name in enumerate(names) if " ".join(words_of(name)) in folded}
    return named.pop() if len(named) == 1 else None


_WORDS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
_SPELT = "|".join(_WORDS)
_SCALE = re.compile(
    r"\b(?:on|in|using|from|at)?\s*(?:an?|the|your|this)?\s*scale\s*(?:of|from|between|is|:|ranging\s+from|goes\s+from)?\s*\(?(?:1|one)\s*"
    r"(?:-|\u2013|\u2014|to|and|through)\s*(?:10|ten)\)?"
    r"|\(?\b(?:from|between)?\s*(?<![\d.])(?:1|one)\s*(?:-|\u2013|\u2014|to|and|through)\s*(?:10|ten)\b\)?"
    r"|\b(?:1|one)\s*(?:=|is|being|means)\s*(?:the\s+)?(?:worst|worse|lowest)[^.;\n]*?(?:10|ten)\s*(?:=|is|being|means)\s*[^.;,\n]*",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    rf"(?<![\w.,/])(?<!\w\()(?P<number>[-+\u2212]?\d+(?:[.,]\d+)*|(?:{_SPELT})\b)(?P<percent>\s*%)?"
    rf"(?:\s*(?P<range>-|\u2013|\u2014|\bto\b|\bor\b)\s*(?P<second>\d+(?:\.\d+)?|(?:{_SPELT})\b))?"
    rf"(?:\s*(?:/|out\s+of|of)\s*(?P<scale>\d+|(?:{_SPELT})\b))?(?![\d]|[a-z])",
    re.IGNORECASE,
)
_SCORE_LABEL = re.compile(
    r"\b(?:score|rating|number|answer|wellbeing|well-being|health)\b[^\S\n]*(?:is\b|of\b|would\s+be\b|[:=])[^\S\n]*",
    re.IGNORECASE,
)


def read_score(reply: str) -> int | None:
    """Return the whole number from 1 to 10 that a reply gives; None where it gives none, another, or several.

    The scale itself is no score: "on a scale of 1 to 10, 8" is 8. 11, -1, 7.5, "7 or 8", "80 %" and "4/5" are none. A
    number behind a label counts before others; of several labelled ones the last.
    """
    body = _MARKUP.sub("", cleaned(reply)).strip()
    for found in reversed(json_objects(body)):
        for key, value in found.value.items():
            if key.strip().casefold() in ("score", "rating", "number", "value", "health"):
                whole = isinstance(value, (int, float)) and not isinstance(value, bool) and value in SCORES
                return int(value) if whole else (read_score(value) if isinstance(value, str) else None)
    body = _SCALE.sub(" ", body)
    labelled = [number for label in _SCORE_LABEL.finditer(body) if (number := _NUMBER.match(body, label.end()))]
    if labelled:
        return _score(labelled[-1])
    offers = {_score(number) for number in _NUMBER.finditer(body)}
    return offers.pop() if len(offers) == 1 else None


def _score(found: re.Match[str]) -> int | None:
    if found["percent"] or found["range"] or (found["scale"] or "10").lower() not in ("10", "ten"):
        return None
    text = found["number"].lower()
    if text in _WORDS:
        return _WORDS[text]
    whole, point, fraction = text.replace("\u2212", "-").partition(".")
    if "," in text or (point and set(fraction) != {"0"}) or len(whole) > 3:
        return None
    return int(whole) if int(whole) in SCORES else None
