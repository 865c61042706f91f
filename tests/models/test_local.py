"""Local models: samplings, contexts, and folders that are no models."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from strop.errors import UserError
from strop.models.local import LocalModel
from strop.models.protocol import Call, CallFailure, Completion, Sampling
from strop.records.rows import Message


def test_different_samplings_never_share_a_batch(tiny: LocalModel) -> None:
    short, long = Sampling(max_tokens=2), Sampling(max_tokens=5)
    calls = [Call("go", short), Call("go", long), Call("stop", short)]
    assert [batch.places for batch in tiny.batching.batches(calls)] == [[0, 2], [1]]
    lengths = {
        index: outcome.completion_tokens
        for batch in tiny.complete(calls)
        for index, outcome in batch
        if isinstance(outcome, Completion)
    }
    assert lengths == {0: 2, 1: 5, 2: 2}


def test_calls_of_different_seeds_share_a_batch_and_answer_as_alone(tiny: LocalModel) -> None:
    """The turns of several patients, each with a seed of its own, take one pass of the model."""
    calls = [Call(f"Question {number}", Sampling(temperature=1.0, max_tokens=12, seed=number)) for number in range(4)]
    [together] = list(tiny.complete(calls))
    alone = [outcome for call in calls for batch in tiny.complete([call]) for _, outcome in batch]
    texts = {place: outcome.text for place, outcome in together if isinstance(outcome, Completion)}
    assert [texts[place] for place in range(4)] == [each.text for each in alone if isinstance(each, Completion)]


def test_a_prompt_beyond_the_context_is_a_failure_and_a_long_one_gets_what_room_there_is(tiny: LocalModel) -> None:
    """The context is 128: 130 tokens fail, 124 leave room for four, an empty prompt fails."""
    prompts = ["go" + " go" * 129, "go" + " go" * 123, ""]
    outcomes = dict(
        pair for batch in tiny.complete([Call(p, Sampling(max_tokens=50)) for p in prompts]) for pair in batch
    )
    failed, fitted, empty = outcomes[0], outcomes[1], outcomes[2]
    assert isinstance(failed, CallFailure)
    assert failed.kind == "context"
    assert not failed.transient
    assert isinstance(fitted, Completion)
    assert fitted.completion_tokens <= 4
    assert isinstance(empty, CallFailure)
    assert empty.kind == "empty_prompt"


def test_revision_names_the_weights_and_what_else_changes_answers(tiny_folder: Path, tmp_path: Path) -> None:
    plain = LocalModel(tiny_folder, device="cpu")
    assert LocalModel(tiny_folder, device="cpu", batch_size=3).revision == plain.revision
    assert LocalModel(tiny_folder, device="cpu", chat="on").revision == f"{plain.revision}+chat-on"
    assert LocalModel(tiny_folder, device="cpu", dtype="bfloat16").revision == f"{plain.revision}+bfloat16"
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder, copy)
    assert LocalModel(copy, device="cpu").revision == plain.revision
    (copy / "notes.txt").write_text("not part of the model")
    assert LocalModel(copy, device="cpu").revision == plain.revision


def test_half_precision_weights_are_computed_in_float32_on_a_cpu(tiny_folder: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.bfloat16).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(tmp_path)
    assert LocalModel(tmp_path, device="cpu").model.dtype == torch.float32


def test_messages_without_a_template_and_with_chat_off(tiny_folder: Path) -> None:
    call = Call((Message("user", "go"),), Sampling())
    with pytest.raises(UserError, match="chat: off"):
        next(LocalModel(tiny_folder, device="cpu", chat="off").complete([call]))
    model = LocalModel(tiny_folder, device="cpu")
    model.tokenizer.chat_template = None
    with pytest.raises(UserError, match="chat template"):
        next(model.complete([call]))


def test_a_device_that_is_not_there(tiny_folder: Path) -> None:
    with pytest.raises(UserError, match="no such device: got 'gpu'"):
        LocalModel(tiny_folder, device="gpu")


def test_no_calls_make_no_batches(tiny: LocalModel) -> None:
    assert list(tiny.complete([])) == []


def test_a_model_with_routed_heads_opens_like_any_other(tmp_path: Path) -> None:
    """In a fresh process, which has imported nothing of its type."""
    from routed_decoders import dense_decoder, routed_decoder

    routed_decoder(dense_decoder("llama"), "per group").save_pretrained(tmp_path / "moh")
    code = (
        "import sys; from pathlib import Path; from strop.models.batching import _load; "
        "from strop.models.local import _load as weights; "
        "print(type(weights(Path(sys.argv[1]), device='cpu', dtype='float32')).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "moh")], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "MoHLlamaForCausalLM", done.stderr
