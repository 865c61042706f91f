"""Whether a turn keeps its role: pure checks on its wording, each with a name that the ledger counts.

Patterns, not models: they are cheap and explain themselves, and they miss what they do not know. A fault of `UNUSABLE`
can never be said; one of `BLEMISHES` is said where the speaker brings nothing better.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from strop.evaluation.surface import invents_turn, refuses, repeated_runs, words_of
from strop.methods.selfplay.session_record import Speaker, Turn

UNUSABLE = ("empty", "not_speech", "other_language", "refuses", "breaks_character", "speaks_for_other")
"""Faults of a turn that cannot stand, in the order in which they are looked for."""
BLEMISHES = ("asks_nothing", "recites_card", "restarts", "repeats", "becomes_helper", "becomes_patient")
"""Faults that are tolerated in the last resort, the least of them first."""

NEAR = 0.6
"""Share of three-word runs that two turns have in common, of all they have, at which one repeats the other."""
FEWEST_WORDS = 5
"""Words of a turn below which saying it again is no repetition: people say yes more than once."""
LOOPING = 0.5
"""Share of a turn's four-word runs that have occurred in it before, at which it loops."""
FOREIGN_SCRIPT = 0.3
"""Share of letters outside the Latin script that makes a turn another language."""
FEWEST_FOREIGN = 3
"""Words of another language that tell it, where they are also more than the English ones."""

