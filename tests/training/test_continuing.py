"""Going on with pre-training: the same steps however a batch is cut, interrupted or recomputed; what a teacher adds."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.conftest import WORDS
from tests.training.test_equivalence import assert_same_curve, kill_at

from strop.errors import UserError
from strop.records.tables import write_table
from strop.training import ContinueSettings, TrainingJob, train
from strop.training.blocks import block_ids, cut, packed
from strop.training.continuing import read_documents
from strop.training.weights import load_start, load_tokenizer

TextJob = Callable[..., TrainingJob]


@pytest.fixture(scope="session")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 documents of 5 to 60 words."""
    source = random.Random(3)
    file = tmp_path_factory.mktemp("text") / "documents.jsonl"
    texts = [" ".join(source.choices(WORDS, k=source.randint(5, 60))) for _ in range(40)]
    write_table(file, [{"id": f"d{number}", "text": text} for number, text in enumerate(texts)])
    return file


@pytest.fixture
def text_job(tmp_path: Path, tiny_model: Path, documents: Path) -> TextJob:
    """Returns a maker of jobs of kind `continue` on blocks of 16 tokens."""

    def make(name: str = "one", *, model: Path | None = None, **given: Any) -> TrainingJob:
        paths = {key: given.pop(key) for key in ("teacher", "development") if key in given}
        settings = {"learning_rate": 3e-3, "batch_size": 8, "micro_batch_size": 8, "max_length": 16, "max_steps": 6}
        return TrainingJob.model_validate(
            {
                "kind": "continue",
                "model": model or tiny_model,
                "rows": documents,
                "out": tmp_path / name / "out",
                "work": tmp_path / name / "work",
                "settings": ContinueSettings.model_validate(settings | given),
                "seed": 7,
                **paths,
            }
        )

    return make


def test_blocks_by_hand(tiny_model: Path) -> None:
    """Three and two words with an end token each make seven tokens: two blocks of three, and one that is left over."""
    tokenizer = load_tokenizer(tiny_model)
    made = packed(tokenizer, [("a", "w0 w1 w2"), ("b", "w3 w4")], length=3)
    end = tokenizer.eos_token_id
    assert [block_ids(row) for row in made.rows] == [[3, 4, 5], [end, 6, 7]]
    assert (made.tokens, made.supervised_tokens) == (6, 4)
    rows = cut(tokenizer, [("a", "w0 w1 w2 w3"), ("b", "w4")], length=3, shortest=2)
    assert [(row.id, block_ids(row)) for row in rows] == [("a", [3, 4, 5])]


def test_too_little_text_is_refused(tiny_model: Path) -> None:
    with pytest.raises(UserError, match="fills no block"):
        packed(load_tokenizer(tiny_model), [("a", "w0")], length=8)


def test_a_row_without_text_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "rows.jsonl", [{"id": 1, "prompt": "w1"}])
    with pytest.raises(UserError, match="'text'"):
        read_documents(tmp_path / "rows.jsonl")


def test_accumulated_equals_batched(text_job: TextJob) -> None:
    """Eight blocks at once, and two at a time four times over, take the same steps."""
    assert_same_curve(train(text_job("batched")), train(text_job("accumulated", micro_batch_size=2)))


def test_the_first_loss_is_the_models_own(text_job: TextJob) -> None:
    """The first step's loss is the mean of transformers' own loss of each block."""
    job = text_job(max_steps=1, batch_size=64, micro_batch_size=64, epochs=None)
    outcome = train(job)
    model, tokenizer = load_start(job.model, job.settings), load_tokenizer(job.model)
    rows = packed(tokenizer, read_documents(job.rows), length=16).rows
    ids = torch.tensor([block_ids(row) for row in rows])
    with torch.no_grad():
        losses = torch.stack([model(input_ids=one[None], labels=one[None]).loss for one in ids])
    assert outcome.rows == len(rows) >= 64
    # 64 of the blocks, drawn without replacement: their mean is near, the mean of all is exact over a whole epoch.
    assert outcome.losses[0] == pytest.approx(losses.mean().item(), abs=4 * losses.std().item() / 8)
    whole = train(text_job("whole", max_steps=1, batch_size=len(rows), micro_batch_size=len(rows)))
    assert whole.losses[0] == pytest.approx(losses.mean().item(), abs=2e-5)


def test_checkpointed_equals_plain(text_job: TextJob) -> None:
    assert_same_curve(train(text_job("plain")), train(text_job("recomputed", gradient_checkpointing=True)))


def test_resumed_equals_unbroken(text_job: TextJob, documents: Path) -> None:
    """Killed at step 8 of 12, a training ends with the same bytes, and its looks at other text are the same."""
    given = {"max_steps": 12, "save_steps": 3, "schedule": "cosine", "micro_batch_size": 4, "evaluate_steps": 4}
    unbroken, broken = (text_job(name, development=documents, **given) for name in ("unbroken", "broken"))
    expected = train(unbroken)
    kill_at(broken, 8)
    outcome = train(broken)
    assert outcome.resumed_at == 6
    assert outcome.curve == expected.curve
    assert [step + 1 for step, entry in enumerate(outcome.curve) if "held_back" in entry] == [4, 8, 12]
    assert (broken.out / "model.safetensors").read_bytes() == (unbroken.out / "model.safetensors").read_bytes()


def test_a_teacher_that_is_the_start_adds_nothing_at_first(text_job: TextJob, tiny_model: Path) -> None:
    """KL(p || p) = 0, so the first loss is (1 - weight) times the likelihood: 0.25 of it."""
    outcome = train(text_job(teacher=tiny_model, distillation={"weight": 0.75, "temperature": 2.0}))
    first = outcome.curve[0]
    assert first["divergence"] == pytest.approx(0.0, abs=1e-6)
    assert first["loss"] == pytest.approx(0.25 * first["likelihood"], rel=1e-5)
    assert outcome.curve[-1]["divergence"] > 1e-4


def test_divergence_by_hand() -> None:
    """Teacher (3/4, 1/4), student (1/2, 1/2): KL = 0.75 ln 1.5 + 0.25 ln 0.5 = 0.130812 nats.

    Logits doubled and T = 2 give the same two distributions, so the divergence is four times as large.
    """
    from strop.training.continuing_trainer import divergence

    student, teacher = torch.zeros(1, 2), torch.tensor([[math.log(3.0), 0.0]])
    assert divergence(student, teacher, temperature=1.0).item() == pytest.approx(0.130812, abs=1e-6)
    assert divergence(student, 2 * teacher, temperature=2.0).item() == pytest.approx(4 * 0.130812, abs=4e-6)


def test_a_teacher_needs_the_settings_for_it(text_job: TextJob, tiny_model: Path) -> None:
    with pytest.raises(ValueError, match="exactly where"):
        text_job(teacher=tiny_model)
    with pytest.raises(ValueError, match="exactly where"):
        text_job(distillation={"weight": 0.5})
