"""Tokens of rows: masks, ends, starts, rows that are too long; and the batches that TRL's collators make of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strop.errors import UserError
from strop.models.render import encode_prompts
from strop.records.rows import PreferencePair, SupervisedExample
from strop.training import PreferenceSettings, TrainingJob, TrainingSettings
from strop.training.rendering import TokenisedRows, tokenise
from strop.training.running import TRAINERS, read_rows
from strop.training.weights import load_start, load_tokenizer

JobMaker = Callable[..., TrainingJob]
BOS, EOS, PAD = 1, 2, 0


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return load_tokenizer(tiny_model)


def settings(**changes: Any) -> TrainingSettings:
    return TrainingSettings(learning_rate=1e-3, max_steps=1, **{"max_length": 8, **changes})


def example(words: int, name: int = 0) -> SupervisedExample:
    return SupervisedExample(name, "w0 w1", " ".join(["w2"] * words))


def test_prompt_is_that_of_generation_and_the_response_ends_once(tokenizer: Any) -> None:
    """Words w0, w1, ... have ids 3, 4, ...: ``<s> w0 w1`` then ``w2 w2 </s>``."""
    (row,) = tokenise(tokenizer, [example(2)], settings()).rows
    assert row.prompt_ids == [BOS, 3, 4] == encode_prompts(tokenizer, ["w0 w1"])[0]
    assert row.responses == ([5, 5, EOS],)


def test_a_pair_shares_its_prompt(tokenizer: Any) -> None:
    (row,) = tokenise(tokenizer, [PreferencePair(0, "w0", "w1", "w2 w3")], settings()).rows
    assert (row.prompt_ids, row.responses) == ([BOS, 3], ([4, EOS], [5, 6, EOS]))
    assert row.length == 5


def test_too_long_rows_are_dropped_and_counted(tokenizer: Any) -> None:
    """Prompt 3 tokens, end token 1: four words fill a length of 8, five do not."""
    rows = tokenise(tokenizer, [example(4, 1), example(5, 2)], settings(too_long_ceiling=0.5))
    assert [row.id for row in rows.rows] == [1]
    assert (rows.dropped, rows.truncated) == ((2,), ())
    assert (rows.supervised_tokens, rows.tokens) == (5, 8)


def test_too_long_rows_are_cut_on_request_and_counted(tokenizer: Any) -> None:
    rows = tokenise(tokenizer, [example(4, 1), example(6, 2)], settings(too_long="truncate", too_long_ceiling=0.5))
    assert rows.rows[1].responses == ([5] * 5,)
    assert (rows.dropped, rows.truncated) == ((), (2,))


def test_a_row_whose_prompt_fills_the_length_is_dropped_even_so(tokenizer: Any) -> None:
    rows = [example(1, 1), SupervisedExample(2, " ".join(["w0"] * 9), "w1")]
    assert tokenise(tokenizer, rows, settings(too_long="truncate", too_long_ceiling=0.5)).dropped == (2,)


@pytest.mark.parametrize("changes", [{"too_long": "stop"}, {"too_long": "drop", "too_long_ceiling": 0.1}])
def test_the_ceiling_names_rows_and_settings(tokenizer: Any, changes: dict[str, Any]) -> None:
    rows = [example(1, n) for n in range(5)] + [example(9, 77)]
    with pytest.raises(UserError, match=r"1 of 6 rows are longer than max_length \(ids 77\): got 8"):
        tokenise(tokenizer, rows, settings(**changes))


def test_no_row_left(tokenizer: Any) -> None:
    with pytest.raises(UserError, match="no row to train on"):
        tokenise(tokenizer, [], settings())


def batch(make_job: JobMaker, kind: str) -> tuple[dict[str, Any], TokenisedRows]:
    """The first four rows as the trainer's own collator pads them."""
    job = make_job(kind)
    tokenizer = load_tokenizer(job.model)
    rows = tokenise(tokenizer, read_rows(job.rows, job.kind), job.settings)
    model = load_start(job.model, job.settings)
    job.work.mkdir(parents=True)
    trainer = TRAINERS[job.kind](job, model=model, tokenizer=tokenizer, rows=rows)
    return trainer.data_collator([trainer.train_dataset[place] for place in range(4)]), rows


def test_sft_batches_label_the_response_only(make_job: JobMaker) -> None:
    collated, rows = batch(make_job, "sft")
    for ids, labels, row in zip(collated["input_ids"].tolist(), collated["labels"].tolist(), rows.rows, strict=False):
        padding = len(ids) - row.length
        assert ids == row.prompt_ids + row.responses[0] + [PAD] * padding
        assert labels == [-100] * len(row.prompt_ids) + row.responses[0] + [-100] * padding
        assert labels.count(EOS) == 1
        assert ids.count(BOS) == 1


def test_dpo_batches_mark_the_response_only(make_job: JobMaker) -> None:
    """Chosen sequences first, then the rejected ones, each with one start, one end, and reference log-probabilities."""
    collated, rows = batch(make_job, "dpo")
    for place in range(8):
        row, side = rows.rows[place % 4], place // 4
        ids, mask = collated["input_ids"][place].tolist(), collated["completion_mask"][place].tolist()
        assert [token for token, marked in zip(ids, mask, strict=True) if marked] == row.responses[side]
        assert (ids.count(BOS), ids.count(EOS)) == (1, 1)
    assert collated["ref_chosen_logps"].shape == (4,)


def test_orpo_batches_label_the_response_only(make_job: JobMaker) -> None:
    collated, rows = batch(make_job, "orpo")
    for side, name in enumerate(("chosen", "rejected")):
        for place, row in enumerate(rows.rows[:4]):
            ids, labels = collated[f"{name}_input_ids"][place].tolist(), collated[f"{name}_labels"][place].tolist()
            assert [label for label in labels if label != -100] == row.responses[side]
            assert (ids.count(BOS), ids.count(EOS)) == (1, 1)


def test_preference_settings_are_a_training(tokenizer: Any) -> None:
    pair = PreferencePair(0, "w0", "w1", "w2")
    assert tokenise(tokenizer, [pair], PreferenceSettings(learning_rate=1e-3, epochs=1)).tokens == 8
