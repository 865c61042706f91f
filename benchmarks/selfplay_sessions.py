"""The sessions of the self-play benchmark: whose they are, and what they ask when the scripted players answer.

The matcher gives every pair of texts one similarity, so that no encoder is measured and a session has as many exchanges
as the script wants: four where everything passes, nine where nothing does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from selfplay_players import WELL, reply_to

from strop.methods.selfplay.behaviours import BEHAVIOURS, read_behaviours
from strop.methods.selfplay.cards import CARDS, Card, read_cards
from strop.methods.selfplay.encoding import Candidate, candidate_groups
from strop.methods.selfplay.published import published_session
from strop.methods.selfplay.session import session
from strop.methods.selfplay.session_config import SessionSettings
from strop.methods.selfplay.session_record import SessionRecord
from strop.methods.selfplay.similarity import Matcher
from strop.models.asking import Answered
from strop.models.episodes import Ask, Episode
from strop.runs.calls import StoredCall

SEED = 6
SETTINGS = SessionSettings(no_progress=None)
"""The defaults, except that the decoder goes on to its cap as released: both procedures have the same exchanges."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class OneSimilarity:
    """A matcher that finds every pair of texts equally near."""

    similarity: float
    threshold: float = 0.9
    name: str = "one similarity"

    def similarities(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return it for every pair."""
        return [self.similarity] * len(pairs)


ALL_PASS, NONE_PASSES = OneSimilarity(1.0), OneSimilarity(0.0)


class Play(Protocol):
    """A way to hold a session."""

    def __call__(
        self, card: Card, candidates: Sequence[Candidate], *, settings: SessionSettings, matcher: Matcher, seed: int
    ) -> Episode[SessionRecord]:
        """Return the session."""
        ...


PROCEDURES: dict[str, Play] = {"strop": session, "published": published_session}


def patients(count: int) -> list[Card]:
    """Return cards: ours, as often as needed, each patient with an id and a name of its own."""
    cards = read_cards(CARDS)
    return [
        replace(cards[place % len(cards)], id=f"patient-{place}", name=f"{cards[place % len(cards)].name} {place}")
        for place in range(count)
    ]


def sessions(
    cards: Sequence[Card], *, matcher: Matcher = ALL_PASS, procedure: str = "strop"
) -> list[Episode[SessionRecord]]:
    """Return a session for each card."""
    behaviours, play = read_behaviours(BEHAVIOURS), PROCEDURES[procedure]
    fitting = candidate_groups("any", behaviours, matcher)
    return [play(card, fitting, settings=SETTINGS, matcher=matcher, seed=SEED) for card in cards]


@dataclass(frozen=True, slots=True)
class Told:
    """A question and its answer."""

    ask: Ask
    text: str

    @property
    def contents(self) -> list[str]:
        """The texts of the request."""
        return contents_of(self.ask)


@dataclass(slots=True)
class Script:
    """What a session asked, group by group, each with its answers; and the record that came of it."""

    groups: list[list[Told]] = field(default_factory=list)
    record: SessionRecord | None = None

    @property
    def calls(self) -> list[Told]:
        """All questions."""
        return [told for group in self.groups for told in group]


def contents_of(ask: Ask) -> list[str]:
    """Return the texts of a question's messages."""
    assert not isinstance(ask.prompt, str)
    return [message.content for message in ask.prompt]


def rehearse(episode: Episode[SessionRecord], *, score: str = WELL) -> Script:
    """Hold a session in this process: the players answer at once, and nothing is stored."""
    script, asked = Script(), next(episode)
    try:
        while True:
            answers = [reply_to(contents_of(ask), score=score) for ask in asked]
            script.groups.append([Told(ask, text) for ask, text in zip(asked, answers, strict=True)])
            asked = episode.send([answered(ask, text) for ask, text in zip(asked, answers, strict=True)])
    except StopIteration as end:
        script.record = end.value
    return script


def answered(ask: Ask, text: str) -> StoredCall:
    """Return an answer as a session is told it."""
    return StoredCall(
        key="", model=ask.to, revision="", request={}, sample=ask.sample, text=text, finish="stop",
        prompt_tokens=0, completion_tokens=0, latency_s=0.0,
    )  # fmt: skip


def overheard(episode: Episode[Result], told: list[tuple[Ask, Answered]]) -> Episode[Result]:
    """Hold a session as it is, and keep its questions with what became of them."""
    asked = next(episode)
    try:
        while True:
            outcomes = yield asked
            told += zip(asked, outcomes, strict=True)
            asked = episode.send(outcomes)
    except StopIteration as end:
        result: Result = end.value
    return result