_SPEAKERS = (
    r"user|human|client|patient|assistant|ai|bot|therapist|psychiatrist|psychologist|counsell?or|doctor|clinician"
    r"|dr\.?(?:[ \t]+\w+)?|system|supervisor|narrator"
)
_OWN = {
    "patient": r"user|human|client|patient|me|you",
    "therapist": r"assistant|ai|bot|therapist|psychiatrist|psychologist|counsell?or|doctor|clinician|you"
    r"|dr\.?(?:[ \t]+\w+)?",
}
_LINE = r"[ \t>]*(?:#+[ \t]*)?(?:\*\*|__|\()?"
_COLON = r"(?:[ \t]*\([^()\n]{0,40}\)|[ \t]*\d+)?(?:\*\*|__|\))?[ \t]*:(?:\*\*|__)?"
CONTROL = re.compile(
    r"<\|?/?(?:im_start|im_end|user|assistant|system|endoftext|start_header_id|eot_id|s)\|?>|\[/?INST\]", re.IGNORECASE
)
# What a template puts in front of a turn: its tokens, each with the name of a role behind it or none.
_DEBRIS = re.compile(rf"\A(?:\s|(?:{CONTROL.pattern})(?:(?:user|assistant|system)\b)?)+", re.IGNORECASE)
_GREETING = re.compile(
    r"\s*(?:hi|hello|hey|welcome|greetings|good\s+(?:morning|afternoon|evening|day))\b(?!\s+(?:is|was|to\s+(?:him|her|them)))"
    r"|\s*(?:it['\u2019]?s\s+|it\s+is\s+)?(?:nice|good|great|a\s+pleasure)\s+to\s+meet\s+you"
    r"|\s*thank(?:s|\s+you)\s+for\s+(?:coming|seeing\s+me|having\s+me|meeting)"
    r"|\s*(?:please,?\s+)?(?:take|have)\s+a\s+seat",
    re.IGNORECASE,
)
_MACHINE = re.compile(
    r"\bas\s+an?\s+(?:\w+\s+)?(?:ai|a\.i\.|artificial\s+intelligence|(?:large\s+)?language\s+model|chat\s?bot|virtual\s+\w+)\b"
    r"|\bi(?:['\u2019]?m|\s+am)\s+(?:just\s+|only\s+)?an?\s+(?:\w+\s+)?(?:ai|language\s+model|chat\s?bot|virtual\s+assistant|"
    r"ai\s+assistant|computer\s+program|helpful\s+assistant)\b"
    r"|\bi\s+(?:do\s+not|don['\u2019]?t)\s+have\s+(?:\w+\s+)?(?:personal\s+)?(?:feelings|emotions|experiences|consciousness)"
    r"\s+(?:as|because|like\s+(?:a\s+)?humans?)"
    r"|\b(?:openai|anthropic|chatgpt|my\s+(?:programming|training\s+data))\b"
    r"|\brole[\s-]?play(?:ing)?\s+(?:scenario|exercise|as)\b|\bin\s+this\s+(?:role[\s-]?play|scenario|simulation|fictional)\b"
    r"|\bas\s+the\s+(?:client|patient|therapist|character),?\s+i\s+(?:would|will|should)\b"
    r"|\bhere(?:['\u2019]s|\s+is)\s+(?:a|the|my|one)\s+(?:possible\s+|sample\s+|revised\s+)?(?:response|reply|answer|dialogue|script)\b",
    re.IGNORECASE,
)
_DECLINES = re.compile(
    r"\bi\s*(?:['\u2019]?m|\s+am)?\s*(?:sorry|apologi[sz]e)[,.]?\s*(?:but\s+)?i\s*(?:can(?:no|['\u2019]?)t|['\u2019]?m\s+(?:not\s+able|unable)|"
    r"am\s+(?:not\s+able|unable)|won['\u2019]?t)\s+(?:\w+\s+)?(?:help|assist|provide|fulfil|comply|engage|generate|discuss|continue\s+with\s+this)"
    r"|\bi\s+(?:can(?:no|['\u2019]?)t|can\s+not|am\s+(?:not\s+able|unable)\s+to|won['\u2019]?t)\s+"
    r"(?:assist|provide\s+(?:medical|professional|that|this|any)|fulfil+|comply|generate|engage\s+in\s+(?:this|that))\b"
    r"|\bi\s+(?:can(?:no|['\u2019]?)t|can\s+not)\s+help\s+(?:you\s+)?with\s+(?:that|this|your)\s+request",
    re.IGNORECASE,
)
_HELPER = re.compile(
    r"\bhow\s+(?:can|may|could)\s+i\s+(?:help|assist|support)\s+you\b"
    r"|\bi(?:['\u2019]?m|\s+am)\s+(?:always\s+)?here\s+(?:to\s+(?:help|listen|support|assist)|for\s+you)\b"
    r"|\b(?:how|what)\s+(?:does|did|do)\s+(?:that|this|it|those\s+\w+)\s+make\s+you\s+feel\b"
    r"|\bhave\s+you\s+(?:tried|considered|thought\s+about|ever\s+(?:tried|considered))\b"
    r"|\b(?:i(?:['\u2019]?d|\s+would)?\s+(?:recommend|suggest|encourage|advise)\s+(?:that\s+)?you)\b"
    r"|\byou\s+(?:should|could|might\s+want\s+to)\s+(?:consider|try|seek|reach\s+out|talk\s+to|practi[cs]e)\b"
    r"|\bit(?:['\u2019]?s|\s+is)\s+important\s+(?:for\s+you\s+)?to\s+(?:remember|note|recogni[sz]e|seek)\b"
    r"|\bcan\s+you\s+tell\s+me\s+more\s+about\s+(?:that|how\s+you|what\s+you|your)\b"
    r"|\blet['\u2019]?s\s+(?:explore|work\s+(?:on|through)|start\s+by)\b"
    r"|\bi(?:['\u2019]?m|\s+am)\s+(?:so\s+|very\s+)?sorry\s+to\s+hear\s+(?:that|about|you)\b"
    r"|\byou(?:['\u2019]re|\s+are)\s+not\s+alone\b|\bwhat\s+brings\s+you\s+(?:here|in)\b"
    r"|\bi\s+want\s+to\s+assure\s+you\b"
    r"|\bplease\s+(?:do\s+not|don['\u2019]?t)\s+hesitate\b|\bplease\s+(?:continue\s+to\s+)?tell\s+me\b",
    re.IGNORECASE,
)
_REPORTED = re.compile(r"\b(?:said|says|told\s+me|tells\s+me|asked|asks|goes|keeps\s+saying)\b[^.!?]*\Z", re.IGNORECASE)
_LIST_ITEM = re.compile(r"^[ \t]*(?:\d{1,2}[.)]|[-*\u2022])[ \t]+\S", re.MULTILINE)
_ASKS = re.compile(
    r"\?|\b(?:tell|show|help|walk|take|give)\s+me\b|\b(?:describe|say\s+more|go\s+on|explain|share)\b|\bi(?:\s+am|['\u2019]m)?\s+wonder",
    re.IGNORECASE,
)
_PATIENT = re.compile(
    r"^\W*(?:yes,?\s+|well,?\s+|thank\s+you,?\s+)?(?:doctor|doc)\b[,.]"
    r"|\bi(?:['\u2019]?ve|\s+have)\s+been\s+(?:feeling|struggling|having|so)\b[^.?!]{0,60}\b(?:depress|anxious|hopeless|worthless|panic|sad|lately)"
    r"|\bmy\s+(?:therapist|psychiatrist)\b",
    re.IGNORECASE,
)
_HEADING = re.compile(
    r"\b(?:core|intermediate)\s+beliefs?\b|\bautomatic\s+thoughts?\b|\bcoping\s+strateg(?:y|ies)\b"
    r"|\bcognitive\s+conceptuali[sz]ation|(?:^|\n)[ \t*#>-]*(?:your\s+)?(?:history|situation|emotions?|behaviou?rs?"
    r"|how\s+you\s+(?:feel|felt|cope|talk)|what\s+went\s+through\s+your\s+mind)\s*(?:\*\*)?:",
    re.IGNORECASE,
)
_ENGLISH = """
the a an i you he she it we they my your his her our me him them to of in on at for with and or but not is are was were
be been have has had do does did that this what when how why about just so like know think feel can would could if no
yes don't i'm it's there all really because from out up
"""
_FOREIGN = """
el los las una que por para con pero como muy yo mi es est\u00e1 siento cuando porque le les des une est je suis
pas dans pour avec mais qui vous nous mon ma ne tr\u00e8s quand parce c'est j'ai der die das und ich nicht ist
ein eine mit auf f\u00fcr aber wenn mich mir habe bin auch wie sehr os uma n\u00e3o meu minha eu com mas quando
muito il che non di sono per mio mia sempre anche perch\u00e9 questo het een niet ik van maar mijn dat voor zijn
heb
"""
"""Common words of Spanish, French, German, Portuguese, Italian and Dutch that English hardly uses."""
_ENGLISH_WORDS, _FOREIGN_WORDS = frozenset(_ENGLISH.split()), frozenset(_FOREIGN.split())
_SENTENCE_END = re.compile(r"[.!?\u2026][\"'\u201d\u2019)]*(?=\s|$)")


