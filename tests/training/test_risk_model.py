"""The trained second opinion: what it reads, what it learns, and that its folder opens again."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from strop.errors import UserError
from strop.records.rows import Message
from strop.safety import Level, as_text, screen
from strop.training.risk_model import (
    EXAMPLES,
    RiskTraining,
    _batches,
    client_text,
    fit_risk_model,
    open_risk_model,
    read_examples,
    with_typing_errors,
)

CALM = ["I baked a cake today.", "The bus was late again.", "My sister visits on Sunday.", "I like the new job."]
GRAVE = ["I took all the pills.", "I am on the roof now.", "The rope is ready.", "I will end it tonight."]


def test_only_the_clients_turns_are_read() -> None:
    turns = (Message("user", "I feel\nlow."), Message("assistant", "Since when?"), Message("user", "client: May"))
    assert client_text(as_text(turns)) == "I feel\nlow.\nclient: May"
    assert client_text("no speaker at all") == "no speaker at all"


def test_the_shipped_examples_have_all_levels_and_no_message_twice() -> None:
    examples = read_examples()
    assert {level for _, level in examples} == set(Level)
    assert len({text.casefold() for text, _ in examples}) == len(examples) > 800


def test_no_example_is_in_the_labelled_set() -> None:
    """Else a figure of the test part would measure memory."""
    from strop.evaluation.risk import read_messages

    labelled = {client_text(as_text(each.conversation)).casefold() for each in read_messages()}
    assert not labelled & {text.casefold() for text, _ in read_examples(EXAMPLES)}


@pytest.mark.parametrize("line", ["5 too high", "2", "no level", "-1 x"])
def test_a_line_without_a_level_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "examples.txt"
    path.write_text(f"# remark\n\n0 fine\n{line}\n", encoding="utf-8")
    with pytest.raises(UserError, match="line 4"):
        read_examples(path)


def test_typing_errors_keep_the_words_apart_and_their_number() -> None:
    text = "I have been thinking about this for a long time"
    shown = [with_typing_errors(text, random.Random(seed)) for seed in range(50)]
    assert {len(each.split(" ")) for each in shown} == {len(text.split(" "))}
    assert len(set(shown)) > 30
    assert all(abs(len(each) - len(text)) <= len(text.split()) for each in shown)


def test_batches_hold_every_row_once_and_rows_of_like_length() -> None:
    lengths = [number % 50 for number in range(500)]
    batches = _batches(lengths, 16, random.Random(0))
    assert sorted(row for batch in batches for row in batch) == list(range(500))
    assert max(map(len, batches)) == 16
    assert max(max(lengths[row] for row in batch) - min(lengths[row] for row in batch) for batch in batches) < 25
    assert batches == _batches(lengths, 16, random.Random(0)) != _batches(lengths, 16, random.Random(1))


def test_both_kinds_of_messages_are_needed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="calm messages"):
        fit_risk_model([("I took all the pills.", Level.IMMINENT)], tmp_path)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="strop safety fit"):
        open_risk_model(tmp_path)


@pytest.mark.slow
def test_it_learns_and_opens_again(tmp_path: Path) -> None:
    examples = [(text, Level.NONE) for text in CALM] + [(text, Level.IMMINENT) for text in GRAVE]
    model = fit_risk_model(examples, tmp_path, training=RiskTraining(epochs=12, batch=8, noise=0.0))
    assert model.levels([*CALM, *GRAVE]) == [level for _, level in examples]
    again = open_risk_model(tmp_path)
    assert again.revision == model.revision
    for row, same in zip(again.probabilities(GRAVE), model.probabilities(GRAVE), strict=True):
        assert row == pytest.approx(same)
    assert again.levels(["word " * 2_000 + GRAVE[0], ""])[1] is Level.NONE
    assert screen("Hello.", second=again, timeout=60).second is not None
    talk = (Message("user", GRAVE[0]), Message("assistant", "What?"), Message("user", CALM[0]))
    assert again(as_text(talk)) is Level.IMMINENT
