"""The scripted players of the self-play benchmark: what patient, therapist and judge answer, by the request alone.

A turn of the patient has 40 to 60 words, one of the therapist about 30; no two turns of a speaker are alike, so that a
session discards none. Almost every answer holds a word that depends on every byte of its request: an answer that landed
in another session shows. Standard library only: the server of the benchmark answers by these rules in its own process.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

SAYING = (
    "It has been a hard month, really. I hardly sleep, and when I do I wake up at four and listen to the pipes. My "
    "sister says I look grey. I come home, sit on the edge of the bed in my coat, and an hour is gone.",
    "Last Thursday she rang and wanted me to mind the children for one evening, that was all. I had the phone in my "
    "hand and I could not get a word out. The kettle was boiling and I just stood there and watched the steam.",
    "I thought, something will happen and everybody will know whose doing it was. My face got hot and my stomach "
    "turned over. I was scared, and ashamed as well, because who gets scared of two little boys and a cartoon film?",
    "So I made up a shift at work. Then I went round the kitchen and touched every knob, six times, seven, I lost "
    "count and had to begin again. Around three I lay down with my clothes on and kept my ears open.",
    "At home it was always said that careless girls burn houses down. Father kept the bakery and after the fire he "
    "never spoke about it, he only looked. If I keep hold of everything, nobody gets hurt on my account, that is how I "
    "see it.",
    "Nobody knows, not properly. Perhaps the neighbour guesses a bit, since she hears the door go at night when I run "
    "down to see whether I locked it. At work they think I am thorough. They gave me the storeroom keys for that.",
    "We were close as children, she and I; we had a den behind the flour sacks with a torch and a tin of plums. Then "
    "she married and moved north, and our calls got short. I suppose I let them get short, it was easier on me.",
    "Sundays are laundry first, then the radio, then bed by eight if I can manage it. I used to bake for the whole "
    "street and carry it round in baskets. Now the oven stays cold, because a cold oven is one thing less to count.",
    "That they would look at me the way he did, mostly. Not shouting, I could stand shouting. It is that quiet, as if "
    "they had always known and were only waiting for it to come out. I get a taste like metal when I picture it.",
    "Then the street would talk for years, and the boys would grow up with it, and she would be polite to me at "
    "funerals. I know how mad that sounds with nothing burnt at all. Said aloud it shrinks, and by tonight it is back.",
    "When I knead dough, oddly enough, it goes quiet in there. My hands know what they are about and leave me out of "
    "it. Last winter I made forty rolls for the church bazaar, and for that whole morning I did not look at the stove.",
)
"""What the patient says, turn by turn."""

ASKING = (
    "Waking at four with nobody to talk to sounds lonely. Which moment of the past week was the worst one for you, and "
    "where were you when it began?",
    "So the phone was in your hand and the steam went up. In that very second, what ran through your head, and what "
    "did you notice in your body?",
    "Fear and shame together, over an evening with children. After you had put the phone down, what did you do next, "
    "and how did the night go on?",
    "Six times, seven, and then from the start. Such rules seldom come from nowhere: who taught you that one slip "
    "would be enough, and how did they teach it?",
    "You carry that look of his a long way. Who in your life today knows how much you check, and what do you imagine "
    "they make of it?",
    "Thorough is a kind word for something that wears you out. What was it like between you and your sister before all "
    "of this came in between?",
    "A torch and a tin of plums, I can picture that den. If I followed you through an ordinary free day now, from "
    "breakfast on, what would I see?",
    "One thing less to count, I see the sense in it. Of everything that might go wrong, which part frightens you more "
    "than the rest, and why that one?",
    "Quiet looks can weigh more than loud words. Suppose for a minute that the worst did come true: what would follow "
    "from it, for them and for you?",
    "Spoken aloud it shrinks, you say. Is there an hour in the week when it loosens its grip by itself, and what is "
    "different about that hour?",
)
"""What the therapist says, turn by turn."""

UNDERSTOOD = (
    "The patient expects that a moment of carelessness will bring harm to others and that she will be blamed; she "
    "checks, stays away and hides it, and feels frightened and ashamed ({word})."
)
QUESTIONS = (
    "What would it say about you if somebody noticed that you had forgotten one thing? And when somebody gets close, "
    "what do you do so that the talk turns to something else?"
)
TREATMENTS = (
    "Exposure and response prevention",
    "Cognitive restructuring of responsibility",
    "Behavioural activation",
    "Acceptance and commitment therapy",
    "Metacognitive therapy",
    "Compassion-focused therapy",
    "Inference-based therapy",
)
MEDICINES = ("Sertraline", "Fluoxetine", "Escitalopram", "Fluvoxamine", "Paroxetine", "Clomipramine", "Citalopram")
TREATMENT_WHY = (
    "It lets her meet the feared moments in small steps without the usual safeguards, so that she can find out what "
    "happens and what does not; sessions are weekly, with practice between them ({word})."
)
MEDICINE_WHY = (
    "It eases the fear and the urge to check, is well tolerated and can be started low; blood pressure and sleep "
    "should be looked at after two weeks, and it must not be stopped suddenly ({word})."
)
CHOICE = (
    "The counting and going back again is exactly what my evenings look like, and the worry only comes because of it. "
    "The other one is too general for me.\nChoice: 1"
)
AFTER = (
    "I sleep until six most nights now and I go back to the stove once, not seven times. Work is easier. I had the "
    "boys for an afternoon and my hands shook, but we baked. The quiet look still comes to me on Sundays (note {word})."
)
ARGUMENT = "The first one, because I go back and check; the second would be worry without any of that."
RESTATED = (
    f"Treatment: {TREATMENTS[0]}\nExplanation: It lets her meet the feared moments in small steps.\n"
    f"Medicine: {MEDICINES[0]}\nExplanation: It eases the fear and the urge to check."
)

KINDS = {
    "State in one to three": "understood",
    "Name the one psychiatric": "diagnosis",
    "Propose one specific psych": "treatment",
    "Propose one medicine": "medicine",
    "Two doctors have told": "choice",
    "You are offered this": "after",
    "Write one or two open questions": "questions",
    "How well are you now": "score",
    "Which group fits": "group",
    "Name the more accurate": "reduce",
    "Restate the following": "restate",
}
"""What is asked, by words of the last message."""
PATIENT = "You play a client"
"""How the patient's instructions begin, which stand in front, or at the end where a card is put in again."""
WELL, IMPROVED = "9", "5"
"""Scores of a state: good enough to end the search for a plan, and one with which every try is used."""


