"""Scripted players for the tests of a session: they answer by rule, keep what they were asked, and may fail or die."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strop.methods.selfplay.cards import Card, CoreBeliefs
from strop.methods.selfplay.encoding import Candidate
from strop.methods.selfplay.session import session
from strop.methods.selfplay.session_config import SessionSettings
from strop.methods.selfplay.session_record import SessionRecord
from strop.models.episodes import Episode, run_episodes
from strop.models.protocol import Call, CallFailure, Completion, Outcome
from strop.models.scripted import prompt_text
from strop.records.rows import Message, Prompt
from strop.runs.budget import FREE
from strop.runs.store import CallStore

CARD = Card(
    id="1-1",
    name="Mira Lund",
    styles=("guarded",),
    history="Grew up above the family bakery and was blamed for the fire that closed it; moved away at nineteen.",
    core_beliefs=CoreBeliefs(
        helpless=("I am powerless.",), unlovable=("I will be left.",), worthless=("I am a burden.",)
    ),
    intermediate_belief="If I keep everything under control nobody can be hurt because of me.",
    intermediate_belief_depression="Whatever I touch falls apart, so it is safer to do nothing at all.",
    coping_strategies="Checks the stove many times and stays at home when she is tired.",
    situation="Her sister asked her to look after the children for one evening last week.",
    automatic_thought="Something terrible will happen and it will be my fault again.",
    emotions=("anxious, scared", "guilty, ashamed"),
    behavior="Said that she had to work and then lay awake the whole night.",
    condition="obsessive-compulsive disorder",
)
"""A patient of ours."""

CANDIDATES = (
    Candidate("guarded", ("Answer with few words at first.", "Look away when asked about the fire."), 0.9),
    Candidate("pleasing", ("Agree with everything.",), 0.5),
)

ASKING = (
    "What happened the last time that it was hard for you?",
    "When she rang, which thoughts came up first?",
    "And what did you end up doing that night?",
    "Where do you think this rule comes from?",
    "Who else knows that you carry this?",
    "How were things between you two at school?",
    "Could you walk me through an ordinary Sunday?",
    "Which part of that frightens you most?",
    "Suppose the worst came true, then what?",
    "Is there a moment when it lets go of you?",
)
SAYING = (
    "It has been a difficult month, I hardly sleep.",
    "My sister rang and wanted a favour from me.",
    "I got hot all over, and my stomach turned.",
    "So I made up an excuse and checked the kitchen.",
    "At home they always said careless girls burn houses down.",
    "Nobody, well, perhaps my neighbour guesses a bit.",
    "We were close once; then she married and moved north.",
    "Mostly laundry, then radio, then bed by eight.",
    "That they would look at me the way father did.",
    "I suppose the street would talk for years.",
    "When I knead dough, oddly enough, it goes quiet.",
)
"""What therapist and patient say, turn by turn: no two of them alike."""

Reply = str | CallFailure
Rule = Callable[[Call], Reply] | Sequence[Reply] | str
"""What is answered to one kind of question: by the call, one after the other (the last one stays), or always alike."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as a player got it."""

    to: str
    kind: str
    call: Call

    @property
    def text(self) -> str:
        """The whole request as text."""
        return prompt_text(self.call.prompt)

    @property
    def messages(self) -> tuple[Message, ...]:
        """Its messages."""
        assert not isinstance(self.call.prompt, str)
        return self.call.prompt


KINDS = {
    "State in one to three": "probe",
    "Name the one psychiatric": "diagnosis",
    "Propose one specific psych": "treatment",
    "Propose one medicine": "medicine",
    "Two doctors have told": "choice",
    "You are offered this": "outcome",
    "Write one or two open questions": "feedback",
    "How well are you now": "score",
    "Name the more accurate": "reduce",
    "Restate the following": "extract",
}


def kind_of(to: str, prompt: Prompt) -> str:
    """Return what is asked."""
    assert not isinstance(prompt, str)
    last = prompt[-1].content
    found = [kind for words, kind in KINDS.items() if words in last]
    return found[0] if found else ("encode" if to == "judge" else "turn")


def turn_number(call: Call) -> int:
    """Return the number of the turn that is asked for, among those of its speaker, from the request itself."""
    return sum(message.role == "assistant" for message in call.prompt if isinstance(message, Message))


