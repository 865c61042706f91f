"""What a judge's reply says: ratings and verdicts, or the kind of failure that kept them from being read.

The last offer counts, for each criterion by itself. An offer is a JSON value under the criterion's key, a line that
names the criterion and then a number, or (where one criterion was asked) a line ``Rating: ...`` or a bare number. An
offer that is no whole number from 1 to 5 is a failure and is never corrected: 10 is not 1 and 3.5 is not 4.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from strop.judging.replies import Found, cleaned, json_objects
from strop.judging.rubric import SCALE, Rubric

Verdict = Literal["first", "second", "tie"]
"""The better one of two responses, in the order in which they are named."""

FAILURE_KINDS = (
    "ambiguous",
    "call_failed",
    "contradiction",
    "empty",
    "missing",
    "no_majority",
    "not_integer",
    "null",
    "out_of_range",
    "refusal",
    "truncated",
    "wrong_scale",
    "wrong_type",
)
"""The kinds of `ParseFailure`."""
LONGEST_BARE = 40
"""Characters of a line that may be read as a bare number; a labelled rating comes before it."""
DETAIL_SHOWN = 80
"""Characters of a reply that a failure quotes."""


@dataclass(frozen=True, slots=True)
class ParseFailure:
    """A reply that states no usable rating or verdict: the kind of failure, and the text or value behind it."""

    kind: str
    detail: str = ""

    def __str__(self) -> str:
        """Return kind and detail in one line."""
        return f"{self.kind}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Ratings:
    """What a reply says about each criterion that was asked for: a whole number from 1 to 5, or a failure."""

    values: Mapping[str, int | ParseFailure]

    @property
    def complete(self) -> bool:
        """Say whether every criterion got a rating."""
        return all(isinstance(value, int) for value in self.values.values())


_WORDS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
_NUMBER = re.compile(
    rf"""[\s*_`"'(\[<=]{{0,12}}
    (?P<number>[-+\u2212]?\d{{1,9}}(?:[.,]\d{{1,9}})?|(?:{"|".join(_WORDS)})\b)
    (?P<joined>%|\w{{0,1}})
    [*_`"']{{0,4}}
    (?:\s{{0,3}}(?P<range>-|\u2013|\u2014|to\b|or\b|and\b)\s{{0,3}}(?P<second>\d{{1,9}}))?
    (?:\s{{0,3}}(?:/|out\s+of|of)\s{{0,3}}(?P<scale>\d{{1,9}}|{"|".join(_WORDS)}))?
    (?P<after>[\s\S]{{0,12}})""",
    re.VERBOSE | re.IGNORECASE,
)
_ENDS = re.compile(
    r"""[*_`"'\s]{0,4}(?:$|[.,;!)\]}>|(]|:?\s*$|[-\u2013\u2014]\s|because\b|since\b|as\b|stars?\b|points?\b)""",
    re.IGNORECASE,
)
_BULLET = r"[\s>#*_`\"'\-\u2022|(\[]{0,12}(?:\d{1,2}[.)]\s{0,3})?[\s*_`\"'(\[]{0,6}"
_SEPARATOR = (
    r"[*_`\"')\]]{0,4}(?:\s{0,3}\([^()\n]{0,40}\))?[*_`\"'\s]{0,6}(?:[:=|]|\u2192|->|=>|-\s|\u2013|\u2014|is\b|gets\b)"
)
_LABEL = re.compile(
    rf"^{_BULLET}(?:final\s|overall\s|my\s|the\s|but\s|so\s|thus\s){{0,3}}(?:rating|score|grade|verdict|answer){_SEPARATOR}",
    re.IGNORECASE,
)
_SCORE_KEYS = ("rating", "score", "value", "grade")
_NAME_KEYS = ("key", "criterion", "name")
_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am) (?:sorry|unable|not able)|i (?:can(?:no|')t|cannot|won't|will not|must decline)|as an ai|"
    r"i apologi[sz]e|unable to (?:rate|judge|assess|comply|compare))",
    re.IGNORECASE,
)
_SEGMENT = re.compile(r"[;\n]|(?<=[.!?])\s(?=\s*[A-Za-z*_\"'])|,\s(?=\s*[A-Za-z*_\"'])|\s\|\s(?=\s*[A-Za-z*_])")


def parse_ratings(text: str, rubric_or_keys: Rubric | Sequence[str]) -> Ratings | ParseFailure:
    """Return the last rating that a reply offers for each criterion.

    Args:
        text: The judge's reply.
        rubric_or_keys: The criteria that were asked for; a rubric's criteria are also known by their names.

    Returns:
        Ratings with a failure for each criterion that got none; a failure alone where the reply offers nothing.
    """
    names = _names(rubric_or_keys)
    body = cleaned(text)
    if not body.strip():
        return ParseFailure("empty", _shown(text))
    stated: dict[str, int | ParseFailure] = {}
    bare: dict[str, int | ParseFailure] = {}
    for piece in _pieces(body, json_objects(body)):
        if isinstance(piece, Found):
            stated.update(_json_ratings(piece.value, names))
        else:
            stated.update(_text_ratings(piece, names))
            bare.update(_bare_ratings(piece, names))
    offers = bare | stated
    if not offers:
        return _nothing(body)
    return Ratings({key: offers.get(key, ParseFailure("missing", key)) for key in names})


def _names(rubric_or_keys: Rubric | Sequence[str]) -> dict[str, tuple[str, ...]]:
    if isinstance(rubric_or_keys, Rubric):
        return {item.key: (item.key, item.name) for item in rubric_or_keys.criteria}
    return {key: (key,) for key in rubric_or_keys}


def _pieces(body: str, objects: Sequence[Found]) -> Iterator[str | Found]:
    """Yield prose and objects in the order in which they stand."""
    place = 0
    for found in objects:
        yield body[place : found.start]
        yield found
        place = found.end
    yield body[place:]


def _nothing(body: str) -> ParseFailure:
    return ParseFailure("refusal" if _REFUSAL.search(body) else "missing", _shown(body))


def _shown(text: str) -> str:
    return " ".join(text[-4 * DETAIL_SHOWN :].split())[-DETAIL_SHOWN:]


def _json_ratings(value: Mapping[str, Any], names: Mapping[str, tuple[str, ...]]) -> dict[str, int | ParseFailure]:
    """Read an object that maps criteria to ratings, or holds such objects; or, for one criterion, a bare rating."""
    known = {_folded(name): key for key, aliases in names.items() for name in aliases}
    offers: dict[str, int | ParseFailure] = {}
    named = next((known.get(_folded(str(value[key]))) for key in _NAME_KEYS if isinstance(value.get(key), str)), None)
    only = next(iter(names)) if len(names) == 1 else named
    for label, content in value.items():
        key = known.get(_folded(label))
        if key is not None:
            offers[key] = _from_json(content)
        elif only is not None and _folded(label) in _SCORE_KEYS:
            offers[only] = _from_json(content)
        else:
            for inner in content if isinstance(content, list) else [content]:
                if isinstance(inner, dict):
                    offers.update(_json_ratings(inner, names))
    return offers


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.strip().casefold())


