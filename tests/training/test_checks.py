"""The checks find what they are for: each trap is set on purpose here, and a sane set-up passes all of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strop.errors import UserError
from strop.records.tables import write_table
from strop.training import Finding, PreferenceSettings, TrainingJob, TrainingSettings, train
from strop.training.checks import examine, model_findings, refuse, row_findings
from strop.training.preview import mask_preview
from strop.training.rendering import TokenisedRow, TokenisedRows
from strop.training.weights import load_start, load_tokenizer

JobMaker = Callable[..., TrainingJob]
SFT = TrainingSettings(learning_rate=1e-3, max_steps=1)
BOS, EOS = 1, 2


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return load_tokenizer(tiny_model)


def rows(*made: TokenisedRow) -> TokenisedRows:
    return TokenisedRows(made, (), ())


def row(response: list[int], prompt: list[int] | None = None) -> TokenisedRow:
    return TokenisedRow(0, prompt or [BOS, 5, 6], (response,))


def found(findings: list[Finding], name: str) -> Finding:
    return next(finding for finding in findings if finding.name == name)


@pytest.mark.parametrize("kind", ["sft", "dpo", "orpo"])
def test_a_sane_setup_passes(tiny_model: Path, examples: Path, pairs: Path, kind: str) -> None:
    settings = SFT if kind == "sft" else PreferenceSettings(learning_rate=1e-3, max_steps=1, loss=kind)
    findings = examine(tiny_model, examples if kind == "sft" else pairs, kind, settings)  # type: ignore[arg-type]
    assert [finding.name for finding in findings if finding.status != "ok"] == []
    names = {finding.name for finding in findings}
    assert {"end token carries loss", "share of supervised tokens", "loss at step 0", "padding invariance"} <= names


def test_lora_dpo_starts_at_its_reference(tiny_model: Path, pairs: Path) -> None:
    settings = PreferenceSettings.model_validate({"learning_rate": 1e-3, "max_steps": 1, "lora": {"rank": 2}})
    start = found(examine(tiny_model, pairs, "dpo", settings), "loss at step 0")
    assert start.status == "ok"
    assert start.value.startswith("0.693147 ")


@pytest.mark.parametrize(
    ("response", "status"),
    [([7, 8, EOS], "ok"), ([7, 8], "fail"), ([7, EOS, EOS], "fail"), ([7, EOS, 9], "ok"), ([EOS, 7, 8, 9], "fail")],
)
def test_end_token(tokenizer: Any, response: list[int], status: str) -> None:
    """One end token among the last three: a template may write a line break behind it."""
    finding = found(row_findings(tokenizer, rows(row(response)), "sft", 1), "end token carries loss")
    assert finding.status == status
    assert repr(tokenizer.convert_ids_to_tokens(response[-1])) in finding.value


@pytest.mark.parametrize(
    ("prompt", "status"), [([BOS, 5], "ok"), ([5], "ok"), ([BOS, BOS, 5], "fail"), ([BOS, 5, EOS], "fail")]
)
def test_start_tokens(tokenizer: Any, prompt: list[int], status: str) -> None:
    findings = row_findings(tokenizer, rows(row([7, EOS], prompt)), "sft", 1)
    assert found(findings, "start of the prompt").status == status


@pytest.mark.parametrize(
    ("prompt", "response", "status"), [(3, 2, "ok"), (98, 2, "ok"), (299, 1, "warn"), (1, 99, "warn")]
)
def test_supervised_share(tokenizer: Any, prompt: int, response: int, status: str) -> None:
    """2 of 100 tokens is the band's edge, 1 of 300 below it, 99 of 100 above it."""
    made = rows(row([7] * (response - 1) + [EOS], [5] * prompt))
    finding = found(row_findings(tokenizer, made, "sft", 1), "share of supervised tokens")
    assert finding.status == status
    assert f"({response} of {prompt + response} tokens)" in finding.value


def test_pairs_that_teach_nothing(tokenizer: Any) -> None:
    same = TokenisedRow("a", [BOS, 5], ([7, EOS], [7, EOS]))
    long = TokenisedRow("b", [BOS, 5], ([7] * 9 + [EOS], [EOS]))
    findings = row_findings(tokenizer, rows(same, long), "dpo", 2)
    assert "1 of 2 (ids ['a'])" in found(findings, "identical chosen and rejected").value
    assert "1 of 2 (ids ['b'])" in found(findings, "empty responses").value
    assert found(findings, "length of chosen and rejected").status == "warn"


