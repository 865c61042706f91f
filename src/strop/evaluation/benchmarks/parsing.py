"""What a reply to a question with closed answers says: pure functions, and None wherever it is not plainly said.

Nothing is found inside a word, and nothing is guessed: an empty reply, an echo of the options, two answers at once and
an answer in passing are all None, which counts as wrong and is reported by itself.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

OPEN, CLOSE = r"[\s*_`\"'(\[{<]*", r"[\s*_`\"')\]}>]*"
"""Marks that may stand around an answer: bold, quotes, brackets."""
SPACES, LONG_RUN = re.compile(r"[^\S\n]+"), re.compile(r"([\n*_`\"'(\[{<)\]}>.,:])\1{2,}")
QUOTES = {0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"'}
"""Typographic quotes and the plain ones that they are read as."""
NOUN = r"(?:answer|option|choice)"
BEING = r"(?:\s+(?:is|would be|should be|must be)\s*:?|[*_]*\s*[:=])"
FOLLOWS = r"(?!(?<=[AI])\s+(?!because\b|since\b|as\b|due\b|for\b|or\b|and\b)[a-z])"
"""Not behind a capital A or I that is a word: "the answer is A drug" names no option."""
STARTS_NO = r"(?:there|it|this|that|the|they|these|those|he|she|we|i|because|since|as|not)\b"
"""Behind a "no" that is an answer without a comma: "no the drug is safe", but not "no evidence was found"."""


def read_choice(text: str, options: Mapping[str, str]) -> str | None:
    """Return the letter that a reply chooses.

    In this order: the exact text of one option ("C. difficile" is no C where it is an option); a letter alone; a letter
    with ``.``, ``)`` or ``:`` at the start; "the answer is X", or "option X"; bold, boxed or in brackets. A step that
    finds two different letters ends in None.

    Args:
        text: A model's reply.
        options: The text behind each letter.
    """
    reply = cleaned(text)
    by_text = _by_text(reply, {letter: option for letter, option in options.items() if len(_plain(option)) > 1})
    if by_text is not None:
        return by_text
    letters = "".join(options)
    for step in (_lone, _marked, _stated, _set_apart):
        found = step(reply, letters)
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def read_verdict(text: str, labels: Sequence[str]) -> str | None:
    """Return the verdict that a reply states: alone, at its start, as "the answer is yes", or as its last line.

    Args:
        text: A model's reply.
        labels: The verdicts, as ``yes``, ``no``, ``maybe``.
    """
    reply = cleaned(text)
    leading = leading_verdict(reply, labels)
    if leading is not None or _lists_verdicts(reply, labels):
        return leading
    stated = stated_verdicts(reply, labels)
    if stated:
        return stated.pop() if len(stated) == 1 else None
    last = reply.rstrip().rsplit("\n", 1)[-1]
    alone = re.fullmatch(rf"{OPEN}({'|'.join(labels)}){CLOSE}[.!]?{CLOSE}", last, re.IGNORECASE)
    return alone[1].lower() if alone else None


def cleaned(text: str) -> str:
    """Return a reply without invisible characters and with plain quotes, so that its spelling hides nothing."""
    unified = unicodedata.normalize("NFKC", text).translate(QUOTES)
    visible = "".join(sign for sign in unified if unicodedata.category(sign) != "Cf")
    # Long runs say nothing and would cost the patterns quadratic time.
    return LONG_RUN.sub(r"\1\1", SPACES.sub(" ", visible)).strip()


def leading_verdict(text: str, labels: Sequence[str]) -> str | None:
    """Return the verdict that a reply begins with, a whole word; None where it lists several ("yes or no")."""
    reply = cleaned(text)
    if _lists_verdicts(reply, labels):
        return None
    found = re.match(rf"{OPEN}({'|'.join(labels)})\b", reply, re.IGNORECASE)
    if found is None:
        return None
    label = found[1].lower()
    prose = reply[found.end(1) :].lstrip(" *_`\"')]}>")
    attached = reply[found.end(1) : found.end(1) + 1]
    if attached in ("-", "'") and reply[found.end(1) + 1 : found.end(1) + 2].isalpha():
        return None
    if label == "no" and attached == " " and prose[:1].isalpha() and not re.match(STARTS_NO, prose, re.IGNORECASE):
        return None
    return label


def stated_verdicts(text: str, labels: Sequence[str]) -> set[str]:
    """Return every verdict that a reply gives as "the answer is ..."."""
    statement = rf"\b{NOUN}{BEING}{OPEN}({'|'.join(labels)})\b(?!\s+(?:or|and)\b|\s*/)"
    return {found.lower() for found in re.findall(statement, text, re.IGNORECASE)}


def _lists_verdicts(reply: str, labels: Sequence[str]) -> bool:
    either = "|".join(labels)
    ends = r"(?=\W*(?:$|[.,;:?/\n]|or\b|and\b))"
    joint = r"\s*(?:,|/|\bor\b|\band\b)\s*(?:or\s+|and\s+)?"
    found = re.match(rf"{OPEN}({either}){CLOSE}{joint}{OPEN}({either})\b{ends}", reply, re.IGNORECASE)
    return found is not None and found[1].lower() != found[2].lower()


def _lone(reply: str, letters: str) -> set[str]:
    found = re.fullmatch(rf"{OPEN}([{letters}]){CLOSE}[.:,!]?{CLOSE}", reply, re.IGNORECASE)
    return {found[1].upper()} if found else set()


def _marked(reply: str, letters: str) -> set[str]:
    """Return the letters that lines begin with; an echo of the whole list has several, and so has "(A) and (B)"."""
    start = rf"{OPEN}([{letters}])[*_]*(?:[.):]|\s*[)\]])"
    if not re.match(start, reply, re.IGNORECASE):
        return set()
    listed = rf"(?m)^{start}{_further(letters)}"
    return {one.upper() for found in re.findall(listed, reply, re.IGNORECASE) for one in found if one}


def _stated(reply: str, letters: str) -> set[str]:
    letter = rf"([{letters}])(?![\w'-])[*_`\"')\]}}>]*{FOLLOWS}"
    more = _further(letters)
    # Not any word: hepatitis B may be the correct diagnosis.
    before = rf"(?:^|[.,;:!?(\n]\s*|\b(?i:{NOUN}|so|thus|hence|therefore)\s+)"
    forms = (
        rf"\b(?i:{NOUN}{BEING})\s*(?i:{NOUN}\s+|letter\s+)?{OPEN}{letter}{more}",
        rf"\b(?i:correct|right|best|final)\s+(?i:{NOUN})\s+{OPEN}{letter}{more}",
        rf"\b(?i:choose|select|pick)\s+(?i:{NOUN}\s+)?{OPEN}{letter}{more}",
        rf"{before}{OPEN}{letter}\s+(?i:is|would be)\s+(?i:the\s+)?(?i:correct|right|best)\b()",
        rf"^{OPEN}(?i:{NOUN})\s+{OPEN}{letter}(?:$|[.,:;\n)]){more}",
    )
    found = {one for form in forms for pair in re.findall(form, reply) for one in pair if one}
    if found:
        return found
    lower = re.findall(rf"(?i)\b{NOUN}{BEING}\s*[(\[*\"']+([{letters}])[)\]*\"']", reply)
    return {one.upper() for one in lower}


def _further(letters: str) -> str:
    """Return the pattern of a second letter in the same breath: "A or B"."""
    return rf"(?:(?:\s*(?:,|/|&|\bor\b|\band\b)\s*)+{OPEN}([{letters}])(?![\w']))?"


def _set_apart(reply: str, letters: str) -> set[str]:
    """Return the letters in bold, in brackets or in a box."""
    apart = rf"\*\*\(?([{letters}])(?:[.):][^*\n]*)?\)?\*\*|\(([{letters}])\)|\\boxed\{{(?:\\text\{{)?([{letters}])\}}"
    return {one for found in re.findall(apart, reply) for one in found if one}


def _by_text(reply: str, options: Mapping[str, str]) -> str | None:
    said = _plain(reply)
    if not said:
        return None
    same = [letter for letter, option in options.items() if _plain(option) == said]
    if not same:
        statement = rf"(?i)\b{NOUN}{BEING}{OPEN}(?P<named>[^\n]+)"
        named = {_plain(found["named"]) for found in re.finditer(statement, reply)}
        same = [letter for letter, option in options.items() if named == {_plain(option)}]
    return same[0] if len(same) == 1 else None


def _plain(text: str) -> str:
    """Return text without case, outer marks, a final stop and doubled spaces."""
    unified = " ".join(cleaned(text).casefold().split())
    return unified.strip("*_`\"' .")