def _from_json(content: Any) -> int | ParseFailure:
    if isinstance(content, dict):
        stated = [content[label] for label in content if _folded(label) in _SCORE_KEYS]
        return _from_json(stated[-1]) if stated else ParseFailure("missing", _shown(str(content)))
    if content is None:
        return ParseFailure("null", "null")
    if isinstance(content, (bool, list)):
        return ParseFailure("wrong_type", _shown(str(content)))
    if isinstance(content, (int, float)):
        return _whole(content)
    rating = _number(content)
    return ParseFailure("not_integer", _shown(content)) if rating is None else rating


def _whole(number: float) -> int | ParseFailure:
    # NaN and infinities have no whole part: `%` gives NaN for them.
    if number % 1 != 0:
        return ParseFailure("not_integer", str(number)[:DETAIL_SHOWN])
    return int(number) if number in SCALE else ParseFailure("out_of_range", f"{number:.9g}" if number < 1e9 else "huge")


def _text_ratings(text: str, names: Mapping[str, tuple[str, ...]]) -> dict[str, int | ParseFailure]:
    """Read prose line by line: ``key: 4``, or a line that opens with the key and a later line ``Rating: 4``."""
    aliases = "|".join(
        re.escape(name).replace(r"\ ", r"[\s_-]").replace("_", r"[\s_-]") for group in names.values() for name in group
    )
    heading = re.compile(rf"^{_BULLET}(?P<name>{aliases})\b(?:\s(?:rating|score)\b)?", re.IGNORECASE)
    separator = re.compile(_SEPARATOR, re.IGNORECASE)
    parenthesis = re.compile(r"[*_`\"'\s]{0,4}(?=\()")
    known = {_folded(name): key for key, group in names.items() for name in group}
    offers: dict[str, int | ParseFailure] = {}
    current = next(iter(names)) if len(names) == 1 else None
    for segment in _segments(text):
        found = heading.match(segment)
        key, rest = current, segment
        if found:
            current = key = known[_folded(found["name"])]
            rest = segment[found.end() :]
            gap = separator.match(rest)
            offer = _number(rest[gap.end() :]) if gap else None
            if offer is None and (gap := parenthesis.match(rest)):
                offer = _number(rest[gap.end() :])
        else:
            label = _LABEL.match(segment)
            offer = _number(segment[label.end() :]) if label else None
        if key is not None and offer is not None:
            offers[key] = offer
    return offers