def test_dropped_rows_are_reported(tokenizer: Any) -> None:
    made = TokenisedRows((row([7, EOS]),), (1, 2), ())
    finding = found(row_findings(tokenizer, made, "sft", 3), "rows longer than max_length")
    assert (finding.status, finding.value) == ("warn", "2 dropped, 0 cut, of 3")


def test_a_reference_that_is_another_model_is_refused(tiny_model: Path, tokenizer: Any) -> None:
    """log-ratio of 2 nats on the chosen side: margin 2, loss log(1 + exp(-0.1 x 2)) = 0.598139, not ln 2."""
    settings = PreferenceSettings(learning_rate=1e-3, max_steps=1)
    model = load_start(tiny_model, settings)
    made = rows(TokenisedRow(0, [BOS, 5], ([7, EOS], [8, EOS])))
    _, first = model_findings(model, tokenizer, made, settings)
    assert found(first, "loss at step 0").status == "ok"
    from strop.training.probe import response_log_probs

    ((chosen, rejected),) = response_log_probs(model, made.rows, pad=0)
    loss, second = model_findings(model, tokenizer, made, settings, reference=[(chosen - 2.0, rejected)])
    assert loss == pytest.approx(math.log1p(math.exp(-0.2)), abs=1e-4)
    with pytest.raises(UserError, match=r"would not do what it says: loss at step 0: got '0\.5981"):
        refuse(second)


def test_a_model_that_sees_its_padding_is_found(tiny_model: Path, tokenizer: Any) -> None:
    """A model whose attention mask is taken away scores a padded row as another text, where padding is on the left."""
    model = load_start(tiny_model, SFT)
    forward = model.forward

    def blind(input_ids: Any, attention_mask: Any, **rest: Any) -> Any:
        shifted = input_ids.clone()
        shifted[:, 1] = (attention_mask.sum(-1) % 50) + 3 if len(input_ids) > 1 else shifted[:, 1]
        return forward(input_ids=shifted, attention_mask=attention_mask, **rest)

    model.forward = blind
    made = rows(row([7, EOS]), row([7, 8, 9, 10, EOS]))
    _, findings = model_findings(model, tokenizer, made, SFT)
    assert found(findings, "padding invariance").status == "fail"


def test_a_start_worse_than_guessing_is_pointed_out(tiny_model: Path, tokenizer: Any) -> None:
    model = load_start(tiny_model, SFT)
    for parameter in model.parameters():
        parameter.data *= 6
    _, findings = model_findings(model, tokenizer, rows(row([7, 8, 9, EOS])), SFT)
    assert found(findings, "loss at step 0").status == "warn"


def test_training_refuses_before_the_first_step(make_job: JobMaker, tmp_path: Path) -> None:
    """A start token written into the prompts by hand comes on top of the tokenizer's own."""
    file = tmp_path / "twice.jsonl"
    write_table(file, [{"id": n, "prompt": "<s> w1", "response": "w2"} for n in range(8)])
    job = make_job("sft", rows=file)
    with pytest.raises(UserError) as caught:
        train(job)
    assert "start of the prompt: got '8 prompts start with two start tokens" in str(caught.value)
    assert "fix: set add_bos_token" in str(caught.value)
    assert not job.out.exists()


def test_preview_marks_what_carries_loss(tokenizer: Any) -> None:
    pair = TokenisedRow(4, [BOS, 5], ([7, EOS], [8, 9, EOS]))
    text = mask_preview(tokenizer, rows(row([7, EOS]), pair))
    assert text.plain.splitlines() == [
        "0: <s> w2 w3 [w4 </s>]",
        "4 chosen: <s> w2 [w4 </s>]",
        "4 rejected: <s> w2 [w5 w6 </s>]",
    ]
    styles = {text.plain[span.start : span.end]: str(span.style) for span in text.spans}
    assert styles["</s>"] == "bold black on green"
    assert styles["<s> w2 w3"] == "dim"


def test_preview_escapes_control_characters(tokenizer: Any) -> None:
    class Terminal:
        eos_token_id = 0

        def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
            return ["\x1b[2J" for _ in ids]

    assert "\x1b" not in mask_preview(Terminal(), rows(row([7]))).plain