@dataclass(frozen=True, slots=True)
class Checked:
    """A turn after the checks.

    Attributes:
        text: What may be said, without labels and without what was cut; empty where nothing is left.
        faults: Names of what is wrong with it, none where it keeps its role.
        cut: What was cut off because it speaks for somebody else, or because it never ends.
        cut_why: ``speaks_for_other`` or ``unfinished``; empty where nothing was cut.
    """

    text: str
    faults: tuple[str, ...] = ()
    cut: str = ""
    cut_why: str = ""

    @property
    def usable(self) -> bool:
        """Whether it can be said at all."""
        return not any(fault in UNUSABLE for fault in self.faults)

    @property
    def severity(self) -> tuple[int, int]:
        """How bad the faults are, for choosing the least of them: the worst one's rank, then their number."""
        return max((_RANK[fault] for fault in self.faults), default=-1), len(self.faults)


_RANK = {name: place for place, name in enumerate((*BLEMISHES, *reversed(UNUSABLE)))}


def check_turn(
    text: str,
    *,
    speaker: Speaker,
    earlier: Sequence[Turn],
    name: str = "",
    finished: bool = True,
    english: bool = True,
) -> Checked:
    """Check one turn.

    Args:
        text: What the model answered.
        speaker: Whose turn it is.
        earlier: The dialogue before it.
        name: The patient's name, which stands for the patient in front of a colon.
        finished: Whether the model ended it; else it is cut back to its last whole sentence.
        english: Whether another language is a fault.

    Returns:
        The text without the speaker's own label and without turns it invents, with its faults. Where a turn is invented
        and something stands before it, that is kept and is no fault; else it is ``speaks_for_other``.
    """
    spoken, invented = _own_words(text, speaker=speaker, name=name)
    if not spoken:
        return Checked("", ("speaks_for_other",) if invented else ("empty",), invented)
    cut, why = invented, "speaks_for_other" if invented else ""
    if not finished and not invented:
        spoken, cut = _whole_sentences(spoken)
        why = "unfinished" if cut else ""
    return Checked(spoken, tuple(_faults(spoken, speaker=speaker, earlier=earlier, english=english)), cut, why)