def _bare_ratings(text: str, names: Mapping[str, tuple[str, ...]]) -> dict[str, int | ParseFailure]:
    """Read lines that hold a number and nothing else, where one criterion was asked."""
    if len(names) > 1:
        return {}
    alone = [_number(line, alone=True) for line in text.split("\n") if len(line) < LONGEST_BARE]
    offers = [offer for offer in alone if offer is not None]
    return {next(iter(names)): offers[-1]} if offers else {}


def _segments(text: str) -> Iterator[str]:
    place = 0
    for end in _SEGMENT.finditer(text):
        yield text[place : end.start()]
        place = end.end()
    yield text[place:]


def _number(text: str, *, alone: bool = False) -> int | ParseFailure | None:
    """Read the number that `text` begins with; None where it begins with no offer of one.

    Args:
        text: What follows a label.
        alone: Whether nothing but the number may stand there.
    """
    found = _NUMBER.match(text)
    if found is None or (found["joined"] and found["joined"] != "%"):
        return None
    shown = _shown(found[0][: len(found[0]) - len(found["after"])])
    if found["range"]:
        scale = found["number"] == "1" and found["second"] in ("5", "10", "100") and found["range"] != "or"
        return None if scale else ParseFailure("ambiguous", shown)
    after = found["after"]
    if not _ENDS.match(after) or (alone and after.strip(" \t*_`\"'.)]>")):
        return None
    if found["joined"]:
        return ParseFailure("wrong_scale", shown)
    if found["scale"] and found["scale"].lower() not in ("5", "five"):
        return ParseFailure("wrong_scale", shown)
    return _from_words(found["number"])


def _from_words(number: str) -> int | ParseFailure:
    if number.lower() in _WORDS:
        return _whole(_WORDS[number.lower()])
    whole, point, fraction = number.replace("\u2212", "-").replace(",", ".").partition(".")
    # "4.0" is 4; "4,000" is thousands to some and 4 to others.
    if point and ("," in number or fraction not in ("0", "00")):
        return ParseFailure("not_integer", number)
    return _whole(int(whole))


_SIDE_NOUN = r"(?:response|answer|reply|assistant|option|candidate|model)"
_SIDES: dict[str, Verdict] = {
    "a": "first",
    "first": "first",
    "1": "first",
    "b": "second",
    "second": "second",
    "2": "second",
}
_TIE = re.compile(
    r"(?:an?\s+)?(?:tie[ds]?|draw|equal(?:ly\s+good)?|neither|both(?:\s+are)?\s+equal(?:ly\s+good)?)\b", re.IGNORECASE
)
_SIDE = re.compile(
    rf"(?:the\s+)?(?:(?P<ordinal>first|second)\s+(?:{_SIDE_NOUN}|one)|{_SIDE_NOUN}\s+(?P<named>[AB12])|(?P<letter>[AB])|"
    r"(?P<word>first|second))(?![\w'])",
    re.IGNORECASE,
)
_AFTER_SIDE = re.compile(
    r"[*_`\"'\s)\]}.]{0,6}(?:$|[\n,;:!(.-]|\u2013|\u2014|is\b|was\b|wins\b|because\b|since\b|as\b|by\b|over\b|has\b|does\b)",
    re.IGNORECASE,
)
_VERDICT_LABEL = re.compile(
    r"\b(?:verdict|winner|decision|choice|conclusion|final\s+answer|better\s+(?:response|answer|reply|one)|"
    r"preferred\s+(?:response|answer|reply)|preference)"
    r"[*_`\"'\])]{0,4}(?:\s{0,3}(?::|=|->|=>|\u2192|\u2013|\u2014|-\s|is\b)){1,2}[\s*_`\"'(\[<]{0,10}",
    re.IGNORECASE,
)
_DOUBLE_BRACKETS = re.compile(r"\[\[\s{0,3}(A|B|C|tie)\s{0,3}\]\]", re.IGNORECASE)
_WINS = re.compile(
    rf"\b(?:{_SIDE_NOUN}\s+(?P<named>[AB12])|(?P<ordinal>first|second)\s+(?:{_SIDE_NOUN}|one))[*_`\"']{{0,4}}\s{{1,3}}"
    r"(?:wins\b|(?:is|was)\s(?:(?:clearly|slightly|much|far|overall|the|a|somewhat|marginally|better,|therefore)\s){0,3}"
    r"(?:better|best|stronger|preferable|superior|winner)\b)",
    re.IGNORECASE,
)
_BOTH_TIE = re.compile(
    r"\b(?:it(?:'s| is) a (?:tie|draw)|"
    r"(?:both|the)(?: two)? (?:responses|answers|replies)? ?are (?:equally good|tied|equal))\b",
    re.IGNORECASE,
)
_VERDICT_KEYS = ("verdict", "winner", "choice", "decision", "better", "preferred", "preference", "better response")