def answer(request: Mapping[str, Any]) -> str:
    """Return what the server answers to a chat request."""
    return reply_to([str(message["content"]) for message in request["messages"]])


def reply_to(contents: Sequence[str], *, score: str = WELL) -> str:
    """Return the answer to a request.

    Args:
        contents: The texts of its messages.
        score: What the judge gives every state.
    """
    whole, last = "\n".join(contents), contents[-1]
    word = f"{zlib.crc32(whole.encode()) & 0xFFFF:04x}"
    kind = next((kind for words, kind in KINDS.items() if words in last), "turn")
    if kind == "turn":
        # In the released list the card stands in front of the therapist's question too, which then is of odd place.
        own = contents[0].startswith(PATIENT) and len(contents) % 2 == 0
        speaks_as_patient = own or last.startswith(PATIENT)
        return _next_of(SAYING, whole) + f" ({word})" if speaks_as_patient else _next_of(ASKING, whole)
    replies = {
        "understood": UNDERSTOOD,
        "diagnosis": "Diagnosis: Generalised anxiety disorder\nReason: She worries about many things ({word})."
        if "already thought of" in last
        else "Diagnosis: Obsessive-compulsive disorder\nReason: She checks until it feels safe ({word}).",
        "treatment": f"Treatment: {_next_of(TREATMENTS, last)}\nExplanation: {TREATMENT_WHY}",
        "medicine": f"Medicine: {_next_of(MEDICINES, last)}\nExplanation: {MEDICINE_WHY}",
        "choice": CHOICE,
        "after": AFTER,
        "questions": QUESTIONS,
        "score": score,
        "group": "1",
        "reduce": "Obsessive-compulsive disorder",
        "restate": RESTATED,
    }
    return replies[kind].replace("{word}", word)


def _next_of(texts: Sequence[str], said: str) -> str:
    """Return the text that follows the last of `texts` that was said, the first one where none was."""
    places = [place for place, text in enumerate(texts) if text[:24] in said]
    return texts[(places[-1] + 1) % len(texts)] if places else texts[0]