DEFAULTS: dict[tuple[str, str], Rule] = {
    ("patient", "turn"): lambda call: SAYING[turn_number(call) % len(SAYING)],
    ("therapist", "turn"): lambda call: ASKING[turn_number(call) % len(ASKING)],
    ("therapist", "probe"): "The patient feels that disaster is near and that she would be to blame.",
    ("therapist", "diagnosis"): lambda call: (
        "Diagnosis: Generalised Anxiety Disorder\nReason: She worries."
        if "already thought of" in prompt_text(call.prompt)
        else "Diagnosis: Obsessive-Compulsive Disorder\nReason: She checks."
    ),
    ("therapist", "treatment"): lambda call: f"Treatment: Therapy {call_hash(call)}\nExplanation: It helps.",
    ("therapist", "medicine"): lambda call: f"Medicine: Drug {call_hash(call)}\nExplanation: It calms.",
    ("patient", "choice"): "The first one is like me.\nChoice: 1",
    ("patient", "outcome"): lambda call: f"I sleep better and check less, {call_hash(call)} times a day.",
    ("patient", "reduce"): "Obsessive-Compulsive Disorder",
    ("judge", "encode"): "1",
    ("judge", "feedback"): "What was it like at home?",
    ("judge", "score"): "9",
    ("judge", "extract"): "Treatment: Therapy\nExplanation: It helps.\nMedicine: Drug\nExplanation: It calms.",
}


def call_hash(call: Call) -> str:
    """Return a word that tells calls apart."""
    return call.key("test")[:6]


@dataclass
class Player:
    """One speaker that answers by rule; all players of a session share one list of what was asked."""

    name: str
    rules: Mapping[tuple[str, str], Rule]
    asked: list[Asked]
    die_after: int | None = None
    price = FREE
    _counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def revision(self) -> str:
        """The same for every player of this name."""
        return self.name

    def complete(
        self, calls: Iterable[Call], *, done: Container[int] = frozenset()
    ) -> Iterator[list[tuple[int, Outcome]]]:
        for index, call in enumerate(calls):
            if index in done:
                continue
            if self.die_after is not None and len(self.asked) >= self.die_after:
                raise KeyboardInterrupt
            kind = kind_of(self.name, call.prompt)
            self.asked.append(Asked(self.name, kind, call))
            yield [(index, self._outcome(kind, call))]

    def _outcome(self, kind: str, call: Call) -> Outcome:
        rule = self.rules[self.name, kind]
        if isinstance(rule, str):
            reply: Reply = rule
        elif callable(rule):
            reply = rule(call)
        else:
            reply = rule[min(self._counts[kind], len(rule) - 1)]
        self._counts[kind] += 1
        if isinstance(reply, CallFailure):
            return reply
        words = reply.split()
        return Completion(reply, len(prompt_text(call.prompt).split()), len(words), "stop", 0.0)

    def close(self) -> None: ...


@dataclass(frozen=True)
class Table:
    """A matcher that looks similarities up: by what the therapist said, by what is true, else one for all."""

    values: Mapping[str, float] = field(default_factory=dict)
    otherwise: float = 1.0
    threshold: float = 0.9
    name: str = "table"

    def similarities(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return the value of the first key that is in either text of a pair."""
        return [
            next((value for key, value in self.values.items() if key in said or key in true), self.otherwise)
            for said, true in pairs
        ]


@dataclass
class Stage:
    """Runs one session with scripted players and keeps what they were asked."""

    folder: Path
    asked: list[Asked] = field(default_factory=list)

    def play(
        self,
        rules: Mapping[tuple[str, str], Rule] | None = None,
        *,
        matcher: Table | None = None,
        card: Card = CARD,
        episode: Callable[..., Episode[SessionRecord]] = session,
        die_after: int | None = None,
        pass_: int = 0,
        **settings: Any,
    ) -> SessionRecord:
        """Return the record of one session; `rules` replace those of `DEFAULTS`."""
        players = {
            name: Player(name, {**DEFAULTS, **(rules or {})}, self.asked, die_after)
            for name in ("patient", "therapist", "judge")
        }
        playing = episode(
            card, CANDIDATES, settings=SessionSettings(**settings), matcher=matcher or Table(), seed=7, pass_=pass_
        )
        with CallStore(self.folder / "calls.sqlite") as store:
            return run_episodes([playing], players, store=store)[0]

    def of(self, to: str, *kinds: str) -> list[Asked]:
        """Return the requests to one player, of the given kinds or all."""
        return [asked for asked in self.asked if asked.to == to and (not kinds or asked.kind in kinds)]
