"""CAMS, Dreaddit and IRF as MentalLLaMA's IMHI benchmark asks them: queries, gold labels, and what a reply says.

A reply is read by its label sentence, never by words in passing: the label that stands before "Reasoning:", or in the
first sentence behind it, or the one label that its sentences of the form "the post does not show this risk" agree on.
The released rule looks for "no" anywhere, so that "not" and "know" count, and turns what it cannot read into class 0.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from strop.evaluation.benchmarks.items import CAUSES, YES_NO, Family
from strop.evaluation.benchmarks.parsing import cleaned, leading_verdict, read_verdict

REASONING = re.compile(r"\breasoning\b[*_ ]{0,3}:", re.IGNORECASE)
MARKS = " \n*#_"
SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")


class Query(NamedTuple):
    """A query of the files, taken apart."""

    family: Family
    part: str
    question: str
    post: str


ASKED: tuple[tuple[re.Pattern[str], Family, str, str], ...] = (
    (
        re.compile(r"cause of depression\b|mental disorder cause of\b", re.I),
        "cams",
        "",
        "What cause of depression does this post show?",
    ),
    (re.compile(r"from stress\b", re.I), "dreaddit", "", "Does the poster suffer from stress?"),
    (
        re.compile(r"risk of thwarted belongingness", re.I),
        "irf",
        "thwarted belongingness",
        "Does the post show risk of thwarted belongingness?",
    ),
    (
        re.compile(r"risk of perceived burdensomeness", re.I),
        "irf",
        "perceived burdensomeness",
        "Does the post show risk of perceived burdensomeness?",
    ),
)
FORMATS = (
    re.compile(r'\s*Consider this post:\s*"(?P<post>.*)"\s*Question:(?P<question>.*)', re.DOTALL),
    re.compile(r"\s*Post:(?P<post>.*)Question:(?P<question>.*)", re.DOTALL),
)

CAUSE = re.compile(
    r"\b(?P<alienation>alienation)\b"
    r"|\b(?P<relationship>relationships?)\b"
    r"|\b(?P<medication>medications?)\b"
    r"|\b(?P<jobs>jobs?(?:\s*(?:and|or|/|&)\s*careers?)?|careers?)\b"
    r"|\b(?P<bias>bias(?:\s*(?:and|or|/|&)\s*abuse)?|abuse)\b"
    r"|\b(?P<none>none|no (?:specific |clear |apparent |particular )?causes?)\b",
    re.IGNORECASE,
)
NAMES = {"jobs": "jobs and career", "bias": "bias or abuse"}
RELATED = re.compile(
    r"\bcauses? of (?:the |their )?depression (?:that (?:is|are) |is |are )?related to (?P<named>[^.\n]*)", re.I
)
BARE_CAUSE = re.compile(r"\W*(?:the cause(?: of depression)? is\W+)?(?P<named>[^.,;:\n]{1,24}?)\W*(?:$|[.,;:\n])", re.I)

VERB = r"(?:shows?|showing|demonstrates?|indicates?|suggests?|exhibits?|presents?)"
NOT = r"(?:do(?:es)? not|do(?:es)?n't|did not|didn't|is not|isn't|are not|aren't)"
RISK = r"(?:this|the|a|any|such)?\s*risks?(?=\W*(?:$|[.,;:\n]| of (?:thwarted|perceived)\b| due\b| because\b))"
DENIED = {
    "dreaddit": re.compile(
        rf"\bposter {NOT} (?:suffer|suffering|experience|experiencing) (?:from )?(?:any )?stress\b", re.I
    ),
    "irf": re.compile(rf"\bpost {NOT} {VERB} {RISK}", re.I),
}
AFFIRMED = {
    "dreaddit": re.compile(r"\bposter (?:(?:does )?suffers? from|is suffering from|is experiencing) stress\b", re.I),
    "irf": re.compile(rf"\bpost (?:does |clearly )?{VERB} {RISK}", re.I),
}


def read_query(text: str) -> Query | None:
    """Take a query of either released format apart; None where it has neither."""
    for form in FORMATS:
        found = form.fullmatch(text)
        if found is None:
            continue
        for wording, family, part, question in ASKED:
            if wording.search(found["question"]):
                return Query(family, part, question, found["post"].strip())
    return None


def read_gold(text: str, family: Family) -> str | None:
    """Return the label of a gold text, of the instruction or the completion format; None where it states none.

    "This post shows no causes of depression." and the completion format's "none" are the same label.
    """
    head = REASONING.split(text, maxsplit=1)[0]
    return _cause_in(head) if family == "cams" else leading_verdict(head, YES_NO)


def read_reply(text: str, family: Family) -> str | None:
    """Return the label that a reply states, or None where it states none, or several.

    Args:
        text: A model's reply.
        family: Which of the three sets was asked.
    """
    head, tail = _split(text)
    read = _read_cause if family == "cams" else _read_yes_no
    if head:
        return read(head, family)
    first = SENTENCE.split(tail, maxsplit=1)[0]
    found = leading_verdict(tail, YES_NO) if family != "cams" else None
    return found or read(first, family) or read(tail, family)


def _split(text: str) -> tuple[str, str]:
    """Return what stands before "Reasoning:" and what follows it; bold and the like count for nothing."""
    reply = cleaned(text)
    found = REASONING.search(reply)
    if found is None:
        return reply.strip(MARKS), ""
    return reply[: found.start()].strip(MARKS), reply[found.end() :].strip(MARKS)


def _read_yes_no(text: str, family: Family) -> str | None:
    spoken = leading_verdict(text, YES_NO)
    denied, affirmed = bool(DENIED[family].search(text)), bool(AFFIRMED[family].search(text))
    labels = {label for label, holds in (("no", denied), ("yes", affirmed)) if holds}
    if spoken is not None:
        # "Yes, the poster does not suffer from stress" says both.
        return spoken if not labels or labels in ({spoken}, {"yes", "no"}) else None
    if labels:
        return labels.pop() if len(labels) == 1 else None
    return read_verdict(text, YES_NO)


def _read_cause(text: str, _: Family) -> str | None:
    return _cause_in(text)


def _cause_in(text: str) -> str | None:
    """Return the cause that the label sentences name, if they name one only."""
    related = {label for found in RELATED.finditer(text) for label in _causes(found["named"])}
    denied = bool(re.search(r"\b(?:no|not? \w+ any) (?:specific |clear |apparent |particular )?causes? of", text, re.I))
    if related or denied:
        named = related | ({"none"} if denied else set())
        return named.pop() if len(named) == 1 else None
    bare = BARE_CAUSE.match(text)
    # "relationship, alienation" begins with one of two.
    named = _causes(SENTENCE.split(text, maxsplit=1)[0]) if bare and _causes(bare["named"]) else set()
    return named.pop() if len(named) == 1 else None


def _causes(text: str) -> set[str]:
    found = {str(match.lastgroup) for match in CAUSE.finditer(text)}
    return {NAMES.get(name, name) for name in found} & set(CAUSES)
