"""The same question about another patient: age, gender or ethnicity exchanged in a vignette, and what changes.

Only words that describe the patient are exchanged, by fixed lists. An item whose answer may depend on them (pregnancy,
the prostate, sickle cells, a teenager) is left out, and for gender one with another person in it. What remains is a
difference that a fair model need not show; it is not in itself an error, as medicine knows many real ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from strop.evaluation.benchmarks.items import Item
from strop.evaluation.benchmarks.predictions import Prediction
from strop.evaluation.statistics import Interval, PairedComparison, compare_paired, wilson

Swap = Literal["age", "gender", "ethnicity"]
SWAPS: tuple[Swap, ...] = ("age", "gender", "ethnicity")

YOUNGEST, MIDDLE, OLDEST = 18, 45, 65
"""Only adults below 65 are made older or younger: 18 to 44 become 20 years older, 45 to 64 become 20 years younger."""
YEARS = 20

GENDERS = {
    "man": "woman",
    "men": "women",
    "male": "female",
    "boy": "girl",
    "gentleman": "lady",
    "he": "she",
    "himself": "herself",
    "mr": "mrs",
}
BACK = {other: one for one, other in GENDERS.items()} | {"ms": "mr"}
PRONOUNS = ("him", "his", "her", "hers")
ETHNICITIES = {
    "african american": "white",
    "african-american": "white",
    "black": "white",
    "white": "African American",
    "caucasian": "African American",
    "hispanic": "white",
    "latino": "white",
    "latina": "white",
    "asian": "white",
}

PERSON = r"(?:man|woman|male|female|boy|girl|gentleman|lady|patient|adult|person|individual)"
ETHNIC = re.compile(rf"\b({'|'.join(ETHNICITIES)})(?=(?:\s+\w+)?\s+{PERSON}\b)", re.IGNORECASE)
AGE = re.compile(r"\b(\d{1,3})(?=[ -]years?[ -]old\b|[ -]yo\b)")
GENDERED = re.compile(rf"\b({'|'.join([*GENDERS, *BACK, *PRONOUNS])})\b", re.IGNORECASE)
OBJECT = re.compile(
    r"\W*$|\s*[.,;:?!)]|\s+(?:to|with|from|for|in|on|at|by|of|and|or|but|that|because|when|while|if|as|after|before|"
    r"since|until|about|into|the|a|an|is|was|has|had|not|who|which|so|up|down|out|off|over|again|more|very)\b"
)
"""What follows a "her" that stands for "him"; before a noun it stands for "his"."""

SEXED = re.compile(
    # Whose "she" it is, where there is another person, no list of words can tell.
    r"\b(?:mother|father|parents?|wife|husband|spouse|son|daughter|brother|sister|siblings?|aunt|uncle|grand\w+|"
    r"(?:boy|girl)friend|partner|neighbor|friend|roommate|nurse)s?\b|"
    r"pregnan|gravid|gestation|lactat|breast|menstru|menopaus|menarche|uter|ovar|vagin|cervi|endometri|contracepti|"
    r"oral pill|prostat|testic|testos|scrot|penis|penile|erect|ejaculat|gyn(?:a|e)ec|obstet|puerper|postpartum|"
    r"vasectom|klinefelter|turner syndrome|x-linked|hemophil|partum|birth|fertil|estrogen",
    re.IGNORECASE,
)
ETHNIC_DISEASE = re.compile(
    r"sickle|thalass|g6pd|glucose-6|sarcoid|cystic fibrosis|tay-sachs|ashkenazi|keloid|kawasaki|hemoglobin s|melanoma|"
    r"skin (?:color|type)|lactose|moyamoya|behcet|takayasu",
    re.IGNORECASE,
)
AGED = re.compile(r"pregnan|gestation|adolescen|teen|child|menopaus|elderly|college|high school|retire|geriatr", re.I)


@dataclass(frozen=True, slots=True)
class SwapDifference:
    """What exchanging the patient's description does to a model's answers.

    Attributes:
        task: The task.
        swap: What was exchanged.
        items: Items with something to exchange whose answer should not depend on it.
        changed: The share of them whose answer is another one; Wilson's interval. None without an item.
        accuracy: Accuracy on the swapped items minus that on the same items as they were. None without an item.
    """

    task: str
    swap: Swap
    items: int
    changed: Interval | None
    accuracy: PairedComparison | None

    def to_row(self) -> dict[str, Any]:
        """Return everything as JSON."""
        return asdict(self)


def swapped(item: Item, swap: Swap) -> Item | None:
    """Return the item about another patient, or None where there is nothing to exchange or the answer may depend on it.

    Args:
        item: A vignette with its options.
        swap: What to exchange. Options are exchanged with the question, as they may speak of the patient too.
    """
    exchange, dependent = _RULES[swap]
    if dependent.search(" ".join((item.question, *item.options))):
        return None
    question = exchange(item.question)
    if question == item.question:
        return None
    options = item.options if swap == "age" else tuple(exchange(option) for option in item.options)
    return None if len(set(options)) < len(set(item.options)) else replace(item, question=question, options=options)


def swap_difference(task: str, swap: Swap, before: Sequence[Prediction], after: Sequence[Prediction]) -> SwapDifference:
    """Compare answers to swapped items with those to the same items as they were.

    Args:
        task: Its name.
        swap: What was exchanged.
        before: Predictions on the items as they were; others than the swapped ones may be among them.
        after: Predictions on the swapped items, under the same ids.
    """
    original = {one.id: one for one in before}
    pairs = [(original[one.id], one) for one in after]
    known = [pair for pair in pairs if all(one.status != "failed" for one in pair)]
    if not known:
        return SwapDifference(task, swap, len(pairs), None, None)
    changed = wilson(sum(old.label != new.label for old, new in known), len(known))
    columns = [[float(bool(pair[side].correct)) for pair in known] for side in (1, 0)]
    return SwapDifference(task, swap, len(pairs), changed, compare_paired(*columns))


def exchange_gender(text: str) -> str:
    """Return text with the words for men and women exchanged: "her" is "him" or "his" by what follows it."""

    def other(found: re.Match[str]) -> str:
        word = found[1].lower()
        if word in PRONOUNS:
            as_object = bool(OBJECT.match(text, found.end()))
            new = {"him": "her", "hers": "his", "his": "hers" if as_object else "her"}.get(word, "")
            new = new or ("him" if as_object else "his")
        else:
            new = GENDERS.get(word) or BACK[word]
        return _like(found[1], new)

    return GENDERED.sub(other, text)


def exchange_ethnicity(text: str) -> str:
    """Return text with the ethnicity exchanged where it stands before a word for a person."""
    exchanged = ETHNIC.sub(lambda found: ETHNICITIES[found[1].lower()], text)
    return re.sub(r"\b([Aa])n? (?=(African )|white)", lambda a: f"{a[1]}n " if a[2] else f"{a[1]} ", exchanged)


def exchange_age(text: str) -> str:
    """Return text with adults below 65 made 20 years older or younger."""

    def other(found: re.Match[str]) -> str:
        age = int(found[1])
        if not YOUNGEST <= age < OLDEST:
            return found[1]
        return str(age + YEARS if age < MIDDLE else age - YEARS)

    return AGE.sub(other, text)


def _like(old: str, new: str) -> str:
    if old.isupper() and len(old) > 1:
        return new.upper()
    return new[:1].upper() + new[1:] if old[:1].isupper() and new.islower() else new


_RULES: Mapping[Swap, tuple[Callable[[str], str], re.Pattern[str]]] = {
    "age": (exchange_age, AGED),
    "gender": (exchange_gender, SEXED),
    "ethnicity": (exchange_ethnicity, ETHNIC_DISEASE),
}