def _own_words(text: str, *, speaker: Speaker, name: str) -> tuple[str, str]:
    """Return what the speaker says, and the rest from the first turn that it invents."""
    first = re.escape(name.split(maxsplit=1)[0]) if name.strip() else ""
    named = rf"|{re.escape(name)}|{first}" if first else ""
    own = _OWN[speaker] + (named if speaker == "patient" else "")
    # A control token in front is a template's debris; behind the first words it begins another turn.
    spoken = _DEBRIS.sub("", text).rstrip()
    spoken = re.sub(rf"\A{_LINE}(?:{own}){_COLON}\s*", "", spoken, count=1, flags=re.IGNORECASE)
    turn = re.compile(
        rf"(?:\A|\n){_LINE}(?:{_SPEAKERS}{named}){_COLON}|\n[ \t]*\[(?:supervisor|for this answer)|{CONTROL.pattern}",
        re.IGNORECASE,
    )
    found = turn.search(spoken)
    end = found.start() if found else len(spoken)
    if invents_turn(spoken[:end]):
        end = _first_invented(spoken[:end])
    return _unquoted(spoken[:end].strip()), spoken[end:].strip()


def _first_invented(text: str) -> int:
    """Return where the line begins with which a text goes on as another speaker."""
    end = 0
    for line in text.splitlines(keepends=True):
        if invents_turn(text[: end + len(line)]):
            return end
        end += len(line)
    return end


def _unquoted(text: str) -> str:
    """Return a text without the quotation marks around the whole of it."""
    inner = text[1:-1]
    whole = len(text) > 2 and text[0] + text[-1] in ('""', "\u201c\u201d") and not set(inner) & set('"\u201c\u201d')
    return inner.strip() if whole else text


def _whole_sentences(text: str) -> tuple[str, str]:
    """Return the whole sentences of a text that was cut, and what is left over; all of it where none is whole."""
    ends = [found.end() for found in _SENTENCE_END.finditer(text)]
    return (text[: ends[-1]], text[ends[-1] :].strip()) if ends else (text, "")


def _faults(text: str, *, speaker: Speaker, earlier: Sequence[Turn], english: bool) -> list[str]:
    spoken_before = any(turn.speaker == speaker for turn in earlier)
    found = {
        "not_speech": _is_no_speech(text),
        "other_language": english and is_foreign(text),
        "refuses": _DECLINES.search(text) is not None or (speaker == "therapist" and refuses(text)),
        "breaks_character": _MACHINE.search(text) is not None,
        "asks_nothing": speaker == "therapist" and not _ASKS.search(text),
        "recites_card": speaker == "patient" and _HEADING.search(text) is not None,
        "restarts": spoken_before and _GREETING.match(text) is not None,
        "repeats": repeats(text, earlier),
        "becomes_helper": speaker == "patient" and _helps(text),
        "becomes_patient": speaker == "therapist" and _PATIENT.search(text) is not None,
    }
    return [fault for fault, here in found.items() if here]


def _is_no_speech(text: str) -> bool:
    """Say whether a text is data, code or debris: it opens as JSON or code does, or hardly holds a letter."""
    letters = sum(character.isalpha() for character in text)
    return text.lstrip()[:1] in "{[<`|" or "```" in text or letters * 2 < len(text.replace(" ", ""))


def is_foreign(text: str) -> bool:
    """Say whether a text is in another language than English: by its script, else by its commonest words."""
    letters = [character for character in text if character.isalpha()]
    # U+024F ends the extended Latin blocks; U+1E00 to U+1EFF continue them.
    other = sum(not (ord(letter) <= 0x24F or 0x1E00 <= ord(letter) <= 0x1EFF) for letter in letters)
    if letters and other / len(letters) > FOREIGN_SCRIPT:
        return True
    words = [word.replace("\u2019", "'") for word in words_of(text)]
    english, foreign = (sum(word in known for word in words) for known in (_ENGLISH_WORDS, _FOREIGN_WORDS))
    return foreign >= FEWEST_FOREIGN and foreign > english


def repeats(text: str, earlier: Sequence[Turn]) -> bool:
    """Say whether a text loops, or says nearly what was said before, by either side."""
    words = words_of(text)
    if len(words) < FEWEST_WORDS:
        return False
    return repeated_runs(words) >= LOOPING or any(_alike(words, words_of(turn.text)) >= NEAR for turn in earlier)


def _alike(words: Sequence[str], others: Sequence[str]) -> float:
    """Return the share of three-word runs that two texts have in common (Jaccard)."""
    first, second = ({*zip(text, text[1:], text[2:], strict=False)} for text in (words, others))
    return len(first & second) / len(first | second) if first and second else 0.0


def _helps(text: str) -> bool:
    """Say whether a patient offers help, advises or questions as a therapist does, or lists advice.

    What somebody else is reported to have said is the patient's story.
    """
    own = any(not _REPORTED.search(text[: found.start()]) for found in _HELPER.finditer(text))
    return own or len(_LIST_ITEM.findall(text)) >= 2
