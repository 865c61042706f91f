"""Contestants answer: what they are told, what is missing, and who answers in whose place."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.judging.contest.arena import PROMPTS, answers

sys.path.insert(0, str(Path(__file__).parents[2] / "models"))
from strop.judging.contest.answering import Contestant, addressed, limit_sentence
from strop.records.rows import Message
from strop.runs import Run, Stage
from tiny_llama import build_model, build_tokenizer

Scripted = Callable[..., str]


def save_policy(stage: Stage) -> None:
    """Write a tiny random model, as a training does."""
    tokenizer = build_tokenizer(chat=True)
    tokenizer.save_pretrained(stage.folder / "model")
    build_model(tokenizer).save_pretrained(stage.folder / "model")


def requests(run: Run) -> list[str]:
    with closing(sqlite3.connect(run.store.path)) as connection:
        return [row[0] for row in connection.execute("SELECT request FROM calls")]


def test_a_text_becomes_a_conversation() -> None:
    assert addressed("how", "") == (Message("user", "how"),)
    assert addressed("how", "Be calm.") == (Message("system", "Be calm."), Message("user", "how"))


def test_the_limit_stands_behind_what_the_contestant_is_told() -> None:
    turns = (Message("user", "how"), Message("assistant", "so"), Message("user", "why"))
    told = Message("system", "Be calm. Answer in at most 40 words.")
    assert addressed(turns, "Be calm.", word_limit=40) == (told, *turns)
    assert addressed(turns, "", word_limit=40) == (Message("system", limit_sentence(40)), *turns)


@given(st.text(min_size=1), st.text(), st.none() | st.integers(1, 999))
def test_the_message_itself_is_never_changed(text: str, system: str, limit: int | None) -> None:
    asked = addressed(text, system, word_limit=limit)
    assert asked[-1] == Message("user", text)
    assert len(asked) == 1 + bool(system or limit)


def test_a_label_is_the_name_or_the_model() -> None:
    assert Contestant.model_validate({"model": "builtin:stories-weak"}).label == "builtin:stories-weak"
    assert Contestant.model_validate({"model": "builtin:stories-weak", "name": "weak"}).label == "weak"


def test_a_prompt_without_an_answer_is_a_failure_and_no_empty_answer(run: Run, scripted: Scripted) -> None:
    """Nobody has a reply to message 3: 23 of 24 answers, and one row that says why there is no more."""
    made = answers(run, scripted("some", {r"message (?!3\.)\d+\.$": "a calm answer"}), "first")
    assert {row["id"] for row in made.rows()} == {row["id"] for row in PROMPTS} - {"q3"}
    assert {(row["response"], row["finish"]) for row in made.rows()} == {("a calm answer", "stop")}
    (failure,) = made.rows("failures.jsonl")
    assert failure["id"] == "q3"
    assert failure["kind"]
    assert failure["message"]


def test_a_word_limit_is_in_every_stored_request_of_both_contestants(run: Run, scripted: Scripted) -> None:
    """The limit changes what is asked, and with it the answers: these models answer in short where they read it."""
    rules = {r"at most 40 words": "short"}
    for side in ("first", "second"):
        made = answers(run, scripted(side, rules, "a long answer"), side, system=f"I am {side}.", word_limit=40)
        assert {row["response"] for row in made.rows()} == {"short"}
    asked = requests(run)
    assert len(asked) == 2 * len(PROMPTS)
    assert all("Answer in at most 40 words." in text for text in asked)
    assert sum("I am first." in text for text in asked) == sum("I am second." in text for text in asked) == len(PROMPTS)


def test_without_a_limit_nothing_is_asked_for(run: Run, scripted: Scripted) -> None:
    answers(run, scripted("any", default="so"), "first")
    assert not any("words" in text or "system" in text for text in requests(run))


def test_what_the_run_has_trained_answers_in_the_models_place(run: Run, scripted: Scripted) -> None:
    """The script says `so`; the random model says anything, is cut by the limit, and the script is not asked."""
    trained = run.stage(save_policy, name="policy")
    script = scripted("start", default="so")
    made = answers(run, script, "first", trained=trained, max_tokens=3)
    assert len(made.rows()) == len(PROMPTS)
    assert {row["response"] for row in made.rows()} != {"so"}
    assert "length" in {row["finish"] for row in made.rows()}
    with closing(sqlite3.connect(run.store.path)) as connection:
        models = {row[0] for row in connection.execute("SELECT model FROM calls")}
    assert not any("scripted" in model for model in models)


def test_answers_are_asked_for_once(opened: Callable[[str], Run], scripted: Scripted) -> None:
    """A second run of the workspace takes the stored replies, even where the script has gone silent since."""
    script = scripted("any", default="so")
    one, other = (answers(opened(name), script, "first") for name in ("a", "b"))
    assert one.digest == other.digest
    assert Path(one.folder) != Path(other.folder)


@pytest.mark.parametrize("limit", [1, 120])
def test_how_the_limit_reads(limit: int) -> None:
    assert limit_sentence(limit) == f"Answer in at most {limit} words."
