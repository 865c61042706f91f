"""What is learned of a session: by hand, through the render of training, and as properties of splits and pairs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from strop.errors import UserError
from strop.methods.selfplay.session_record import PlanTry, SessionRecord
from strop.methods.selfplay.training_config import TrainingSetSettings
from strop.methods.selfplay.training_set import (
    QUESTIONS,
    TrainingSet,
    preference_pairs,
    split_cards,
    supervised_pairs,
    training_set,
    without_overlap,
)
from strop.records.rows import Message, PreferencePair, SupervisedExample
from strop.records.tables import read_table, write_table
from strop.records.training_forms import trl_example
from strop.training import TrainingSettings
from strop.training.rendering import IGNORED, supervised_columns, tokenise

RECORD = SessionRecord(
    id="1-1#0",
    card="1-1",
    pass_=0,
    iteration=1,
    status="complete",
    illness="Panic Disorder",
    treatments=(
        PlanTry("Rest", "Quiet helps.", "worse", 3),
        PlanTry("Exposure therapy.", "Fear fades.", "better", 8),
        PlanTry("Breathing training", "It slows the heart.", "same", None),
        PlanTry("Group therapy", "Others know it.", "better", 8),
    ),
    best_treatment=1,
    medicines=(PlanTry("none needed", "", "well", 9), PlanTry("Sertraline", "It calms.", "well", 9)),
    best_medicine=0,
    symptom="Patient History: S0",
    decoded="Patient History: Sd",
    treatment="Exposure therapy.",
    explain_t="Fear fades.",
    medicine="Sertraline",
    explain_m="It calms.",
)
PLAIN = TrainingSetSettings()


def asked(text: str, question: str) -> tuple[Message, Message]:
    return (Message("system", QUESTIONS.system), Message("user", f"{text}\n\n{question}"))


def test_pairs_by_hand() -> None:
    assert list(supervised_pairs(RECORD, PLAIN)) == [
        SupervisedExample("1-1#0/diagnosis", asked("Patient History: Sd", QUESTIONS.diagnosis), "Panic Disorder"),
        SupervisedExample(
            "1-1#0/treatment", asked("Patient History: Sd", QUESTIONS.treatment), "Exposure therapy. Fear fades."
        ),
        SupervisedExample(
            "1-1#0/medication", asked("Patient History: Sd", QUESTIONS.medication), "Sertraline. It calms."
        ),
    ]


def test_the_card_as_released() -> None:
    pairs = list(supervised_pairs(RECORD, TrainingSetSettings(input="encoded")))
    assert pairs[0].prompt == asked("Patient History: S0", QUESTIONS.diagnosis)


def test_chained_by_hand() -> None:
    """The treatment is asked for with the diagnosis, the medicine with both; a story without them stays the same."""
    diagnosis, treatment, medication = supervised_pairs(RECORD, TrainingSetSettings(chained=True))
    assert diagnosis.prompt == asked("Patient History: Sd", QUESTIONS.diagnosis)
    told = "Patient History: Sd\n\nDiagnosis: Panic Disorder"
    assert treatment.prompt == asked(told, QUESTIONS.treatment)
    assert medication.prompt == asked(f"{told}\nTreatment: Exposure therapy.", QUESTIONS.medication)


def test_chained_needs_what_it_tells() -> None:
    """A doctor is no diagnosis: alone, the plans stay; chained, nothing is left."""
    record = replace(RECORD, illness="Doctor 2.")
    assert [one.id for one in supervised_pairs(record, PLAIN)] == ["1-1#0/treatment", "1-1#0/medication"]
    counts: Counter[str] = Counter()
    assert list(supervised_pairs(record, TrainingSetSettings(chained=True), counts)) == []
    assert counts == {
        "removed: diagnosis: names a doctor": 1,
        "removed: treatment: what it is told": 1,
        "removed: medication: what it is told": 1,
    }
    assert list(preference_pairs(record, TrainingSetSettings(chained=True))) == []


@pytest.mark.parametrize(
    ("parts", "left"),
    [
        (("diagnosis",), ["1-1#0/diagnosis"]),
        (("treatment", "medication"), ["1-1#0/treatment", "1-1#0/medication"]),
    ],
)
def test_ablation_changes_exactly_the_pairs_that_it_names(parts: Any, left: list[str]) -> None:
    settings = TrainingSetSettings(parts=parts)
    whole = {one.id: one for one in supervised_pairs(RECORD, PLAIN)}
    assert list(supervised_pairs(RECORD, settings)) == [whole[name] for name in left]


@pytest.mark.parametrize("parts", [(), ("diagnosis", "diagnosis"), ("illness",)])
def test_impossible_parts(parts: Any) -> None:
    with pytest.raises(ValidationError):
        TrainingSetSettings(parts=parts)


def test_published_rule() -> None:
    record = replace(RECORD, illness="Doctor 2.", medicine="No specific medicine", treatment="")
    settings = TrainingSetSettings(rule="published", input="encoded")
    assert [one.response for one in supervised_pairs(record, settings)] == [
        "Doctor 2.",
        ". Fear fades.",
        "No specific medicine. It calms.",
    ]


def test_best_against_worst_by_hand() -> None:
    """8, 3, unread and 8: the earlier 8 against the 3. Of the medicines only one is a medicine."""
    (pair,) = preference_pairs(RECORD, PLAIN)
    assert pair == PreferencePair(
        "1-1#0/treatment",
        asked("Patient History: Sd", QUESTIONS.treatment),
        "Exposure therapy. Fear fades.",
        "Rest. Quiet helps.",
    )


@pytest.mark.parametrize(("gap", "pairs", "close"), [(5, 1, 0), (6, 0, 1)])
def test_score_gap(gap: int, pairs: int, close: int) -> None:
    counts: Counter[str] = Counter()
    found = list(preference_pairs(RECORD, TrainingSetSettings(score_gap=gap), counts))
    assert (len(found), counts["close plans"]) == (pairs, close)


def test_equal_scores_are_no_preference() -> None:
    tries = tuple(replace(one, score=5) for one in RECORD.treatments)
    assert list(preference_pairs(replace(RECORD, treatments=tries), PLAIN)) == []


SCORES = st.lists(st.none() | st.integers(1, 10), max_size=7)


@given(SCORES, st.integers(1, 9))
def test_a_preference_is_never_unread_and_never_close(scores: list[int | None], gap: int) -> None:
    tries = tuple(PlanTry(f"Therapy {n}", f"why {n}", "", score) for n, score in enumerate(scores))
    record = replace(RECORD, treatments=tries, medicines=())
    known = [score for score in scores if score is not None]
    found = list(preference_pairs(record, TrainingSetSettings(score_gap=gap)))
    assert len(found) == (len(known) > 1 and max(known) - min(known) >= gap)
    for pair in found:
        assert pair.chosen == f"Therapy {scores.index(max(known))}. why {scores.index(max(known))}"
        assert pair.rejected == f"Therapy {scores.index(min(known))}. why {scores.index(min(known))}"


def test_counts_by_hand() -> None:
    """A session, its copy, a failed one, and one that nothing was understood of."""
    copy = replace(RECORD, id="1-1#1", pass_=1)
    failed = replace(RECORD, id="1-1#2", status="failed")
    made = training_set([RECORD, copy, failed, replace(RECORD, id="1-1#3", decoded=" ")], PLAIN)
    assert [one.id for one in made.examples] == ["1-1#0/diagnosis", "1-1#0/treatment", "1-1#0/medication"]
    assert [one.id for one in made.preferences] == ["1-1#0/treatment"]
    assert made.counts == {
        "sessions": 4,
        "failed": 1,
        "without input": 1,
        "duplicates": 3,
        "pairs": 3,
        "preference pairs": 1,
        "close plans": 0,
    }


def test_no_sessions() -> None:
    assert training_set([], PLAIN) == TrainingSet((), (), training_set([], PLAIN).counts)


def test_split_keeps_a_card_on_one_side() -> None:
    cards = [f"{n}-1" for n in range(12)]
    sides = split_cards([*cards, *cards], seed=3, development=0.25)
    assert Counter(sides.values()) == {"train": 9, "development": 3}
    assert split_cards(reversed(cards), seed=3, development=0.25) == sides
    assert split_cards(cards, seed=4, development=0.25) != sides
    assert set(split_cards(cards, seed=3, development=0.0).values()) == {"train"}
    assert Counter(split_cards(cards, seed=3, development=0.01).values())["development"] == 1


@given(st.sets(st.text(max_size=4), min_size=3, max_size=20), st.floats(0, 0.6), st.integers(0, 99))
def test_no_patient_on_two_sides(cards: set[str], share: float, seed: int) -> None:
    sides = split_cards(cards, seed=seed, development=share)
    assert set(sides) == cards
    assert "train" in sides.values()
    assert ("development" in sides.values()) == (share > 0)
    assert sides == split_cards([*cards, *cards], seed=seed, development=share)


def test_impossible_splits() -> None:
    with pytest.raises(UserError, match="no card is left"):
        split_cards(["a"], seed=0, development=0.5)


BENCHMARK = [("medqa/1", "Which drug? Fear fades and the patient then says that all is well")]


def test_overlap_is_dropped_or_stops() -> None:
    treatment = replace(RECORD, explain_t="Fear fades and the patient then says that all is fine")
    made = training_set([treatment], PLAIN)
    cleaned, found = without_overlap(made, BENCHMARK, PLAIN)
    assert [one.id for one in cleaned.examples] == ["1-1#0/diagnosis", "1-1#0/medication"]
    assert [one.id for one in cleaned.preferences] == ["1-1#0/treatment"]
    assert (cleaned.counts["overlaps"], cleaned.counts["pairs"], found.items_hit) == (1, 2, ("medqa/1",))
    with pytest.raises(UserError, match="8 words in a row"):
        without_overlap(made, BENCHMARK, TrainingSetSettings(on_overlap="stop"))
    assert without_overlap(training_set([RECORD], PLAIN), BENCHMARK, PLAIN)[0].counts["overlaps"] == 0


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """One token a character under a template that ends every turn."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = ["<s>", "</s>", "<unk>", *map(chr, range(32, 127)), "\n"]
    inner = Tokenizer(models.WordLevel({token: place for place, token in enumerate(tokens)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    inner.decoder = decoders.Fuse()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    wrapped.chat_template = (
        "{% for m in messages %}({{ m.role }}){{ m.content }}</s>\n{% endfor %}"
        "{% if add_generation_prompt %}(assistant){% endif %}"
    )
    return wrapped


def test_only_the_answer_carries_loss(tokenizer: Any) -> None:
    """Through the render and the tokens of training: what is learned is the answer and one end of turn."""
    examples = list(supervised_pairs(RECORD, PLAIN))
    settings = TrainingSettings(learning_rate=1e-4, epochs=1)
    columns = supervised_columns(tokenise(tokenizer, examples, settings))
    for example, ids, labels in zip(examples, columns["input_ids"], columns["labels"], strict=True):
        assert tokenizer.decode([token for token in labels if token != IGNORED]) == f"{example.response}</s>"
        assert labels == [IGNORED] * (len(labels) - len(example.response) - 1) + ids[-len(example.response) - 1 :]
        assert QUESTIONS.system in tokenizer.decode(ids)


def test_exports_are_conversations() -> None:
    """Roles alternate behind one system turn, and no answer is empty."""
    for example in supervised_pairs(RECORD, PLAIN):
        row = trl_example(example, conversational=True)
        assert [turn["role"] for turn in row["prompt"] + row["completion"]] == ["system", "user", "assistant"]
        assert row["completion"][0]["content"].strip()


def test_round_trip(tmp_path: Path) -> None:
    made = training_set([RECORD], PLAIN)
    write_table(tmp_path / "pairs.jsonl", [one.to_row() for one in made.examples])
    assert tuple(map(SupervisedExample.from_row, read_table(tmp_path / "pairs.jsonl"))) == made.examples
