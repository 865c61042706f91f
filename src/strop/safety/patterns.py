"""The patterns of the screen: a versioned data file that a clinician can read, compiled to linear-time matching.

A phrase is words with a space between them, and

* ``a|b``: one of several words; ``a_b`` inside it is two words;
* ``word*``: any ending;
* ``<name>``: one of a list of words or phrases;
* ``[x]``: x or nothing;
* ``..`` and ``...``: up to two and up to five further words of the same sentence;
* ``#``: a number; ``.``, ``?``: the end of a sentence or a question; ``^``: the beginning of a turn.

Every gap is bounded, and words are matched whole, so that the time grows with the length of the text and no faster.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from strop.errors import UserError
from strop.runs.yaml_files import read_yaml
from strop.safety.levels import KINDS, Level
from strop.safety.text import Respelling, plain_form

SAFETY = Path(__file__).resolve().parent.parent / "data" / "safety"
PATTERNS = SAFETY / "patterns-v1.yaml"
WINDOW = 300
"""Characters within which the parts of a combination must stand, where it does not say otherwise."""

_GAPS = {"..": r"(?: [^ .?~]+){0,2}?", "...": r"(?: [^ .?~]+){0,5}?"}
_NUMBERS = r"\d+|one|two|three|four|five|six|seven|eight|nine|ten|twelve|fifteen|twenty|thirty|forty|fifty|hundred"


@dataclass(frozen=True, slots=True)
class Phrase:
    """One compiled phrase.

    Attributes:
        source: As the file has it.
        pattern: What matches it in a plain form.
        needs: Words of which at least one must occur for it to match; empty where that is not known.
    """

    source: str
    pattern: re.Pattern[str]
    needs: frozenset[str]

    def spans(self, text: str, words: frozenset[str]) -> Iterator[tuple[int, int]]:
        """Yield where the phrase occurs in the plain form `text`, whose words are `words`."""
        if self.needs and self.needs.isdisjoint(words):
            return
        for match in self.pattern.finditer(text):
            yield match.span()


@dataclass(frozen=True, slots=True)
class Group:
    """Phrases that mean the same.

    Attributes:
        name: Its name.
        phrases: The phrases.
        level: The level that one of them gives on its own; `Level.NONE` where it only counts in combinations.
        kinds: What the risk is of.
        signals: What combinations call it, its own name among them.
        sure: False where other readings are possible and the level is the higher one.
        negatable: Whether "not", "never" before it turns it into a denial.
        unless: Signals that make this wording harmless where no thought of death or sign of danger stands by them.
    """

    name: str
    phrases: tuple[Phrase, ...]
    level: Level
    kinds: tuple[str, ...]
    signals: frozenset[str]
    sure: bool
    negatable: bool
    unless: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Combination:
    """Signals that mean more together.

    Attributes:
        name: Its name.
        when: Signals that must all be there.
        unless: Signals that make it harmless.
        within: Characters within which they must stand; 0: anywhere in the conversation.
        level: The level it gives.
        kinds: What the risk is of.
        sure: As of a group.
    """

    name: str
    when: tuple[str, ...]
    unless: tuple[str, ...]
    within: int
    level: Level
    kinds: tuple[str, ...]
    sure: bool


@dataclass(frozen=True)
class Patterns:
    """One version of the file, compiled."""

    name: str
    version: str
    spellings: Mapping[str, str]
    idioms: tuple[Phrase, ...]
    denials: tuple[Phrase, ...]
    groups: tuple[Group, ...]
    answers: tuple[Group, ...]
    combinations: tuple[Combination, ...]
    respelling: Respelling

    def forms(self, text: str) -> tuple[str, ...]:
        """Return the plain form of `text`, and the one with disguises and typing errors undone where it differs."""
        plain = plain_form(text, self.spellings)
        respelled = self.respelling(text)
        return (plain,) if plain == respelled else (plain, respelled)


class _Compiler:
    def __init__(self, lists: Mapping[str, list[str]], spellings: Mapping[str, str], where: str) -> None:
        self.spellings, self.where = spellings, where
        self.vocabulary: set[str] = set()
        self.lists = {name: [self._words(entry) for entry in entries] for name, entries in lists.items()}

    def phrase(self, source: str) -> Phrase:
        pieces, needs = [], []
        for element in source.split():
            piece, words = self._element(element, source)
            pieces.append(piece)
            if words:
                needs.append(words)
        rarest = min(needs, key=len) if needs else frozenset()
        return Phrase(source, re.compile("".join(pieces) + "(?= )"), frozenset(rarest))

    def _words(self, text: str) -> str:
        if text in (".", "?"):
            return text
        words = plain_form(text.rstrip("*").replace("_", " "), self.spellings).strip()
        self.vocabulary.update(words.split())
        return words + "*" * text.endswith("*")

    def _element(self, element: str, source: str) -> tuple[str, frozenset[str] | None]:
        """Return an element as a pattern that begins with its space, and the first words one of which it needs."""
        if element == "^":
            return r"(?:^|(?<= [.?]))", None
        if element[0] == "[" and element[-1] == "]":
            return f"(?:{self._element(element[1:-1], source)[0]})?", None
        choices = element.split("|")
        patterns = [_GAPS[choice] for choice in choices if choice in _GAPS]
        words = [
            one for choice in choices if choice not in _GAPS and choice != "#" for one in self._named(choice, source)
        ]
        if not all(one.strip("*") for one in words):
            raise UserError(f"{self.where}: a part of a phrase says nothing", value=element, why=f"in {source!r}")
        longest_first = sorted(set(words), key=lambda one: (-len(one), one))
        alternatives = [re.escape(one).replace(r"\*", "[^ ]*").replace(r"\ ", " ") for one in longest_first]
        alternatives += [_NUMBERS] * ("#" in choices)
        patterns = ([f" (?:{'|'.join(alternatives)})"] if alternatives else []) + patterns
        firsts = frozenset(one.split()[0] for one in words)
        open_ended = len(patterns) > 1 or not firsts or "#" in choices or any("*" in first for first in firsts)
        return f"(?:{'|'.join(patterns)})", None if open_ended else firsts

    def _named(self, choice: str, source: str) -> list[str]:
        if not (choice.startswith("<") and choice.endswith(">")):
            return [self._words(choice)]
        if choice[1:-1] not in self.lists:
            raise UserError(f"{self.where}: no such list in {source!r}", value=choice, alternatives=sorted(self.lists))
        return self.lists[choice[1:-1]]


def _lines(text: Any) -> list[str]:
    return [
        line.strip() for line in str(text or "").splitlines() if line.strip() and not line.lstrip().startswith("//")
    ]


@lru_cache(maxsize=4)
def read_patterns(path: Path = PATTERNS) -> Patterns:
    """Read and compile a file of patterns; the shipped one by default.

    Raises:
        UserError: It cannot be read, or a phrase, level, kind or signal in it is unknown; the place is named.
    """
    values = read_yaml(path).values
    spellings = {
        word: form for line in _lines(values["spellings"]) for word, form in [map(str.strip, line.split("=", 1))]
    }
    lists = {name: _lines(text) if isinstance(text, str) else list(text) for name, text in values["lists"].items()}
    compiler = _Compiler(lists, spellings, path.name)
    groups = [_group(row, compiler, path) for row in values["groups"]]
    answers = [_group(row, compiler, path) for row in values["answers"]]
    signals = {signal for group in groups for signal in group.signals}
    return Patterns(
        name=str(values["name"]),
        version=str(values["version"]),
        spellings=spellings,
        idioms=tuple(compiler.phrase(line) for line in _lines(values["idioms"])),
        denials=tuple(compiler.phrase(line) for line in _lines(values["denials"])),
        groups=tuple(groups),
        answers=tuple(answers),
        combinations=tuple(_combination(row, signals, path) for row in values["combinations"]),
        respelling=Respelling(compiler.vocabulary, spellings),
    )


def read_groups(path: Path, sections: tuple[str, ...]) -> list[tuple[Group, ...]]:
    """Read the groups of a file that has no combinations, section by section; lists of the shipped patterns included.

    Raises:
        UserError: As `read_patterns`.
    """
    values, shipped = read_yaml(path).values, read_yaml(PATTERNS).values
    lists = {name: _lines(text) for name, text in {**shipped["lists"], **values.get("lists", {})}.items()}
    compiler = _Compiler(lists, read_patterns().spellings, path.name)
    return [tuple(_group(row, compiler, path) for row in values[section]) for section in sections]


def _level(row: Mapping[str, Any], path: Path) -> tuple[Level, tuple[str, ...]]:
    level, kinds = row.get("level", 0), row.get("kinds", [])
    if level not in Level._value2member_map_:
        raise UserError(f"{path.name}: {row['name']}: no such level", value=level)
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise UserError(f"{path.name}: {row['name']}: no such kind", value=unknown, alternatives=KINDS)
    return Level(level), tuple(kinds)


def _group(row: Mapping[str, Any], compiler: _Compiler, path: Path) -> Group:
    level, kinds = _level(row, path)
    return Group(
        name=row["name"],
        phrases=tuple(compiler.phrase(line) for line in _lines(row["phrases"])),
        level=level,
        kinds=kinds,
        signals=frozenset([row["name"], *row.get("signals", [])]),
        sure=row.get("sure", True),
        negatable=row.get("negatable", False),
        unless=tuple(row.get("unless", [])),
    )


def _combination(row: Mapping[str, Any], signals: set[str], path: Path) -> Combination:
    level, kinds = _level(row, path)
    when, unless = tuple(row["when"]), tuple(row.get("unless", []))
    unknown = [signal for signal in (*when, *unless) if signal not in signals]
    if unknown:
        raise UserError(f"{path.name}: {row['name']}: no such signal", value=unknown, alternatives=sorted(signals))
    return Combination(
        name=row["name"],
        when=when,
        unless=unless,
        within=row.get("within", WINDOW),
        level=level,
        kinds=kinds,
        sure=row.get("sure", True),
    )
