"""Text as the patterns read it: one plain form of every spelling, disguise and script.

`plain_form` folds case, accents, apostrophes and contractions and drops what cannot be seen. `Respelling` undoes what
hides a word: look-alike letters, digits for letters, spaced-out letters, repeated letters, typing errors.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from functools import lru_cache

APOSTROPHES = dict.fromkeys((0x2019, 0x2018, 0x02BC, 0x60, 0xB4, 0xFF07, 0x2032), "'")
QUESTION_MARKS = "?\u00bf\u061f\uff1f"
EMOJI = {
    "\N{PISTOL}": " gun ",
    "\N{PILL}": " pills ",
    "\N{HOCHO}": " knife ",
    "\N{COFFIN}": " coffin ",
    "\N{HEADSTONE}": " grave ",
    "\N{KNOT}": " noose ",
    "\N{DROP OF BLOOD}": " blood ",
    "\N{RAZOR}": " razor ",
}
LOOKALIKES = str.maketrans("авекмнорстухіјѕԁһԛԝαβγεηικνορτυχωⅼɩıɑɡ", "abekmhopctyxijsdhqwabyenikvoptuxwliiag")
LEET = (str.maketrans("013457@$!|+€", "oieastasilte"), str.maketrans("013457@$!|+€", "oleastasllte"))
CONTRACTIONS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), form)
    for pattern, form in (
        (r"\b(can)'?not\b|\bcan't\b", "can not"),
        (r"\bwon't\b", "will not"),
        (r"\bshan't\b", "shall not"),
        (r"\bain't\b", "am not"),
        (r"n't\b", " not"),
        (r"\b(i)'m\b", r"\1 am"),
        (r"'re\b", " are"),
        (r"'ve\b", " have"),
        (r"'ll\b", " will"),
        (r"\b(i|you|he|she|it|we|they|that|who|there)'d\b", r"\1 would"),
        (r"\b(he|she|it|that|there|what|who|where|how|here|every(?:one|body|thing)|no(?:body)?)'s\b", r"\1 is"),
    )
)
LONG = 7
"""Letters from which on two typing errors in a word are undone, not one."""

_TOKEN = re.compile(r"[^\W_]+|[?\u00bf\u061f\uff1f]+|[.!;:\n\u3002\uff01]+|~")
_BENT = re.compile(r"[^\s.,;:?()\"“”]+|[.;:?]+|\s+")
_SPACED = re.compile(r"(?<![^\W_])[^\W_](?:[ .\-_*·]{1,3}[^\W_]){3,}(?![^\W_])")
_REPEATED = re.compile(r"(.)\1{2,}")
_WIDE = re.compile(r"([\u3040-\u30ff\u3400-\u9fff])")


def visible(text: str) -> str:
    """Return `text` in lower case without accents, without what cannot be seen, with words for some emoji."""
    for sign, word in EMOJI.items():
        if sign in text:
            text = text.replace(sign, word)
    decomposed = unicodedata.normalize("NFKD", text).casefold()
    kept = "".join(
        letter
        for letter in decomposed
        if unicodedata.category(letter) not in ("Mn", "Cf", "Co", "Cn") and (letter >= " " or letter in "\n\t\r")
    )
    return kept.translate(APOSTROPHES)


def plain_form(text: str, spellings: Mapping[str, str]) -> str:
    """Return the words of `text`, each after one space; a sentence ends with ``.`` or ``?``, and so does the text.

    Args:
        text: Any text, of any length.
        spellings: Words and what to read in their place: ``dont`` as ``do not``.
    """
    return _joined(visible(text), spellings)


def _joined(text: str, spellings: Mapping[str, str]) -> str:
    for pattern, form in CONTRACTIONS:
        text = pattern.sub(form, text)
    words = []
    for token in _TOKEN.findall(_WIDE.sub(r" \1 ", text)):
        if token[0].isalnum() or token == "~":
            words.append(spellings.get(token, token))
        else:
            mark = "?" if token[0] in QUESTION_MARKS else "."
            if words and words[-1] not in (".", "?"):
                words.append(mark)
    return f" {' '.join(words)} "


class Respelling:
    """Undoes disguises and typing errors, towards the words of the patterns only."""

    def __init__(self, words: Collection[str], spellings: Mapping[str, str]) -> None:
        self.words = frozenset(words)
        self.spellings = spellings
        self._by_ends: dict[str, list[str]] = {}
        for word in self.words:
            if len(word) > 2:
                for end in {"<" + word[0], ">" + word[-1], "=" + word[1]}:
                    self._by_ends.setdefault(end, []).append(word)
        self._word = lru_cache(maxsize=20_000)(self._uncached)

    def __call__(self, text: str) -> str:
        """Return the plain form of `text` with disguised and misspelled words read as words of the patterns."""
        shown = _SPACED.sub(self._unspaced, visible(text))
        latin = sum("a" <= letter <= "z" for letter in shown)
        parts = [self._unbent(part, latin * 2 > len(shown) / 2) for part in _BENT.findall(shown)]
        plain = _joined("".join(parts), self.spellings)
        respelled = " ".join(word if len(word) < 3 else self._word(word) for word in plain.split())
        return f" {respelled} "

    def _unspaced(self, match: re.Match[str]) -> str:
        """Join letters that stand apart; wider gaps part the words."""
        words = re.split(r"[ .\-_*·]{2,3}", match.group())
        joined = ["".join(letter for letter in word if letter.isalnum()) for word in words]
        glued = "".join(joined)
        return glued if all(len(word) == 1 for word in joined) else " ".join(joined)

    def _unbent(self, part: str, mostly_latin: bool) -> str:
        if part.isascii() and (part.isalpha() or part.isspace()):
            return part
        if not part.isascii() and (mostly_latin or any("a" <= letter <= "z" for letter in part)):
            part = part.translate(LOOKALIKES)
        if part.isalnum() and part.isdigit():
            return part
        bare = part.strip("'!,-*+|")
        if any(letter.isalpha() for letter in bare) and not bare.replace("'", "").replace("-", "").isalpha():
            for table in LEET:
                candidate = "".join(letter for letter in bare.translate(table) if letter.isalpha())
                if candidate in self.words:
                    return candidate
            if "*" in bare or "#" in bare:
                return "".join(letter for letter in bare if letter.isalpha())
        return part

    def _uncached(self, word: str) -> str:
        if word in self.words or word in (".", "?") or not word.isalpha():
            return word
        if not word.isascii():
            return word
        squeezed = {_REPEATED.sub(r"\1", word), _REPEATED.sub(r"\1\1", word)} - {word}
        for candidate in sorted(squeezed):
            if candidate in self.words:
                return candidate
        if english(word):
            return word
        parts = self._parted(word) if len(word) > 7 else None
        return parts or self._nearest(min(squeezed, default=word, key=len)) or word

    def _parted(self, word: str) -> str | None:
        """Return a word that is made of words of the patterns with spaces between them, fewest first."""
        if len(word) > 40:
            return None
        best: list[list[str] | None] = [[]] + [None] * len(word)
        for end in range(1, len(word) + 1):
            for start in range(max(0, end - 14), end):
                head, tail = best[start], word[start:end]
                known = tail in self.words and (len(tail) > 1 or tail in "ia")
                if head is not None and known:
                    here = best[end]
                    if here is None or len(head) + 1 < len(here):
                        best[end] = [*head, tail]
        found = best[-1]
        return " ".join(found) if found and len(found) > 1 else None

    def _nearest(self, word: str) -> str | None:
        """Return the word of the patterns that is the fewest typing errors away; of equals, the most frequent."""
        allowed = 2 if len(word) >= LONG else 1
        near = {
            candidate
            for end in ("<" + word[0], ">" + word[-1], "=" + word[0])
            for candidate in self._by_ends.get(end, ())
            if abs(len(candidate) - len(word)) <= allowed
        }
        ranked = []
        for candidate in near:
            errors, swapped = typing_errors(word, candidate, allowed)
            short = min(len(word), len(candidate)) < 4
            if errors <= allowed and not (short and not swapped and len(candidate) <= len(word)):
                ranked.append((errors, not swapped, len(candidate) < len(word), -frequency(candidate), candidate))
        return min(ranked)[-1] if ranked else None


def typing_errors(typed: str, word: str, most: int) -> tuple[int, bool]:
    """Return how many letters were added, left out, replaced or swapped with the next; and whether only swapped.

    Optimal string alignment; a result above `most` only says "more than that".
    """
    if sorted(typed) == sorted(word):
        differing = [place for place, (a, b) in enumerate(zip(typed, word, strict=True)) if a != b]
        if len(differing) == 2 and differing[1] == differing[0] + 1:
            return 1, True
    before: list[int] = []
    row = list(range(len(word) + 1))
    for i, letter in enumerate(typed, 1):
        older, before, row = before, row, [i]
        for j, other in enumerate(word, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == word[j - 2] and typed[i - 2] == other:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1, False
    return row[-1], False


@lru_cache(maxsize=1)
def _frequencies() -> Mapping[str, int]:
    from spellchecker import SpellChecker

    counts: Mapping[str, int] = SpellChecker(language="en").word_frequency.dictionary
    return counts


def english(word: str) -> bool:
    """Say whether `word` is a word of English, correctly spelled."""
    return word in _frequencies()


def frequency(word: str) -> int:
    """Return how often `word` occurs in the English of film subtitles; 0 for a word that is not there."""
    return _frequencies().get(word, 0)
