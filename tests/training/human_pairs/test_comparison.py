"""The comparison of reward models on human pairs, with tiny models and a planted signal."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import ENCODER_WORDS

from strop.errors import UserError
from strop.judging.pairs import read_pairs
from strop.judging.qualifying.folds import group_folds
from strop.records.tables import iter_table
from strop.runs.progress import Reporter
from strop.training import RewardSettings
from strop.training.human_pairs.comparison import TUNED, ComparisonRequest, compare_rewards
from strop.training.human_pairs.settings import COMPARISON_FILE, load_settings
from strop.training.human_pairs.tuned import tuned_arm

QUIET = Reporter(quiet=True)
FILLER = "i you we they feel think know need talk help sad angry alone work home family friend"
TEMPLATE = (
    "{% for message in messages %}<s> {{ message.content }} </s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>{% endif %}"
)


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama with a chat template that knows the encoder's words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("talker")
    vocabulary = {word: n for n, word in enumerate(["<pad>", "<s>", "</s>", "<unk>", *ENCODER_WORDS.split()])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty pairs of equal length whose better side asks an open question, in twenty groups."""
    source = random.Random(0)

    def text(*marks: str) -> str:
        words = [*source.choices(FILLER.split(), k=8), *marks]
        source.shuffle(words)
        return " ".join(words)

    rows = [
        {
            "id": n,
            "prompt": text(),
            "better": text("what", "how"),
            "worse": text("must", "should"),
            "group": f"g{n % 20}",
            "source": "planted",
            "better_origin": "human" if n % 2 else "model-a",
            "worse_origin": "model-b",
        }
        for n in range(60)
    ]
    file = tmp_path_factory.mktemp("rows") / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings of two layers and a short training."""
    file = tmp_path_factory.mktemp("settings") / "small.yaml"
    file.write_text(
        "grids:\n"
        "  smollm2: {features: ['mean@1', 'last@2'], C: [0.01, 1], extra_weight: [0]}\n"
        "  minilm: {features: [embedding], C: [1], extra_weight: [0]}\n"
        "tuned: {learning_rate: 1.0e-2, max_steps: 12, batch_size: 16, micro_batch_size: 16, max_length: 64,\n"
        "        too_long: stop, save_steps: 3}\n",
        encoding="utf-8",
    )
    return file


def request(pairs: Path, out: Path, talker: Path, tiny_encoder: Path, small: Path, **more: Any) -> ComparisonRequest:
    return ComparisonRequest(
        pairs,
        out,
        model=str(talker),
        encoder=str(tiny_encoder),
        settings=small,
        cache=out / "cache",
        device="cpu",
        **{"draws": 0, **more},
    )


def test_the_shipped_settings_are_whole() -> None:
    settings = load_settings(COMPARISON_FILE)
    assert len(settings.states.settings) == 24
    assert settings.tuned.lora is not None
    assert settings.tuned.too_long == "stop"
    assert all(setting.extra_weight == 0 for setting in settings.judge.settings)


@pytest.mark.slow
def test_one_table(pairs: Path, tmp_path: Path, talker: Path, tiny_encoder: Path, small: Path) -> None:
    """The planted words are found by what learns; length says nothing; the same command computes no fold again."""
    asked = request(pairs, tmp_path, talker, tiny_encoder, small, draws=2)
    report = compare_rewards(asked, reporter=QUIET)
    by_name = {arm.name: arm for arm in report.arms}
    assert list(by_name) == [
        TUNED, "frozen language model", "frozen encoder", "judge fit", "longer wins", "surface features", "TF-IDF",
    ]  # fmt: skip
    for name, arm in by_name.items():
        accuracy = arm.slices[0].accuracy
        assert accuracy is not None
        assert accuracy.estimate == 0.5 if name == "longer wins" else True
        assert accuracy.estimate >= 0.8 if name in (TUNED, "frozen encoder", "TF-IDF") else True, name
    assert set(by_name[TUNED].slices[0].versus) == {"longer wins", "surface features", "TF-IDF", "judge fit"}
    assert by_name["TF-IDF"].slices[0].versus == {}
    assert [part.name for part in by_name[TUNED].slices][2] == "human text preferred to a model's"
    assert by_name["frozen encoder"].curve is not None
    assert {path.name for path in (tmp_path / "tuned" / "fold-0").iterdir()} == {"margins.json", "rows.jsonl"}
    assert (tmp_path / "frozen_encoder.svg").is_file()
    before = (tmp_path / "comparison.json").read_bytes()
    times = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("tuned/fold-*/margins.json"))]
    assert compare_rewards(asked, reporter=QUIET) == report
    assert (tmp_path / "comparison.json").read_bytes() == before
    assert times == [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("tuned/fold-*/margins.json"))]


def test_frozen_arms_alone(pairs: Path, tmp_path: Path, talker: Path, tiny_encoder: Path, small: Path) -> None:
    report = compare_rewards(request(pairs, tmp_path, talker, tiny_encoder, small, arms="frozen"), reporter=QUIET)
    tuned = report.arms[0]
    assert tuned.missing
    assert report.table()[0] == {
        "arm": TUNED,
        "all pairs": "not run",
        "length-matched": "not run",
        "human text preferred to a model's": "not run",
    }
    assert f"{TUNED}: not run" in list(report.findings())
    assert not (tmp_path / "tuned").exists()


def test_a_fold_is_kept_and_never_sees_its_own_groups(pairs: Path, tmp_path: Path, talker: Path) -> None:
    found = read_pairs(pairs)[:40]
    folds = group_folds([pair.group for pair in found], folds=2)
    settings = RewardSettings(learning_rate=1e-2, max_steps=3, batch_size=8, micro_batch_size=8, max_length=64)

    def run(**more: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
        lines.clear()
        return tuned_arm(
            found,
            folds,
            start=talker,
            settings=settings,
            folder=tmp_path,
            device="cpu",
            tell=lines.append,
            **{"seed": 0, **more},
        )

    lines: list[str] = []
    first = run()
    assert np.isfinite(first).all()
    learnt = list(iter_table(tmp_path / "fold-0" / "rows.jsonl"))
    groups = {pair.id: pair.group for pair in found}
    tested = {pair.group for pair, fold in zip(found, folds, strict=True) if fold == 0}
    assert tested.isdisjoint(groups[row["id"]] for row in learnt)
    assert np.array_equal(run(), first)
    assert not any("training on" in line for line in lines)
    assert not np.array_equal(run(seed=1), first)
    assert any("training on" in line for line in lines)


def test_unusable_settings_are_told(tmp_path: Path, pairs: Path, talker: Path, tiny_encoder: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("grids: {minilm: {features: [embedding], C: [1], extra_weight: [0]}}\n", encoding="utf-8")
    with pytest.raises(UserError, match="no such grid"):
        compare_rewards(request(pairs, tmp_path, talker, tiny_encoder, bad), reporter=QUIET)