def parse_verdict(text: str) -> Verdict | ParseFailure:
    """Return the last verdict that a reply offers about responses A (first) and B (second).

    A stated verdict (JSON, ``Verdict: A``, ``[[A]]``, or a last line that is nothing else) comes before sentences
    such as "Response B is better"; those count only where nothing is stated, and only where all of them agree.
    """
    body = cleaned(text)
    if not body.strip():
        return ParseFailure("empty", _shown(text))
    stated: list[Verdict | ParseFailure] = []
    prose: list[str] = []
    for piece in _pieces(body, json_objects(body)):
        if isinstance(piece, Found):
            stated.extend(_json_verdicts(piece.value))
        else:
            stated.extend(_stated(piece))
            prose.append(piece)
    if stated:
        return stated[-1]
    return _told("\n".join(prose)) or _nothing(body)


def _told(text: str) -> Verdict | ParseFailure | None:
    """Read a text without a label: a last line that is nothing but a side, or sentences that all name one."""
    last = text.rstrip().rpartition("\n")[2]
    bare = _side(last.strip(" \t*_`\"'([<>#."), alone=True)
    if isinstance(bare, str):
        return bare
    sentences = set(_sentences(text))
    if len(sentences) == 1:
        return sentences.pop()
    return ParseFailure("contradiction", _shown(text)) if sentences else None


def _json_verdicts(value: Mapping[str, Any]) -> Iterator[Verdict | ParseFailure]:
    for label, content in value.items():
        if _folded(label) in _VERDICT_KEYS:
            if content is None:
                yield ParseFailure("null", "null")
            elif isinstance(content, dict):
                yield from _json_verdicts(content)
            elif isinstance(content, str):
                yield _told(content) or ParseFailure("ambiguous", _shown(content))
            else:
                yield ParseFailure("wrong_type", _shown(str(content)))
        elif isinstance(content, dict):
            yield from _json_verdicts(content)


def _stated(text: str) -> Iterator[Verdict | ParseFailure]:
    """Yield labelled verdicts in order; a label with neither a side nor a tie behind it offers nothing."""
    marks = [(mark.start(), mark) for mark in _VERDICT_LABEL.finditer(text)]
    brackets = [(mark.start(), mark) for mark in _DOUBLE_BRACKETS.finditer(text)]
    for _, mark in sorted(marks + brackets, key=lambda found: found[0]):
        if mark.re is _DOUBLE_BRACKETS:
            yield _SIDES.get(mark[1].lower(), "tie")
            continue
        line = text[mark.end() : mark.end() + 200].partition("\n")[0]
        if mark[0].endswith('"') and '"' not in line:
            yield ParseFailure("truncated", _shown(line))
        elif (side := _side(line)) is not None:
            yield side


def _side(text: str, *, alone: bool = False) -> Verdict | ParseFailure | None:
    """Read the side or the tie that `text` begins with; "A or B" is a failure, and other words are no offer."""
    if tie := _TIE.match(text):
        listed = re.match(r"\s{0,3}(?:or|/|,)\s{0,3}\w", text[tie.end() :])
        return ParseFailure("ambiguous", _shown(text)) if listed else "tie"
    found = _SIDE.match(text)
    if found is None:
        return None
    rest = text[found.end() :]
    if re.match(r"[*_`\"')\]\s]{0,6}(?:or\b|and\b|/|,\s{0,3}(?:B|or|tie)\b|\||=)", rest):
        return ParseFailure("ambiguous", _shown(text))
    # "a" before a word is an article, and a rest that goes on is a sentence, not a verdict.
    if not _AFTER_SIDE.match(rest) or (found["letter"] == "a" and rest.strip(" .*_`\"'")):
        return None
    if alone and rest.strip(" \t\n*_`\"'.)]>!}"):
        return None
    if re.match(r"\s{0,3}(?:is|was|does|has)\s(?:not|no|worse|weaker)\b", rest):
        return None
    return _SIDES[str(next(filter(None, found.groups()))).lower()]


def _sentences(text: str) -> Iterable[Verdict]:
    for found in _WINS.finditer(text):
        yield _SIDES[str(found["named"] or found["ordinal"]).lower()]
    if _BOTH_TIE.search(text):
        yield "tie"
